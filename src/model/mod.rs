//! Trained policies: files → weights → scores.

mod kernels;
pub mod philox;
pub mod scorer;
pub mod weights;

pub use kernels::Instructions;
