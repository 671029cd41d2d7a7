//! One worker's loop: read, fold, hand over, let the dataflow work; never too far ahead of what has been put out.

use super::feed::{Feed, FeedError, News};
use crate::pipeline::{Collected, Pipeline, Report};
use crate::sinks::SinkError;
use dataflows::event::Time;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::operators::{Input, Inspect};
use timely::worker::Worker;

/// Steps of the frontier that a worker takes before the results of the first of them have been put out.
const IN_FLIGHT_MAX: usize = 3;

/// Events that a worker hands over before it moves the frontier, unless it has nothing to read: a step of the frontier
/// costs the same however many events it completes, and batches of the arrangements come out larger.
const ADVANCE_EVENTS: usize = 1 << 16;

/// How long a worker with nothing to do sleeps, unless a message wakes it.
const PARK: Duration = Duration::from_millis(1);

/// How far the run has come, by what has reached worker 0: all processes' share, in process 0. And whether to stop.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Events accepted.
    pub accepted: AtomicU64,
    /// Late events.
    pub late: AtomicU64,
    /// Rejected records.
    pub rejected: AtomicU64,
    /// Bytes read, as they are on disk.
    pub bytes: AtomicU64,
    /// The frontier, ms.
    pub frontier: AtomicU64,
    /// Somebody wants the run to stop, or a worker has failed.
    pub stop: Arc<AtomicBool>,
}

/// Why a worker did not come to the end.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The log can't be read on.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// Results can't be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Somebody wanted to stop, or another worker failed.
    #[error("stopped before the end; no result was completed")]
    Stopped,
}

/// The way of news from every worker to every other.
pub(super) struct Gossip {
    input: InputHandle<Time, CapacityContainerBuilder<Vec<(u64, News)>>>,
    heard: Rc<RefCell<Vec<News>>>,
    index: u64,
}

impl Gossip {
    /// Builds it on one worker.
    pub(super) fn build(worker: &mut Worker) -> Gossip {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let (ears, index) = (heard.clone(), worker.index() as u64);
        let input = worker.dataflow::<Time, _, _>(|scope| {
            let (input, news) = scope.new_input::<Vec<(u64, News)>>();
            news.broadcast().inspect(move |(from, news)| {
                if *from != index {
                    ears.borrow_mut().push(*news);
                }
            });
            input
        });
        Gossip { input, heard, index }
    }

    fn tell(&mut self, news: &mut Vec<News>) {
        if !news.is_empty() {
            news.drain(..).for_each(|news| self.input.send((self.index, news)));
            self.input.flush();
        }
    }
}

/// Reads the log to its end, and sees all results out.
pub(super) fn drive(
    worker: &mut Worker,
    mut feed: Feed,
    mut pipeline: Pipeline,
    mut gossip: Gossip,
    gauges: &Gauges,
) -> Result<(), WorkError> {
    let mut in_flight: VecDeque<Time> = VecDeque::new();
    let mut news = Vec::new();
    let mut since_advance = 0;
    loop {
        check(&pipeline.collected, gauges)?;
        gossip.heard.borrow_mut().drain(..).for_each(|news| feed.hear(news));
        let busy = in_flight.len() < IN_FLIGHT_MAX && feed.read(&mut news)?;
        gossip.tell(&mut news);
        feed.fold(&mut news, |events, report| {
            since_advance += events.len();
            pipeline.events.send_batch(events);
            pipeline.reports.send(report);
        })?;
        gossip.tell(&mut news);
        let Some(frontier) = feed.frontier() else { break };
        if *pipeline.events.time() < frontier && (since_advance >= ADVANCE_EVENTS || !busy) {
            since_advance = 0;
            in_flight.push_back(*pipeline.events.time());
            pipeline.advance_to(frontier);
            gauges.frontier.fetch_max(frontier, Ordering::Relaxed);
        }
        if busy {
            worker.step();
        } else {
            worker.step_or_park(Some(PARK));
        }
        // Its step has taken the reports that were there, and waited while the sinks were behind.
        if worker.index() == 0 {
            gauges.note(&pipeline.collected.borrow().report);
            feed.take(&mut news);
            gossip.tell(&mut news);
        }
        while in_flight.front().is_some_and(|time| !pipeline.probe.less_than(time)) {
            in_flight.pop_front();
        }
    }
    if worker.index() == 0 {
        feed.take(&mut news);
        gossip.tell(&mut news);
    }
    pipeline.close();
    drop(gossip);
    while !pipeline.complete.done() {
        check(&pipeline.collected, gauges)?;
        worker.step_or_park(Some(PARK));
    }
    if worker.index() == 0 {
        gauges.note(&pipeline.collected.borrow().report);
    }
    check(&pipeline.collected, gauges)
}

/// Whether there is a reason to stop.
fn check(collected: &RefCell<Collected>, gauges: &Gauges) -> Result<(), WorkError> {
    if gauges.stop.load(Ordering::Relaxed) {
        return Err(WorkError::Stopped);
    }
    collected.borrow_mut().sink_error().map_or(Ok(()), |error| Err(error.into()))
}

impl Gauges {
    /// `all`: all reports in one.
    fn note(&self, all: &Report) {
        self.bytes.store(all.bytes, Ordering::Relaxed);
        self.accepted.store(all.counts.accepted, Ordering::Relaxed);
        self.late.store(all.counts.late, Ordering::Relaxed);
        self.rejected.store(all.counts.rejected_all(), Ordering::Relaxed);
    }
}
