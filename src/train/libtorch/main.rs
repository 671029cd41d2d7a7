//! `eddyline train` (contract, section 8), in a program of its own: the only one that is linked with libtorch.
//!
//! ```text
//! log ─→ Interactions ─→ embeddings (DSSM) ─→ two .npy, two maps ─┐
//!              │                                                  ▼
//!              └──────→ Sessions ──────────→ reinforce, ddpg, bcq ─→ model_*.pt
//! ```
//!
//! One file an algorithm, to be read beside its paper: `embeddings`, `spectral`, `reinforce`, `ddpg`, `bcq`. Around them: what they
//! are fed (`states`, `policies`, `towers`), what they are made of (`network`, `tables`, `adam`), the loop
//! (`trainer`) with its randomness, checkpoints and telling.
//!
//! Invariants:
//! - Only training parts are trained on, embeddings too: no test event, and no item that only tests have.
//! - A training is a function of the log, the tables, the hyper-parameters and the machine's arithmetic. Stopped anywhere and
//!   started again it writes the files that it would have written.
//! - The model directory never looks whole before it is ([`eddyline::model::directory`]).

mod adam;
mod bag;
mod bcq;
mod checkpoint;
mod ddpg;
mod embeddings;
mod error;
mod network;
mod policies;
mod publish;
mod random;
mod reinforce;
mod run;
#[cfg(target_arch = "x86_64")]
mod softmax;
mod spectral;
mod states;
mod tables;
mod tensorboard;
#[cfg(test)]
mod tests;
mod towers;
mod trainer;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    eddyline::cli::main_with(eddyline::cli::Trainer(|plan, progress, stop| {
        run::run(plan, progress, stop).map_err(anyhow::Error::new)
    }))
}
