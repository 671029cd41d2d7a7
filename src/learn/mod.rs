//! Learning from a log: the tables that training and offline evaluation read, and how a user's events become states and
//! rewards (contract, section 8).
//!
//! ```text
//! log ─→ rows ─→ Interactions (columns, by user and time) ─→ Sessions (states, actions, rewards) ─→ training
//!                              └──────────────────────────→ train and test parts ─────────────────→ evaluation
//! ```
//!
//! Invariants:
//! - What is read depends on the rows of the log alone: not on how the file is packed, and not on threads.
//! - Nothing is allocated for an event. A log of E events, U users and I items takes 13·E bytes once it is read, and some
//!   60 bytes a user or item more while it is read.
//! - The split is made here and nowhere else ([`training_len`]), so that training and evaluation cannot differ in it.

pub mod error;
pub mod interactions;
pub mod rows;
pub mod sessions;
pub mod skew;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use error::LearnError;
pub use interactions::{Feature, Interactions, training_len};
pub use rows::{LogFormat, RowCounts};
pub use sessions::{SessionRule, Sessions};
