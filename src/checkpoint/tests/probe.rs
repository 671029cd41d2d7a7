//! Sees every file operation; fails one, or all from one on.

use super::super::probe::Step;
use super::disk::Done;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// Behind a directory's file operations.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    seen: Option<Arc<Mutex<Seen>>>,
}

#[derive(Debug, Default)]
struct Seen {
    done: Vec<Done>,
    failure: Option<Failure>,
    /// How many operations came after the failure was set.
    since: usize,
    /// How many failed.
    failed: usize,
}

/// Which operations are to fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// So many are done before.
    pub(crate) after: usize,
    /// Then one fails, or all.
    pub(crate) forever: bool,
    /// The system's number of the error.
    pub(crate) error: i32,
    /// Of a write, so many bytes are written before it fails.
    pub(crate) written: usize,
}

pub(crate) const NO_SPACE: i32 = 28;
pub(crate) const INPUT_OUTPUT: i32 = 5;

impl Probe {
    /// One that sees nothing.
    pub(crate) fn none() -> Probe {
        Probe { seen: None }
    }

    pub(crate) fn new() -> Probe {
        Probe { seen: Some(Arc::default()) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.as_ref().unwrap().lock().unwrap()
    }

    /// Notes that something was acknowledged.
    pub(crate) fn mark(&self, what: Done) {
        self.seen().done.push(what);
    }

    /// What was done so far.
    pub(crate) fn done(&self) -> Vec<Done> {
        self.seen().done.clone()
    }

    /// From now on.
    pub(crate) fn fail(&self, failure: Option<Failure>) {
        let mut seen = self.seen();
        (seen.failure, seen.since, seen.failed) = (failure, 0, 0);
    }

    /// How many operations have failed since a failure was set, and how many came.
    pub(crate) fn failed(&self) -> (usize, usize) {
        let seen = self.seen();
        (seen.failed, seen.since)
    }

    pub(crate) fn step(&self, step: Step<'_>) -> io::Result<()> {
        if self.seen.is_none() {
            return Ok(());
        }
        self.admit()?;
        self.seen().done.push(Done::of(step));
        Ok(())
    }

    pub(crate) fn write(&self, path: &Path, at: u64, bytes: &[u8]) -> Result<usize, (usize, io::Error)> {
        if self.seen.is_none() {
            return Ok(bytes.len());
        }
        let admitted = self.admit();
        let mut seen = self.seen();
        let written = match &admitted {
            Ok(()) => bytes.len(),
            Err(_) => seen.failure.map_or(0, |failure| failure.written).min(bytes.len()),
        };
        seen.done.push(Done::Write(path.to_owned(), at, bytes[..written].to_vec()));
        admitted.map(|()| written).map_err(|error| (written, error))
    }

    fn admit(&self) -> io::Result<()> {
        let mut seen = self.seen();
        let since = seen.since;
        seen.since += 1;
        match seen.failure {
            Some(failure) if since == failure.after || (failure.forever && since > failure.after) => {
                seen.failed += 1;
                Err(io::Error::from_raw_os_error(failure.error))
            }
            _ => Ok(()),
        }
    }
}
