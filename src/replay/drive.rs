//! One worker's loop: read, fold, hand over, let the dataflow work; never too far ahead of what has been put out.

use super::feed::{Feed, FeedError, Summary};
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

/// How far the workers of this process have come: for progress, and for stopping.
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

/// The way of summaries from every worker to every worker.
pub(super) struct Gossip {
    input: InputHandle<Time, CapacityContainerBuilder<Vec<(u64, Summary)>>>,
    heard: Rc<RefCell<Vec<Summary>>>,
    index: u64,
}

impl Gossip {
    /// Builds it on one worker.
    pub(super) fn build(worker: &mut Worker) -> Gossip {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let (ears, index) = (heard.clone(), worker.index() as u64);
        let input = worker.dataflow::<Time, _, _>(|scope| {
            let (input, summaries) = scope.new_input::<Vec<(u64, Summary)>>();
            summaries.broadcast().inspect(move |(from, summary)| {
                if *from != index {
                    ears.borrow_mut().push(*summary);
                }
            });
            input
        });
        Gossip { input, heard, index }
    }

    fn tell(&mut self, summaries: &mut Vec<Summary>) {
        if !summaries.is_empty() {
            summaries.drain(..).for_each(|summary| self.input.send((self.index, summary)));
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
    let mut summaries = Vec::new();
    let mut since_advance = 0;
    loop {
        check(&pipeline.collected, gauges)?;
        gossip.heard.borrow_mut().drain(..).for_each(|summary| feed.hear(summary));
        let busy = in_flight.len() < IN_FLIGHT_MAX && feed.read(&mut summaries)?;
        gossip.tell(&mut summaries);
        feed.fold(&mut summaries, |events, report| {
            gauges.note(&report);
            since_advance += events.len();
            pipeline.events.send_batch(events);
            pipeline.reports.send(report);
        })?;
        gossip.tell(&mut summaries);
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
        while in_flight.front().is_some_and(|time| !pipeline.probe.less_than(time)) {
            in_flight.pop_front();
        }
    }
    pipeline.close();
    drop(gossip);
    while !pipeline.complete.done() {
        check(&pipeline.collected, gauges)?;
        worker.step_or_park(Some(PARK));
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
    fn note(&self, report: &Report) {
        self.bytes.fetch_add(report.bytes, Ordering::Relaxed);
        self.accepted.fetch_add(report.counts.accepted, Ordering::Relaxed);
        self.late.fetch_add(report.counts.late, Ordering::Relaxed);
        self.rejected.fetch_add(report.counts.rejected_all(), Ordering::Relaxed);
    }
}
