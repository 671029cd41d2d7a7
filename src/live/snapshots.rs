//! A thread that publishes snapshots when all sinks hold what is before them (contract, section 5).

use super::error::LiveError;
use super::metrics::Metrics;
use crate::checkpoint::{CheckpointError, SnapshotWriter};
use crate::sinks::set::{Durable, SinkSet};
use crate::sinks::{Batch, SinkError};
use dataflows::event::Time;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// Where batches go: to the sinks, and those with a snapshot to the thread, too.
pub(super) struct Snapshots {
    published: Receiver<Result<Time, CheckpointError>>,
    sinks: Arc<Mutex<Option<SinkSet>>>,
}

/// The way of a batch with a snapshot to the thread.
pub(super) type ToSnapshots = Sender<Arc<Batch>>;

impl Snapshots {
    /// Starts the thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(
        writer: SnapshotWriter,
        sinks: Arc<Mutex<Option<SinkSet>>>,
        durable: Durable,
        metrics: Arc<Metrics>,
    ) -> Result<(Snapshots, ToSnapshots), LiveError> {
        let (batches, waiting) = channel();
        let (done, published) = channel();
        thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || work(writer, &waiting, &durable, &done, &metrics))
            .map_err(LiveError::Thread)?;
        Ok((Snapshots { published, sinks }, batches))
    }

    /// The frontier of the next snapshot that counts.
    ///
    /// # Errors
    /// What kept a snapshot from being written.
    pub(super) fn next_published(&mut self) -> Result<Option<Time>, LiveError> {
        match self.published.try_recv() {
            Ok(result) => Ok(Some(result?)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(LiveError::SnapshotsStopped),
        }
    }

    /// Has the sinks write what they have, and lets go of them.
    ///
    /// # Errors
    /// If a sink can't. The next run writes it.
    pub(super) fn suspend(&mut self) -> Result<(), SinkError> {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner).take();
        sinks.map_or(Ok(()), SinkSet::suspend)
    }
}

fn work(
    mut writer: SnapshotWriter,
    waiting: &Receiver<Arc<Batch>>,
    durable: &Durable,
    done: &Sender<Result<Time, CheckpointError>>,
    metrics: &Metrics,
) {
    while let Ok(batch) = waiting.recv() {
        let Some(snapshot) = &batch.snapshot else { continue };
        if !durable.wait_for(snapshot.frontier) {
            // The sinks are gone, and with them the run.
            return;
        }
        let started = Instant::now();
        let published = writer.publish(snapshot).map(|bytes| {
            metrics.published(started.elapsed(), bytes);
            snapshot.frontier
        });
        let failed = published.is_err();
        // Nobody listens any more when the run has ended.
        let _ = done.send(published);
        if failed {
            return;
        }
    }
}
