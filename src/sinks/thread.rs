//! Writing on a thread of its own, behind a queue that is bounded by bytes.
//!
//! The sender waits while the batches that are queued or being written take more than `bytes_max`, so that a slow disk
//! slows the pipeline and does not fill the memory. One batch is always admitted, however large. The first error stops the
//! thread, drops its sinks (an abort) and is handed to the next call of the sender.

use super::{Batch, End, Sink, SinkError};
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Sinks that run on a thread of their own. Dropped without [`SinkThread::finish`], it aborts them, and waits for that.
pub struct SinkThread {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl SinkThread {
    /// Starts the thread, which hands every batch to each of `sinks` in turn.
    ///
    /// `bytes_max`: how many bytes of batches ([`Batch::bytes`]) may wait or be in work at a time.
    ///
    /// # Errors
    /// [`SinkError::Thread`] if no thread can be started.
    pub fn spawn(sinks: Vec<Box<dyn Sink>>, bytes_max: usize) -> Result<SinkThread, SinkError> {
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), bytes_max });
        let own = Arc::clone(&queue);
        let body = move || {
            let closing = Closing(&own);
            let result = work(&own, sinks);
            closing.0.lock().error = result.err();
        };
        let thread = Builder::new().name("sinks".into()).spawn(body).map_err(SinkError::Thread)?;
        Ok(SinkThread { queue, thread: Some(thread) })
    }

    /// Hands over a batch; waits while there is no room for it.
    ///
    /// # Errors
    /// What stopped the sinks, the first time; then [`SinkError::Stopped`].
    pub fn send(&self, batch: impl Into<Arc<Batch>>) -> Result<(), SinkError> {
        let batch = batch.into();
        let bytes = batch.bytes();
        let mut state = self.queue.lock();
        while !state.closed && !state.has_room(bytes, self.queue.bytes_max) {
            state = self.queue.wait(state);
        }
        self.admit(state, batch, bytes)
    }

    /// Hands over a batch if there is room for it, else returns it: for callers that must not wait.
    ///
    /// # Errors
    /// As [`SinkThread::send`].
    pub fn try_send(&self, batch: impl Into<Arc<Batch>>) -> Result<Option<Arc<Batch>>, SinkError> {
        let batch = batch.into();
        let bytes = batch.bytes();
        let state = self.queue.lock();
        if !state.closed && !state.has_room(bytes, self.queue.bytes_max) {
            return Ok(Some(batch));
        }
        self.admit(state, batch, bytes).map(|()| None)
    }

    /// Has the sinks write what is queued, then finish, and waits for that.
    ///
    /// # Errors
    /// What stopped the sinks.
    ///
    /// # Panics
    /// If a sink panicked, with its panic.
    pub fn finish(mut self, end: End) -> Result<(), SinkError> {
        let closed_before = {
            let mut state = self.queue.lock();
            state.ending = Some(Ending::Finish(end));
            self.queue.changed.notify_all();
            state.closed
        };
        self.join();
        match self.queue.lock().error.take() {
            Some(error) => Err(error),
            None if closed_before => Err(SinkError::Stopped),
            None => Ok(()),
        }
    }

    fn admit(&self, mut state: MutexGuard<'_, State>, batch: Arc<Batch>, bytes: usize) -> Result<(), SinkError> {
        if state.closed {
            return Err(state.error.take().unwrap_or(SinkError::Stopped));
        }
        state.bytes += bytes;
        state.batches.push_back((batch, bytes));
        self.queue.changed.notify_all();
        Ok(())
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            resume_unwind(panic);
        }
    }
}

impl Drop for SinkThread {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.queue.lock().ending = Some(Ending::Abort);
        self.queue.changed.notify_all();
        // A sink's panic has been printed by its thread; raising it again here could abort the process.
        let _ = thread.join();
    }
}

/// Hands the queue's batches to the sinks until the end, an abort, or an error.
fn work(queue: &Queue, mut sinks: Vec<Box<dyn Sink>>) -> Result<(), SinkError> {
    loop {
        match queue.next() {
            Work::Batch(batch, bytes) => {
                for sink in &mut sinks {
                    sink.write(&batch)?;
                }
                drop(batch);
                queue.release(bytes);
            }
            Work::End(Ending::Finish(end)) => return sinks.into_iter().try_for_each(|sink| sink.finish(&end)),
            Work::End(Ending::Abort) => return Ok(()),
        }
    }
}

enum Ending {
    Finish(End),
    Abort,
}

enum Work {
    Batch(Arc<Batch>, usize),
    End(Ending),
}

#[derive(Default)]
struct State {
    batches: VecDeque<(Arc<Batch>, usize)>,
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
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    bytes_max: usize,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No sink runs under this lock, so that a sink's panic can't leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to do. An abort comes before what is queued, the finish after it.
    fn next(&self) -> Work {
        let mut state = self.lock();
        loop {
            if matches!(state.ending, Some(Ending::Abort)) || state.batches.is_empty() {
                if let Some(ending) = state.ending.take() {
                    return Work::End(ending);
                }
            } else if let Some((batch, bytes)) = state.batches.pop_front() {
                return Work::Batch(batch, bytes);
            }
            state = self.wait(state);
        }
    }

    fn release(&self, bytes: usize) {
        self.lock().bytes -= bytes;
        self.changed.notify_all();
    }
}

/// Closes the queue when the thread ends, be it by a panic, so that no sender waits for ever.
struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.batches.clear();
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
