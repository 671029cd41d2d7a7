//! Models whose query vectors are known.

use eddyline::model::philox::philox4x32_10;
use eddyline::model::weights::{Embedding, Linear, Policy, Weights};
use std::path::Path;

/// H.
pub(crate) const HISTORY: usize = 10;
/// d of the embeddings.
const DIM: usize = 32;
/// h.
const HIDDEN: usize = 64;
/// Users in generated data.
const USERS: usize = 4096;

/// What a query is multiplied with.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Head {
    /// The item vectors (DDPG): d = 32.
    Items,
    /// A softmax layer's rows and bias (REINFORCE): d = 64.
    Softmax,
}

impl Head {
    pub(crate) fn depth(self) -> usize {
        match self {
            Head::Items => DIM,
            Head::Softmax => HIDDEN,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Head::Items => "d = 32",
            Head::Softmax => "d = 64 and bias",
        }
    }
}

/// Users' vectors and the table they are scored against.
pub(crate) struct Data {
    pub(crate) count: usize,
    pub(crate) users: usize,
    pub(crate) head: Head,
    /// users × 32.
    user_vectors: Vec<f32>,
    /// count × depth.
    rows: Vec<f32>,
    /// count, or empty.
    bias: Vec<f32>,
}

impl Data {
    /// Normally distributed values.
    pub(crate) fn generate(count: usize, head: Head) -> Data {
        let bias = if head == Head::Softmax { normal(3, count) } else { Vec::new() };
        let (user_vectors, rows) = (normal(1, USERS * DIM), normal(2, count * head.depth()));
        Data { count, users: USERS, head, user_vectors, rows, bias }
    }

    /// `users.f32`, `rows.f32` and, for the softmax head, `bias.f32`: little-endian values, row by row.
    pub(crate) fn read(directory: &Path) -> std::io::Result<Data> {
        let floats = |name: &str| -> std::io::Result<Vec<f32>> {
            let bytes = std::fs::read(directory.join(name))?;
            Ok(bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect())
        };
        let (user_vectors, rows) = (floats("users.f32")?, floats("rows.f32")?);
        let (head, bias) = match floats("bias.f32") {
            Ok(bias) => (Head::Softmax, bias),
            Err(_) => (Head::Items, Vec::new()),
        };
        Ok(Data { count: rows.len() / head.depth(), users: user_vectors.len() / DIM, head, user_vectors, rows, bias })
    }

    pub(crate) fn weights(&self) -> Weights {
        let (first, identity) = (signs(DIM * (HISTORY + 1)), signs(0));
        let (items, policy) = match self.head {
            Head::Items => (padded(&self.rows, DIM), Policy::Ddpg { fc: [first, identity, difference()] }),
            Head::Softmax => {
                let (weight, bias) = (padded(&self.rows, HIDDEN), padded(&self.bias, 1));
                let softmax = Linear { inputs: HIDDEN, outputs: self.count + 1, weight, bias };
                (vec![0.0; (self.count + 1) * DIM], Policy::Reinforce { pfc: [first, identity], softmax })
            }
        };
        Weights {
            users: Embedding { rows: self.users, dim: DIM, data: self.user_vectors.clone() },
            items: Embedding { rows: self.count + 1, dim: DIM, data: items },
            policy,
            history: HISTORY,
            hidden: HIDDEN,
        }
    }
}

/// The rows, and one more for the padding item.
fn padded(rows: &[f32], width: usize) -> Vec<f32> {
    let mut padded = rows.to_vec();
    padded.resize(rows.len() + width, 0.0);
    padded
}

/// The layer [u ; −u] of the first 32 of `inputs`, or the identity if there are none.
fn signs(inputs: usize) -> Linear {
    let width = if inputs == 0 { HIDDEN } else { inputs };
    let mut weight = vec![0.0; HIDDEN * width];
    for output in 0..HIDDEN {
        let (k, value) = match inputs {
            0 => (output, 1.0),
            _ => (output % DIM, if output < DIM { 1.0 } else { -1.0 }),
        };
        weight[output * width + k] = value;
    }
    Linear { inputs: width, outputs: HIDDEN, weight, bias: vec![0.0; HIDDEN] }
}

/// The layer that subtracts the second half of its inputs from the first.
fn difference() -> Linear {
    let mut weight = vec![0.0; DIM * HIDDEN];
    for output in 0..DIM {
        weight[output * HIDDEN + output] = 1.0;
        weight[output * HIDDEN + DIM + output] = -1.0;
    }
    Linear { inputs: HIDDEN, outputs: DIM, weight, bias: vec![0.0; DIM] }
}

/// Normally distributed values, by Box and Muller.
fn normal(stream: u32, len: usize) -> Vec<f32> {
    let blocks = (0u32..).flat_map(|block| {
        let words = philox4x32_10([block, 0, 0, 0], [stream, 0]).map(|word| (f64::from(word) + 0.5) / 4_294_967_296.0);
        let pair = |u: f64, v: f64| {
            let (radius, angle) = ((-2.0 * u.ln()).sqrt(), std::f64::consts::TAU * v);
            [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
        };
        [pair(words[0], words[1]), pair(words[2], words[3])].concat()
    });
    blocks.take(len).collect()
}
