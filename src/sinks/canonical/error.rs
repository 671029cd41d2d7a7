//! What can go wrong with the canonical files.

use crate::sinks::disk;
use std::io;
use std::path::{Path, PathBuf};

/// Why the canonical files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// `--out` names something that is no directory.
    #[error("cannot write results to {}: it is not a directory; name a directory, or one to be made", .0.display())]
    NotADirectory(PathBuf),
    /// Another process holds the directory's lock.
    #[error("cannot write results to {}: another run is writing there; wait for it, or name another directory", .0.display())]
    Busy(PathBuf),
    /// The operating system said no.
    #[error("cannot {action} {}: {}", .path.display(), disk::reason(.source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
}

impl CanonicalError {
    /// Whether the same run, started again later, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            CanonicalError::NotADirectory(_) => false,
            CanonicalError::Busy(_) => true,
            CanonicalError::Io { source, .. } => disk::is_retryable(source),
        }
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CanonicalError {
        move |source| CanonicalError::Io { action, path: path.to_owned(), source }
    }
}
