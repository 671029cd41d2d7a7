//! Trained policies: files → weights → scores.

pub mod algorithm;
pub mod directory;
pub mod error;
mod kernels;
pub mod layers;
pub mod maps;
pub mod npy;
pub mod philox;
pub mod pickle;
pub mod rank;
pub mod scorer;
pub mod state_dict;
pub mod weights;

pub use kernels::Instructions;
