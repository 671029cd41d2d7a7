//! One worker's loop: read, fold, hand over, let the dataflow work; never too far ahead of what has been put out.

use super::feed::{Feed, FeedError, Summary};
use crate::pipeline::Pipeline;
use dataflows::event::Time;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::{Input, Inspect};
use timely::worker::Worker;

/// Pieces of the log that a worker hands over before the first of them has been put out.
const IN_FLIGHT_MAX: usize = 4;

/// How long a worker with nothing to do sleeps, unless a message wakes it.
const PARK: Duration = Duration::from_millis(1);

/// How far the workers of this process have come: for progress, and for stopping.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Lines read.
    pub lines: AtomicU64,
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

/// How a worker's loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything has been read and put out.
    Complete,
    /// Somebody wanted to stop.
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

/// Reads the log to its end, or until somebody wants to stop.
///
/// After a stop, and after an error, the dataflows are dropped as they are: nothing more is put out.
pub(super) fn drive(
    worker: &mut Worker,
    feed: Result<Feed, FeedError>,
    mut pipeline: Pipeline,
    mut gossip: Gossip,
    gauges: &Gauges,
) -> Result<Ended, FeedError> {
    let mut feed = match feed {
        Ok(feed) => feed,
        Err(error) => {
            gauges.stop.store(true, Ordering::Relaxed);
            abandon(worker);
            return Err(error);
        }
    };
    let mut in_flight: VecDeque<Time> = VecDeque::new();
    let mut summaries = Vec::new();
    let outcome = loop {
        if gauges.stop.load(Ordering::Relaxed) {
            break Ok(Ended::Stopped);
        }
        gossip.heard.borrow_mut().drain(..).for_each(|summary| feed.hear(summary));
        let mut busy = false;
        if in_flight.len() < IN_FLIGHT_MAX {
            match feed.read(&mut summaries) {
                Ok(read) => busy = read,
                Err(error) => break Err(error),
            }
        }
        gossip.tell(&mut summaries);
        let given = feed.fold(&mut summaries, |events, report| {
            note(gauges, &report);
            in_flight.push_back(*pipeline.events.time());
            pipeline.events.send_batch(events);
            pipeline.reports.send(report);
        });
        if let Err(error) = given {
            break Err(error);
        }
        gossip.tell(&mut summaries);
        let Some(frontier) = feed.frontier() else { break Ok(Ended::Complete) };
        if *pipeline.events.time() < frontier {
            pipeline.events.advance_to(frontier);
            pipeline.reports.advance_to(frontier);
            if feed.index() == 0 {
                gauges.frontier.store(frontier, Ordering::Relaxed);
            }
        }
        if busy {
            worker.step();
        } else {
            worker.step_or_park(Some(PARK));
        }
        while in_flight.front().is_some_and(|time| !pipeline.probe.less_than(time)) {
            in_flight.pop_front();
        }
    };
    let (probe, stopping) = (pipeline.probe.clone(), outcome.as_ref().is_ok_and(|ended| *ended == Ended::Complete));
    drop((pipeline, gossip));
    while stopping && !probe.done() {
        if gauges.stop.load(Ordering::Relaxed) {
            abandon(worker);
            return Ok(Ended::Stopped);
        }
        worker.step_or_park(Some(PARK));
    }
    if !stopping {
        gauges.stop.store(true, Ordering::Relaxed);
        abandon(worker);
    }
    outcome
}

fn abandon(worker: &mut Worker) {
    worker.installed_dataflows().into_iter().for_each(|dataflow| worker.drop_dataflow(dataflow));
}

fn note(gauges: &Gauges, report: &crate::pipeline::Report) {
    gauges.lines.fetch_add(report.counts.lines, Ordering::Relaxed);
    gauges.accepted.fetch_add(report.counts.accepted, Ordering::Relaxed);
    gauges.late.fetch_add(report.counts.late, Ordering::Relaxed);
    gauges.rejected.fetch_add(report.counts.rejected_all(), Ordering::Relaxed);
}
