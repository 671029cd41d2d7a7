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

/// How long a run that is to stop waits for its sinks to take what is complete, and for its last snapshot.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// F of the newest snapshot that counts, or that the run goes on from.
    published: Time,
    /// F of the last snapshot, once the run is to stop and has asked for what is to be asked for.
    last: Option<Time>,
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
        let (detached, full, published, last) = (false, false, schedule.newest, None);
        Leader { journal, snapshots, schedule, partitions, metrics, durable, detached, published, last, full }
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
    pub(super) fn propose(&mut self, mut decision: Decision) -> Result<(), RunError> {
        if let Decision::Partition { watermark, .. } = &mut decision {
            // A run that makes known results again is behind what stores hold, and that can't change any more.
            let released = Some(self.durable.furthest()).filter(|released| *released < Time::MAX);
            *watermark = (*watermark).max(released.unwrap_or(0));
        }
        self.journal.append(decision)
    }

    /// One turn. `stopping`: somebody wants the run to stop, and nothing more is read since then.
    ///
    /// # Errors
    /// What stopped the journal, the snapshots or the sinks.
    pub(super) fn step(
        &mut self,
        control: &mut Control,
        pipeline: &mut Pipeline,
        stopping: Option<Instant>,
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
            self.published = frontier;
            control.tell(Message::Published(frontier));
        }
        match stopping {
            _ if self.detached => {}
            Some(since) => self.stop(control, pipeline, since)?,
            None => {
                if self.schedule.is_due(*pipeline.events.time(), Instant::now()) {
                    control.tell(Message::Snapshot(pipeline.request_snapshot(self.partitions)));
                }
            }
        }
        Ok(())
    }

    /// Brings the run to its end: what is complete goes out, and is in a snapshot, so that the next run makes none of it again.
    /// Neither a sink nor a disk that is down keeps the run from stopping: the next one makes what they lack.
    fn stop(&mut self, control: &mut Control, pipeline: &mut Pipeline, since: Instant) -> Result<(), RunError> {
        let has_patience = since.elapsed() < PATIENCE;
        if has_patience && !pipeline.all_is_out() {
            return Ok(());
        }
        // One after another: each needs the time that the one before has left with to pass.
        if has_patience && pipeline.let_out_snapshot() {
            return Ok(());
        }
        let last = match self.last {
            Some(last) => last,
            None => *self.last.insert(self.ask_for_the_last(control, pipeline)),
        };
        if self.published < last {
            if has_patience {
                return Ok(());
            }
            tracing::warn!(
                "no snapshot of the end within {} s; the next run goes on from the one before",
                PATIENCE.as_secs()
            );
        }
        self.detached = true;
        self.snapshots.suspend(since, PATIENCE, self.full)?;
        control.tell(Message::Detached);
        Ok(())
    }

    /// Returns the F from which on the run needs no further snapshot.
    fn ask_for_the_last(&self, control: &mut Control, pipeline: &mut Pipeline) -> Time {
        let Some(frontier) = pipeline.last_frontier() else { return self.published };
        if frontier > self.published && frontier != self.schedule.newest {
            control.tell(Message::Snapshot(pipeline.request_last_snapshot(self.partitions)));
        }
        frontier.max(self.published)
    }
}

/// When snapshots are taken: at ends of ticks, one after another, `interval` apart or more.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    interval: Duration,
    tick: Steps,
    asked: bool,
    last: Instant,
    /// The frontier of the newest snapshot that was asked for.
    newest: Time,
}

impl Schedule {
    /// The first snapshot is due `interval` after `now`, and lies behind `newest`, where the run goes on from.
    pub(super) fn new(interval: Duration, tick: Steps, now: Instant, newest: Time) -> Schedule {
        Schedule { interval, tick, asked: false, last: now, newest }
    }

    /// Whether a snapshot is to be asked for now at `frontier`, the end of the tick that is open.
    fn is_due(&mut self, frontier: Time, now: Instant) -> bool {
        // In the first tick of 1970 no partition has told its time yet. And where a run goes on, its partitions can be told times
        // before the snapshot: that of the record before.
        let is_due = !self.asked
            && frontier > self.newest.max(self.tick.length())
            && now.duration_since(self.last) >= self.interval;
        if is_due {
            (self.asked, self.last, self.newest) = (true, now, frontier);
        }
        is_due
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
    fn one_snapshot_after_another_at_ends_of_ticks() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut schedule = Schedule::new(Duration::from_secs(10), Steps::new(20).unwrap(), start, 80);
        assert!(!schedule.is_due(100, after(9)));
        assert!(!schedule.is_due(20, after(11)), "nothing was read yet");
        assert!(!schedule.is_due(60, after(11)), "there is one at 80");
        assert!(!schedule.is_due(80, after(11)), "there is one at 80");
        assert!(schedule.is_due(100, after(11)));
        assert!(!schedule.is_due(900, after(60)), "the one before is not done");
        schedule.published();
        assert!(!schedule.is_due(100, after(61)), "that one is there");
        assert!(schedule.is_due(120, after(61)));
    }
}
