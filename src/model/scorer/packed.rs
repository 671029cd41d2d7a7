//! A model's weights as the kernels want them.

use crate::model::kernels::{Instructions, Panels, Shadow, Table};
use crate::model::weights::{Embedding, Policy, Weights};

/// A model ready to score: immutable, shared by all scorers.
#[derive(Debug)]
pub struct PackedModel {
    instructions: Instructions,
    seed: Option<u64>,
    users: Embedding,
    items: Embedding,
    layers: Layers,
    history: usize,
    /// For the int8 pass, where the processor has the instructions for it.
    shadow: Option<Shadow>,
}

/// The deciding layers.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one a model")]
pub(super) enum Layers {
    Ddpg {
        fc: [Panels; 3],
    },
    /// The head's count+1 rows stay as they are: the last one, padding, only counts for the log-softmax.
    Reinforce {
        pfc: [Panels; 2],
        rows: Vec<f32>,
        bias: Vec<f32>,
        hidden: usize,
    },
    Bcq {
        decoder: [Panels; 3],
        perturbator: [Panels; 3],
    },
}

impl PackedModel {
    /// Packs `weights`, whose shapes must agree as the contract's section 4 says (what reads them checks that) and be at least 1. With a
    /// `seed`, BCQ draws its noise; without, or for another policy, there is none.
    pub fn new(weights: Weights, seed: Option<u64>) -> PackedModel {
        PackedModel::with_instructions(weights, seed, Instructions::best())
    }

    /// As [`Self::new`], for a given instruction set: what tests and benchmarks compare.
    ///
    /// # Panics
    /// Where the processor lacks the instructions.
    pub fn with_instructions(weights: Weights, seed: Option<u64>, instructions: Instructions) -> PackedModel {
        instructions.assert_available();
        let layers = match weights.policy {
            Policy::Ddpg { fc } => Layers::Ddpg { fc: fc.each_ref().map(Panels::new) },
            Policy::Reinforce { pfc, softmax } => Layers::Reinforce {
                pfc: pfc.each_ref().map(Panels::new),
                hidden: softmax.inputs,
                rows: softmax.weight,
                bias: softmax.bias,
            },
            Policy::Bcq { decoder, perturbator } => Layers::Bcq {
                decoder: decoder.each_ref().map(Panels::new),
                perturbator: perturbator.each_ref().map(Panels::new),
            },
        };
        let Weights { users, items, history, .. } = weights;
        let mut model = PackedModel { instructions, seed, users, items, layers, history, shadow: None };
        if instructions.has_first_pass() {
            model.shadow = Shadow::new(instructions, model.table());
        }
        model
    }

    /// Number of items that can be recommended; also the padding index.
    pub fn count(&self) -> usize {
        self.items.rows - 1
    }

    /// Number of users it knows.
    pub fn users(&self) -> usize {
        self.users.rows
    }

    /// H: how many items of a sequence it reads.
    pub fn history(&self) -> usize {
        self.history
    }

    /// d: the length of an embedding vector.
    pub fn dim(&self) -> usize {
        self.items.dim
    }

    /// Length of a whole state vector, d(H+1).
    pub fn state_len(&self) -> usize {
        self.dim() * (self.history + 1)
    }

    /// The instructions that its scorers use.
    pub fn instructions(&self) -> Instructions {
        self.instructions
    }

    pub(super) fn seed(&self) -> Option<u64> {
        self.seed
    }

    pub(super) fn layers(&self) -> &Layers {
        &self.layers
    }

    pub(super) fn user(&self, index: u32) -> &[f32] {
        &self.users.data[index as usize * self.users.dim..][..self.users.dim]
    }

    pub(super) fn item(&self, index: u32) -> &[f32] {
        &self.items.data[index as usize * self.items.dim..][..self.items.dim]
    }

    pub(super) fn shadow(&self) -> Option<&Shadow> {
        self.shadow.as_ref()
    }

    /// The items that can be recommended, as queries are scored against them.
    pub(super) fn table(&self) -> Table<'_> {
        let (rows, depth, bias) = match &self.layers {
            Layers::Reinforce { rows, bias, hidden, .. } => (&rows[..], *hidden, Some(&bias[..self.count()])),
            Layers::Ddpg { .. } | Layers::Bcq { .. } => (&self.items.data[..], self.dim(), None),
        };
        Table { rows: &rows[..self.count() * depth], depth, bias }
    }

    /// The rows of all count+1 logits, where the policy has logits.
    pub(super) fn logit_table(&self) -> Option<Table<'_>> {
        match &self.layers {
            Layers::Reinforce { rows, bias, hidden, .. } => Some(Table { rows, depth: *hidden, bias: Some(bias) }),
            Layers::Ddpg { .. } | Layers::Bcq { .. } => None,
        }
    }
}
