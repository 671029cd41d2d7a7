//! Replaying a log of files through the pipeline.

use crate::config::Config;
use crate::progress::Progress;
use dataflows::event::Time;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The most worker threads that a process may have.
pub const WORKERS_MAX: usize = 1024;

/// What a replay is to do: everything that the command line and the configuration say, resolved.
#[derive(Debug)]
pub struct ReplayPlan {
    /// The configuration.
    pub config: Config,
    /// The log's files in the order of their partitions; `-` is standard input, at most once. Nothing was opened yet.
    pub files: Vec<PathBuf>,
    /// Worker threads of this process: 1 ..= [`WORKERS_MAX`].
    pub workers: usize,
    /// The processes, if there are several.
    pub cluster: Option<Cluster>,
    /// The embedded store.
    pub store: Option<PathBuf>,
    /// What becomes of a store that holds the results of another pipeline.
    pub other_pipeline: OtherPipeline,
    /// The directory of the canonical files.
    pub out: Option<PathBuf>,
    /// Whether to evaluate.
    pub evaluate: bool,
    /// The evaluation's report, HTML; only with `evaluate`.
    pub report: Option<PathBuf>,
    /// Whether the first rejected record is an error.
    pub strict: bool,
    /// The frontier at which to stop: a multiple of the tick.
    pub until: Option<Time>,
    /// The journal of the live run to repeat.
    pub journal: Option<PathBuf>,
    /// The log's name, if it is not known by its content.
    pub log_name: Option<String>,
    /// Whether the summary is JSON instead of a table.
    pub json: bool,
    /// Where to show how far it is.
    pub progress: Progress,
    /// Becomes true when the user wants it to stop.
    pub stop: Arc<AtomicBool>,
}

/// Several processes, of which this is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Which one: an index into `addresses`.
    pub index: usize,
    /// `host:port` of each, at least two.
    pub addresses: Vec<String>,
}

/// What becomes of a store that holds the results of another pipeline (contract, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherPipeline {
    /// The run is refused.
    Refuse,
    /// They are deleted.
    Purge,
    /// They stand until the new ones are complete, and then are switched.
    NewGeneration,
}

/// Why a replay failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The pipeline is not part of this build.
    #[error("not wired yet")]
    NotWired,
}

/// Replays the log.
///
/// # Errors
/// Always, so far.
pub fn run(plan: &ReplayPlan) -> Result<(), ReplayError> {
    let _ = plan;
    Err(ReplayError::NotWired)
}
