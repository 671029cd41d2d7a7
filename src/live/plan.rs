//! What a live run is told, resolved.

use crate::config::Config;
use crate::replay::Processes;
use crate::sinks::identity::OtherPipeline;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a live run is to do: everything that the command line and the configuration say.
#[derive(Clone, Debug)]
pub struct LivePlan {
    /// The configuration.
    pub config: Config,
    /// Files to follow instead of Kafka, each a partition; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// Worker threads of this process, at least 1.
    pub workers: usize,
    /// The processes, if there are several.
    pub processes: Option<Processes>,
    /// What becomes of stores and a state that hold the results of another pipeline.
    pub other_pipeline: OtherPipeline,
    /// Whether the log ends where it ends now.
    pub until_end: bool,
    /// Whether to go on where records were deleted before they were read.
    pub accept_loss: bool,
    /// Whether to read the log from its beginning, with the journal's decisions, and not from a snapshot.
    pub from_start: bool,
    /// The log's name, if it is not known by its content.
    pub log_name: Option<String>,
    /// Becomes true when the user wants it to stop.
    pub stop: Arc<AtomicBool>,
}

impl LivePlan {
    /// Whether this is the process that owns state and sinks, or the only one.
    pub fn is_first_process(&self) -> bool {
        self.processes.as_ref().is_none_or(|processes| processes.index == 0)
    }
}
