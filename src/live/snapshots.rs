//! A thread that publishes snapshots when all sinks hold what is before them (contract, section 5).

use super::error::RunError;
use super::metrics::Metrics;
use super::patience::{TRY_AGAIN, patiently};
use crate::checkpoint::{CheckpointError, SnapshotWriter};
use crate::fault;
use crate::pipeline::Sinks;
use crate::sinks::durable::Durable;
use crate::sinks::gauges::SinkGauges;
use crate::sinks::set::SinkSet;
use crate::sinks::{Batch, SinkError};
use crate::telemetry::Hindrance;
use dataflows::event::Time;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The sinks, and whether they build results beside those of another pipeline.
pub(super) struct Generations {
    pub(super) sinks: Vec<Arc<SinkGauges>>,
    pub(super) builds: bool,
    /// The results take the place of the old ones as soon as they have caught up with the log, and not only at its end.
    pub(super) promotes: bool,
}

/// What has become of the snapshots, and the end of the sinks that they wait for.
pub(super) struct Snapshots {
    published: Receiver<Result<Time, CheckpointError>>,
    sinks: Sinks,
    /// The sinks are to be told to replace what another pipeline left.
    replaces: bool,
}

impl Snapshots {
    /// Starts the thread. Batches with a snapshot are to be sent to the second value. Once all sinks show this pipeline's results that
    /// were to replace another's, the state of those before it goes.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(
        writer: SnapshotWriter,
        sinks: Sinks,
        durable: Durable,
        metrics: Arc<Metrics>,
        generations: Generations,
    ) -> Result<(Snapshots, Sender<Arc<Batch>>), RunError> {
        let (batches, waiting) = channel();
        let (done, published) = channel();
        let replaces = generations.builds && generations.promotes;
        thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || work(writer, &waiting, &durable, &done, &metrics, &generations))
            .map_err(RunError::Thread)?;
        Ok((Snapshots { published, sinks, replaces }, batches))
    }

    /// The frontier of the next snapshot that counts.
    ///
    /// # Errors
    /// What kept a snapshot from being written, be it what stopped a sink.
    pub(super) fn next_published(&mut self) -> Result<Option<Time>, RunError> {
        match self.published.try_recv() {
            Ok(result) => Ok(Some(result?)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => {
                let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
                let failure = sinks.as_ref().and_then(SinkSet::failure);
                Err(failure.map_or(RunError::SnapshotsStopped, RunError::from))
            }
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

    /// Has the sinks write what they have, until `patience` after `since`, and lets go of them. `full`: they had no room for
    /// all that is complete.
    ///
    /// # Errors
    /// If a sink can't. The next run writes it.
    pub(super) fn suspend(&mut self, since: Instant, patience: Duration, full: bool) -> Result<(), SinkError> {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(sinks) = sinks else { return Ok(()) };
        let slowest = sinks.gauges().into_iter().max_by_key(|sink| sink.queue_bytes()).filter(|_| full);
        sinks.suspend(since, patience)?;
        slowest.map_or(Ok(()), |sink| Err(SinkError::not_drained(&sink, patience)))
    }
}

fn work(
    mut writer: SnapshotWriter,
    waiting: &Receiver<Arc<Batch>>,
    durable: &Durable,
    done: &Sender<Result<Time, CheckpointError>>,
    metrics: &Metrics,
    generations: &Generations,
) {
    let replaced_in = writer.replaced_in().unwrap_or_else(|error| {
        tracing::warn!("{error}; the state of an earlier pipeline stays");
        Vec::new()
    });
    // Stores that this run does not have may show the old results still.
    let has = |name: &String| generations.sinks.iter().any(|sink| sink.name() == name);
    let mut hindrance = Hindrance::default();
    let mut older = !replaced_in.is_empty() && replaced_in.iter().all(has);
    loop {
        // Also where an earlier run has replaced them, and died before it could say so.
        let shows = !generations.builds || generations.sinks.iter().all(|sink| sink.is_promoted());
        if older && shows {
            fault::point("state.replaced");
            older = !delete_older(&writer, &mut hindrance);
        }
        let batch = match waiting.recv_timeout(TRY_AGAIN) {
            Ok(batch) => batch,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(snapshot) = &batch.snapshot else { continue };
        // The rows of T = F and E = F are before it too: the batch's frontier lies beyond them.
        if durable.wait(batch.frontier).is_err() {
            // The sinks are gone, and with them the run.
            return;
        }
        fault::point("snapshot.durable");
        let started = Instant::now();
        // The run goes on meanwhile, and the snapshot before stands.
        let published = patiently("the snapshot", || writer.publish(snapshot));
        fault::point("snapshot.published");
        if published.is_ok() {
            metrics.published(started.elapsed(), snapshot.users.len() + snapshot.panes.len(), writer.bytes());
        }
        let failed = published.is_err();
        // Nobody listens any more when the run has ended.
        if done.send(published.map(|()| snapshot.frontier)).is_err() || failed {
            return;
        }
    }
}

/// Deletes the state that goes with results that nobody sees any more. Whether that worked.
fn delete_older(writer: &SnapshotWriter, hindrance: &mut Hindrance) -> bool {
    let deleted = writer.delete_older_generations();
    match &deleted {
        Ok(0) => {}
        Ok(_) => tracing::info!("the new results have taken the place of the old ones, whose state is deleted"),
        Err(error) if hindrance.is_news(&error.to_string()) => {
            tracing::warn!("{error}; state that is of no more use takes up room until that works");
        }
        Err(_) => {}
    }
    deleted.is_ok()
}
