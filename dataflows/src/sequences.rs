//! The state of *recent* on one worker: every user's last entries, and who changed since the last snapshot.

use crate::event::{Event, Time, UserId};
use crate::hash::IdMap;
use crate::recent::{Entry, Slot, Tick};
use crate::rows::SequenceKey;
use crate::state::UserState;

/// Users a slab: growing allocates one more slab and moves nothing.
const SLAB_USERS: usize = 4096;

/// All sequences of one worker.
pub(crate) struct Sequences {
    length: usize,
    slots: IdMap<UserId, Slot>,
    /// By slot.
    users: Vec<User>,
    /// `length` entries a user, of which the first `len` are in use, oldest first.
    slabs: Vec<Box<[Entry]>>,
    /// Reused: the slot of each event of the tick at hand.
    event_slots: Vec<Slot>,
    changes: Option<Changes>,
}

#[derive(Clone, Copy, Default)]
struct User {
    /// The tick that `row` is of: the newest with an event of this user, 0 before the first.
    tick: Time,
    row: u32,
    len: u32,
}

/// The users with an event since the last snapshot.
///
/// A user whose newest tick is not beyond the snapshot is not among them yet; so this takes no memory for other users.
#[derive(Default)]
struct Changes {
    snapshot: Time,
    users: Vec<(Slot, UserId)>,
}

impl Sequences {
    /// No sequences yet, of up to `length` entries. With `snapshots`, keeps track of who changed.
    pub(crate) fn new(length: usize, snapshots: bool) -> Sequences {
        Sequences {
            length,
            slots: IdMap::default(),
            users: Vec::new(),
            slabs: Vec::new(),
            event_slots: Vec::new(),
            changes: snapshots.then(Changes::default),
        }
    }

    /// Number of users.
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// Puts a tick's events into their sequences.
    pub(crate) fn apply(
        &mut self,
        end: Time,
        events: Vec<Event>,
        mut difference: impl FnMut(UserId, Entry, isize),
    ) -> Tick {
        // All look-ups first: they don't depend on each other, so their cache misses overlap.
        let mut event_slots = std::mem::take(&mut self.event_slots);
        event_slots.extend(events.iter().map(|event| self.slot(event.user)));
        let mut tick = Tick { time: end, rows: Vec::with_capacity(events.len()), ..Tick::default() };
        for (event, &slot) in events.iter().zip(&event_slots) {
            let user = &mut self.users[slot as usize];
            if user.tick != end {
                if let Some(changes) = self.changes.as_mut().filter(|changes| user.tick <= changes.snapshot) {
                    changes.users.push((slot, event.user));
                }
                user.tick = end;
                user.row = tick.slots.len() as u32;
                tick.slots.push(slot);
            }
            tick.rows.push(user.row);
            let entry = Entry { time: event.time, position: event.position, item: event.item };
            self.insert(slot, entry, |entry, diff| difference(event.user, entry, diff));
        }
        let mut users = tick.slots.iter().map(|_| UserId(0)).collect::<Vec<_>>();
        events.iter().zip(&tick.rows).for_each(|(event, &row)| users[row as usize] = event.user);
        for (&slot, user) in tick.slots.iter().zip(users) {
            let entries = self.entries(slot);
            tick.sequences.push_with(SequenceKey { time: end, user }, |items| {
                items.extend(entries.iter().map(|entry| entry.item));
            });
        }
        event_slots.clear();
        self.event_slots = event_slots;
        tick.events = events;
        tick
    }

    /// Takes a user's entries from a snapshot, in the place of those that an older row may have brought.
    pub(crate) fn restore(&mut self, row: &UserState, mut difference: impl FnMut(Entry, isize)) -> Slot {
        let slot = self.slot(row.user);
        self.entries(slot).iter().for_each(|&entry| difference(entry, -1));
        self.users[slot as usize].len = 0;
        row.entries.iter().for_each(|&entry| self.insert(slot, entry, &mut difference));
        slot
    }

    /// The users that changed since the snapshot before; from now on, those that change after `frontier`.
    pub(crate) fn take_changes(&mut self, frontier: Time) -> Vec<(Slot, UserId)> {
        self.changes.as_mut().map_or(Vec::new(), |changes| {
            changes.snapshot = frontier;
            std::mem::take(&mut changes.users)
        })
    }

    /// A user's entries, oldest first.
    pub(crate) fn entries(&self, slot: Slot) -> &[Entry] {
        let start = slot as usize % SLAB_USERS * self.length;
        &self.slabs[slot as usize / SLAB_USERS][start..start + self.users[slot as usize].len as usize]
    }

    fn slot(&mut self, user: UserId) -> Slot {
        let (users, slabs, length) = (&mut self.users, &mut self.slabs, self.length);
        *self.slots.entry(user).or_insert_with(|| {
            if users.len() == slabs.len() * SLAB_USERS {
                slabs.push(vec![Entry::default(); SLAB_USERS * length].into_boxed_slice());
            }
            users.push(User::default());
            (users.len() - 1) as Slot
        })
    }

    /// Inserts an entry in its place, and pushes out the oldest if there are more than `length`.
    fn insert(&mut self, slot: Slot, entry: Entry, mut difference: impl FnMut(Entry, isize)) {
        let start = slot as usize % SLAB_USERS * self.length;
        let entries = &mut self.slabs[slot as usize / SLAB_USERS][start..start + self.length];
        let len = self.users[slot as usize].len as usize;
        let at = entries[..len].iter().rposition(|e| *e < entry).map_or(0, |i| i + 1);
        if len < self.length {
            entries.copy_within(at..len, at + 1);
            entries[at] = entry;
            self.users[slot as usize].len += 1;
        } else if at == 0 {
            // Older than all that count.
            return;
        } else {
            difference(entries[0], -1);
            entries.copy_within(1..at, 0);
            entries[at - 1] = entry;
        }
        difference(entry, 1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event::{Behavior, ItemId, Position};
    use std::collections::BTreeMap;

    fn event(user: usize, offset: usize, time: Time) -> Event {
        Event {
            user: UserId(user as u64),
            item: ItemId((user * 31 + offset) as u64),
            time,
            logical: time,
            position: Position::new(0, offset as u64).unwrap(),
            behavior: Behavior(0),
            late: false,
        }
    }

    #[test]
    fn users_of_many_slabs_keep_their_own_entries() {
        const LENGTH: usize = 3;
        let users = 2 * SLAB_USERS + 2;
        let mut sequences = Sequences::new(LENGTH, false);
        let mut expected: BTreeMap<UserId, Vec<ItemId>> = BTreeMap::new();
        for round in 0..5 {
            let events: Vec<Event> = (0..users).map(|user| event(user, round * users + user, round as Time)).collect();
            events.iter().for_each(|event| expected.entry(event.user).or_default().push(event.item));
            let tick = sequences.apply(round as Time + 1, events, |_, _, _| {});
            assert_eq!((sequences.len(), tick.sequences.len()), (users, users));
            for (key, items) in tick.sequences.iter() {
                let all = &expected[&key.user];
                assert_eq!(items, &all[all.len().saturating_sub(LENGTH)..], "{key:?}");
            }
        }
    }
}
