//! A policy's weights as plain arrays, whatever file they came from (contract, section 4).
//!
//! Sizes: d = embedding size, H = history, h = hidden size, `count` = items in the catalogue.
//! The state is s = `[ user_embeds[user] ; item_embeds[i_1] ; … ; item_embeds[i_H] ]`, oldest item first, length d·(H+1).

/// A table of embedding vectors, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Number of vectors.
    pub rows: usize,
    /// d, the length of each.
    pub dim: usize,
    /// rows × dim values.
    pub data: Vec<f32>,
}

/// A layer `W x + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Length of x.
    pub inputs: usize,
    /// Length of the result.
    pub outputs: usize,
    /// W, row-major: outputs × inputs.
    pub weight: Vec<f32>,
    /// b: outputs values.
    pub bias: Vec<f32>,
}

/// The layers that decide; unused ones of the files are checked when read, and left out here.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// a = fc3(relu(fc2(relu(fc1(s))))); score of item j = a · `item_embeds[j]`.
    Ddpg {
        /// (h, d(H+1)), (h, h), (d, h).
        fc: [Linear; 3],
    },
    /// score_j = softmax_fc(relu(pfc2(relu(pfc1(s)))))_j.
    Reinforce {
        /// (h, d(H+1)), (h, h).
        pfc: [Linear; 2],
        /// (count+1, h).
        softmax: Linear,
    },
    /// g = decoder(`[s ; z]`), p = 0.05·tanh(perturbator(`[s ; g]`)), a = g + p; scores as DDPG. z has length 2d.
    Bcq {
        /// decoder1 (h, d(H+1)+2d), decoder2 (h, h), decoder3 (d, h).
        decoder: [Linear; 3],
        /// fc1 (h, d(H+1)+d), fc2 (h, h), fc3 (d, h).
        perturbator: [Linear; 3],
    },
}

/// All that scoring needs, shapes checked against each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// One row a known user.
    pub users: Embedding,
    /// count+1 rows: the last is the padding row.
    pub items: Embedding,
    /// The deciding layers.
    pub policy: Policy,
    /// H.
    pub history: usize,
    /// h.
    pub hidden: usize,
}

impl Weights {
    /// Number of items that can be recommended; also the padding index.
    pub fn count(&self) -> usize {
        self.items.rows - 1
    }

    /// d.
    pub fn dim(&self) -> usize {
        self.items.dim
    }
}
