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
//!   ([`super::kernels`]); what selects the items worth an exact score works with proven bounds and never shows.
//! - The answer is the exact top-k of those f32 scores; equal scores go to the smaller index, NaN (from weights so large
//!   that an activation overflows) ranks below everything. The padding item is not in the catalogue and never returned.
//! - The matrix of requests × items is never in memory, and a warm [`Scorer`] allocates nothing.

mod forward;
mod packed;
mod requests;
#[cfg(test)]
mod tests;

pub use packed::PackedModel;
pub use requests::{Ranked, RequestError, Requests, States};

use super::kernels::{Matrix, Panel, Selection, scan};
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
    selection: Selection,
    panel: Panel,
}

impl Scorer {
    /// A scorer of `model` without any scratch memory yet.
    pub fn new(model: Arc<PackedModel>) -> Scorer {
        Scorer { model, forward: Forward::default(), selection: Selection::default(), panel: Panel::default() }
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

    fn rank(&mut self, batch: Batch<'_>, k: usize, out: &mut Ranked) {
        out.clear();
        let k = k.min(self.model.count());
        let chunk = if k == 0 { CHUNK } else { (SELECTED_MAX / k).clamp(1, CHUNK) };
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
        let queries: &Matrix = self.forward.queries(model, batch, requests.clone());
        self.selection.reset(requests.len(), k);
        let wanted = |query: usize, item: u32| !batch.excluded(requests.start + query).contains(&item);
        scan(model.instructions(), model.table(), queries, &mut self.panel, &mut self.selection, wanted);
        for query in 0..requests.len() {
            out.push(self.selection.drain_sorted(query));
        }
    }
}
