//! Every user's last items, as of each tick (contract, section 3).
//!
//! ```text
//!              by user
//! events ───────────────┐
//! restored (by user) ───┼─ recent ─┬─ steps: ticks (events and changed sequences), and what a snapshot takes and brings
//! requests (to all) ────┘          └─ differences ─ [arrangement: user → entries], where it is switched on
//! ```
//!
//! The events of a tick wait until the frontier has passed it; then they are put into their users' sequences, in any
//! order, because a sequence is ordered by (time, position) and is the last `length` of all events before the tick's end,
//! however they came. So a user costs `length` entries, however long the stream runs.
//!
//! A tick is worked on when all three inputs have passed it: `requests`, because one for a snapshot at F is sent at a time
//! ≤ F, and so nobody works beyond F before it knows that the state at F is wanted (it may also be sent behind F and before
//! the next tick's end, which lets F pass while nobody knows yet whether its state will be wanted); `restored`, because the
//! rows are what the ticks go on from. Inputs that are closed hold nothing up.
//!
//! As a differential collection, the sequences are the pairs (user, [`Entry`]): an event adds its entry, and takes away
//! the one that it pushes out. `tests/contract/differential.rs` has the same collection by differential's own `reduce`, and compares.

use crate::event::{Event, ItemId, Position, Time, UserId};
use crate::hash::route;
use crate::hold::Hold;
use crate::lists::Lists;
use crate::rows::SequenceKey;
use crate::sequences::Sequences;
use crate::sizes::Sizes;
use crate::state::{StandingState, UserState};
use crate::time::Steps;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent, arrangement::arrange_core};
use differential_dataflow::trace::implementations::{ValBatcher, ValSpine};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// How sequences are kept.
#[derive(Clone, Copy, Debug)]
pub struct Recent {
    /// The tick.
    pub tick: Steps,
    /// Entries a user, at least 1.
    pub length: usize,
    /// Whether the sequences are put out as differences, too.
    pub differences: bool,
    /// Whether snapshots may be asked for; if not, nobody keeps track of who changed, and a request brings nothing.
    pub snapshots: bool,
}

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

/// What *recent* hands on, in the order in which it has to be taken in.
#[derive(Clone, Debug)]
pub enum Step {
    /// What stood for users by a snapshot: all before the first tick, a later row of a user in the place of an earlier one.
    Restored(Vec<(Slot, Option<StandingState>)>),
    /// A tick with events. At most one a tick and worker.
    Tick(Rc<Tick>),
    /// A part of a snapshot, between its last tick and the next one.
    Snapshot(SnapshotPart),
}

impl Step {
    /// The tick, if it is one.
    pub(crate) fn tick(&self) -> Option<&Tick> {
        match self {
            Step::Tick(tick) => Some(tick),
            Step::Restored(_) | Step::Snapshot(_) => None,
        }
    }
}

/// Some of the users that changed since the snapshot before.
#[derive(Clone, Debug)]
pub struct SnapshotPart {
    /// The time of the request.
    pub request: Time,
    /// The users, without the lists that stand for them.
    pub users: Vec<UserState>,
    /// For each user, its slot.
    pub slots: Vec<Slot>,
}

/// The two forms of the sequences.
pub struct RecentStreams<'s> {
    /// Ticks, snapshots, and what was restored.
    pub steps: StreamVec<'s, Time, Step>,
    /// The sequences' entries, as differences; silent unless asked for.
    pub differences: StreamVec<'s, Time, ((UserId, Entry), Time, isize)>,
}

/// Each user's last `length` items.
///
/// `requests` are the times at which a snapshot is wanted, each on all workers and sent at a time up to it: the snapshot
/// stands at the last end of a tick up to then. `restored` are the rows of snapshots, each user's from one worker and the
/// oldest first.
pub fn recent<'s>(
    events: StreamVec<'s, Time, Event>,
    requests: StreamVec<'s, Time, Time>,
    restored: StreamVec<'s, Time, UserState>,
    options: Recent,
    sizes: &Rc<Sizes>,
) -> RecentStreams<'s> {
    let scope = events.scope();
    scope.region_named("recent", |inner| {
        use timely::dataflow::operators::{Enter, Leave};
        let (events, requests, restored) = (events.enter(inner), requests.enter(inner), restored.enter(inner));
        let RecentStreams { steps, differences } = sequences(events, requests, restored, options, sizes.clone());
        RecentStreams { steps: steps.leave(scope), differences: differences.leave(scope) }
    })
}

/// The operator.
fn sequences<'s>(
    events: StreamVec<'s, Time, Event>,
    requests: StreamVec<'s, Time, Time>,
    restored: StreamVec<'s, Time, UserState>,
    options: Recent,
    sizes: Rc<Sizes>,
) -> RecentStreams<'s> {
    let Recent { tick, length, differences, snapshots } = options;
    let mut builder = OperatorBuilder::new("recent".to_string(), events.scope());
    let mut events = builder.new_input(events, Exchange::new(|event: &Event| route(event.user.0)));
    let mut requests = builder.new_input(requests, Pipeline);
    let mut restored = builder.new_input(restored, Exchange::new(|row: &UserState| route(row.user.0)));
    let (steps_output, steps) = builder.new_output();
    let (differences_output, differences_stream) = builder.new_output();
    let mut steps_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Step>>>::from(steps_output);
    let mut differences_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<_>>>::from(differences_output);
    builder.build(move |capabilities| {
        drop(capabilities);
        let (mut steps_hold, mut differences_hold) = (Hold::default(), Hold::default());
        let mut waiting = Waiting::default();
        let mut sequences = Sequences::new(length, snapshots);
        move |frontiers| {
            let (mut steps_output, mut differences_output) = (steps_output.activate(), differences_output.activate());
            restored.for_each(|capability, rows| {
                let Some(&time) = capability.least().filter(|_| !rows.is_empty()) else { return };
                let mut session = differences.then(|| differences_output.session(&capability));
                let step = restore(&mut sequences, rows, |user, entry, diff| {
                    session.iter_mut().for_each(|session| session.give(((user, entry), time, diff)));
                });
                steps_output.session(&capability).give(step);
            });
            events.for_each(|capability, events| {
                waiting.take(events, tick, |end| {
                    steps_hold.cover(&capability, end, 0);
                    differences_hold.cover(&capability, end, 1);
                });
            });
            requests.for_each(|capability, requests| {
                for request in requests.drain(..).filter(|_| snapshots) {
                    steps_hold.cover(&capability, request, 0);
                    waiting.requests.insert(request);
                }
            });
            if let Some(for_steps) = steps_hold.get() {
                let mut steps_session = steps_output.session(for_steps);
                let for_differences = differences_hold.get().filter(|_| differences);
                let mut differences_session = for_differences.map(|held| differences_output.session(held));
                while let Some(work) = waiting.next(frontiers) {
                    match work {
                        Work::Tick(end, events) => {
                            let done = sequences.apply(end, events, |user, entry, diff| {
                                let session = differences_session.iter_mut();
                                session.for_each(|session| session.give(((user, entry), end, diff)));
                            });
                            steps_session.give(Step::Tick(Rc::new(done)));
                        }
                        Work::Snapshot(request) => take_snapshot(&mut sequences, request, |part| {
                            steps_session.give(Step::Snapshot(part));
                        }),
                    }
                }
            }
            steps_hold.release(waiting.first());
            differences_hold.release(waiting.ticks.keys().next().copied());
            sizes.users.set(sequences.len() as u64);
            sizes.waiting_events.set(waiting.events);
        }
    });
    RecentStreams { steps, differences: differences_stream }
}

/// What waits for its time to be complete.
#[derive(Default)]
struct Waiting {
    ticks: BTreeMap<Time, Vec<Event>>,
    /// Of all ticks.
    events: u64,
    requests: BTreeSet<Time>,
}

enum Work {
    Tick(Time, Vec<Event>),
    Snapshot(Time),
}

impl Waiting {
    /// Takes events in, and tells the ticks that they belong to.
    fn take(&mut self, events: &mut Vec<Event>, tick: Steps, mut tell: impl FnMut(Time)) {
        for run in events.chunk_by(|a, b| tick.end_of(a.logical) == tick.end_of(b.logical)) {
            let end = tick.end_of(run[0].logical);
            tell(end);
            self.ticks.entry(end).or_default().extend_from_slice(run);
        }
        self.events += events.len() as u64;
        events.clear();
    }

    /// The first time that something waits for.
    fn first(&self) -> Option<Time> {
        let (tick, request) = (self.ticks.keys().next(), self.requests.first());
        tick.into_iter().chain(request).min().copied()
    }

    /// The next piece of work, if all inputs have passed its time. A snapshot comes after the tick of the same time.
    fn next(&mut self, inputs: &[MutableAntichain<Time>]) -> Option<Work> {
        let first = self.first().filter(|time| !inputs.iter().any(|input| input.less_equal(time)))?;
        if let Some(events) = self.ticks.remove(&first) {
            self.events -= events.len() as u64;
            return Some(Work::Tick(first, events));
        }
        self.requests.remove(&first).then_some(Work::Snapshot(first))
    }
}

/// Takes rows of a snapshot in, and the lists that stood by them on.
fn restore(
    sequences: &mut Sequences,
    rows: &mut Vec<UserState>,
    mut difference: impl FnMut(UserId, Entry, isize),
) -> Step {
    let standing = |row: UserState| {
        let slot = sequences.restore(&row, |entry, diff| difference(row.user, entry, diff));
        (slot, row.standing)
    };
    Step::Restored(rows.drain(..).map(standing).collect())
}

/// Users a part of a snapshot: parts travel many to a message, which should not become much larger than others.
const PART_USERS: usize = 256;

fn take_snapshot(sequences: &mut Sequences, request: Time, mut give: impl FnMut(SnapshotPart)) {
    for changed in sequences.take_changes(request).chunks(PART_USERS) {
        let state = |&(slot, user): &(Slot, UserId)| {
            let entries = sequences.entries(slot).collect();
            UserState { user, entries, standing: None }
        };
        let (users, slots) = (changed.iter().map(state).collect(), changed.iter().map(|&(slot, _)| slot).collect());
        give(SnapshotPart { request, users, slots });
    }
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
