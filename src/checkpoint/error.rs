//! What can go wrong with a state directory.

use super::names::COPY_OF;
use crate::journal::JournalError;
use crate::sinks::disk;
use std::io;
use std::path::{Path, PathBuf};

/// Why a state directory can't be opened, or written on.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Something else has its name.
    #[error("cannot keep state in {}: it is not a directory; name a directory, or one to be made", .0.display())]
    NotADirectory(PathBuf),
    /// There are files in it that no run has put there.
    #[error(
        "cannot keep state in {}: there are files in it, and it is no state directory; name an empty directory, or one to be \
         made",
        .0.display()
    )]
    NotAStateDirectory(PathBuf),
    /// Another process holds its lock.
    #[error("another run ({holder}) uses {}; wait for it, or name another state directory", path.display())]
    InUse {
        /// The state directory.
        path: PathBuf,
        /// `pid N on host H`, as far as it is known.
        holder: String,
    },
    /// It holds the state of a pipeline with another fingerprint.
    #[error(
        "{} holds the state of another pipeline ({difference}); run with --new-generation to begin anew beside it, or with \
         --purge to delete it first, or name another state directory",
        path.display()
    )]
    OtherPipeline {
        /// The state directory.
        path: PathBuf,
        /// In what the two pipelines differ.
        difference: String,
    },
    /// A purge has made the state anew, and may not have reached all stores.
    #[error("a run with --purge on {} was stopped before all stores were purged: run it once more with --purge", .0.display())]
    PurgeInterrupted(PathBuf),
    /// A file was written by a program that came after this one.
    #[error(
        "{} has format {found}, and this program knows formats up to {known}: use the program that wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The file that says whose state it is can't be believed.
    #[error("{} is damaged ({reason}); put back a copy of it, or run with --purge to begin anew from the logs", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The journal can't be believed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A snapshot knows of decisions that the journal lacks.
    #[error(
        "the journal {} does not go with the snapshot {}: {reason}; put back the whole journal, or run with --purge to begin \
         anew from the logs",
        journal.display(),
        manifest.display()
    )]
    JournalMismatch {
        /// The journal.
        journal: PathBuf,
        /// The snapshot's manifest.
        manifest: PathBuf,
        /// In what they differ.
        reason: String,
    },
    /// There were snapshots, and none of them can be believed.
    #[error(
        "no snapshot in {} is whole ({}); put back a copy of the directory, or run with --from-start, which reads the log again",
        path.display(),
        reasons(skipped)
    )]
    NoWholeSnapshot {
        /// The directory.
        path: PathBuf,
        /// Each file, and what is wrong with it.
        skipped: Vec<Skipped>,
    },
    /// A chunk turned out to be damaged while it was read.
    #[error("the snapshot's file {} is damaged ({reason}); run again, which goes back to an older snapshot", path.display())]
    Chunk {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The operating system said no.
    #[error("cannot {action} {}: {}", path.display(), disk::reason(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// What was written did not reach the disk. Never to be tried again: what is there is not known, and the system may say
    /// yes next time without having written it.
    #[error("{} did not reach the disk ({}); check the disk, then run again", path.display(), disk::reason(source))]
    Sync {
        /// The file or directory.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// A thread of the operating system could not be started.
    #[error("cannot start a thread for the state: {0}")]
    Thread(#[source] io::Error),
    /// What is set for the object store can't be.
    #[error("cannot keep state in {url}: {reason}")]
    RemoteSettings {
        /// The address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// An object store could not be asked, or said no.
    #[error("cannot {action} {object}: {reason}")]
    Remote {
        /// What was tried.
        action: &'static str,
        /// On what.
        object: String,
        /// What came back.
        reason: String,
    },
    /// What an object store holds can't be believed.
    #[error(
        "{object} is damaged ({reason}); put back an earlier version of it, or name another place with state.remote"
    )]
    RemoteDamaged {
        /// The object.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// A run that began later writes the state now.
    #[error("another run has taken over the state in {url}: one run at a time can use it")]
    Superseded {
        /// The address.
        url: String,
    },
    /// A directory has state of its own, and the object store too.
    #[error(
        "{} holds state, and is no copy of {url}, which holds some too: name another directory with state.dir, or another \
         place with state.remote",
        path.display()
    )]
    NoCopy {
        /// The state directory.
        path: PathBuf,
        /// The address.
        url: String,
    },
    /// A directory is the copy of another place.
    #[error("{} is a copy of {theirs}, and not of {ours}: name another directory with state.dir", path.display())]
    CopyOfAnother {
        /// The state directory.
        path: PathBuf,
        /// What it is a copy of.
        theirs: String,
        /// What it should be a copy of.
        ours: String,
    },
    /// A directory is a copy, and nothing is said of what.
    #[error(
        "{} is a copy of {url}, which would not get what a run does: set state.remote, or delete the file {}",
        path.display(),
        path.join(COPY_OF).display()
    )]
    Copy {
        /// The state directory.
        path: PathBuf,
        /// What it is a copy of.
        url: String,
    },
    /// A decision that can't have been made.
    #[error("cannot journal a decision: {0}")]
    Decision(String),
    /// A snapshot that is older than the one before it.
    #[error("cannot publish a snapshot at {frontier}, since there is one at {newest}")]
    Backwards {
        /// Its frontier, ms.
        frontier: u64,
        /// The newest one's, ms.
        newest: u64,
    },
    /// The error itself has been handed out before.
    #[error("{} is no longer written, since an earlier error stopped it", .0.display())]
    Stopped(PathBuf),
}

/// A file that was passed over, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file: a manifest.
    pub file: PathBuf,
    /// What is wrong with it, or with a file that it names.
    pub reason: String,
}

fn reasons(skipped: &[Skipped]) -> String {
    let name = |skipped: &Skipped| skipped.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let reasons: Vec<String> = skipped.iter().map(|skipped| format!("{}: {}", name(skipped), skipped.reason)).collect();
    reasons.join("; ")
}

impl CheckpointError {
    /// Whether the same call may succeed later, with nothing changed but the state of the machine.
    pub fn is_retryable(&self) -> bool {
        match self {
            CheckpointError::InUse { .. } | CheckpointError::Thread(_) | CheckpointError::Remote { .. } => true,
            CheckpointError::Io { source, .. } => disk::is_retryable(source),
            CheckpointError::Journal(error) => error.is_retryable(),
            _ => false,
        }
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
        move |source| CheckpointError::Io { action, path: path.to_owned(), source }
    }
}
