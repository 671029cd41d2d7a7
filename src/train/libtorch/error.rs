//! What can stop a training. Every message is one line that says what to do.

use std::io;
use std::path::{Path, PathBuf};

use eddyline::learn::LearnError;
use eddyline::model::error::ModelError;
use eddyline::model::maps::MapError;
use eddyline::train::options::{Device, Subject};

/// Why a training stopped, or did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrainError {
    /// The log.
    #[error(transparent)]
    Data(#[from] LearnError),
    /// The model directory.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The ids of the log do not make a map.
    #[error("the log's ids cannot be a model's: {0}")]
    Map(#[from] MapError),
    /// A file of the training's own.
    #[error("{}: cannot {action}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's words.
        reason: io::Error,
    },
    /// Too little to learn from.
    #[error("{}: {what}", data.display())]
    TooLittle {
        /// The log.
        data: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The GPU is not there.
    #[error("--device {device}: {reason}; use --device cpu, or a machine and a PyTorch with CUDA")]
    Device {
        /// Which was asked for.
        device: Device,
        /// What there is instead.
        reason: String,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] tch::TchError),
    /// The loss is no number.
    #[error(
        "{subject}: {name} is {value} at epoch {epoch}, batch {batch}, and nothing was written; a smaller --lr than {lr} may \
         help{}", before(kept.as_deref())
    )]
    NotFinite {
        /// What is trained.
        subject: Subject,
        /// Which loss.
        name: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// From 1.
        epoch: u32,
        /// From 1.
        batch: u64,
        /// The step size.
        lr: f64,
        /// The checkpoint of before, if there is one.
        kept: Option<PathBuf>,
    },
    /// A weight is no number though the losses were.
    #[error("{subject}: \"{key}\" has a value that is no finite number after the last step; a smaller --lr may help")]
    Diverged {
        /// What is trained.
        subject: Subject,
        /// The tensor.
        key: String,
    },
    /// A checkpoint of another run.
    #[error("{}: a checkpoint of a run with {difference}; give the same, or --restart to begin anew", path.display())]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// What differs, and how it was there.
        difference: String,
    },
    /// A checkpoint that can't be read.
    #[error("{}: not a checkpoint of this program ({reason}); --restart begins anew", path.display())]
    BadCheckpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The embeddings are there, and policies that were trained on them.
    #[error(
        "{}: it has {policies}, trained on the embeddings that are there now; use another directory, or --restart to replace \
         the embeddings and remove these", dir.display()
    )]
    WouldOrphan {
        /// The directory.
        dir: PathBuf,
        /// `model_ddpg.pt`, ….
        policies: String,
    },
    /// A policy without tables to start from.
    #[error("{}: no embeddings; run first: eddyline train embeddings {} --model-dir {}", dir.display(), data.display(), dir.display())]
    NoEmbeddings {
        /// The directory.
        dir: PathBuf,
        /// The log.
        data: PathBuf,
    },
    /// Tables of another log.
    #[error(
        "{}: its {what} are not those of {}; the embeddings must be trained on the same log: run train embeddings again, or \
         name the log that they are of", dir.display(), data.display()
    )]
    OtherData {
        /// The directory.
        dir: PathBuf,
        /// Users or items.
        what: &'static str,
        /// The log.
        data: PathBuf,
    },
    /// Two trainings of a kind at once.
    #[error("{}: another train {subject} is at work in it; wait until it is done, or use another directory", dir.display())]
    Busy {
        /// The directory.
        dir: PathBuf,
        /// What is trained.
        subject: Subject,
    },
    /// Told to stop.
    #[error("stopped at epoch {epoch}, batch {batch}, with a checkpoint; the same command goes on from there")]
    Stopped {
        /// From 1.
        epoch: u32,
        /// Batches of it that are done.
        batch: u64,
    },
    /// Told to stop where there is nothing to go on from.
    #[error("stopped, and nothing was written; the same command begins anew")]
    Interrupted,
    /// The thread that fills batches is gone.
    #[error("the thread that prepares batches has stopped")]
    Loader,
}

impl TrainError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> TrainError {
        let path = path.to_owned();
        move |reason| TrainError::Io { path, action, reason }
    }
}

/// What to add of a checkpoint, if there is one.
fn before(checkpoint: Option<&Path>) -> String {
    checkpoint.map_or_else(String::new, |path| format!("; {} is from before", path.display()))
}

/// libtorch's messages go on with the C++ call stack.
fn first_line(error: &tch::TchError) -> String {
    let text = match error {
        tch::TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}
