//! A policy that knows how the generator thinks: a DDPG built by hand, not trained.
//!
//! **Item vectors.** d−2 of the d dimensions are K = (d−2)/2 complex coordinates of size 1/√K. Coordinate k of the item
//! at place p of category c has the phase φ(c, k) + f(k)·p/32 turns: φ is random, so that two categories are nearly
//! orthogonal; the frequencies f make items of one category the more alike the closer they are on its ring. One more
//! dimension holds popularity at the log's start: 1 for the most popular item, 0 for the least, by logarithm of rank.
//! The last dimension is 0.
//!
//! **Policy.** The action is a weighted sum of the sequence's item vectors, the newest weighing most, both as they are
//! (users go back) and turned on along the ring (users go on), of the user's vector, the mean of the favourites',
//! and of a constant along popularity. Turning by so many places is the same map for all categories. A linear map A
//! passes unharmed through the relu layers as fc1 = [A; −A], fc2 = I, fc3 = [I, −I], since relu(x) − relu(−x) = x.

use super::catalogue::{CATEGORY_ITEMS, Popularity, RawIds, category, favourite_bits};
use super::error::GenerateError;
use super::numerics::{cos_sin, ln, pow};
use super::options::{Options, within};
use super::random::{Stream, mix};
use crate::model::weights::{Embedding, Linear, Policy, Weights};

/// Sizes of a generated model; the hidden size is twice the embedding size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// d, the embedding size: even, 8 ..= 256. Fewer dimensions tell fewer categories apart.
    pub dim: usize,
    /// H, the items of a sequence that the policy sees: 1 ..= 100.
    pub history: usize,
}

impl Default for ModelShape {
    fn default() -> ModelShape {
        ModelShape { dim: 32, history: 10 }
    }
}

/// A model that fits a generated log.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The DDPG policy. The last item row is the padding row, zero.
    pub weights: Weights,
    /// Raw user ids by model index: the most active first.
    pub users: Vec<u64>,
    /// Raw item ids by model index: the most popular at the log's start first.
    pub items: Vec<u64>,
}

// The policy's weights, from a random search for the best hit rate on three logs: around here it is flat.

/// Places by which the sequence's items are turned on: the likeliest successors are one, two and three places on.
const TURN_PLACES: f64 = 2.0;
/// The newest item's weights, turned on and as it is.
const ONWARD: f64 = 1.0;
const BACK: f64 = 0.5;
/// What each of them is multiplied by with every item that came after.
const ONWARD_FADING: f64 = 0.2;
const BACK_FADING: f64 = 0.45;
/// Weights of the user's vector and of popularity.
const LOYALTY: f64 = 0.6;
const POPULARITY: f64 = 1.0;

/// Builds the model of the log that equal `options` generate. Only events before the log's start are known to it,
/// so to speak: it knows how popularity stands at the start, not how it drifts.
///
/// # Errors
/// If an option or a size is out of range.
pub fn model(options: &Options, shape: &ModelShape) -> Result<Model, GenerateError> {
    options.validate()?;
    within("model dimension", shape.dim, 8, 256)?;
    within("model history", shape.history, 1, 100)?;
    if shape.dim % 2 == 1 {
        return Err(GenerateError::Contradiction("the model's dimension must be even"));
    }
    let popularity = Popularity::new(options);
    let vectors = Vectors { seed: options.seed, dim: shape.dim };
    let raw = RawIds::items(options.items);
    let items = popularity.by_rank().iter().map(|&item| raw.raw(item)).collect();
    let raw = RawIds::users(options.users);
    let users = (0..options.users).map(|user| raw.raw(user)).collect();
    let weights = Weights {
        users: user_table(options, &popularity, &vectors),
        items: item_table(&popularity, &vectors),
        policy: policy(shape),
        history: shape.history,
        hidden: 2 * shape.dim,
    };
    Ok(Model { weights, users, items })
}

/// The items' complex coordinates.
struct Vectors {
    seed: u64,
    dim: usize,
}

impl Vectors {
    /// Adds `scale` times the item's coordinates to the first d−2 of `row`.
    fn add(&self, item: u32, scale: f64, row: &mut [f64]) {
        let place = f64::from(item % CATEGORY_ITEMS) / f64::from(CATEGORY_ITEMS);
        let key = mix(self.seed ^ Stream::Vectors as u64) ^ u64::from(category(item)) << 32;
        let coordinates = coordinates(self.dim);
        let size = scale / (coordinates as f64).sqrt();
        for (k, pair) in row.chunks_exact_mut(2).take(coordinates).enumerate() {
            let phase = (mix(key ^ k as u64) >> 32) as f64 / 4_294_967_296.0;
            let (cos, sin) = cos_sin(phase + frequency(k, self.dim) * place);
            pair[0] += size * cos;
            pair[1] += size * sin;
        }
    }
}

/// K.
fn coordinates(dim: usize) -> usize {
    (dim - 2) / 2
}

/// f(k): 1, 2, … in turn, the more of them the more coordinates there are to tell places apart.
fn frequency(k: usize, dim: usize) -> f64 {
    let different = 1 + coordinates(dim) / 7;
    (1 + k % different) as f64
}

fn item_table(popularity: &Popularity, vectors: &Vectors) -> Embedding {
    let count = popularity.by_rank().len();
    let mut data = Vec::with_capacity((count + 1) * vectors.dim);
    let mut row = vec![0.0; vectors.dim];
    for (rank, &item) in popularity.by_rank().iter().enumerate() {
        row.fill(0.0);
        vectors.add(item, 1.0, &mut row);
        row[vectors.dim - 2] = 1.0 - ln(1.0 + rank as f64) / ln(1.0 + count as f64);
        data.extend(row.iter().map(|&value| value as f32));
    }
    data.resize((count + 1) * vectors.dim, 0.0);
    Embedding { rows: count + 1, dim: vectors.dim, data }
}

fn user_table(options: &Options, popularity: &Popularity, vectors: &Vectors) -> Embedding {
    let rows = options.users as usize;
    let mut data = Vec::with_capacity(rows * vectors.dim);
    let mut row = vec![0.0; vectors.dim];
    for user in 0..options.users {
        row.fill(0.0);
        for which in 0..4 {
            vectors.add(popularity.item(favourite_bits(options.seed, user, which)), 0.25, &mut row);
        }
        data.extend(row.iter().map(|&value| value as f32));
    }
    Embedding { rows, dim: vectors.dim, data }
}

fn policy(shape: &ModelShape) -> Policy {
    let ModelShape { dim, history } = *shape;
    let hidden = 2 * dim;
    let mut fc1 = zeros(dim * (history + 1), hidden);
    for i in 0..dim - 2 {
        put_mirrored(&mut fc1, i, i, LOYALTY, dim);
    }
    for slot in 0..history {
        // The last slot is the newest.
        let age = (history - 1 - slot) as f64;
        let (onward, back) = (ONWARD * pow(ONWARD_FADING, age), BACK * pow(BACK_FADING, age));
        for k in 0..coordinates(dim) {
            let (cos, sin) = cos_sin(frequency(k, dim) * TURN_PLACES / f64::from(CATEGORY_ITEMS));
            let (real, imaginary) = (onward * cos + back, onward * sin);
            let (row, column) = (2 * k, dim * (1 + slot) + 2 * k);
            put_mirrored(&mut fc1, row, column, real, dim);
            put_mirrored(&mut fc1, row, column + 1, -imaginary, dim);
            put_mirrored(&mut fc1, row + 1, column, imaginary, dim);
            put_mirrored(&mut fc1, row + 1, column + 1, real, dim);
        }
    }
    let mut fc2 = zeros(hidden, hidden);
    (0..hidden).for_each(|i| put(&mut fc2, i, i, 1.0));
    let mut fc3 = zeros(hidden, dim);
    for i in 0..dim {
        put(&mut fc3, i, i, 1.0);
        put(&mut fc3, i, dim + i, -1.0);
    }
    fc3.bias[dim - 2] = POPULARITY as f32;
    Policy::Ddpg { fc: [fc1, fc2, fc3] }
}

fn zeros(inputs: usize, outputs: usize) -> Linear {
    Linear { inputs, outputs, weight: vec![0.0; inputs * outputs], bias: vec![0.0; outputs] }
}

fn put(layer: &mut Linear, row: usize, column: usize, value: f64) {
    layer.weight[row * layer.inputs + column] = value as f32;
}

/// Sets an element of A and its negative in −A, `dim` rows below.
fn put_mirrored(layer: &mut Linear, row: usize, column: usize, value: f64, dim: usize) {
    put(layer, row, column, value);
    put(layer, row + dim, column, -value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Options {
        Options { users: 50, items: 200, ..Options::default() }
    }

    #[test]
    fn shapes_are_those_of_the_contract() {
        let Model { weights, users, items } = model(&small(), &ModelShape::default()).expect("valid");
        assert_eq!((weights.users.rows, weights.items.rows, weights.dim(), weights.count()), (50, 201, 32, 200));
        assert_eq!((users.len(), items.len(), weights.history, weights.hidden), (50, 200, 10, 64));
        assert_eq!(weights.users.data.len(), 50 * 32);
        assert_eq!(weights.items.data.len(), 201 * 32);
        assert!(weights.items.data[200 * 32..].iter().all(|&value| value == 0.0), "the padding row");
        let Policy::Ddpg { fc } = &weights.policy else { panic!("not a DDPG policy") };
        assert_eq!(fc.each_ref().map(|layer| (layer.outputs, layer.inputs)), [(64, 352), (64, 64), (32, 64)]);
        assert!(fc.iter().all(|layer| layer.weight.len() == layer.inputs * layer.outputs));
        assert!(fc.iter().all(|layer| layer.bias.len() == layer.outputs));
        assert!(weights.items.data.iter().chain(&weights.users.data).all(|value| value.is_finite()));
    }

    #[test]
    fn sizes_that_do_not_work_are_refused() {
        let refusal = |dim, history| model(&small(), &ModelShape { dim, history }).expect_err("refused").to_string();
        assert_eq!(refusal(6, 10), "model dimension must be from 8 to 256, not 6");
        assert_eq!(refusal(15, 10), "the model's dimension must be even");
        assert_eq!(refusal(16, 0), "model history must be from 1 to 100, not 0");
    }

    #[test]
    fn equal_options_give_equal_models() {
        let build = |seed| model(&Options { seed, ..small() }, &ModelShape { dim: 16, history: 10 }).expect("valid");
        assert_eq!(build(1), build(1));
        assert_ne!(build(1).weights.items, build(2).weights.items);
    }
}
