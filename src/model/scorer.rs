//! The built-in scoring backend: forward passes of the three policies and exact top-k over the whole catalogue.
//!
//! ```text
//! requests ─ gather ─► states ─ layers ─► queries ─┬─ int8 pass over all items ─► candidates ─ exact scores ─┬─► ranked
//!                                                  └─ exact pass over all items, where bounds do not help ───┘
//! ```
//!
//! Invariants:
//! - The bits of a request's answer depend on the weights, the seed and that request alone: not on the other requests of a
//!   batch, the number of threads, or the processor. Every sum is a chain of fused multiply-adds in index order
//!   (see `kernels`); what selects the items worth an exact score works with proven bounds and never shows.
//! - The answer is the exact top-k of those f32 scores; equal scores go to the smaller index, NaN (from weights so large
//!   that an activation overflows) ranks below everything. The padding item is not in the catalogue and never returned.
//! - The matrix of requests × items is never in memory, and a warm [`Scorer`] allocates nothing.

mod first_pass;
mod forward;
mod packed;
mod requests;
#[cfg(test)]
mod tests;

pub use packed::PackedModel;
pub use requests::{Ranked, RequestError, Requests, States};

use super::kernels::{Entry, Matrix, Panel, Selection, exp, ln, rescore, scan};
use first_pass::FirstPass;
use forward::Forward;
use requests::Batch;
use std::ops::Range;
use std::sync::Arc;

/// Requests scored together: their queries and thresholds stay in the second-level cache.
const CHUNK: usize = 256;
/// Entries that the selections of a chunk may hold together; a larger k makes chunks smaller.
const SELECTED_MAX: usize = 1 << 22;

/// Scores batches with a model. Holds scratch memory only, so every thread has its own.
#[derive(Debug)]
pub struct Scorer {
    model: Arc<PackedModel>,
    forward: Forward,
    first_pass: FirstPass,
    exact: ExactPass,
}

/// Scratch memory of the exact pass.
#[derive(Debug, Default)]
struct ExactPass {
    selection: Selection,
    panel: Panel,
    /// The queries that the first pass gave up, and which they are.
    left: Matrix,
    left_queries: Vec<usize>,
}

impl Scorer {
    /// A scorer of `model` without any scratch memory yet.
    pub fn new(model: Arc<PackedModel>) -> Scorer {
        Scorer { model, forward: Forward::default(), first_pass: FirstPass::default(), exact: ExactPass::default() }
    }

    /// The model it scores with.
    pub fn model(&self) -> &Arc<PackedModel> {
        &self.model
    }

    /// The `k` best items of every request (fewer if the catalogue is smaller), into `out`, whose old content goes. With
    /// `exclude_sequence` the items of a request's own sequence are left out.
    pub fn top_k(&mut self, requests: &Requests, k: usize, exclude_sequence: bool, out: &mut Ranked) {
        self.rank(Batch::Sequences { requests, exclude_sequence, noise: None }, k, out);
    }

    /// As [`Self::top_k`], with BCQ's noise given: 2d values a request. Other policies have no noise, and ignore it.
    ///
    /// # Errors
    /// [`RequestError::NoiseLength`] unless there are 2d values for each request.
    pub fn top_k_with_noise(
        &mut self,
        requests: &Requests,
        noise: &[f32],
        k: usize,
        exclude_sequence: bool,
        out: &mut Ranked,
    ) -> Result<(), RequestError> {
        let expected = requests.len() * 2 * self.model.dim();
        if noise.len() != expected {
            return Err(RequestError::NoiseLength { expected, given: noise.len() });
        }
        self.rank(Batch::Sequences { requests, exclude_sequence, noise: Some(noise) }, k, out);
        Ok(())
    }

    /// The `k` best items for every whole state vector.
    pub fn top_k_of_states(&mut self, states: &States, k: usize, out: &mut Ranked) {
        self.rank(Batch::States(states), k, out);
    }

    /// For each request the logarithm of Σ exp(logit) over all count+1 entries (the padding item's too): a REINFORCE
    /// score less this is its log-softmax. Other policies have no logits; their `out` stays empty.
    ///
    /// Meant for a few requests that are to be shown: every logit is computed, one request after the other.
    pub fn log_normalizers(&mut self, requests: &Requests, out: &mut Vec<f64>) {
        out.clear();
        let model = &*self.model;
        let Some(table) = model.logit_table() else { return };
        let mut logits = Vec::with_capacity(table.count());
        for request in 0..requests.len() {
            let batch = Batch::Sequences { requests, exclude_sequence: false, noise: None };
            let queries = self.forward.queries(model, batch, request..request + 1);
            logits.clear();
            logits.extend((0..table.count() as u32).map(|index| Entry { score: 0.0, index }));
            rescore(model.instructions(), table, queries.row(0), &mut logits);
            let largest = logits.iter().map(|logit| logit.score).fold(f32::NEG_INFINITY, f32::max);
            let exponential = |logit: &Entry| exp(f64::from(logit.score) - f64::from(largest));
            out.push(f64::from(largest) + ln(logits.iter().map(exponential).sum()));
        }
    }

    fn rank(&mut self, batch: Batch<'_>, k: usize, out: &mut Ranked) {
        out.clear();
        let k = k.min(self.model.count());
        let chunk = SELECTED_MAX.checked_div(k).map_or(CHUNK, |requests| requests.clamp(1, CHUNK));
        let mut first = 0;
        while first < batch.len() {
            let requests = first..batch.len().min(first + chunk);
            first = requests.end;
            if k == 0 {
                requests.for_each(|_| out.push(&[]));
            } else {
                self.rank_chunk(batch, requests, k, out);
            }
        }
    }

    fn rank_chunk(&mut self, batch: Batch<'_>, requests: Range<usize>, k: usize, out: &mut Ranked) {
        let model = &*self.model;
        let queries = self.forward.queries(model, batch, requests.clone());
        let wanted = |query: usize, item: u32| !batch.excluded(requests.start + query).contains(&item);
        let Some(shadow) = model.shadow().filter(|_| FirstPass::helps(k, model.count())) else {
            self.exact.run(model, queries, k, wanted);
            (0..queries.rows()).for_each(|query| out.push(self.exact.selection.drain_sorted(query)));
            return;
        };
        self.first_pass.run(shadow, queries, k, wanted);
        self.exact.run_left(model, queries, self.first_pass.given_up(), k, wanted);
        let mut left = 0;
        for query in 0..queries.rows() {
            if let Some(candidates) = self.first_pass.candidates(query) {
                rescore(model.instructions(), model.table(), queries.row(query), candidates);
                candidates.sort_unstable_by(|a, b| a.rank(*b));
                out.push(&candidates[..k.min(candidates.len())]);
            } else {
                out.push(self.exact.selection.drain_sorted(left));
                left += 1;
            }
        }
    }
}

impl ExactPass {
    /// Selects the best `k` of all items that `wanted(query, item)` admits, for every query.
    fn run(&mut self, model: &PackedModel, queries: &Matrix, k: usize, wanted: impl Fn(usize, u32) -> bool) {
        self.selection.reset(queries.rows(), k);
        scan(model.instructions(), model.table(), queries, &mut self.panel, &mut self.selection, wanted);
    }

    /// As [`Self::run`] for those queries that `left` names, in that order.
    fn run_left(
        &mut self,
        model: &PackedModel,
        queries: &Matrix,
        left: impl Iterator<Item = usize>,
        k: usize,
        wanted: impl Fn(usize, u32) -> bool,
    ) {
        let mut rows = std::mem::take(&mut self.left_queries);
        rows.clear();
        rows.extend(left);
        if !rows.is_empty() {
            let mut matrix = std::mem::take(&mut self.left);
            matrix.reshape(rows.len(), model.table().depth);
            for (row, &query) in rows.iter().enumerate() {
                matrix.row_mut(row).copy_from_slice(queries.row(query));
            }
            self.run(model, &matrix, k, |row, item| wanted(rows[row], item));
            self.left = matrix;
        }
        self.left_queries = rows;
    }
}
