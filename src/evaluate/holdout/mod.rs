//! Hold-out evaluation: what users did after the events that a model learned from, against what it would have shown them
//! (contract, section 8, *evaluate*).
//!
//! ```text
//! Interactions ─→ Cases (user, history, test part) ─→ model, baselines ─→ Rankings ─→ scores ─→ means, intervals ─→ Summary
//! ```
//!
//! A **case** is a user with a test part: asked once, at the end of the training part, for the best k items of the whole
//! catalogue. What each number means is in `docs/evaluate.md`. A [`Summary`] is a pure function of log, models and settings:
//! no clock, and the same bits whatever the number of threads.

mod baselines;
mod history;
mod intervals;
mod knn;
mod lists;
mod rankings;
mod scores;
mod summary;
mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use history::{Curve, HistoryError, read_histories};
pub use lists::{List, Lists};
pub use rankings::Known;
pub use scores::{AllItems, METRIC_NAMES, NextItem, Scores};
pub use summary::{Difference, MethodSummary, Summary};
pub use table::table;

use std::num::NonZero;
use std::sync::Arc;

use super::DEFAULT_SEED;
use crate::learn::Interactions;
use crate::model::rank::Model;
use baselines::{popularity, random, recent_popularity};
use knn::item_knn;
use rankings::{Case, Rankings, cases, rank_by_model};
use scores::score;
use summary::{Measured, summarise};

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Length of the lists, at least 1.
    pub k: usize,
    /// Items of a history: H.
    pub history: usize,
    /// Whether the items of the history are left out of all lists.
    pub exclude_history: bool,
    /// The weight of each behaviour.
    pub rewards: Vec<i64>,
    /// The length of the window of recent popularity, in milliseconds.
    pub recent_window_ms: i64,
    /// The most similar items that item-kNN keeps of each item.
    pub neighbours: usize,
    /// Of the random policy, and of the resamples.
    pub seed: u64,
    /// Whether the lists are kept, 4 bytes an item for each method.
    pub keeps_lists: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            k: 10,
            history: 10,
            exclude_history: false,
            rewards: vec![1, 2, 2, 3],
            recent_window_ms: 86_400_000,
            neighbours: 100,
            seed: DEFAULT_SEED,
            keeps_lists: false,
        }
    }
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// How the methods do.
    pub summary: Summary,
    /// What they showed, in the order of the summary, if it is kept ([`Settings::keeps_lists`]).
    pub lists: Vec<Lists>,
}

/// A policy to be measured.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What it is called in tables.
    pub name: String,
    /// Its model.
    pub model: Arc<Model>,
}

/// The baselines, in the order of the tables.
pub const BASELINES: [&str; 4] = ["popularity", "recent popularity", "item-kNN", "random"];

/// Measures the candidates and the baselines.
///
/// Uses all of the machine's threads.
pub fn evaluate(log: &Interactions, candidates: &[Candidate], settings: &Settings) -> Evaluation {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    evaluate_on(log, candidates, settings, threads)
}

fn evaluate_on(log: &Interactions, candidates: &[Candidate], settings: &Settings, threads: usize) -> Evaluation {
    let cases: Arc<[Case]> = cases(log).into();
    let mut measured: Vec<Measured> = Vec::new();
    let mut lists: Vec<Lists> = Vec::new();
    let mut measure = |name: &str, model: Option<&Arc<Model>>, rankings: Rankings| {
        measured.push(Measured {
            name: name.to_owned(),
            is_baseline: model.is_none(),
            scores: score(log, &cases, &rankings, settings, threads),
            lists: rankings.holds(log),
        });
        if settings.keeps_lists {
            lists.push(Lists::new(name, &cases, settings, model, rankings));
        }
    };
    for Candidate { name, model } in candidates {
        measure(name, Some(model), rank_by_model(log, &cases, model, settings, threads));
    }
    measure(BASELINES[0], None, popularity(log, &cases, settings));
    measure(BASELINES[1], None, recent_popularity(log, &cases, settings));
    measure(BASELINES[2], None, item_knn(log, &cases, settings, threads));
    measure(BASELINES[3], None, random(log, &cases, settings));
    Evaluation { summary: summarise(log, &cases, &measured, settings, threads), lists }
}
