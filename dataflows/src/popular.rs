//! Trending items: events → sliding-window counts → the first `top` of every window (contract, section 3).
//!
//! ```text
//!                       by item                                              to all
//! events ─ pane counts ────────── window ─┬─ each worker's first `top` ───────────── merge ─ lists
//!                                         └─ differences ─ [arrangement: item, diff = count], where it is switched on
//! ```
//!
//! An event enters the window at one window end and leaves it at another ([`Window::span`]): two updates, however many
//! windows overlap.
//!
//! - *Pane counts* adds up the events of a worker that enter and leave together, before they cross to the item's worker:
//!   an item that everybody looks at costs its worker no more than any other. What crosses are blocks of counts, and not
//!   single ones: timely moves a block for the price of a record.
//! - *Window* has the counts of the items in the window. What enters is looked up by its item; it gets a slot, and what
//!   leaves an hour later waits by slot, and is one subtraction. The [leaders](crate::leaders) among the counts are kept
//!   above a moving threshold, so that a change below it costs no more than that.
//! - The *arrangement* `window-counts` is the same counts as a differential collection, with the count as the difference. It
//!   is beside the way of the lists and not on it, so that they don't wait for it. No dataflow reads it yet: it is there
//!   only where it is switched on.
//! - A *snapshot* has what entered since the snapshot before; what has entered and not left, of all snapshots up to one, is
//!   the window at the last window end up to it. Events of the slide that is open then are not in it.
//! - *Merge* makes the list of the workers' first, on every worker the same, because each needs it to fill
//!   recommendations.
//!
//! Frontiers: a list for E is put out when the input frontier has passed E, and then for every E while anything is in the
//! window, also after the end of the input.
//!
//! Invariants: a window end is worked on once, after everything that enters at it has come, and in order. What waits to
//! leave is what the counts are made of, so an item has a count just as long as something of it waits, and its slot
//! outlives both.

use crate::batcher::SortingBatcher;
use crate::event::{Event, ItemId, Time};
use crate::hash::{owner, route};
use crate::hold::Hold;
use crate::index::Index;
use crate::leaders::{Leaders, Slot};
use crate::rows::PopularList;
use crate::sizes::Sizes;
use crate::state::PaneState;
use crate::time::{Spans, Steps, Window};
use differential_dataflow::operators::arrange::{Arranged, TraceAgent, arrangement::arrange_core};
use differential_dataflow::trace::implementations::KeySpine;
use differential_dataflow::trace::implementations::ord_neu::VecOrdKeyBuilder;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;

/// What is counted, over which window, and how many items make a list.
#[derive(Clone, Debug)]
pub struct Popular {
    /// The sliding window.
    pub window: Window,
    /// Length of a list, at least 1.
    pub top: usize,
    /// What an event counts, by behaviour; a behaviour beyond the end counts 1.
    pub weights: Vec<u32>,
    /// Whether the counts are wanted as differences.
    pub differences: bool,
    /// Whether there may be requests for snapshots; without, nothing is kept for them.
    pub snapshots: bool,
}

/// The lists, and the counts that they are made of.
pub struct Trending<'s> {
    /// The trending lists, by window end, in full on every worker.
    pub lists: StreamVec<'s, Time, PopularList>,
    /// The items in the window at each window end, with their counts, as differences; silent unless asked for.
    pub differences: StreamVec<'s, Time, ((ItemId, ()), Time, i64)>,
    /// What entered the window since the snapshot before, by the request. At most one record a snapshot and worker.
    pub snapshots: StreamVec<'s, Time, (Time, Vec<PaneState>)>,
}

/// Counts of items that enter and leave the window together, on their way to the worker that owns the items.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Block {
    owner: u64,
    enters: Time,
    leaves: Time,
    /// Each item once, with a count that is not 0.
    counts: Vec<(ItemId, u64)>,
}

/// Items of a block, at most: a message between processes stays small.
const BLOCK_ITEMS_MAX: usize = 4096;

/// The trending lists of window ends, and what they are made of.
///
/// `requests` are the times at which a snapshot is wanted, each on all workers and sent at a time up to it. A snapshot at F
/// tells of the window at S = floor(F/slide)·slide. `restored` are the rows of snapshots, at the time S of the newest of
/// them: they are in the window from S on, and the list of S is put out again, because ticks behind F may ask for it. The
/// events with L ≥ S follow, also those before F.
pub fn popular<'s>(
    events: StreamVec<'s, Time, Event>,
    requests: StreamVec<'s, Time, Time>,
    restored: StreamVec<'s, Time, PaneState>,
    options: &Popular,
    sizes: &Rc<Sizes>,
) -> Trending<'s> {
    let scope = events.scope();
    scope.region_named("popular", |inner| {
        use timely::dataflow::operators::{Enter, Leave};
        let panes = pane_counts(events.enter(inner), options);
        let (rankings, differences, snapshots) =
            window(panes, requests.enter(inner), restored.enter(inner), options, sizes.clone());
        let lists = merge(rankings.broadcast(), options.top);
        Trending { lists: lists.leave(scope), differences: differences.leave(scope), snapshots: snapshots.leave(scope) }
    })
}

/// The items in the window, with their counts as differences.
pub type WindowCounts = TraceAgent<KeySpine<ItemId, Time, i64>>;

/// The window's counts, arranged by item, on the worker that owns the item.
pub fn arrange_window_counts<'s>(
    differences: StreamVec<'s, Time, ((ItemId, ()), Time, i64)>,
) -> Arranged<'s, WindowCounts> {
    type Batches = SortingBatcher<(ItemId, ()), VecOrdKeyBuilder<ItemId, Time, i64>>;
    arrange_core::<_, _, Batches, KeySpine<_, _, _>>(differences, Pipeline, "window-counts", |_, _| Batches::new())
}

/// Counts, on the worker that has the events, those of an item that enter and leave together.
fn pane_counts<'s>(events: StreamVec<'s, Time, Event>, options: &Popular) -> StreamVec<'s, Time, Block> {
    let (weights, mut spans) = (options.weights.clone(), Spans::new(options.window));
    let mut dealing = Dealing::new(events.scope().peers());
    events.unary_frontier::<CapacityContainerBuilder<Vec<Block>>, _, _, _>(Pipeline, "popular: pane counts", |_, _| {
        let mut hold = Hold::default();
        // By when they enter and leave.
        let mut panes: BTreeMap<(Time, Time), Pane> = BTreeMap::new();
        let mut spare: Vec<Pane> = Vec::new();
        move |(input, frontier), output| {
            input.for_each(|capability, events| {
                let mut rest = events.as_slice();
                while let Some(first) = rest.first() {
                    let span = spans.of(first.time, first.logical);
                    let run = rest.iter().take_while(|e| spans.of(e.time, e.logical) == span);
                    let Some(span) = span else {
                        rest = &rest[run.count()..];
                        continue;
                    };
                    hold.cover(&capability, span.0, output.output_index());
                    let pane = panes.entry(span).or_insert_with(|| spare.pop().unwrap_or_default());
                    let mut len = 0;
                    for event in run {
                        let weight = weights.get(usize::from(event.behavior.0)).map_or(1, |&w| u64::from(w));
                        pane.add(event.item, weight);
                        len += 1;
                    }
                    rest = &rest[len..];
                }
                events.clear();
            });
            if let Some(capability) = hold.get() {
                let mut session = output.session(capability);
                while let Some(entry) = panes.first_entry().filter(|e| !frontier.less_equal(&e.key().0)) {
                    let (span, mut pane) = entry.remove_entry();
                    dealing.deal(span, &pane.counts, |block| session.give(block));
                    pane.clear();
                    spare.push(pane);
                }
            }
            hold.release(panes.keys().next().map(|(enters, _)| *enters));
        }
    })
}

/// The counts of what enters and leaves together.
#[derive(Default)]
struct Pane {
    rows: Index,
    counts: Vec<(ItemId, u64)>,
}

impl Pane {
    fn add(&mut self, item: ItemId, weight: u64) {
        let new = self.counts.len() as u32;
        let row = self.rows.row_or_insert(item.0, new, |row| self.counts[row as usize].0.0);
        match self.counts.get_mut(row as usize) {
            Some((_, count)) => *count += weight,
            None => self.counts.push((item, weight)),
        }
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.counts.clear();
    }
}

/// Deals counts out to the workers that own their items.
struct Dealing {
    /// What is not yet in a block, by worker.
    hands: Vec<Vec<(ItemId, u64)>>,
}

impl Dealing {
    fn new(peers: usize) -> Dealing {
        Dealing { hands: vec![Vec::new(); peers] }
    }

    fn deal(&mut self, (enters, leaves): (Time, Time), counts: &[(ItemId, u64)], mut give: impl FnMut(Block)) {
        let peers = self.hands.len();
        let mut give = |to: usize, hand: &mut Vec<(ItemId, u64)>| {
            give(Block { owner: to as u64, enters, leaves, counts: std::mem::take(hand) });
        };
        for &(item, count) in counts.iter().filter(|(_, count)| *count != 0) {
            let to = owner(item.0, peers);
            let hand = &mut self.hands[to];
            hand.push((item, count));
            if hand.len() == BLOCK_ITEMS_MAX {
                give(to, hand);
            }
        }
        let left = self.hands.iter_mut().enumerate().filter(|(_, hand)| !hand.is_empty());
        left.for_each(|(to, hand)| give(to, hand));
    }
}

/// One worker's first items at a window end.
type Ranking = (Time, Vec<(ItemId, u64)>);

/// The counts, as differences.
type Differences<'s> = StreamVec<'s, Time, ((ItemId, ()), Time, i64)>;

/// What entered the window, by snapshot.
type Chunks<'s> = StreamVec<'s, Time, (Time, Vec<PaneState>)>;

/// Each worker's first `top` items at every window end at which it has any; its counts as differences; its snapshots.
fn window<'s>(
    blocks: StreamVec<'s, Time, Block>,
    requests: StreamVec<'s, Time, Time>,
    restored: StreamVec<'s, Time, PaneState>,
    options: &Popular,
    sizes: Rc<Sizes>,
) -> (StreamVec<'s, Time, Ranking>, Differences<'s>, Chunks<'s>) {
    let Popular { differences, snapshots, .. } = *options;
    let mut builder = OperatorBuilder::new("popular: window".to_string(), blocks.scope());
    let mut blocks = builder.new_input(blocks, Exchange::new(|block: &Block| block.owner));
    let mut requests = builder.new_input(requests, Pipeline);
    let mut restored = builder.new_input(restored, Exchange::new(|pane: &PaneState| route(pane.item.0)));
    let (rankings_output, rankings) = builder.new_output();
    let (differences_output, differences_stream) = builder.new_output();
    let (snapshots_output, snapshots_stream) = builder.new_output();
    let mut rankings_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Ranking>>>::from(rankings_output);
    let mut differences_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<_>>>::from(differences_output);
    let mut snapshots_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<_>>>::from(snapshots_output);
    let slide = options.window.slide();
    let mut counting = Counting::new(slide, options.top, snapshots);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut holds: [Hold; 3] = Default::default();
        move |frontiers| {
            restored.for_each(|capability, panes| {
                let Some(&frontier) = capability.least().filter(|_| !panes.is_empty()) else { return };
                (0..).zip(&mut holds).for_each(|(port, hold)| hold.cover(&capability, frontier, port));
                let restored = counting.restored.entry(frontier).or_default();
                panes.drain(..).for_each(|p| restored.entry(p.leaves).or_default().push((p.item, p.count)));
            });
            blocks.for_each(|capability, blocks| {
                for block in blocks.drain(..) {
                    (0..).zip(&mut holds).for_each(|(port, hold)| hold.cover(&capability, block.enters, port));
                    counting.entering.entry(block.enters).or_default().push(block);
                }
            });
            requests.for_each(|capability, requests| {
                for request in requests.drain(..).filter(|_| snapshots) {
                    (0..).zip(&mut holds).for_each(|(port, hold)| hold.cover(&capability, request, port));
                    counting.requests.insert(request);
                }
            });
            let (mut rankings, mut updates, mut chunks) =
                (rankings_output.activate(), differences_output.activate(), snapshots_output.activate());
            if let [Some(for_rankings), Some(for_differences), Some(for_snapshots)] = holds.each_ref().map(Hold::get) {
                let (mut rankings, mut chunks) = (rankings.session(for_rankings), chunks.session(for_snapshots));
                let mut updates = updates.session(for_differences);
                while let Some(time) = counting.next().filter(|time| !frontiers.iter().any(|f| f.less_equal(time))) {
                    // A snapshot may lie within a slide.
                    if slide.start_of(time) == time {
                        let first = counting.apply(time, |item, diff| {
                            if differences {
                                updates.give(((item, ()), time, diff));
                            }
                        });
                        if !first.is_empty() {
                            rankings.give((time, first));
                        }
                    }
                    if let Some(entered) = counting.snapshot(time) {
                        chunks.give((time, entered));
                    }
                }
            }
            let next = counting.next();
            holds.iter_mut().for_each(|hold| hold.release(next));
            sizes.window_items.set(counting.leaders.len() as u64);
        }
    });
    (rankings, differences_stream, snapshots_stream)
}

/// The state of *window* on one worker.
struct Counting {
    slide: Steps,
    /// What was in the window by a snapshot, by the window end that it tells of and by when it leaves.
    restored: BTreeMap<Time, BTreeMap<Time, Vec<(ItemId, u64)>>>,
    /// What has come and not entered, by window end.
    entering: BTreeMap<Time, Vec<Block>>,
    /// What has entered and not left, by window end.
    leaving: BTreeMap<Time, Vec<(Slot, u64)>>,
    leaders: Leaders,
    /// The window end after the one before, while anything is in the window.
    following: Option<Time>,
    /// The snapshots that are wanted.
    requests: BTreeSet<Time>,
    /// What has entered since the snapshot before; nothing where there are no snapshots.
    entered: Vec<Block>,
    snapshots: bool,
}

impl Counting {
    fn new(slide: Steps, top: usize, snapshots: bool) -> Counting {
        Counting {
            slide,
            restored: BTreeMap::new(),
            entering: BTreeMap::new(),
            leaving: BTreeMap::new(),
            leaders: Leaders::new(top),
            following: None,
            requests: BTreeSet::new(),
            entered: Vec::new(),
            snapshots,
        }
    }

    /// The next time at which there is anything to do: a window end, or that of a request.
    fn next(&self) -> Option<Time> {
        let (entering, restored) = (self.entering.keys().next(), self.restored.keys().next());
        let least = entering.into_iter().chain(restored).chain(self.requests.first()).min().copied();
        self.following.into_iter().chain(least).min()
    }

    /// Moves on to the window end `end`. The first items there, none if the window is empty.
    fn apply(&mut self, end: Time, mut difference: impl FnMut(ItemId, i64)) -> Vec<(ItemId, u64)> {
        for (leaves, counts) in self.restored.remove(&end).into_iter().flatten().filter(|(leaves, _)| *leaves > end) {
            self.enter(&counts, leaves, &mut difference);
        }
        for block in self.entering.remove(&end).into_iter().flatten() {
            self.enter(&block.counts, block.leaves, &mut difference);
            if self.snapshots {
                self.entered.push(block);
            }
        }
        for (slot, count) in self.leaving.remove(&end).into_iter().flatten() {
            let item = self.leaders.subtract(slot, count);
            difference(item, -count.cast_signed());
        }
        let first = self.leaders.first();
        self.following = (!first.is_empty()).then_some(end + self.slide.length());
        first
    }

    fn enter(&mut self, counts: &[(ItemId, u64)], leaves: Time, mut difference: impl FnMut(ItemId, i64)) {
        counts.iter().for_each(|&(item, count)| difference(item, count.cast_signed()));
        self.leaders.add(counts, self.leaving.entry(leaves).or_default());
    }

    /// What has entered since the snapshot before and is still there, if a snapshot is wanted at `time`, and all window ends
    /// up to it are done.
    fn snapshot(&mut self, time: Time) -> Option<Vec<PaneState>> {
        if !self.requests.remove(&time) {
            return None;
        }
        let mut entered = Vec::new();
        for Block { enters, leaves, counts, .. } in self.entered.drain(..).filter(|block| block.leaves > time) {
            entered.extend(counts.into_iter().map(|(item, count)| PaneState { item, enters, leaves, count }));
        }
        (!entered.is_empty()).then_some(entered)
    }
}

/// The list of each window end, from all workers' rankings of it.
fn merge<'s>(rankings: StreamVec<'s, Time, Ranking>, top: usize) -> StreamVec<'s, Time, PopularList> {
    rankings.unary_frontier::<CapacityContainerBuilder<Vec<PopularList>>, _, _, _>(
        Pipeline,
        "popular: merge",
        move |_, _| {
            let mut hold = Hold::default();
            let mut ends: BTreeMap<Time, Vec<(ItemId, u64)>> = BTreeMap::new();
            move |(input, frontier), output| {
                input.for_each(|capability, rankings| {
                    for (end, ranking) in rankings.drain(..) {
                        hold.cover(&capability, end, output.output_index());
                        ends.entry(end).or_default().extend(ranking);
                    }
                });
                if let Some(capability) = hold.get() {
                    let mut session = output.session(capability);
                    while let Some(entry) = ends.first_entry().filter(|e| !frontier.less_equal(e.key())) {
                        let (window_end, mut items) = entry.remove_entry();
                        items.sort_unstable_by_key(|&(item, count)| (std::cmp::Reverse(count), item));
                        items.truncate(top);
                        session.give(PopularList { window_end, items });
                    }
                }
                hold.release(ends.keys().next().copied());
            }
        },
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event::{Behavior, Position, UserId};
    use std::cell::RefCell;
    use timely::dataflow::operators::{Input, Inspect};

    #[test]
    fn a_worker_sends_an_item_once_for_all_events_that_enter_and_leave_together() {
        let window = Window::new(30, Steps::new(10).unwrap()).unwrap();
        let options = Popular { window, top: 1, weights: vec![1, 5, 0], differences: false, snapshots: false };
        let blocks = timely::execute_directly(move |worker| {
            let blocks: Rc<RefCell<Vec<Block>>> = Rc::default();
            let out = blocks.clone();
            let mut input = worker.dataflow::<Time, _, _>(|scope| {
                let (input, events) = scope.new_input::<Vec<Event>>();
                pane_counts(events, &options).inspect(move |block| out.borrow_mut().push(block.clone()));
                input
            });
            for (item, time, behavior) in [(1, 1, 0), (2, 2, 0), (1, 3, 1), (3, 4, 2), (1, 12, 0), (1, 5, 0)] {
                input.send(Event {
                    user: UserId(0),
                    item: ItemId(item),
                    time,
                    logical: time,
                    position: Position::new(0, time).unwrap(),
                    behavior: Behavior(behavior),
                    late: false,
                });
                input.flush();
                worker.step();
            }
            input.close();
            while worker.step() {}
            blocks.take()
        });
        let block = |enters: Time, counts: &[(u64, u64)]| {
            let counts = counts.iter().map(|&(item, count)| (ItemId(item), count)).collect();
            (enters, enters + 30, counts)
        };
        let found: Vec<_> = blocks.into_iter().map(|block| (block.enters, block.leaves, block.counts)).collect();
        assert_eq!(found, [block(10, &[(1, 7), (2, 1)]), block(20, &[(1, 1)])]);
    }

    #[test]
    fn counts_are_dealt_to_the_owners_of_their_items_in_full_blocks() {
        const PEERS: usize = 3;
        let counts: Vec<(ItemId, u64)> = (0..40_000).map(|item| (ItemId(item), item % 10)).collect();
        let mut dealing = Dealing::new(PEERS);
        for _ in 0..2 {
            let mut blocks: Vec<Block> = Vec::new();
            dealing.deal((1, 2), &counts, |block| blocks.push(block));
            for to in 0..PEERS {
                let mut of = blocks.iter().filter(|block| block.owner == to as u64).peekable();
                let mut dealt = Vec::new();
                while let Some(block) = of.next() {
                    assert_eq!((block.enters, block.leaves), (1, 2));
                    assert!(of.peek().is_none() || block.counts.len() == BLOCK_ITEMS_MAX);
                    assert!((1..=BLOCK_ITEMS_MAX).contains(&block.counts.len()));
                    dealt.extend_from_slice(&block.counts);
                }
                let mine = counts.iter().filter(|(item, count)| *count > 0 && owner(item.0, PEERS) == to);
                assert_eq!(dealt, mine.copied().collect::<Vec<_>>(), "worker {to}");
            }
        }
    }
}
