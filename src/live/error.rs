//! What can end a live run before its time.

use crate::checkpoint::CheckpointError;
use crate::cluster::{ClusterError, ExecuteError};
use crate::config::ConfigError;
use crate::model::error::ModelError;
use crate::serve::ServeError;
use crate::sinks::SinkError;
use crate::sources::FormatError;
use crate::sources::live::LiveError as SourceError;
use dataflows::event::Time;

/// Why a live run has ended. Whatever it is, the next run goes on from the newest snapshot and completes all results.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The input.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// How records are to be read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The model directory.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model does not go with the configuration, or the configuration names no place for results.
    #[error("{0}")]
    Configuration(#[source] ConfigError),
    /// The journal, or a snapshot.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A store.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// HTTP.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The processes do not come together, or one of them is lost.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A thread of the operating system could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// Partitions have gone, so that this is another log.
    #[error("the log has {found} partitions, but this run has read {known} of it: it is not the same log any more")]
    PartitionsGone {
        /// How many there are.
        found: usize,
        /// How many there were.
        known: usize,
    },
    /// A run has taken the log's end for the end of all.
    #[error(
        "{sink} holds the results of the whole log, which a run with --until-end took for ended: a log that goes on needs \
         new results (--purge)"
    )]
    HasEnded {
        /// The store.
        sink: &'static str,
    },
    /// A partition has come since a run has taken the log's end for the end of all.
    #[error(
        "the log has {partitions} partitions, but had {known} when a run with --until-end took it for ended: a log that goes on \
         needs new results (--purge)"
    )]
    HasGrown {
        /// How many there are.
        partitions: usize,
        /// How many there were.
        known: usize,
    },
    /// Its thread has told the reason before, or has panicked.
    #[error("the journal is no longer written, since an earlier error stopped it")]
    JournalStopped,
    /// Its thread has told the reason before, or has panicked.
    #[error("snapshots are no longer written, since an earlier error stopped them")]
    SnapshotsStopped,
    /// A signal came before there was anything to stop.
    #[error("stopped before the run had begun")]
    StoppedAtTheStart,
    /// A signal came while the last results were on their way.
    #[error("stopped while the last results were written; run it again to complete them")]
    StoppedAtTheEnd,
}

impl RunError {
    /// Whether the same run, started again with nothing changed, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            RunError::Source(error) => error.is_retryable(),
            RunError::Checkpoint(error) => error.is_retryable(),
            RunError::Sink(error) => error.is_retryable(),
            RunError::Cluster(_) | RunError::Thread(_) | RunError::StoppedAtTheEnd => true,
            _ => false,
        }
    }
}

impl From<ExecuteError<RunError>> for RunError {
    fn from(error: ExecuteError<RunError>) -> RunError {
        match error {
            ExecuteError::Cluster(error) => RunError::Cluster(error),
            ExecuteError::Work(error) => error,
        }
    }
}

/// A time for people.
pub(super) fn shown(time: Time) -> String {
    let ms = i64::try_from(time).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| time.to_string(), |timestamp| timestamp.to_string())
}
