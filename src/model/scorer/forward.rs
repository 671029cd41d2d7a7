//! From requests to query vectors: what each policy multiplies every item's row with.

use super::packed::{Layers, PackedModel};
use super::requests::Batch;
use crate::model::kernels::{Activation, Instructions, Matrix, Panels, dense, tanh};
use crate::model::philox::fill_clamped_normal;
use std::ops::Range;

/// How far BCQ's perturbation reaches.
const PERTURBATION: f32 = 0.05;

/// The activations of a batch, kept between batches.
#[derive(Debug, Default)]
pub(super) struct Forward {
    /// s, with room behind it for z and g.
    states: Matrix,
    hidden: [Matrix; 2],
    generated: Matrix,
    queries: Matrix,
}

impl Forward {
    /// The query vectors of `requests`, one a row.
    pub(super) fn queries(&mut self, model: &PackedModel, batch: Batch<'_>, requests: Range<usize>) -> &Matrix {
        assert!(batch.fits(model), "a batch is scored by the model it was made for");
        let instructions = model.instructions();
        let state = model.state_len();
        let width = if matches!(model.layers(), Layers::Bcq { .. }) { state + 2 * model.dim() } else { state };
        self.states.reshape(requests.len(), width);
        for (row, request) in requests.clone().enumerate() {
            batch.write_state(model, request, &mut self.states.row_mut(row)[..state]);
        }
        let Forward { states, hidden, generated, queries } = self;
        match model.layers() {
            Layers::Ddpg { fc } => perceptron(instructions, fc, states, hidden, queries),
            Layers::Reinforce { pfc, .. } => {
                dense(instructions, &pfc[0], states, Activation::Relu, &mut hidden[0]);
                dense(instructions, &pfc[1], &hidden[0], Activation::Relu, queries);
            }
            Layers::Bcq { decoder, perturbator } => {
                write_noise(model, batch, requests, states);
                perceptron(instructions, decoder, states, hidden, generated);
                for row in 0..states.rows() {
                    states.row_mut(row)[state..][..model.dim()].copy_from_slice(generated.row(row));
                }
                perceptron(instructions, perturbator, states, hidden, queries);
                for row in 0..states.rows() {
                    for (value, g) in queries.row_mut(row).iter_mut().zip(generated.row(row)) {
                        *value = g + PERTURBATION * tanh(*value);
                    }
                }
            }
        }
        &self.queries
    }
}

/// Three layers with relu between them.
fn perceptron(
    instructions: Instructions,
    layers: &[Panels; 3],
    inputs: &Matrix,
    hidden: &mut [Matrix; 2],
    out: &mut Matrix,
) {
    let [first, second] = hidden;
    dense(instructions, &layers[0], inputs, Activation::Relu, first);
    dense(instructions, &layers[1], first, Activation::Relu, second);
    dense(instructions, &layers[2], second, Activation::Identity, out);
}

/// Writes z behind each s: as given, drawn, or 0.
fn write_noise(model: &PackedModel, batch: Batch<'_>, requests: Range<usize>, states: &mut Matrix) {
    for (row, request) in requests.enumerate() {
        let z = &mut states.row_mut(row)[model.state_len()..];
        match (batch.noise(model, request), model.seed()) {
            (Some(given), _) => z.copy_from_slice(given),
            (None, Some(seed)) => fill_clamped_normal(seed, batch.draw(request), z),
            (None, None) => z.fill(0.0),
        }
    }
}
