//! Every user's last items, as of each tick (contract, section 3).
//!
//! ```text
//!              by user
//! events ─────────────── recent ─┬─ ticks: the tick's events and the changed sequences
//!                                └─ differences ─ [arrangement: user → entries], if anybody reads it
//! ```
//!
//! The events of a tick wait until the frontier has passed it; then they are put into their users' sequences, in any
//! order, because a sequence is ordered by (time, position) and is the last `length` of all events before the tick's end,
//! however they came. So a user costs `length` entries, however long the stream runs.
//!
//! As a differential collection, the sequences are the pairs (user, [`Entry`]): an event adds its entry, and takes away
//! the one that it pushes out. `tests/recent.rs` has the same collection by differential's own `reduce`, and compares.

use crate::event::{Event, ItemId, Position, Time, UserId};
use crate::hash::{IdMap, route};
use crate::hold::Hold;
use crate::lists::Lists;
use crate::rows::SequenceKey;
use crate::time::Steps;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent, arrangement::arrange_core};
use differential_dataflow::trace::implementations::{ValBatcher, ValSpine};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// One event's place in a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The event's time.
    pub time: Time,
    /// Its position, which orders events of equal times.
    pub position: Position,
    /// Its item.
    pub item: ItemId,
}

/// A user's number on the worker that owns it: dense, from 0, in the order in which the worker met its users.
///
/// What follows *recent* on the same worker keeps its own state by this number, and needs no further look-up.
pub type Slot = u32;

/// Everything that one tick changed on one worker.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    /// The tick's end T.
    pub time: Time,
    /// The tick's events, in no particular order.
    pub events: Vec<Event>,
    /// For each event, the row of its user in `sequences`.
    pub rows: Vec<u32>,
    /// The sequence, as of T, of each user with an event in the tick.
    pub sequences: Lists<SequenceKey>,
    /// For each row of `sequences`, the user's slot.
    pub slots: Vec<Slot>,
}

/// The two forms of the sequences.
pub struct Recent<'s> {
    /// Ticks with events, in order. At most one record a tick and worker.
    pub ticks: StreamVec<'s, Time, Rc<Tick>>,
    /// The sequences' entries, as differences; silent unless asked for.
    pub differences: StreamVec<'s, Time, ((UserId, Entry), Time, isize)>,
}

/// Each user's last `length` items; with `differences`, also as a differential collection.
pub fn recent<'s>(events: StreamVec<'s, Time, Event>, tick: Steps, length: usize, differences: bool) -> Recent<'s> {
    let mut builder = OperatorBuilder::new("recent".to_string(), events.scope());
    let mut input = builder.new_input(events, Exchange::new(|event: &Event| route(event.user.0)));
    let (ticks_output, ticks) = builder.new_output();
    let (differences_output, differences_stream) = builder.new_output();
    let mut ticks_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Rc<Tick>>>>::from(ticks_output);
    let mut differences_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<_>>>::from(differences_output);
    builder.build(move |capabilities| {
        drop(capabilities);
        let (mut ticks_hold, mut differences_hold) = (Hold::default(), Hold::default());
        let mut waiting: BTreeMap<Time, Vec<Event>> = BTreeMap::new();
        let mut sequences = Sequences::new(length);
        move |frontiers| {
            let (mut ticks_output, mut differences_output) = (ticks_output.activate(), differences_output.activate());
            input.for_each(|capability, events| {
                for run in events.chunk_by(|a, b| tick.end_of(a.logical) == tick.end_of(b.logical)) {
                    let end = tick.end_of(run[0].logical);
                    ticks_hold.cover(&capability, end, 0);
                    differences_hold.cover(&capability, end, 1);
                    waiting.entry(end).or_default().extend_from_slice(run);
                }
                events.clear();
            });
            if let (Some(for_ticks), Some(for_differences)) = (ticks_hold.get(), differences_hold.get()) {
                let mut ticks_session = ticks_output.session(for_ticks);
                let mut differences_session = differences_output.session(for_differences);
                while let Some(entry) = waiting.first_entry().filter(|e| !frontiers[0].less_equal(e.key())) {
                    let (end, events) = entry.remove_entry();
                    let done = sequences.apply(end, events, |user, entry, diff| {
                        if differences {
                            differences_session.give(((user, entry), end, diff));
                        }
                    });
                    ticks_session.give(Rc::new(done));
                }
            }
            ticks_hold.release(waiting.keys().next().copied());
            differences_hold.release(waiting.keys().next().copied());
        }
    });
    Recent { ticks, differences: differences_stream }
}

/// The entries of every user's sequence, by user.
pub type RecentEntries = TraceAgent<ValSpine<UserId, Entry, Time, isize>>;

/// The sequences, arranged by user, on the worker that owns the user.
pub fn arrange_recent<'s>(
    differences: StreamVec<'s, Time, ((UserId, Entry), Time, isize)>,
) -> Arranged<'s, RecentEntries> {
    arrange_core::<_, _, ValBatcher<_, _, _, _>, ValSpine<_, _, _, _>>(
        differences,
        Pipeline,
        "recent-sequences",
        ValBatcher::new,
    )
}

/// Users a slab: growing allocates one more slab and moves nothing.
const SLAB_USERS: usize = 4096;

/// The state of *recent* on one worker.
struct Sequences {
    length: usize,
    slots: IdMap<UserId, Slot>,
    /// By slot.
    users: Vec<User>,
    /// `length` entries a user, of which the first `len` are in use, oldest first.
    slabs: Vec<Box<[Entry]>>,
    /// Reused: the slot of each event of the tick at hand.
    event_slots: Vec<Slot>,
}

#[derive(Clone, Copy, Default)]
struct User {
    /// The tick that `row` is of.
    tick: Time,
    row: u32,
    len: u32,
}

impl Sequences {
    fn new(length: usize) -> Sequences {
        Sequences { length, slots: IdMap::default(), users: Vec::new(), slabs: Vec::new(), event_slots: Vec::new() }
    }

    /// Puts a tick's events into their sequences.
    fn apply(&mut self, end: Time, events: Vec<Event>, mut difference: impl FnMut(UserId, Entry, isize)) -> Tick {
        // All look-ups first: they don't depend on each other, so their cache misses overlap.
        let mut event_slots = std::mem::take(&mut self.event_slots);
        event_slots.extend(events.iter().map(|event| self.slot(event.user)));
        let mut tick = Tick { time: end, rows: Vec::with_capacity(events.len()), ..Tick::default() };
        for (event, &slot) in events.iter().zip(&event_slots) {
            let user = &mut self.users[slot as usize];
            if user.tick != end {
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

    fn entries(&self, slot: Slot) -> &[Entry] {
        let start = slot as usize % SLAB_USERS * self.length;
        &self.slabs[slot as usize / SLAB_USERS][start..start + self.users[slot as usize].len as usize]
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
