//! A scorer that is watched.

use super::metrics::Metrics;
use dataflows::lists::Lists;
use dataflows::recent::Tick;
use dataflows::recommend::{Exclude, Scorer};
use std::sync::Arc;
use std::time::Instant;

/// Counts the users of each batch, and how long it took.
pub(super) struct Measured<S> {
    scorer: S,
    metrics: Arc<Metrics>,
}

impl<S> Measured<S> {
    pub(super) fn new(scorer: S, metrics: Arc<Metrics>) -> Measured<S> {
        Measured { scorer, metrics }
    }
}

impl<S: Scorer> Scorer for Measured<S> {
    fn rank(&mut self, tick: &Tick, rows: &[u32], n: usize, exclude: Exclude, ranked: &mut Lists<()>) {
        let started = Instant::now();
        self.scorer.rank(tick, rows, n, exclude, ranked);
        self.metrics.scored(rows.len(), started.elapsed());
    }
}
