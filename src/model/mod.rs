//! Trained policies: files → weights → scores.

pub mod algorithm;
pub mod directory;
pub mod error;
pub mod layers;
pub mod maps;
pub mod npy;
pub mod pickle;
pub mod state_dict;
pub mod weights;
