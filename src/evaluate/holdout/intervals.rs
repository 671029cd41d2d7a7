//! The bootstrap over cases: how the means scatter when the users are drawn anew, with replacement, as many as there are.
//!
//! Resample i depends on (seed, i) alone, so that all methods are measured on the same users in it, whatever the threads: differences
//! between methods are paired.

use super::super::bootstrap::quantile;
use super::super::random::Stream;
use super::super::summary::{CONFIDENCE, Estimate};
use super::scores::METRICS;

type Row = [f64; METRICS];

/// The means over all cases, and over each resample.
#[derive(Clone, Debug)]
pub(super) struct Means {
    pub(super) observed: Row,
    pub(super) resampled: Vec<Row>,
}

impl Means {
    /// Of `scores`, which must not be empty, with `resamples` resamples by up to `threads` threads.
    pub(super) fn new(scores: &[Row], seed: u64, resamples: usize, threads: usize) -> Means {
        let mut resampled = vec![[0.0; METRICS]; resamples];
        let share = resamples.div_ceil(threads.max(1)).max(1);
        std::thread::scope(|scope| {
            for (thread, results) in resampled.chunks_mut(share).enumerate() {
                scope.spawn(move || {
                    for (at, result) in results.iter_mut().enumerate() {
                        let mut stream = Stream::new(seed, (thread * share + at) as u64);
                        let draws = (0..scores.len()).map(|_| &scores[stream.below(scores.len() as u64) as usize]);
                        *result = mean(draws, scores.len());
                    }
                });
            }
        });
        Means { observed: mean(scores.iter(), scores.len()), resampled }
    }

    /// Each mean with its interval.
    pub(super) fn estimates(&self) -> [Estimate; METRICS] {
        std::array::from_fn(|metric| {
            estimate(self.observed[metric], self.resampled.iter().map(|row| row[metric]).collect())
        })
    }

    /// Each mean less that of `other`, paired.
    pub(super) fn less(&self, other: &Means) -> [Estimate; METRICS] {
        std::array::from_fn(|metric| {
            let pairs = self.resampled.iter().zip(&other.resampled);
            let differences = pairs.map(|(a, b)| a[metric] - b[metric]).collect();
            estimate(self.observed[metric] - other.observed[metric], differences)
        })
    }
}

fn mean<'a>(rows: impl Iterator<Item = &'a Row>, count: usize) -> Row {
    let mut sums = [0.0; METRICS];
    for row in rows {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    sums.map(|sum| sum / count as f64)
}

fn estimate(value: f64, mut resampled: Vec<f64>) -> Estimate {
    resampled.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let at = |q| quantile(&resampled, q).unwrap_or(value);
    Estimate { value, low: at(tail), high: at(1.0 - tail) }
}
