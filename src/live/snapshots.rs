//! A thread that publishes snapshots when all sinks hold what is before them (contract, section 5).

use super::error::RunError;
use super::metrics::Metrics;
use crate::checkpoint::{CheckpointError, SnapshotWriter};
use crate::fault;
use crate::pipeline::Sinks;
use crate::sinks::durable::Durable;
use crate::sinks::gauges::SinkGauges;
use crate::sinks::{Batch, SinkError, SnapshotRows};
use dataflows::event::Time;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a run that ends waits for its sinks to take what is complete.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two attempts to write a snapshot, where an error may pass: a full disk.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What has become of the snapshots, and the end of the sinks that they wait for.
pub(super) struct Snapshots {
    published: Receiver<Result<Time, CheckpointError>>,
    sinks: Sinks,
    /// The sinks are to be told to replace what another pipeline left.
    replaces: bool,
}

impl Snapshots {
    /// Starts the thread. Batches with a snapshot are to be sent to the second value. `replacing`: the sinks in which the results take
    /// the place of another pipeline's; when they have, its state goes, too.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(
        writer: SnapshotWriter,
        sinks: Sinks,
        durable: Durable,
        metrics: Arc<Metrics>,
        replacing: Option<Vec<Arc<SinkGauges>>>,
    ) -> Result<(Snapshots, Sender<Arc<Batch>>), RunError> {
        let (batches, waiting) = channel();
        let (done, published) = channel();
        let replaces = replacing.is_some();
        thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || work(writer, &waiting, &durable, &done, &metrics, replacing))
            .map_err(RunError::Thread)?;
        Ok((Snapshots { published, sinks, replaces }, batches))
    }

    /// The frontier of the next snapshot that counts.
    ///
    /// # Errors
    /// What kept a snapshot from being written.
    pub(super) fn next_published(&mut self) -> Result<Option<Time>, RunError> {
        match self.published.try_recv() {
            Ok(result) => Ok(Some(result?)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(RunError::SnapshotsStopped),
        }
    }

    /// Whether the sinks build results beside those of another pipeline, and have not been told to replace them.
    pub(super) fn replaces(&self) -> bool {
        self.replaces
    }

    /// Has the sinks put the results that they build in the place of the old ones.
    pub(super) fn promote(&mut self) {
        self.replaces = false;
        if let Some(sinks) = &*self.sinks.lock().unwrap_or_else(PoisonError::into_inner) {
            sinks.promote();
        }
    }

    /// Has the sinks write what they have, and lets go of them.
    ///
    /// # Errors
    /// If a sink can't. The next run writes it.
    pub(super) fn suspend(&mut self) -> Result<(), SinkError> {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner).take();
        sinks.map_or(Ok(()), |sinks| sinks.suspend(PATIENCE))
    }
}

fn work(
    mut writer: SnapshotWriter,
    waiting: &Receiver<Arc<Batch>>,
    durable: &Durable,
    done: &Sender<Result<Time, CheckpointError>>,
    metrics: &Metrics,
    mut replacing: Option<Vec<Arc<SinkGauges>>>,
) {
    while let Ok(batch) = waiting.recv() {
        let Some(snapshot) = &batch.snapshot else { continue };
        // The rows of T = F and E = F are before it too: the batch's frontier lies beyond them.
        if durable.wait(batch.frontier).is_err() {
            // The sinks are gone, and with them the run.
            return;
        }
        fault::point("snapshot.durable");
        let started = Instant::now();
        let published = publish(&mut writer, snapshot);
        fault::point("snapshot.published");
        if published.is_ok() {
            metrics.published(started.elapsed(), snapshot.users.len() + snapshot.panes.len());
        }
        let failed = published.is_err();
        let is_replaced = replacing.as_ref().is_some_and(|sinks| sinks.iter().all(|sink| sink.is_promoted()));
        if !failed && is_replaced && delete_others(&writer) {
            replacing = None;
        }
        // Nobody listens any more when the run has ended.
        if done.send(published.map(|()| snapshot.frontier)).is_err() || failed {
            return;
        }
    }
}

/// Deletes the state that goes with results that nobody sees any more. Whether that worked.
fn delete_others(writer: &SnapshotWriter) -> bool {
    let deleted = writer.delete_other_generations();
    match &deleted {
        Ok(()) => tracing::info!("the new results have taken the place of the old ones, whose state is deleted"),
        Err(error) => tracing::warn!("{error}; state that is of no more use takes up room until that works"),
    }
    deleted.is_ok()
}

/// Tries again what may pass, as long as it takes: the run goes on meanwhile, and the snapshot before stands.
fn publish(writer: &mut SnapshotWriter, snapshot: &SnapshotRows) -> Result<(), CheckpointError> {
    loop {
        match writer.publish(snapshot) {
            Err(error) if error.is_retryable() => tracing::warn!("{error}; trying again"),
            published => return published,
        }
        thread::sleep(TRY_AGAIN);
    }
}
