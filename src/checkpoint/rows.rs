//! The bytes of one row: a user, a pane. `docs/checkpoints.md` shows them.
//!
//! A user's bytes depend on nothing but the user, so that merging chunks copies them as they are. Each entry is told as the step
//! from the one before it: its time, and its offset where the partition is the same, are near.

use super::code::{Numbers, fold, put, put_signed, put_step, unfold};
use dataflows::event::{ItemId, Position, Time, UserId};
use dataflows::recent::Entry;
use dataflows::state::{PaneState, StandingState, UserState};

/// What is said of a user of whom nothing is left: no entries, no standing list.
pub(super) const NOTHING: &[u8] = &[0, 0];

/// Appends all of a user but the id.
pub(super) fn put_user(bytes: &mut Vec<u8>, user: &UserState) {
    put(bytes, user.entries.len() as u64);
    let mut before = Entry::default();
    for entry in &user.entries {
        put_step(bytes, before.time, entry.time);
        let (from, to) = (before.position, entry.position);
        // The lowest bit says whether the partition is another one.
        if from.partition() == to.partition() {
            put(bytes, fold(to.offset().cast_signed() - from.offset().cast_signed()) << 1);
        } else {
            put(bytes, to.offset() << 1 | 1);
            put(bytes, u64::from(to.partition()));
        }
        put(bytes, entry.item.0);
        before = *entry;
    }
    let Some(standing) = &user.standing else { return put(bytes, 0) };
    put(bytes, standing.items.len() as u64 + 1);
    standing.items.iter().for_each(|item| put(bytes, item.0));
    put_signed(bytes, standing.reward);
}

/// The user that [`put_user`] was given; `None` if `bytes` are not its.
pub(super) fn user(user: UserId, bytes: &[u8]) -> Option<UserState> {
    let mut numbers = Numbers::new(bytes, 0);
    let length = length(numbers.next()?, &numbers)?;
    let mut entries = Vec::with_capacity(length);
    let mut before = Entry::default();
    for _ in 0..length {
        let time = numbers.step(before.time)?;
        let word = numbers.next()?;
        let position = if word & 1 == 0 {
            let offset = before.position.offset().checked_add_signed(unfold(word >> 1))?;
            Position::new(before.position.partition(), offset)?
        } else {
            let partition = u32::try_from(numbers.next()?).ok()?;
            Position::new(partition, word >> 1)?
        };
        before = Entry { time, position, item: ItemId(numbers.next()?) };
        entries.push(before);
    }
    let standing = match numbers.next()? {
        0 => None,
        one_more => {
            let mut items = Vec::with_capacity(self::length(one_more - 1, &numbers)?);
            for _ in 1..one_more {
                items.push(ItemId(numbers.next()?));
            }
            Some(StandingState { items, reward: numbers.next_signed()? })
        }
    };
    numbers.are_done().then_some(UserState { user, entries, standing })
}

/// A length of a list whose elements are still to come, unless there are too few bytes for it: nothing is allocated for those.
fn length(number: u64, rest: &Numbers<'_>) -> Option<usize> {
    usize::try_from(number).ok().filter(|&length| length <= rest.left())
}

/// Appends a pane, as it differs from the one before it.
pub(super) fn put_pane(bytes: &mut Vec<u8>, before: &PaneState, pane: &PaneState) {
    put_step(bytes, before.item.0, pane.item.0);
    put_step(bytes, before.enters, pane.enters);
    put_step(bytes, pane.enters, pane.leaves);
    put_signed(bytes, pane.count);
}

/// The next pane; `None` if there is none in the bytes.
pub(super) fn pane(numbers: &mut Numbers<'_>, before: &PaneState) -> Option<PaneState> {
    let item = ItemId(numbers.step(before.item.0)?);
    let enters = numbers.step(before.enters)?;
    Some(PaneState { item, enters, leaves: numbers.step(enters)?, count: numbers.next_signed()? })
}

/// What panes are kept by, and sorted by. Those that are equal in it add up.
pub(super) fn pane_key(pane: &PaneState) -> (ItemId, Time, Time) {
    (pane.item, pane.enters, pane.leaves)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::{any_pane, any_user};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn users_come_back(expected in any_user()) {
            let mut bytes = Vec::new();
            put_user(&mut bytes, &expected);
            prop_assert_eq!(bytes == NOTHING, expected.entries.is_empty() && expected.standing.is_none());
            prop_assert_eq!(user(expected.user, &bytes), Some(expected.clone()));
            for length in 0..bytes.len() {
                prop_assert_eq!(user(expected.user, &bytes[..length]), None);
            }
            bytes.push(0);
            prop_assert_eq!(user(expected.user, &bytes), None);
        }

        #[test]
        fn panes_come_back(panes in prop::collection::vec(any_pane(), 0..20)) {
            let mut bytes = Vec::new();
            let nothing = PaneState { item: ItemId(0), enters: 0, leaves: 0, count: 0 };
            let befores = std::iter::once(&nothing).chain(&panes);
            befores.clone().zip(&panes).for_each(|(before, pane)| put_pane(&mut bytes, before, pane));
            let mut numbers = Numbers::new(&bytes, 0);
            for (before, expected) in befores.zip(&panes) {
                prop_assert_eq!(&pane(&mut numbers, before).unwrap(), expected);
            }
            prop_assert!(numbers.are_done());
        }

        #[test]
        fn rubbish_is_no_user_or_one(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(found) = user(UserId(1), &bytes) {
                prop_assert!(found.entries.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn a_length_beyond_the_bytes_allocates_nothing() {
        let mut bytes = Vec::new();
        put(&mut bytes, u64::MAX);
        assert_eq!(user(UserId(1), &bytes), None);
        let mut bytes = vec![0];
        put(&mut bytes, u64::MAX);
        assert_eq!(user(UserId(1), &bytes), None);
    }
}
