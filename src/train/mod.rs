//! Training on libtorch (contract, section 8): a log → tables of users and items → policies over them.
//!
//! ```text
//! log ─→ Interactions ─→ embeddings (DSSM) ─→ two .npy, two maps ─┐
//!              │                                                  ▼
//!              └──────→ Sessions ──────────→ reinforce, ddpg, bcq ─→ model_*.pt
//! ```
//!
//! One file an algorithm, to be read beside its paper: `embeddings`, `reinforce`, `ddpg`, `bcq`. Around them: what they
//! are fed (`states`, `policies`, `towers`), what they are made of (`network`, `tables`, `adam`), the loop
//! (`trainer`) with its randomness, checkpoints and telling.
//!
//! Only the feature `train` builds all this, into the program `eddyline-train`, which alone is linked with libtorch;
//! `eddyline train` starts it ([`launch`]). The options and what starts the program are in every build.
//!
//! Invariants:
//! - Only training parts are trained on, embeddings too: no test event, and no item that only tests have.
//! - A training is a function of the log, the tables, the hyper-parameters and the machine's arithmetic. Stopped anywhere and
//!   started again it writes the files that it would have written.
//! - The model directory never looks whole before it is ([`crate::model::directory`]).

pub mod launch;
pub mod options;

#[cfg(feature = "train")]
mod adam;
#[cfg(feature = "train")]
mod bcq;
#[cfg(feature = "train")]
mod checkpoint;
#[cfg(feature = "train")]
mod ddpg;
#[cfg(feature = "train")]
mod embeddings;
#[cfg(feature = "train")]
pub mod error;
#[cfg(feature = "train")]
mod network;
#[cfg(feature = "train")]
mod policies;
#[cfg(feature = "train")]
mod publish;
#[cfg(feature = "train")]
pub mod random;
#[cfg(feature = "train")]
mod reinforce;
#[cfg(feature = "train")]
mod run;
#[cfg(feature = "train")]
mod states;
#[cfg(feature = "train")]
mod tables;
#[cfg(feature = "train")]
pub mod tensorboard;
#[cfg(all(test, feature = "train"))]
mod tests;
#[cfg(feature = "train")]
mod towers;
#[cfg(feature = "train")]
mod trainer;

#[cfg(feature = "train")]
pub use error::TrainError;
pub use options::{Device, Plan, Subject};
#[cfg(feature = "train")]
pub use run::run;

use serde::Serialize;

/// What a training did.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// `embeddings`, `reinforce`, `ddpg` or `bcq`.
    pub subject: &'static str,
    /// The model directory.
    pub dir: String,
    /// Epochs that are done, those of earlier runs too.
    pub epochs: u32,
    /// Whether it stopped before the last epoch, as the metric on the held-out samples got no better.
    pub stopped_early: bool,
    /// Batches of this run.
    pub batches: u64,
    /// Samples of this run.
    pub samples: u64,
    /// Seconds of this run's batches.
    pub elapsed_s: f64,
    /// Samples a second in them.
    pub samples_per_s: f64,
    /// The last epoch's line of the history.
    pub last: serde_json::Value,
    /// The policy's content hash.
    pub content_hash: Option<String>,
}
