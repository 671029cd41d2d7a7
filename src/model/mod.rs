//! Trained policies: files → weights → scores.

pub mod weights;
