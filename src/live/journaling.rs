//! A thread that makes decisions durable, so that no worker waits for the disk.

use super::error::RunError;
use super::patience::patiently;
use crate::checkpoint::{CheckpointError, JournalWriter};
use crate::fault;
use crate::journal::Decision;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

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

/// What has come meanwhile is written together.
fn work(mut writer: JournalWriter, proposed: &Receiver<Decision>, decided: &Sender<Result<Decision, CheckpointError>>) {
    while let Ok(first) = proposed.recv() {
        let decisions: Vec<Decision> = std::iter::once(first).chain(proposed.try_iter()).collect();
        fault::point("journal.append");
        // What is not decided only waits.
        let written = patiently("the journal", || writer.append(&decisions));
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
