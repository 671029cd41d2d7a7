//! A thread that makes decisions durable, so that no worker waits for the disk.

use super::error::RunError;
use crate::checkpoint::{CheckpointError, JournalWriter};
use crate::fault;
use crate::journal::Decision;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

/// The way to the thread, and back.
pub(super) struct Journaling {
    proposals: Sender<Decision>,
    durable: Receiver<Result<Decision, CheckpointError>>,
}

impl Journaling {
    /// Starts the thread; it ends with this.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(writer: JournalWriter) -> Result<Journaling, RunError> {
        let (proposals, proposed) = channel();
        let (decided, durable) = channel();
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || work(writer, &proposed, &decided))
            .map_err(RunError::Thread)?;
        Ok(Journaling { proposals, durable })
    }

    /// Hands over a decision.
    ///
    /// # Errors
    /// If the thread has ended, which it does after an error.
    pub(super) fn append(&mut self, decision: Decision) -> Result<(), RunError> {
        match self.proposals.send(decision) {
            Ok(()) => Ok(()),
            Err(_) => self.next_durable().and(Err(RunError::JournalStopped)),
        }
    }

    /// The next decision that has become durable, in the order in which they were handed over.
    ///
    /// # Errors
    /// What kept the journal from being written.
    pub(super) fn next_durable(&mut self) -> Result<Option<Decision>, RunError> {
        match self.durable.try_recv() {
            Ok(result) => Ok(Some(result?)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(RunError::JournalStopped),
        }
    }
}

/// Between two attempts, where an error may pass: a full disk.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Tries again what may pass, as long as it takes: what is not decided only waits.
fn append(writer: &mut JournalWriter, decisions: &[Decision]) -> Result<(), CheckpointError> {
    loop {
        match writer.append(decisions) {
            Err(error) if error.is_retryable() => tracing::warn!("{error}; trying again"),
            written => return written,
        }
        thread::sleep(TRY_AGAIN);
    }
}

/// What has come meanwhile is written together.
fn work(mut writer: JournalWriter, proposed: &Receiver<Decision>, decided: &Sender<Result<Decision, CheckpointError>>) {
    while let Ok(first) = proposed.recv() {
        let decisions: Vec<Decision> = std::iter::once(first).chain(proposed.try_iter()).collect();
        fault::point("journal.append");
        let written = append(&mut writer, &decisions);
        fault::point("journal.durable");
        let failed = written.is_err();
        // Nobody listens any more when the run has ended.
        let _ = match written {
            Ok(()) => decisions.into_iter().try_for_each(|decision| decided.send(Ok(decision))),
            Err(error) => decided.send(Err(error)),
        };
        if failed {
            return;
        }
    }
}
