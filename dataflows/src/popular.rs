//! Trending items: events → sliding-window counts → the first `top` of every window (contract, section 3).
//!
//! ```text
//!                       by item                                                     to all
//! events ─ pane counts ────────── delay line ─ [arrangement: item, diff = count] ─ ranking ──────── merge ─ lists
//! ```
//!
//! An event enters the window at one window end and leaves it at another ([`Window::span`]): two updates, however many
//! windows overlap.
//!
//! - *Pane counts* adds up the events of a worker that enter and leave together, before they cross to the item's worker.
//! - *Delay line* passes what enters on at once and keeps what leaves until it is due. Handing the future updates to the
//!   arrangement instead would have its batcher sort all of them again at every step of the frontier.
//! - The *arrangement* `window-counts` is the collection of items in the window, with the count as the difference:
//!   what anybody reads who wants counts.
//! - *Ranking* keeps the items above a moving threshold, so that a change below it costs one addition, and tells every
//!   worker its first `top` at each window end.
//! - *Merge* makes the list of these, on every worker the same, because each worker needs it to fill recommendations.
//!
//! Frontiers: a list for E is put out when the input frontier has passed E, and then for every E while anything is in the
//! window, also after the end of the input.

use crate::batcher::SortingBatcher;
use crate::event::{Event, ItemId, Time};
use crate::hash::{IdMap, route};
use crate::hold::Hold;
use crate::leaders::Leaders;
use crate::rows::PopularList;
use crate::time::{Steps, Window};
use differential_dataflow::operators::arrange::{Arranged, TraceAgent, arrangement::arrange_core};
use differential_dataflow::trace::cursor::cursor_list;
use differential_dataflow::trace::implementations::KeySpine;
use differential_dataflow::trace::implementations::ord_neu::VecOrdKeyBuilder;
use differential_dataflow::trace::{Cursor, TraceReader};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator;
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
}

/// The items in the window, at the times of window ends, with their counts as differences.
pub type WindowCounts = TraceAgent<KeySpine<ItemId, Time, i64>>;

/// Events of one item that enter and leave the window together.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct PaneCount {
    item: ItemId,
    enters: Time,
    leaves: Time,
    count: i64,
}

/// The trending lists, by window end, in full on every worker.
pub fn popular<'s>(events: StreamVec<'s, Time, Event>, options: &Popular) -> StreamVec<'s, Time, PopularList> {
    let scope = events.scope();
    scope.region_named("popular", |inner| {
        use timely::dataflow::operators::{Enter, Leave};
        let counts = window_counts(events.enter(inner), options);
        let rankings = ranking(counts, options.window.slide(), options.top);
        merge(rankings.broadcast(), options.top).leave(scope)
    })
}

/// The items in the window and their counts, arranged by item.
pub fn window_counts<'s>(events: StreamVec<'s, Time, Event>, options: &Popular) -> Arranged<'s, WindowCounts> {
    let updates = delay_line(pane_counts(events, options));
    type Batches = SortingBatcher<(ItemId, ()), VecOrdKeyBuilder<ItemId, Time, i64>>;
    arrange_core::<_, _, Batches, KeySpine<_, _, _>>(updates, Pipeline, "window-counts", |_, _| Batches::new())
}

/// Counts, on the worker that has the events, those of an item that enter and leave together.
fn pane_counts<'s>(events: StreamVec<'s, Time, Event>, options: &Popular) -> StreamVec<'s, Time, PaneCount> {
    let (window, weights) = (options.window, options.weights.clone());
    events.unary_frontier::<CapacityContainerBuilder<Vec<PaneCount>>, _, _, _>(
        Pipeline,
        "popular: pane counts",
        |_, _| {
            let mut hold = Hold::default();
            let mut panes: BTreeMap<Time, Pane> = BTreeMap::new();
            let mut spare: Vec<Pane> = Vec::new();
            move |(input, frontier), output| {
                input.for_each(|capability, events| {
                    let mut events = events.drain(..).peekable();
                    while let Some(first) = events.peek() {
                        let enters = window.slide().end_of(first.logical);
                        hold.cover(&capability, enters, output.output_index());
                        let pane = panes.entry(enters).or_insert_with(|| spare.pop().unwrap_or_default());
                        while let Some(event) = events.next_if(|e| window.slide().end_of(e.logical) == enters) {
                            let Some((_, leaves)) = window.span(event.time, event.logical) else { continue };
                            let weight = weights.get(usize::from(event.behavior.0)).map_or(1, |&w| i64::from(w));
                            pane.add(event.item, leaves, weight);
                        }
                    }
                });
                if let Some(capability) = hold.get() {
                    let mut session = output.session(capability);
                    while let Some(entry) = panes.first_entry().filter(|e| !frontier.less_equal(e.key())) {
                        let (enters, mut pane) = entry.remove_entry();
                        pane.drain(|item, leaves, count| session.give(PaneCount { item, enters, leaves, count }));
                        spare.push(pane);
                    }
                }
                hold.release(panes.keys().next().copied());
            }
        },
    )
}

/// The counts of one pane, by item and the window end at which they leave.
#[derive(Default)]
struct Pane {
    /// Most events of a pane leave together; each of the few other ends has a map of its own.
    by_leaves: Vec<(Time, IdMap<ItemId, i64>)>,
}

impl Pane {
    fn add(&mut self, item: ItemId, leaves: Time, weight: i64) {
        let at = match self.by_leaves.iter().rposition(|(end, _)| *end == leaves) {
            Some(at) => at,
            None => {
                self.by_leaves.push((leaves, IdMap::default()));
                self.by_leaves.len() - 1
            }
        };
        *self.by_leaves[at].1.entry(item).or_insert(0) += weight;
    }

    /// Hands out what was counted, and keeps one map's memory.
    fn drain(&mut self, mut give: impl FnMut(ItemId, Time, i64)) {
        for (leaves, counts) in &mut self.by_leaves {
            counts.drain().filter(|(_, count)| *count != 0).for_each(|(item, count)| give(item, *leaves, count));
        }
        self.by_leaves.clear();
    }
}

/// Turns counts into updates, each when it is due, on the item's worker.
fn delay_line<'s>(counts: StreamVec<'s, Time, PaneCount>) -> StreamVec<'s, Time, ((ItemId, ()), Time, i64)> {
    let by_item = Exchange::new(|pane: &PaneCount| route(pane.item.0));
    counts.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(by_item, "popular: delay line", |_, _| {
        let mut hold = Hold::default();
        let mut leaving: BTreeMap<Time, Vec<(ItemId, i64)>> = BTreeMap::new();
        move |(input, frontier), output| {
            input.for_each(|capability, counts| {
                let Some(&first) = capability.least() else { return };
                hold.cover(&capability, first, output.output_index());
                let mut session = output.session(&capability);
                for pane in counts.drain(..) {
                    session.give(((pane.item, ()), pane.enters, pane.count));
                    leaving.entry(pane.leaves).or_default().push((pane.item, pane.count));
                }
            });
            if let Some(capability) = hold.get() {
                let mut session = output.session(capability);
                while let Some(entry) = leaving.first_entry().filter(|e| !frontier.less_than(e.key())) {
                    let (leaves, items) = entry.remove_entry();
                    session.give_iterator(items.into_iter().map(|(item, count)| ((item, ()), leaves, -count)));
                }
            }
            hold.release(leaving.keys().next().copied());
        }
    })
}

/// One worker's first items at a window end.
type Ranking = (Time, Vec<(ItemId, u64)>);

/// Each worker's first `top` items at every window end at which it has any.
fn ranking<'s>(counts: Arranged<'s, WindowCounts>, slide: Steps, top: usize) -> StreamVec<'s, Time, Ranking> {
    let mut trace = counts.trace;
    counts.stream.unary_frontier::<CapacityContainerBuilder<Vec<Ranking>>, _, _, _>(
        Pipeline,
        "popular: ranking",
        move |_, _| {
            let mut hold = Hold::default();
            let mut leaders = Leaders::new(top);
            let mut changes: BTreeMap<Time, Vec<(ItemId, i64)>> = BTreeMap::new();
            // The next window end to report, while the window holds anything.
            let mut next: Option<Time> = None;
            move |(input, frontier), output| {
                input.for_each(|capability, spans| {
                    if let Some(&first) = capability.least() {
                        hold.cover(&capability, first, output.output_index());
                    }
                    let batches = spans.drain(..).filter_map(|span| span.inner).collect();
                    let (mut cursor, storage) = cursor_list(batches);
                    while let Some(&item) = cursor.get_key(&storage) {
                        cursor.map_times(&storage, |&end, &count| {
                            changes.entry(end).or_default().push((item, count));
                        });
                        cursor.step_key(&storage);
                    }
                });
                if let Some(capability) = hold.get() {
                    let mut session = output.session(capability);
                    while let Some(end) = next.or_else(|| changes.keys().next().copied()) {
                        if frontier.less_equal(&end) {
                            break;
                        }
                        changes.remove(&end).into_iter().flatten().for_each(|(item, count)| leaders.add(item, count));
                        let first = leaders.first();
                        next = (!first.is_empty()).then_some(end + slide.length());
                        if !first.is_empty() {
                            session.give((end, first));
                        }
                    }
                }
                hold.release(next.or_else(|| changes.keys().next().copied()));
                trace.set_logical_compaction(frontier.frontier());
                trace.set_physical_compaction(frontier.frontier());
            }
        },
    )
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
