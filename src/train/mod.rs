//! Training (contract, section 8): what it is told, and what starts it.
//!
//! It is a program of its own, `eddyline-train`, the crate in `libtorch/`: the only one that is linked with libtorch, so that all
//! else runs where there is none. `eddyline train` starts it ([`launch`]); the options are in every build.

pub mod launch;
pub mod options;

pub use options::{Device, Plan, Subject};

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
    /// The history's line of the epoch whose weights are written: with early stopping the best, else the last.
    pub metrics: serde_json::Value,
    /// The policy's content hash.
    pub content_hash: Option<String>,
}
