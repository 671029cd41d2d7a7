//! The state of *recent* on one worker: every user's last entries, and who changed since the last snapshot.
//!
//! What a user costs in time is cache misses, so all that is known of one stands together, in a block of words:
//!
//! ```text
//! id │ row, state │ items (length) │ times (length) │ positions (length) │ up to a whole number of cache lines
//! ```
//!
//! An entry that is newer than all others, as nearly all are, takes the place of the oldest, and nothing moves. The blocks that
//! the next events need are fetched together, before any is worked on.

use crate::event::{Event, ItemId, Position, Time, UserId};
use crate::index::Index;
use crate::recent::{Entry, Slot, Tick};
use crate::rows::SequenceKey;
use crate::state::UserState;
use std::hint::black_box;

/// Users a slab: growing allocates one more slab and moves nothing.
const SLAB_USERS: usize = 4096;

/// Words of a cache line.
const LINE: usize = 8;

/// Words before a block's items.
const HEAD: usize = 2;

/// Events whose blocks are fetched together: for the usual lengths they fit a first-level cache.
const AT_A_TIME: usize = 64;

/// All sequences of one worker.
pub(crate) struct Sequences {
    length: usize,
    /// Words a block.
    stride: usize,
    /// Slots by user.
    slots: Index,
    slabs: Vec<Box<[u64]>>,
    /// Reused.
    likely: Vec<Slot>,
    changes: Option<Changes>,
}

/// The users with an event since the last snapshot.
///
/// A user whose newest tick is not beyond the snapshot is not among them yet; so this takes no memory for other users.
#[derive(Default)]
struct Changes {
    snapshot: Time,
    users: Vec<(Slot, UserId)>,
    /// The newest tick with an event of the user, 0 before the first, by slot.
    ticks: Vec<Time>,
}

impl Changes {
    /// The user has an event in the tick `end`.
    fn note(&mut self, end: Time, slot: Slot, user: UserId) {
        if slot as usize >= self.ticks.len() {
            self.ticks.resize(slot as usize + 1, 0);
        }
        let tick = &mut self.ticks[slot as usize];
        if *tick <= self.snapshot {
            self.users.push((slot, user));
        }
        *tick = end;
    }
}

/// The second word of a block: the user's row in the tick that is worked on, if it has one there, and its state. Below
/// `length` that is the number of entries, which stand in order from the first place on. From `length` on all places are taken,
/// and what is more than `length` is the place of the oldest.
fn row_and_state(word: u64) -> (u32, usize) {
    (word as u32, (word >> 32) as usize)
}

fn word_of(row: u32, state: usize) -> u64 {
    u64::from(row) | (state as u64) << 32
}

/// A user's entries.
struct Places<'a> {
    items: &'a mut [u64],
    times: &'a mut [u64],
    positions: &'a mut [u64],
}

impl Places<'_> {
    fn get(&self, place: usize) -> Entry {
        entry(self.items[place], self.times[place], self.positions[place])
    }

    fn set(&mut self, place: usize, entry: Entry) {
        self.items[place] = entry.item.0;
        self.times[place] = entry.time;
        self.positions[place] = entry.position.word();
    }
}

fn entry(item: u64, time: Time, position: u64) -> Entry {
    Entry { time, position: Position::of_word(position), item: ItemId(item) }
}

impl Sequences {
    /// No sequences yet, of up to `length` entries. With `snapshots`, keeps track of who changed.
    pub(crate) fn new(length: usize, snapshots: bool) -> Sequences {
        Sequences {
            length,
            stride: (HEAD + 3 * length).next_multiple_of(LINE),
            slots: Index::default(),
            slabs: Vec::new(),
            likely: Vec::new(),
            changes: snapshots.then(Changes::default),
        }
    }

    /// Number of users.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Puts a tick's events into their sequences.
    pub(crate) fn apply(
        &mut self,
        end: Time,
        events: Vec<Event>,
        mut difference: impl FnMut(UserId, Entry, isize),
    ) -> Tick {
        let mut tick = Tick { time: end, rows: Vec::with_capacity(events.len()), ..Tick::default() };
        for events in events.chunks(AT_A_TIME) {
            self.fetch(events);
            for event in events {
                let slot = self.slot(event.user);
                tick.rows.push(self.row(slot, event.user, end, &mut tick.slots));
                let entry = Entry { time: event.time, position: event.position, item: event.item };
                self.insert(slot, entry, |entry, diff| difference(event.user, entry, diff));
            }
        }
        for &slot in &tick.slots {
            let block = self.block(slot);
            let (items, oldest) = self.items(block);
            let key = SequenceKey { time: end, user: UserId(block[0]) };
            tick.sequences.push_with(key, |all| {
                all.extend(items[oldest..].iter().chain(&items[..oldest]).map(|&item| ItemId(item)));
            });
        }
        tick.events = events;
        tick
    }

    /// Reads the blocks of the events' users, each independently of the others, so that their cache misses overlap.
    fn fetch(&mut self, events: &[Event]) {
        black_box(events.iter().fold(0, |sum, event| sum ^ self.slots.first_place(event.user.0)));
        let mut likely = std::mem::take(&mut self.likely);
        likely.extend(events.iter().filter_map(|event| self.slots.likely_row(event.user.0)));
        let read = |sum: u64, slot: &Slot| self.block(*slot).iter().step_by(LINE).fold(sum, |sum, word| sum ^ word);
        black_box(likely.iter().fold(0, read));
        likely.clear();
        self.likely = likely;
    }

    /// The user's row in the tick `end`, whose users so far are `slots`.
    fn row(&mut self, slot: Slot, user: UserId, end: Time, slots: &mut Vec<Slot>) -> u32 {
        let word = &mut self.block_mut(slot)[1];
        let (row, state) = row_and_state(*word);
        if slots.get(row as usize) == Some(&slot) {
            return row;
        }
        let row = slots.len() as u32;
        *word = word_of(row, state);
        slots.push(slot);
        if let Some(changes) = &mut self.changes {
            changes.note(end, slot, user);
        }
        row
    }

    /// Takes a user's entries from a snapshot, in the place of those that an older row may have brought.
    pub(crate) fn restore(&mut self, row: &UserState, mut difference: impl FnMut(Entry, isize)) -> Slot {
        let slot = self.slot(row.user);
        self.entries(slot).for_each(|entry| difference(entry, -1));
        self.block_mut(slot)[1] = 0;
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
    pub(crate) fn entries(&self, slot: Slot) -> impl Iterator<Item = Entry> {
        let block = self.block(slot);
        let (items, oldest) = self.items(block);
        let (length, len) = (self.length, items.len());
        (oldest..len).chain(0..oldest).map(move |place| {
            let item = &block[HEAD + place..];
            entry(item[0], item[length], item[2 * length])
        })
    }

    /// The items in use of a block, and the place of the oldest.
    fn items<'a>(&self, block: &'a [u64]) -> (&'a [u64], usize) {
        let (_, state) = row_and_state(block[1]);
        (&block[HEAD..HEAD + state.min(self.length)], state.saturating_sub(self.length))
    }

    fn block(&self, slot: Slot) -> &[u64] {
        let start = slot as usize % SLAB_USERS * self.stride;
        &self.slabs[slot as usize / SLAB_USERS][start..start + self.stride]
    }

    fn block_mut(&mut self, slot: Slot) -> &mut [u64] {
        let start = slot as usize % SLAB_USERS * self.stride;
        &mut self.slabs[slot as usize / SLAB_USERS][start..start + self.stride]
    }

    fn slot(&mut self, user: UserId) -> Slot {
        let (new, stride, slabs) = (self.slots.len(), self.stride, &self.slabs);
        let id_of = |slot: Slot| slabs[slot as usize / SLAB_USERS][slot as usize % SLAB_USERS * stride];
        let slot = self.slots.row_or_insert(user.0, new as Slot, id_of);
        if slot as usize == new {
            if new == self.slabs.len() * SLAB_USERS {
                self.slabs.push(vec![0; SLAB_USERS * stride].into_boxed_slice());
            }
            self.block_mut(slot)[0] = user.0;
        }
        slot
    }

    /// Inserts an entry in its place, and pushes out the oldest if there are more than `length`.
    fn insert(&mut self, slot: Slot, entry: Entry, mut difference: impl FnMut(Entry, isize)) {
        let length = self.length;
        let (head, rest) = self.block_mut(slot).split_at_mut(HEAD);
        let (items, rest) = rest.split_at_mut(length);
        let (times, rest) = rest.split_at_mut(length);
        let mut places = Places { items, times, positions: &mut rest[..length] };
        let (row, state) = row_and_state(head[1]);
        let (len, oldest) = (state.min(length), state.saturating_sub(length));
        let newest = if oldest == 0 { len } else { oldest }.checked_sub(1).map(|newest| places.get(newest));
        let state = if newest.is_none_or(|newest| newest < entry) {
            if len < length {
                places.set(len, entry);
                len + 1
            } else {
                difference(places.get(oldest), -1);
                places.set(oldest, entry);
                length + (oldest + 1) % length
            }
        } else {
            let mut entries: Vec<Entry> = (oldest..len).chain(0..oldest).map(|place| places.get(place)).collect();
            let at = entries.partition_point(|other| *other < entry);
            if len == length && at == 0 {
                // Older than all that count.
                return;
            }
            entries.insert(at, entry);
            if len == length {
                difference(entries.remove(0), -1);
            }
            (0..).zip(&entries).for_each(|(place, &entry)| places.set(place, entry));
            entries.len()
        };
        head[1] = word_of(row, state);
        difference(entry, 1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event::{Behavior, ItemId, Position};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

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

    proptest! {
        /// Also for rows that are restored, and by the differences alone.
        #[test]
        fn a_sequence_is_the_end_of_all_entries_in_order(
            length in 1usize..6,
            ticks in prop::collection::vec((prop::collection::vec((0usize..4, 0u64..20), 0..12), any::<bool>()), 1..8),
            restored in any::<prop::sample::Index>(),
            left in 0usize..6,
        ) {
            let mut sequences = Sequences::new(length, true);
            let mut all: BTreeMap<UserId, Vec<Entry>> = BTreeMap::new();
            let mut counts: BTreeMap<(UserId, Entry), isize> = BTreeMap::new();
            let (restored, mut offset) = (restored.index(ticks.len()), 0);
            let mut waiting: BTreeSet<UserId> = BTreeSet::new();
            for (at, (events, snapshot)) in ticks.iter().enumerate() {
                let end = (at as Time + 1) * 100;
                let next = |&(user, time): &(usize, Time)| {
                    offset += 1;
                    event(user, offset, time)
                };
                let events: Vec<Event> = events.iter().map(next).collect();
                for event in &events {
                    let entry = Entry { time: event.time, position: event.position, item: event.item };
                    all.entry(event.user).or_default().push(entry);
                }
                let mut count = |user, entry, diff| *counts.entry((user, entry)).or_default() += diff;
                let tick = sequences.apply(end, events, &mut count);
                let newest = |user| {
                    let mut entries: Vec<Entry> = all[&user].clone();
                    entries.sort();
                    entries.split_off(entries.len().saturating_sub(length))
                };
                for ((key, items), &slot) in tick.sequences.iter().zip(&tick.slots) {
                    let expected = newest(key.user);
                    prop_assert!(items.iter().copied().eq(expected.iter().map(|entry| entry.item)));
                    prop_assert!(sequences.entries(slot).eq(expected));
                }
                for (event, &row) in tick.events.iter().zip(&tick.rows) {
                    prop_assert_eq!(tick.sequences.row(row as usize).0.user, event.user);
                }
                waiting.extend(tick.sequences.keys().iter().map(|key| key.user));
                if *snapshot {
                    let mut changed: Vec<UserId> = sequences.take_changes(end).into_iter().map(|(_, user)| user).collect();
                    changed.sort();
                    prop_assert!(changed.into_iter().eq(std::mem::take(&mut waiting)));
                }
                if at == restored {
                    // A row of an older snapshot has fewer entries; the user goes on from those.
                    for (&user, entries) in &mut all {
                        entries.sort();
                        entries.truncate(left);
                        let kept = entries.split_off(entries.len().saturating_sub(length));
                        *entries = kept;
                        let row = UserState { user, entries: entries.clone(), standing: None };
                        let slot = sequences.restore(&row, |entry, diff| *counts.entry((user, entry)).or_default() += diff);
                        prop_assert!(sequences.entries(slot).eq(row.entries));
                    }
                }
            }
            counts.retain(|_, count| *count != 0);
            let mut kept = BTreeMap::new();
            for (user, mut entries) in all {
                entries.sort();
                let entries = entries.split_off(entries.len().saturating_sub(length));
                kept.extend(entries.into_iter().map(|entry| ((user, entry), 1)));
            }
            prop_assert_eq!(counts, kept);
        }
    }
}
