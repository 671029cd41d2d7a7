//! Worker 0's end of the pipeline: rows are put in order and handed to the sinks, snapshots are put together, counts are
//! added up.
//!
//! The output's frontier passes a time when the sinks have taken everything up to it: while they have no room, worker 0 keeps
//! the batches, and a capability, and tries again a little later.

use super::Digests;
use super::report::Report;
use super::rows::Rows;
use super::sending::Sending;
use super::snapshots::Snapshots;
use crate::digest::RowHasher;
use crate::sinks::{Batch, LastWindow, SinkError};
use dataflows::event::Time;
use dataflows::lists::Lists;
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use dataflows::state::{PaneState, UserState};
use dataflows::time::{Steps, Window};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Stream, StreamVec};
use timely::progress::frontier::MutableAntichain;

/// How long worker 0 waits until it offers the sinks again what they had no room for.
const TRY_AGAIN: Duration = Duration::from_millis(1);

/// What worker 0 knows of the whole run.
pub struct Collected {
    /// All reports in one, without rows.
    pub report: Report,
    /// Digests of all outputs.
    pub digests: Digests,
    /// Window ends that had a list.
    pub lists: u64,
    sending: Option<Sending>,
    snapshots: Snapshots,
    last: Last,
}

/// The lists among which is that of E*, wherever the log ends: at its end, or at a snapshot.
struct Last {
    window: Window,
    /// As many as can end after the last event, of all or of those before the next snapshot.
    newest: VecDeque<PopularList>,
    /// Window ends right after an event, from that of the last snapshot on.
    ends: BTreeSet<Time>,
}

impl Collected {
    /// Nothing yet. `sending` is the way to the sinks, if there are any.
    pub fn new(window: Window, sending: Option<Sending>) -> Collected {
        let (report, digests) = (Report::default(), Digests::default());
        let last = Last { window, newest: VecDeque::new(), ends: BTreeSet::new() };
        Collected { report, digests, lists: 0, sending, snapshots: Snapshots::default(), last }
    }

    /// The run goes on from a snapshot, whose last window was this one.
    pub fn restore(&mut self, last: LastWindow) {
        self.last.ends.insert(last.end);
        self.last.newest.extend(last.list);
    }

    /// What the sinks said when they failed, once.
    pub fn sink_error(&mut self) -> Option<SinkError> {
        self.sending.as_mut()?.take_error()
    }

    /// Whether there are results that the sinks have no room for.
    pub fn is_held_up(&self) -> bool {
        self.sending.as_ref().is_some_and(Sending::is_held_up)
    }

    /// A snapshot at `frontier` is asked for by `request`; it is whole when so many partitions have told their position.
    ///
    /// To be called before any of them can tell.
    pub fn expect_positions(&mut self, request: Time, frontier: Time, partitions: usize) {
        self.snapshots.expect(request, frontier, partitions);
    }

    /// Whether all partitions have told their position for the snapshot that is next to leave, if one was asked for before `end`.
    pub fn next_snapshot_has_positions(&self, end: Time) -> Option<bool> {
        let request = self.snapshots.first_asked().filter(|request| *request < end)?;
        Some(self.snapshots.has_positions(request))
    }

    /// The list that stores keep as the newest, if its window holds anything (contract, section 3). At the end of the input,
    /// that of E* = (floor(L_max/slide)+1)·slide, the first after every event; where the run stopped at `until`, the last
    /// E ≤ `until`, as a live run has it then.
    pub fn last_list(&self, until: Option<Time>) -> Option<&PopularList> {
        let slide = self.last.window.slide();
        let end = match until {
            Some(until) => slide.start_of(until),
            None => {
                let read = self.report.logical_max.map(|logical| slide.end_of(logical));
                // There may have been none since the snapshot.
                read.max(self.last.ends.last().copied())?
            }
        };
        self.last.list(end)
    }

    fn take_list(&mut self, list: &PopularList, hasher: &mut RowHasher) {
        self.digests.popular.add_row(hasher.popular_row(list));
        self.lists += 1;
        self.last.add(list, self.snapshots.first_asked());
    }
}

impl Last {
    fn list(&self, end: Time) -> Option<&PopularList> {
        self.newest.iter().find(|list| list.window_end == end)
    }

    /// Adds a list, and forgets those that can't be the last, neither now nor at a snapshot that has been asked for.
    fn add(&mut self, list: &PopularList, snapshot: Option<Time>) {
        self.newest.push_back(list.clone());
        // An event leaves at most `length + slide` after the first list that follows it. Until then there are lists, and then
        // perhaps none for a long time.
        let end = list.window_end.min(snapshot.unwrap_or(Time::MAX));
        let before = self.newest.iter().rev().find(|list| list.window_end < end);
        let before = before.map_or(0, |list| list.window_end);
        let kept = before.saturating_sub(self.window.length() + 2 * self.window.slide().length());
        while self.newest.front().is_some_and(|old| old.window_end < kept) {
            self.newest.pop_front();
        }
    }

    /// E* of the events before the slide that `frontier` lies in, all of which have been told.
    fn at(&mut self, frontier: Time) -> Option<LastWindow> {
        let start = self.window.slide().start_of(frontier);
        let end = *self.ends.range(..=start).next_back()?;
        self.ends = self.ends.split_off(&end);
        // A run from `frontier` puts out the list of `start` again, and reads that slide's events again.
        let list = (end < start).then(|| self.list(end).cloned()).flatten();
        Some(LastWindow { end, list })
    }
}

/// Rows that wait for their tick to be complete on all workers.
struct Waiting {
    reports: Vec<Report>,
    popular: Vec<PopularList>,
    ticks: BTreeMap<Time, (Lists<SequenceKey>, Lists<RecommendationKey>)>,
    /// The frontier of the last batch.
    released: Time,
    slide: Steps,
}

/// What comes from the dataflows and the sources.
pub(super) struct Incoming<'s> {
    pub(super) reports: StreamVec<'s, Time, Report>,
    pub(super) lists: StreamVec<'s, Time, PopularList>,
    pub(super) rows: StreamVec<'s, Time, Rows>,
    /// Parts of snapshots, by the request.
    pub(super) users: StreamVec<'s, Time, (Time, Vec<UserState>)>,
    /// Parts of snapshots, by the request.
    pub(super) panes: StreamVec<'s, Time, (Time, Vec<PaneState>)>,
}

/// Takes everything in on worker 0. The stream carries nothing but its frontier, which tells what the sinks have taken.
pub(super) fn collect<'s>(
    incoming: Incoming<'s>,
    until: Time,
    collected: &Rc<RefCell<Collected>>,
) -> StreamVec<'s, Time, ()> {
    let (scope, collected) = (incoming.reports.scope(), collected.clone());
    let first = scope.index() == 0;
    let mut builder = OperatorBuilder::new("collect".to_string(), scope);
    let mut reports = builder.new_input(incoming.reports, Exchange::new(|_: &Report| 0));
    let mut lists = builder.new_input(incoming.lists, Pipeline);
    let mut rows = builder.new_input(incoming.rows, Exchange::new(|_: &Rows| 0));
    let mut users = builder.new_input(incoming.users, Exchange::new(|_: &(Time, Vec<UserState>)| 0));
    let mut panes = builder.new_input(incoming.panes, Exchange::new(|_: &(Time, Vec<PaneState>)| 0));
    let (_output, done): (_, Stream<'s, Time, Vec<()>>) = builder.new_output();
    let activator = scope.activator_for(builder.operator_info().address);
    builder.build(move |mut capabilities| {
        // Elsewhere nothing is kept, and the output follows the inputs.
        let mut capability = capabilities.pop().filter(|_| first);
        let mut waiting = Waiting::new(collected.borrow().last.window.slide());
        let mut hasher = RowHasher::default();
        move |frontiers: &[MutableAntichain<Time>]| {
            let mut collected = collected.borrow_mut();
            reports.for_each(|_, reports| {
                reports.drain(..).for_each(|report| take_report(report, &mut collected, &mut waiting));
            });
            lists.for_each(|_, lists| {
                // Every worker has every list; one takes them.
                for list in lists.drain(..).filter(|list| first && list.window_end <= until) {
                    collected.take_list(&list, &mut hasher);
                    waiting.popular.push(list);
                }
            });
            rows.for_each(|_, rows| rows.drain(..).for_each(|rows| take_rows(rows, &mut collected, &mut waiting)));
            users.for_each(|_, parts| parts.drain(..).for_each(|part| collected.snapshots.add_users(part.0, part.1)));
            panes.for_each(|_, parts| parts.drain(..).for_each(|part| collected.snapshots.add_panes(part.0, part.1)));
            let frontier = frontiers.iter().filter_map(|f| f.frontier().first().copied()).min().unwrap_or(Time::MAX);
            // What comes later than `until` is left out, so it must not pass for done.
            if !collected.hand_over(&mut waiting, frontier.min(until.saturating_add(1))) {
                activator.activate_after(TRY_AGAIN);
            } else if frontier == Time::MAX {
                capability = None;
            } else if let Some(capability) = &mut capability {
                capability.downgrade(&frontier);
            }
        }
    });
    done
}

impl Collected {
    /// Gives the sinks what is final at `frontier`. Whether they have taken everything so far.
    fn hand_over(&mut self, waiting: &mut Waiting, frontier: Time) -> bool {
        let Some(sending) = self.sending.as_mut() else {
            waiting.clear();
            self.snapshots = Snapshots::default();
            return true;
        };
        waiting.release(frontier, &mut self.snapshots, |mut batch| {
            if let Some(snapshot) = &mut batch.snapshot {
                snapshot.last = self.last.at(snapshot.frontier);
            }
            sending.push(batch);
        });
        sending.send()
    }
}

fn take_report(mut report: Report, collected: &mut Collected, waiting: &mut Waiting) {
    collected.report.absorb(&mut report);
    collected.last.ends.extend(report.slide_ends.drain(..));
    for (request, position) in report.positions.drain(..) {
        collected.snapshots.add_position(request, position);
    }
    waiting.reports.push(report);
}

fn take_rows(rows: Rows, collected: &mut Collected, waiting: &mut Waiting) {
    match rows {
        Rows::Digests { recent, recommendations } => {
            collected.digests.recent.merge(&recent);
            collected.digests.recommendations.merge(&recommendations);
        }
        Rows::Tick { time, recent, recommendations } => {
            let tick = waiting.ticks.entry(time).or_default();
            tick.0.append(recent);
            tick.1.append(recommendations);
        }
    }
}

impl Waiting {
    fn new(slide: Steps) -> Waiting {
        Waiting { reports: Vec::new(), popular: Vec::new(), ticks: BTreeMap::new(), released: 0, slide }
    }

    /// Forgets everything.
    fn clear(&mut self) {
        *self = Waiting { released: self.released, ..Waiting::new(self.slide) };
    }

    /// Puts out all that is final at `frontier`, in order, and snapshots that are whole.
    ///
    /// A batch with a snapshot has a greater frontier than all before it, so that a sink that holds all below that
    /// frontier holds all that was reported before the snapshot's positions, too. So a batch ends where the next snapshot does;
    /// and a snapshot that is whole at last when its frontier has long been released waits until time moves on.
    fn release(&mut self, frontier: Time, snapshots: &mut Snapshots, mut put_out: impl FnMut(Batch)) {
        while let Some(snapshot) = (self.released < frontier).then(|| snapshots.take_next(frontier)).flatten() {
            let next = snapshots.next(frontier).filter(|next| *next > self.released);
            let batch = self.batch(next.unwrap_or(frontier));
            self.released = batch.frontier;
            put_out(Batch { snapshot: Some(snapshot), ..batch });
        }
        // Sinks have to know, too, that a window has come to its end without a list.
        let moves_on = self.released < frontier && frontier < Time::MAX;
        let window_ended = moves_on && self.slide.start_of(frontier - 1) >= self.released;
        let batch = self.batch(frontier);
        let rows = batch.records.len() + batch.rejected.len() + batch.recent.len() + batch.popular.len();
        if rows > 0 || window_ended {
            self.released = frontier;
            put_out(batch);
        }
    }

    /// All that is final at `frontier`.
    fn batch(&mut self, frontier: Time) -> Batch {
        let mut batch = Batch { frontier, ..Batch::default() };
        for mut report in self.reports.drain(..) {
            batch.records.append(&mut report.records);
            batch.rejected.append(&mut report.rejections);
        }
        while let Some(entry) = self.ticks.first_entry().filter(|entry| *entry.key() < frontier) {
            let (recent, recommendations) = entry.remove();
            batch.recent.append(recent.sorted());
            batch.recommendations.append(recommendations.sorted());
        }
        let lists = std::mem::take(&mut self.popular);
        (batch.popular, self.popular) = lists.into_iter().partition(|list| list.window_end < frontier);
        batch
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
