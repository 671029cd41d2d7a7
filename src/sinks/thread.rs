//! One sink on a thread of its own, behind a queue that is bounded by bytes.
//!
//! A batch that waits or is being written counts; one batch is always admitted, however large. An error that a retry may cure
//! is retried by the thread itself, where the pace says so; any other stops it, drops the sink (an abort) and is handed to
//! whoever sends next.

use super::backoff::Backoff;
use super::durable::Durable;
use super::gauges::SinkGauges;
use super::set::Pace;
use super::stop::Stop;
use super::{Batch, End, Sink, SinkError};
use crate::fault;
use crate::telemetry::Hindrance;
use dataflows::event::Time;
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

/// A sink's thread. Dropped without an end, it aborts the sink, and waits for that.
pub(super) struct SinkThread {
    queue: Arc<Queue>,
    gauges: Arc<SinkGauges>,
    thread: Option<JoinHandle<()>>,
}

/// What a sink's thread is told besides its sink.
pub(super) struct Charge {
    pub(super) pace: Pace,
    pub(super) bytes_max: usize,
    pub(super) stop: Stop,
    pub(super) durable: Durable,
    /// The sink's number there.
    pub(super) number: usize,
}

/// How a thread ends.
#[derive(Clone)]
pub(super) enum Ending {
    /// The log has ended.
    Finish(End),
    /// All that is queued is made durable; the run will go on another time.
    Suspend,
    /// Now.
    Abort,
}

impl SinkThread {
    pub(super) fn spawn(sink: Box<dyn Sink>, charge: Charge) -> Result<SinkThread, SinkError> {
        let gauges = Arc::new(SinkGauges::new(sink.name(), sink.durable()));
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            bytes_max: charge.bytes_max,
            gauges: gauges.clone(),
        });
        let name = format!("sink {}", sink.name());
        let own = Arc::clone(&queue);
        let body = move || {
            let closing = Closing { queue: &own, durable: &charge.durable, number: charge.number };
            let mut worker = Worker { queue: &own, charge: &charge, sink, written: 0 };
            let result = worker.work();
            drop(worker);
            closing.queue.lock().error = result.err();
        };
        let thread = Builder::new().name(name).spawn(body).map_err(SinkError::Thread)?;
        Ok(SinkThread { queue, gauges, thread: Some(thread) })
    }

    pub(super) fn gauges(&self) -> &Arc<SinkGauges> {
        &self.gauges
    }

    /// Whether there is room for a batch of `bytes`; with `wait`, waits until there is.
    ///
    /// # Errors
    /// What stopped the sink, the first time; then [`SinkError::Stopped`].
    pub(super) fn has_room(&self, bytes: usize, wait: bool) -> Result<bool, SinkError> {
        let mut state = self.queue.lock();
        while wait && !state.closed && !state.has_room(bytes, self.queue.bytes_max) {
            state = self.queue.wait(state);
        }
        state.check_open()?;
        Ok(state.has_room(bytes, self.queue.bytes_max))
    }

    /// Queues a batch, room or no room.
    pub(super) fn admit(&self, batch: Arc<Batch>, bytes: usize) {
        self.queue.push(Item::Batch(batch, bytes));
    }

    /// Queues a call of [`Sink::promote`].
    pub(super) fn promote(&self) {
        self.queue.push(Item::Promote);
    }

    /// Waits until everything queued has been handed to the sink, or no more will be.
    ///
    /// # Errors
    /// As [`SinkThread::has_room`].
    pub(super) fn drain(&self) -> Result<(), SinkError> {
        let mut state = self.queue.lock();
        while !(state.closed || state.items.is_empty() && state.bytes == 0) {
            state = self.queue.wait(state);
        }
        state.check_open()
    }

    /// What stopped the sink, the first time.
    pub(super) fn failure(&self) -> Option<SinkError> {
        self.queue.lock().error.take()
    }

    /// Tells the thread to end, without waiting for it.
    pub(super) fn end(&self, ending: Ending) {
        self.queue.lock().ending = Some(ending);
        self.queue.changed.notify_all();
    }

    /// Waits until the thread has ended, and says whether it had by `until`.
    pub(super) fn has_ended(&self, until: Instant) -> bool {
        let mut state = self.queue.lock();
        while !state.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.queue.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// What stopped the sink.
    ///
    /// # Panics
    /// If the sink panicked, with its panic.
    pub(super) fn join(mut self) -> Result<(), SinkError> {
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            resume_unwind(panic);
        }
        self.queue.lock().error.take().map_or(Ok(()), Err)
    }
}

impl Drop for SinkThread {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.end(Ending::Abort);
        // A sink's panic has been printed by its thread; raising it again here could abort the process.
        let _ = thread.join();
    }
}

/// The thread's own side.
struct Worker<'a> {
    queue: &'a Queue,
    charge: &'a Charge,
    sink: Box<dyn Sink>,
    /// The frontier of the last batch handed to the sink.
    written: Time,
}

impl Worker<'_> {
    /// Hands the queue's batches to the sink until the end, an abort, or an error.
    fn work(&mut self) -> Result<(), SinkError> {
        loop {
            match self.queue.next() {
                Work::Item(Item::Batch(batch, bytes)) => {
                    fault::point("sink.write");
                    self.attempt(|sink| sink.write(&batch))?;
                    fault::point("sink.written");
                    self.written = batch.frontier;
                    self.queue.gauges.rows.fetch_add(batch.rows() as u64, Ordering::Relaxed);
                    self.queue.gauges.batches.fetch_add(1, Ordering::Relaxed);
                    drop(batch);
                    self.queue.release(bytes);
                    self.flush_if_due()?;
                }
                Work::Item(Item::Promote) => {
                    self.attempt(|sink| sink.flush())?;
                    fault::point("sink.promote");
                    self.attempt(|sink| sink.promote())?;
                    fault::point("sink.promoted");
                    self.queue.gauges.promoted.store(true, Ordering::Relaxed);
                }
                Work::End(Ending::Finish(end)) => {
                    fault::point("sinks.finish");
                    self.attempt(|sink| sink.finish(&end))?;
                    fault::point("sink.finished");
                    return Ok(());
                }
                Work::End(Ending::Suspend) => return self.attempt(|sink| sink.flush()),
                Work::End(Ending::Abort) => return Ok(()),
            }
        }
    }

    fn flush_if_due(&mut self) -> Result<(), SinkError> {
        if self.charge.pace == Pace::Replay {
            return Ok(());
        }
        let wanted = self.charge.durable.is_wanted(self.sink.durable(), self.written);
        if wanted || self.queue.lock().items.is_empty() {
            self.attempt(|sink| sink.flush())?;
            fault::point("sink.flushed");
        }
        Ok(())
    }

    /// Calls until it succeeds, or fails for good, or nobody wants it any more.
    fn attempt(&mut self, mut call: impl FnMut(&mut dyn Sink) -> Result<(), SinkError>) -> Result<(), SinkError> {
        let Charge { pace, stop, durable, number, .. } = self.charge;
        let (gauges, mut backoff, mut hindrance) = (&self.queue.gauges, Backoff::new(), Hindrance::default());
        loop {
            match call(&mut *self.sink) {
                Ok(()) => {
                    if hindrance.is_over() {
                        tracing::info!("{}: results are written again", self.sink.name());
                    }
                    gauges.succeeded();
                    gauges.durable.store(self.sink.durable(), Ordering::Relaxed);
                    durable.publish(*number, self.sink.durable());
                    return Ok(());
                }
                Err(_) if stop.is_raised() => return Err(SinkError::Stopped),
                Err(error) => {
                    let text = error.to_string();
                    gauges.failed(text.clone());
                    if *pace == Pace::Replay || !error.is_retryable() {
                        return Err(error);
                    }
                    if hindrance.is_news(&text) {
                        tracing::warn!("{text}; trying again until it works");
                    }
                    gauges.retries.fetch_add(1, Ordering::Relaxed);
                    if stop.sleep(backoff.next()) {
                        return Err(SinkError::Stopped);
                    }
                }
            }
        }
    }
}

enum Item {
    Batch(Arc<Batch>, usize),
    Promote,
}

enum Work {
    Item(Item),
    End(Ending),
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    /// Of the batches queued, and of the one in work.
    bytes: usize,
    ending: Option<Ending>,
    /// The thread takes nothing any more.
    closed: bool,
    /// Why, until it is handed out.
    error: Option<SinkError>,
}

impl State {
    fn has_room(&self, bytes: usize, bytes_max: usize) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= bytes_max
    }

    fn check_open(&mut self) -> Result<(), SinkError> {
        if self.closed { Err(self.error.take().unwrap_or(SinkError::Stopped)) } else { Ok(()) }
    }
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    bytes_max: usize,
    gauges: Arc<SinkGauges>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No sink runs under this lock, so that a sink's panic can't leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, item: Item) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if let Item::Batch(_, bytes) = &item {
            state.bytes += bytes;
        }
        state.items.push_back(item);
        self.show(&state);
        self.changed.notify_all();
    }

    /// Waits for something to do. An abort comes before what is queued, any other end after it.
    fn next(&self) -> Work {
        let mut state = self.lock();
        loop {
            if matches!(state.ending, Some(Ending::Abort)) || state.items.is_empty() {
                if let Some(ending) = state.ending.take() {
                    return Work::End(ending);
                }
            } else if let Some(item) = state.items.pop_front() {
                self.show(&state);
                return Work::Item(item);
            }
            state = self.wait(state);
        }
    }

    fn release(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes -= bytes;
        self.show(&state);
        self.changed.notify_all();
    }

    fn show(&self, state: &State) {
        self.gauges.queue_bytes.store(state.bytes, Ordering::Relaxed);
        self.gauges.queue_batches.store(state.items.len(), Ordering::Relaxed);
    }
}

/// Closes the queue when the thread ends, be it by a panic, so that nobody waits for ever.
struct Closing<'a> {
    queue: &'a Queue,
    durable: &'a Durable,
    number: usize,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.closed = true;
        state.items.clear();
        state.bytes = 0;
        self.queue.show(&state);
        self.queue.changed.notify_all();
        drop(state);
        self.durable.end(self.number);
    }
}
