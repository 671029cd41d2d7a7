//! Appending to the journal.

use super::error::CheckpointError;
use super::files::WrittenFile;
use super::lock::Lock;
use crate::journal::Decision;
use crate::journal::scan::{Place, append_decision};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Writes the journal of a state directory.
#[derive(Debug)]
pub struct JournalWriter {
    file: WrittenFile,
    end: Arc<Mutex<Place>>,
    is_stopped: bool,
    _lock: Arc<Lock>,
}

impl JournalWriter {
    /// `file`: the journal, cut at `end`.
    pub(super) fn new(file: WrittenFile, end: Arc<Mutex<Place>>, lock: Arc<Lock>) -> JournalWriter {
        JournalWriter { file, end, is_stopped: false, _lock: lock }
    }

    /// The journal's file, for `replay --journal`.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Appends decisions, and waits until they are on the disk, once for all: whoever has several saves by it.
    ///
    /// # Errors
    /// After an error that [is retryable](CheckpointError::is_retryable), or a decision that can't have been made, none of them is
    /// in the journal; where an object store may have taken them, the same ones must be tried again. After any other, nothing
    /// is written any more.
    pub fn append(&mut self, decisions: &[Decision]) -> Result<(), CheckpointError> {
        if self.is_stopped {
            return Err(CheckpointError::Stopped(self.file.path().to_owned()));
        }
        if let Some(fault) = decisions.iter().find_map(Decision::fault) {
            return Err(CheckpointError::Decision(fault));
        }
        let mut end = *self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = Vec::new();
        decisions.iter().for_each(|decision| append_decision(decision, &mut end, &mut text));
        if text.is_empty() {
            return Ok(());
        }
        let before = self.file.length();
        if let Err(error) = self.file.append(&text).and_then(|()| self.file.copy_appended(&text)) {
            // What is left of them must not come before the next ones.
            self.is_stopped = !error.is_retryable() || self.file.cut(before).is_err();
            return Err(if self.is_stopped { self.stopped_by(error) } else { error });
        }
        if let Err(error) = self.file.sync() {
            self.is_stopped = true;
            return Err(error);
        }
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
        Ok(())
    }

    /// An error that is not to be tried again.
    fn stopped_by(&self, error: CheckpointError) -> CheckpointError {
        match error {
            CheckpointError::Io { path, source, .. } => CheckpointError::Sync { path, source },
            other => other,
        }
    }
}
