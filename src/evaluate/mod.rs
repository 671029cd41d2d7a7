//! Evaluation: from integer counts to metrics, intervals, a table and a report (contract, section 6, *Evaluation*).
//!
//! ```text
//! dataflows::evaluation::Evaluation ──▶ summarise ──▶ Summary ──▶ JSON (serde), table, report
//!                                        │     │
//!                                    metrics  bootstrap ◀── random
//! ```
//!
//! [`holdout`] measures models against the test part of a log instead, offline.
//!
//! The dataflow counts in integers; here, once, ratios are made of them. A [`Summary`] is a pure function of the counts and
//! the seed: no clock, and the same bits whatever the number of threads. What each number means is in `docs/evaluation.md`.

mod bootstrap;
mod format;
pub mod holdout;
mod metrics;
mod random;
pub mod report;
#[cfg(test)]
mod sample;
mod summary;
mod table;

pub use metrics::{Scores, Sets, Sums, coverage, novelty_bits};
pub use summary::{Difference, Estimate, Intervals, MethodSummary, Summary, summarise};
pub use table::{Style, table};

/// The seed that is used where the caller has no reason for another one.
pub const DEFAULT_SEED: u64 = 1;
