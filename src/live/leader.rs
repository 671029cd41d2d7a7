//! Worker 0's further duties: decisions are made durable before anybody acts on them, snapshots are asked for, and the run is
//! brought to its end.

use super::control::{Control, Message};
use super::error::RunError;
use super::journaling::Journaling;
use super::metrics::Metrics;
use super::snapshots::Snapshots;
use crate::journal::Decision;
use crate::pipeline::Pipeline;
use crate::sinks::durable::Durable;
use dataflows::event::Time;
use dataflows::time::Steps;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a run that is to stop waits for its sinks to take what is complete.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What worker 0 does besides its work.
pub(super) struct Leader {
    journal: Journaling,
    snapshots: Snapshots,
    schedule: Schedule,
    /// How many partitions there are.
    partitions: usize,
    metrics: Arc<Metrics>,
    /// What all sinks hold.
    durable: Durable,
    detached: bool,
    /// The workers were told that the sinks have no room.
    full: bool,
}

impl Leader {
    /// `partitions`: how many there are at the start. `durable`: what all sinks hold.
    pub(super) fn new(
        journal: Journaling,
        (snapshots, durable): (Snapshots, Durable),
        schedule: Schedule,
        partitions: usize,
        metrics: Arc<Metrics>,
    ) -> Leader {
        let (detached, full) = (false, false);
        Leader { journal, snapshots, schedule, partitions, metrics, durable, detached, full }
    }

    /// Whether the results are to take the place of another pipeline's, and have not been told to.
    pub(super) fn replaces(&self) -> bool {
        self.snapshots.replaces()
    }

    /// All that was in the log when the run started is on its way to the sinks, as far as it is complete.
    pub(super) fn caught_up(&mut self) {
        tracing::info!("caught up with the log: the new results are to take the place of the old ones");
        self.snapshots.promote();
    }

    /// Has a decision made durable. A newcomer among the partitions is proposed by its owner once only.
    ///
    /// # Errors
    /// If the journal has failed.
    pub(super) fn propose(&mut self, decision: Decision) -> Result<(), RunError> {
        self.journal.append(decision)
    }

    /// One turn. `drained`: nothing more is read since then, and all that is complete is out, or was waited for long enough.
    ///
    /// # Errors
    /// What stopped the journal, the snapshots or the sinks.
    pub(super) fn step(
        &mut self,
        control: &mut Control,
        pipeline: &mut Pipeline,
        drained: Option<Instant>,
    ) -> Result<(), RunError> {
        while let Some(decision) = self.journal.next_durable()? {
            self.partitions += usize::from(matches!(decision, Decision::Partition { .. }));
            self.metrics.decided(1);
            control.tell(Message::Decided(decision));
        }
        self.metrics.durable(self.durable.frontier());
        let full = pipeline.collected.borrow().is_held_up();
        if full != self.full {
            self.full = full;
            control.tell(Message::Full(full));
        }
        // Without sinks no more of them count.
        let published = if self.detached { None } else { self.snapshots.next_published()? };
        if let Some(frontier) = published {
            self.schedule.published();
            control.tell(Message::Published(frontier));
        }
        if let Some(since) = drained.filter(|_| !self.detached) {
            self.detached = true;
            self.snapshots.suspend(since, PATIENCE, full)?;
            control.tell(Message::Detached);
        } else if !self.detached
            && let Some(frontier) = self.schedule.due(*pipeline.events.time(), Instant::now())
        {
            pipeline.request_snapshot(frontier, self.partitions);
            control.tell(Message::Snapshot(frontier));
        }
        Ok(())
    }
}

/// When snapshots are taken: at ends of slides, one after another, `interval` apart or more.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    interval: Duration,
    slide: Steps,
    asked: bool,
    last: Instant,
    /// The frontier of the newest snapshot.
    newest: Time,
}

impl Schedule {
    /// The first snapshot is due `interval` after `now`, and lies behind `newest`, where the run goes on from.
    pub(super) fn new(interval: Duration, slide: Steps, now: Instant, newest: Time) -> Schedule {
        Schedule { interval, slide, asked: false, last: now, newest }
    }

    /// The frontier of the next snapshot, if one is to be asked for now: the first end of a slide at or behind `frontier`,
    /// where worker 0's inputs stand.
    fn due(&mut self, frontier: Time, now: Instant) -> Option<Time> {
        // In the first slide of 1970 no partition has told its time yet.
        if self.asked || frontier <= self.slide.length() || now.duration_since(self.last) < self.interval {
            return None;
        }
        let next = self.slide.end_of(frontier - 1);
        // Where a run goes on, its partitions can be told times before the snapshot: that of the record before.
        if next <= self.newest {
            return None;
        }
        (self.asked, self.last, self.newest) = (true, now, next);
        Some(next)
    }

    fn published(&mut self) {
        self.asked = false;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_snapshot_after_another_at_ends_of_slides() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut schedule = Schedule::new(Duration::from_secs(10), Steps::new(40).unwrap(), start, 80);
        assert_eq!(schedule.due(90, after(9)), None);
        assert_eq!(schedule.due(20, after(11)), None, "nothing was read yet");
        assert_eq!(schedule.due(60, after(11)), None, "there is one at 80");
        assert_eq!(schedule.due(80, after(11)), None, "there is one at 80");
        assert_eq!(schedule.due(90, after(11)), Some(120));
        assert_eq!(schedule.due(900, after(60)), None, "the one before is not done");
        schedule.published();
        assert_eq!(schedule.due(120, after(61)), None, "that one is there");
        assert_eq!(schedule.due(121, after(61)), Some(160));
    }
}
