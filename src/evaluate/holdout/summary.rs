//! The result: every metric of every method with its interval, and the differences between models and baselines.

use serde::Serialize;

use super::super::summary::{CONFIDENCE, Estimate, Intervals, RESAMPLES};
use super::Settings;
use super::intervals::Means;
use super::rankings::{Case, Holds};
use super::scores::{METRICS, Scores};
use crate::learn::Interactions;

/// The whole result; serialised, it is the `evaluation` object of `--json`, whose keys are stable (`docs/evaluate.md`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Length of the lists.
    pub k: usize,
    /// Users with a test part: the cases.
    pub users: u64,
    /// Users without one.
    pub users_without_test: u64,
    /// Items of the training parts.
    pub catalogue: u64,
    /// Training events.
    pub train_events: u64,
    /// Test events.
    pub test_events: u64,
    /// Test events whose item is not in the catalogue, which no method can hit.
    pub test_events_outside: u64,
    /// How the intervals were made.
    pub intervals: Intervals,
    /// Models first, then the baselines. Empty without cases.
    pub methods: Vec<MethodSummary>,
    /// Each model less each baseline.
    pub differences: Vec<Difference>,
}

/// One method's result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MethodSummary {
    /// Its name.
    pub method: String,
    /// Whether it is one of [`super::BASELINES`].
    pub baseline: bool,
    /// Means over the cases; an empty list earns nothing.
    #[serde(flatten)]
    pub scores: Scores<Estimate>,
    /// Cases for which it had no list: a model that does not know the user.
    pub users_without_list: u64,
    /// Items on lists, with repeats.
    pub items: u64,
    /// Different items of the catalogue on lists.
    pub distinct_items: u64,
    /// These, as a share of the catalogue.
    pub coverage: f64,
    /// Mean −log2 of the share of the training events of an item on a list, in bits.
    pub novelty_bits: Option<f64>,
}

/// A model less a baseline, paired: in each resample both are measured on the same users.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The model's name.
    pub method: String,
    /// The baseline's.
    pub baseline: String,
    /// Of the means.
    #[serde(flatten)]
    pub scores: Scores<Estimate>,
}

/// One method, measured.
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) is_baseline: bool,
    pub(super) scores: Vec<[f64; METRICS]>,
    pub(super) lists: Holds,
}

pub(super) fn summarise(
    log: &Interactions,
    cases: &[Case],
    measured: &[Measured],
    settings: &Settings,
    threads: usize,
) -> Summary {
    let train_events: usize = (0..log.users.len()).map(|user| log.train(user).len()).sum();
    let outside = |row: usize| log.item[row] as usize >= log.catalogue;
    let test_rows = || cases.iter().flat_map(|case| log.test(case.user));
    let resamples = if cases.is_empty() { 0 } else { RESAMPLES };
    let mut summary = Summary {
        k: settings.k,
        users: cases.len() as u64,
        users_without_test: (log.users.len() - cases.len()) as u64,
        catalogue: log.catalogue as u64,
        train_events: train_events as u64,
        test_events: test_rows().count() as u64,
        test_events_outside: test_rows().filter(|&row| outside(row)).count() as u64,
        intervals: Intervals { confidence: CONFIDENCE, resamples, seed: settings.seed },
        methods: Vec::new(),
        differences: Vec::new(),
    };
    if cases.is_empty() {
        return summary;
    }
    let means: Vec<Means> =
        measured.iter().map(|method| Means::new(&method.scores, settings.seed, RESAMPLES, threads)).collect();
    summary.methods = measured.iter().zip(&means).map(|(method, means)| of_method(log, method, means)).collect();
    for (model, of_model) in measured.iter().zip(&means).filter(|(method, _)| !method.is_baseline) {
        for (baseline, of_baseline) in measured.iter().zip(&means).filter(|(method, _)| method.is_baseline) {
            summary.differences.push(Difference {
                method: model.name.clone(),
                baseline: baseline.name.clone(),
                scores: Scores::from_array(of_model.less(of_baseline)),
            });
        }
    }
    summary
}

fn of_method(log: &Interactions, method: &Measured, means: &Means) -> MethodSummary {
    let Holds { cases_without_list, items, distinct_items, novelty_bits } = method.lists;
    MethodSummary {
        method: method.name.clone(),
        baseline: method.is_baseline,
        scores: Scores::from_array(means.estimates()),
        users_without_list: cases_without_list,
        items,
        distinct_items,
        coverage: distinct_items as f64 / log.catalogue as f64,
        novelty_bits,
    }
}
