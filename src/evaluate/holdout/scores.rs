//! What a list earns from a user's test part.

use serde::Serialize;

use super::super::metrics::{gain, reciprocal};
use super::Settings;
use super::rankings::{Case, Rankings};
use crate::learn::Interactions;

/// One number for each metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Scores<T> {
    /// Against the item of the first test event.
    pub next_item: NextItem<T>,
    /// Against the different items of all test events.
    pub all_items: AllItems<T>,
    /// The sum of the behaviour weights of the test events whose item is on the list.
    pub reward: T,
}

/// Metrics with one relevant item, that of the first test event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct NextItem<T> {
    /// 1 if it is on the list; also its recall.
    pub hit_rate: T,
    /// 1/log2(rank + 1).
    pub ndcg: T,
    /// 1/rank.
    pub mrr: T,
}

/// Metrics with a set R of relevant items: all different items of the test part, those outside the catalogue too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct AllItems<T> {
    /// 1 if any of R is on the list.
    pub hit_rate: T,
    /// The sum of 1/log2(rank + 1) over those on the list, divided by that of the best possible list: min(k, |R|) hits at the top.
    pub ndcg: T,
    /// 1/rank of the first of R on the list.
    pub mrr: T,
    /// The share of R on the list.
    pub recall: T,
}

/// How many metrics [`Scores`] holds.
pub(super) const METRICS: usize = 8;

/// The metrics' names, in the order of [`Scores::into_array`].
pub const METRIC_NAMES: [&str; METRICS] = [
    "next-item hit rate",
    "next-item NDCG",
    "next-item MRR",
    "all-item hit rate",
    "all-item NDCG",
    "all-item MRR",
    "all-item recall",
    "reward",
];

impl<T> Scores<T> {
    /// The metrics in the order of [`METRIC_NAMES`].
    pub fn into_array(self) -> [T; METRICS] {
        let Scores { next_item: next, all_items: all, reward } = self;
        [next.hit_rate, next.ndcg, next.mrr, all.hit_rate, all.ndcg, all.mrr, all.recall, reward]
    }

    /// The inverse of [`Self::into_array`].
    pub fn from_array(
        [hit_rate, ndcg, mrr, all_hit_rate, all_ndcg, all_mrr, recall, reward]: [T; METRICS],
    ) -> Scores<T> {
        Scores {
            next_item: NextItem { hit_rate, ndcg, mrr },
            all_items: AllItems { hit_rate: all_hit_rate, ndcg: all_ndcg, mrr: all_mrr, recall },
            reward,
        }
    }
}

/// The metrics of each case.
pub(super) fn score(
    log: &Interactions,
    cases: &[Case],
    rankings: &Rankings,
    settings: &Settings,
    threads: usize,
) -> Vec<[f64; METRICS]> {
    let mut scores = vec![[0.0; METRICS]; cases.len()];
    let share = cases.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        for (part, scores) in scores.chunks_mut(share).enumerate() {
            scope.spawn(move || {
                let mut relevant = Vec::new();
                for (at, score) in scores.iter_mut().enumerate() {
                    let case = part * share + at;
                    *score = score_case(log, cases[case], rankings.list(case), settings, &mut relevant).into_array();
                }
            });
        }
    });
    scores
}

/// `relevant` is scratch memory.
fn score_case(
    log: &Interactions,
    case: Case,
    list: &[u32],
    settings: &Settings,
    relevant: &mut Vec<u32>,
) -> Scores<f64> {
    let test = log.test(case.user);
    let next = log.item[test.start];
    let mut scores = Scores::default();
    if let Some(rank) = list.iter().position(|&item| item == next) {
        scores.next_item = NextItem { hit_rate: 1.0, ndcg: gain(rank), mrr: reciprocal(rank) };
    }
    for row in test.clone() {
        if list.contains(&log.item[row]) {
            scores.reward += settings.rewards[usize::from(log.behavior[row])] as f64;
        }
    }
    relevant.clear();
    relevant.extend_from_slice(&log.item[test]);
    relevant.sort_unstable();
    relevant.dedup();
    let (mut gained, mut hits) = (0.0, 0);
    for (rank, item) in list.iter().enumerate() {
        if relevant.binary_search(item).is_ok() {
            if hits == 0 {
                scores.all_items.mrr = reciprocal(rank);
            }
            hits += 1;
            gained += gain(rank);
        }
    }
    let ideal: f64 = (0..settings.k.min(relevant.len())).map(gain).sum();
    scores.all_items.hit_rate = f64::from(u8::from(hits > 0));
    scores.all_items.ndcg = gained / ideal;
    scores.all_items.recall = f64::from(hits) / relevant.len() as f64;
    scores
}
