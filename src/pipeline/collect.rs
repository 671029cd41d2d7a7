//! Worker 0's end of the pipeline: rows are put in order and handed to the sinks, counts are added up.

use super::Digests;
use super::report::Report;
use super::rows::Rows;
use crate::digest::RowHasher;
use crate::sinks::thread::SinkThread;
use crate::sinks::{Batch, SinkError};
use dataflows::event::Time;
use dataflows::lists::Lists;
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use dataflows::time::Window;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Stream, StreamVec};
use timely::progress::frontier::MutableAntichain;

/// The sinks' thread, until somebody takes it to finish or to drop it.
pub type Sinks = Arc<Mutex<Option<SinkThread>>>;

/// The way to the sinks, and what became of it.
pub struct Sending {
    sinks: Sinks,
    error: Option<SinkError>,
}

impl Sending {
    /// A way to `sinks`.
    pub fn new(sinks: Sinks) -> Sending {
        Sending { sinks, error: None }
    }

    /// Waits while the sinks are behind: this worker, and by the source's flow control then all, wait with it.
    fn send(&mut self, batch: Batch) {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if let (None, Some(thread)) = (&self.error, sinks.as_ref()) {
            self.error = thread.send(batch).err();
        }
    }
}

/// What worker 0 knows of the whole run.
pub struct Collected {
    /// All reports in one, without rows.
    pub report: Report,
    /// Digests of all outputs.
    pub digests: Digests,
    /// Window ends that had a list.
    pub lists: u64,
    sending: Option<Sending>,
    window: Window,
    /// As many as can end after the last event.
    newest: VecDeque<PopularList>,
}

impl Collected {
    /// Nothing yet. `sending` is the way to the sinks, if there are any.
    pub fn new(window: Window, sending: Option<Sending>) -> Collected {
        let (report, digests) = (Report::default(), Digests::default());
        Collected { report, digests, lists: 0, sending, window, newest: VecDeque::new() }
    }

    /// What the sinks said when they failed, once.
    pub fn sink_error(&mut self) -> Option<SinkError> {
        self.sending.as_mut()?.error.take()
    }

    /// The list that stores keep as the newest, if its window holds anything (contract, section 3). At the end of the input,
    /// that of E* = (floor(L_max/slide)+1)·slide, the first after every event; where the run stopped at `until`, the last
    /// E ≤ `until`, as a live run has it then.
    pub fn last_list(&self, until: Option<Time>) -> Option<&PopularList> {
        let slide = self.window.slide();
        let end = match until {
            Some(until) => slide.start_of(until),
            None => slide.end_of(self.report.logical_max?),
        };
        self.newest.iter().find(|list| list.window_end == end)
    }

    fn take_list(&mut self, list: &PopularList, hasher: &mut RowHasher) {
        self.digests.popular.add_row(hasher.popular_row(list));
        self.lists += 1;
        // An event leaves at most `length + slide` after the first list that follows it.
        let kept = list.window_end.saturating_sub(self.window.length() + 2 * self.window.slide().length());
        while self.newest.front().is_some_and(|old| old.window_end < kept) {
            self.newest.pop_front();
        }
        self.newest.push_back(list.clone());
    }
}

/// Rows that wait for their tick to be complete on all workers.
#[derive(Default)]
struct Waiting {
    reports: Vec<Report>,
    popular: Vec<PopularList>,
    ticks: BTreeMap<Time, (Lists<SequenceKey>, Lists<RecommendationKey>)>,
}

/// Takes everything in on worker 0. The stream carries nothing but its frontier, which tells what has been taken.
pub(super) fn collect<'s>(
    reports: StreamVec<'s, Time, Report>,
    lists: StreamVec<'s, Time, PopularList>,
    rows: StreamVec<'s, Time, Rows>,
    until: Time,
    collected: &Rc<RefCell<Collected>>,
) -> StreamVec<'s, Time, ()> {
    let (scope, collected) = (reports.scope(), collected.clone());
    let first = scope.index() == 0;
    let mut builder = OperatorBuilder::new("collect".to_string(), scope);
    let mut reports = builder.new_input(reports, Exchange::new(|_: &Report| 0));
    let mut lists = builder.new_input(lists, Pipeline);
    let mut rows = builder.new_input(rows, Exchange::new(|_: &Rows| 0));
    let (_output, done): (_, Stream<'s, Time, Vec<()>>) = builder.new_output();
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut waiting = Waiting::default();
        let mut hasher = RowHasher::default();
        move |frontiers: &[MutableAntichain<Time>]| {
            let mut collected = collected.borrow_mut();
            reports.for_each(|_, reports| {
                for mut report in reports.drain(..) {
                    collected.report.absorb(&mut report);
                    waiting.reports.push(report);
                }
            });
            lists.for_each(|_, lists| {
                // Every worker has every list; one takes them.
                for list in lists.drain(..).filter(|list| first && list.window_end <= until) {
                    collected.take_list(&list, &mut hasher);
                    waiting.popular.push(list);
                }
            });
            rows.for_each(|_, rows| rows.drain(..).for_each(|rows| take_rows(rows, &mut collected, &mut waiting)));
            let frontier = frontiers.iter().filter_map(|f| f.frontier().first().copied()).min().unwrap_or(Time::MAX);
            // What comes later than `until` is left out, so it must not pass for done.
            let frontier = frontier.min(until.saturating_add(1));
            match collected.sending.as_mut() {
                Some(sending) => waiting.release(frontier).into_iter().for_each(|batch| sending.send(batch)),
                None => waiting = Waiting::default(),
            }
        }
    });
    done
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
    /// All that is final at `frontier`, in order; `None` if that is nothing.
    fn release(&mut self, frontier: Time) -> Option<Batch> {
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
        let rows = batch.records.len() + batch.rejected.len() + batch.recent.len() + batch.popular.len();
        (rows > 0).then_some(batch)
    }
}
