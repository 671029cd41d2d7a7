//! All sinks of a run, each at its own pace.
//!
//! ```text
//!                     ┌─ queue ─ thread ─ sink ─┐
//!   Arc<Batch> ──▶ set┼─ queue ─ thread ─ sink ─┼─▶ Durable ──▶ who waits for a frontier
//!                     └─ queue ─ thread ─ sink ─┘
//! ```
//!
//! A batch goes to all queues or to none, so that the slowest sink slows the sender, and memory stays bounded: by `bytes_max`,
//! or one batch if that is larger, for the queues together, since they share batches. (Queues that are far apart hold
//! different batches; then it is that much for each.)

use super::durable::Durable;
use super::gauges::SinkGauges;
use super::stop::Stop;
use super::thread::{Charge, Ending, SinkThread};
use super::{Batch, End, Sink, SinkError};
use dataflows::event::Time;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a run asks of its sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The whole log at once: durable at the end, and an error ends it.
    Replay,
    /// For ever: an error that a retry may cure is retried until it is cured, after 100 ms, 200 ms, … 10 s; results are made
    /// durable when nothing waits, and when somebody waits for them ([`Durable::wait`]).
    Live,
}

/// What a sink is given at least to put away what it has, when a run stops.
const GRACE: Duration = Duration::from_secs(2);

/// The sinks of a run. Dropped without an end, it aborts them, and waits for that.
pub struct SinkSet {
    threads: Vec<SinkThread>,
    durable: Durable,
    stop: Stop,
    /// One sender at a time: room that was found is still there.
    sending: Mutex<()>,
}

impl SinkSet {
    /// Starts a thread for each sink.
    ///
    /// `bytes_max`: how many bytes of batches ([`Batch::bytes`]) may wait for a sink or be in its work at a time. `stop`: the
    /// one that the sinks were opened with. It ends retries and calls of servers at once; the set raises it when it is
    /// dropped.
    ///
    /// # Errors
    /// [`SinkError::Thread`] if no thread can be started.
    pub fn spawn(sinks: Vec<Box<dyn Sink>>, pace: Pace, bytes_max: usize, stop: &Stop) -> Result<SinkSet, SinkError> {
        let reached = sinks.iter().map(|sink| sink.reached()).max().unwrap_or(0);
        let durable = Durable::new(sinks.iter().map(|sink| sink.durable()), reached);
        let charge = |number| Charge { pace, bytes_max, stop: stop.clone(), durable: durable.clone(), number };
        let threads = sinks.into_iter().enumerate().map(|(number, sink)| SinkThread::spawn(sink, charge(number)));
        let threads = threads.collect::<Result<Vec<_>, _>>()?;
        Ok(SinkSet { threads, durable, stop: stop.clone(), sending: Mutex::new(()) })
    }

    /// Hands over a batch; waits until all sinks have room for it.
    ///
    /// # Errors
    /// What stopped a sink, the first time; then [`SinkError::Stopped`].
    pub fn send(&self, batch: impl Into<Arc<Batch>>) -> Result<(), SinkError> {
        self.offer(batch.into(), true).map(drop)
    }

    /// Hands over a batch if all sinks have room for it, else returns it: for callers that must not wait.
    ///
    /// # Errors
    /// As [`SinkSet::send`].
    pub fn try_send(&self, batch: impl Into<Arc<Batch>>) -> Result<Option<Arc<Batch>>, SinkError> {
        self.offer(batch.into(), false)
    }

    fn offer(&self, batch: Arc<Batch>, wait: bool) -> Result<Option<Arc<Batch>>, SinkError> {
        let _sender = self.lock_sending();
        let bytes = batch.bytes();
        for thread in &self.threads {
            if !thread.has_room(bytes, wait)? {
                return Ok(Some(batch));
            }
        }
        self.threads.iter().for_each(|thread| thread.admit(batch.clone(), bytes));
        Ok(None)
    }

    /// Has the generations that are being built take the place of the old ones, once all that was sent before is written:
    /// for a live run that has caught up with its log (`--new-generation`; contract, section 5).
    pub fn promote(&self) {
        let _sender = self.lock_sending();
        self.threads.iter().for_each(SinkThread::promote);
    }

    /// What all sinks hold, and the way to wait for it.
    pub fn durable(&self) -> Durable {
        self.durable.clone()
    }

    /// How each sink is doing, in the order in which they were given.
    pub fn gauges(&self) -> Vec<Arc<SinkGauges>> {
        self.threads.iter().map(|thread| thread.gauges().clone()).collect()
    }

    /// Has the sinks write what is queued, then finish, one after another so that none looks whole before those before it
    /// are; waits for that. For a log that has an end.
    ///
    /// # Errors
    /// What stopped a sink; the others are aborted unless they had finished.
    ///
    /// # Panics
    /// If a sink panicked, with its panic.
    pub fn finish(mut self, end: End) -> Result<(), SinkError> {
        let mut outcome = self.threads.iter().try_for_each(SinkThread::drain);
        for thread in self.threads.drain(..) {
            let ending = if outcome.is_ok() { Ending::Finish(end.clone()) } else { Ending::Abort };
            if outcome.is_err() {
                self.stop.raise();
            }
            thread.end(ending);
            outcome = outcome.and(thread.join());
        }
        outcome
    }

    /// What stopped a sink, once, if that has not been told to whoever sent to it.
    pub fn failure(&self) -> Option<SinkError> {
        self.threads.iter().find_map(SinkThread::failure)
    }

    /// Has the sinks write what is queued and make it durable, and closes them: the run will go on another time. Gives up
    /// `patience` after `since`, which loses nothing: what is missing is sent again by the run that goes on.
    ///
    /// # Errors
    /// What stopped a sink, or [`SinkError::NotDrained`].
    ///
    /// # Panics
    /// If a sink panicked, with its panic.
    pub fn suspend(mut self, since: Instant, patience: Duration) -> Result<(), SinkError> {
        // Whoever has all may say so, however late it was told.
        let until = (since + patience).max(Instant::now() + GRACE);
        self.threads.iter().for_each(|thread| thread.end(Ending::Suspend));
        let late: Vec<bool> = self.threads.iter().map(|thread| !thread.has_ended(until)).collect();
        if late.contains(&true) {
            self.stop.raise();
        }
        let mut outcome = Ok(());
        for (thread, late) in self.threads.drain(..).zip(late) {
            let not_drained = late.then(|| SinkError::not_drained(thread.gauges(), patience));
            if late {
                // One that is only slow looks at no stop.
                thread.end(Ending::Abort);
            }
            let ended = match (thread.join(), not_drained) {
                (Ok(()) | Err(SinkError::Stopped), Some(error)) => Err(error),
                (ended, _) => ended,
            };
            outcome = outcome.and(ended);
        }
        outcome
    }

    fn lock_sending(&self) -> MutexGuard<'_, ()> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SinkSet {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.stop.raise();
        }
    }
}

/// Checks that a run can go on from a snapshot at frontier `snapshot`, ms, with these sinks: rows up to it, those of
/// T = `snapshot` and E = `snapshot` too, do not come again.
///
/// # Errors
/// [`SinkError::Behind`] for the first sink that does not hold all of them: it was emptied, replaced, or set back to an
/// older state.
pub fn check_resume(sinks: &[Box<dyn Sink>], snapshot: Time) -> Result<(), SinkError> {
    let behind = sinks.iter().find(|sink| sink.durable() <= snapshot);
    behind.map_or(Ok(()), |sink| Err(SinkError::Behind { sink: sink.name(), durable: sink.durable(), snapshot }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
