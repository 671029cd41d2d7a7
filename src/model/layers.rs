//! From a state_dict to [`Weights`] and back: which layers an algorithm has, and that their shapes fit each other
//! (contract, section 4).
//!
//! d and the catalogue come from the item table, h and the length of the state from the first deciding layer, H from
//! the length of the state; every other layer must then have the shape that follows, the unused ones too.

mod layout;

use super::{
    algorithm::Algorithm,
    error::{Shape, excerpt},
    state_dict::{StateDict, StateDictError, Tensor},
    weights::{Embedding, Linear, Policy, Weights},
};
use layout::{Layout, bias_key, weight_key};

pub use layout::Sizes;

/// Why a state_dict is not an algorithm's, or weights are none that can be written.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum WeightsError {
    /// The variant of the policies that attends to the history.
    #[error("key \"{0}\" belongs to the attention variant of the policies, which is not supported")]
    Attention(String),
    /// The keys of another algorithm.
    #[error("these are the weights of {found}, not of {expected}")]
    OtherAlgorithm {
        /// Which was asked for.
        expected: Algorithm,
        /// Which it is.
        found: Algorithm,
    },
    /// A key that the algorithm does not have.
    #[error("unknown key \"{key}\": {algorithm} has no such tensor")]
    UnknownKey {
        /// The key.
        key: String,
        /// Which was asked for.
        algorithm: Algorithm,
    },
    /// A key that the algorithm needs.
    #[error("key \"{key}\" of {algorithm} is missing{}", and_more(*others))]
    MissingKey {
        /// The first that is missing.
        key: String,
        /// Which was asked for.
        algorithm: Algorithm,
        /// How many more are missing.
        others: usize,
    },
    /// A tensor of another number of dimensions, or empty.
    #[error("\"{key}\" has shape {}, where {expected} is needed", Shape(found))]
    Dimensions {
        /// Its key.
        key: String,
        /// Its shape.
        found: Vec<usize>,
        /// In words.
        expected: &'static str,
    },
    /// A first layer that fits no history.
    #[error("\"{key}\" has {inputs} inputs, which is not {formula} for d = {dim} and any H of at least 1")]
    History {
        /// Its key.
        key: String,
        /// Its inputs.
        inputs: usize,
        /// What they should be.
        formula: &'static str,
        /// d.
        dim: usize,
    },
    /// A shape that does not fit the others.
    #[error("\"{key}\" has shape {}, but {sizes} need {}", Shape(found), Shape(expected))]
    Shape {
        /// Its key.
        key: String,
        /// Its shape.
        found: Vec<usize>,
        /// What the other tensors ask for.
        expected: Vec<usize>,
        /// d, H, h and count, as found in the other tensors.
        sizes: Sizes,
    },
    /// NaN or infinity.
    #[error("\"{key}\" at {} is {value}, not a finite number", Shape(position))]
    NotFinite {
        /// Its key.
        key: String,
        /// One index a dimension, from 0.
        position: Vec<usize>,
        /// What stands there.
        value: f32,
    },
    /// Weights built by hand whose arrays do not have the lengths that they claim.
    #[error("\"{0}\" does not have as many values as its shape says")]
    Length(String),
    /// The state_dict itself can't be built or written.
    #[error("{0}")]
    StateDict(#[from] StateDictError),
}

fn and_more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(", and {count} more") }
}

/// The key of the table of users in an algorithm's state_dict.
pub fn users_key(algorithm: Algorithm) -> String {
    Layout::of(algorithm).users_key()
}

/// The key of the table of items in an algorithm's state_dict.
pub fn items_key(algorithm: Algorithm) -> String {
    Layout::of(algorithm).items_key()
}

/// Checks a state_dict in full and takes out what scoring needs.
pub fn weights_of(mut state: StateDict, algorithm: Algorithm) -> Result<Weights, WeightsError> {
    let layout = Layout::of(algorithm);
    check_keys(&state, algorithm)?;
    let sizes = sizes_of(&state, layout)?;
    check_shapes(&state, layout, &sizes)?;
    check_finite(&state)?;
    let users = take(&mut state, &layout.users_key());
    let items = take(&mut state, &layout.items_key());
    let linears = layout.layers.iter().filter(|layer| layer.decides).map(|layer| Linear {
        inputs: sizes.of(layer.inputs),
        outputs: sizes.of(layer.outputs),
        weight: take(&mut state, &weight_key(layer.key)),
        bias: take(&mut state, &bias_key(layer.key)),
    });
    Ok(Weights {
        policy: policy_of(algorithm, linears),
        users: Embedding { rows: users.len() / sizes.dim, dim: sizes.dim, data: users },
        items: Embedding { rows: sizes.items, dim: sizes.dim, data: items },
        history: sizes.history,
        hidden: sizes.hidden,
    })
}

/// The state_dict of weights, in the reference's order of keys; the layers that decide nothing are all zeros.
pub fn state_dict_of(weights: &Weights) -> Result<StateDict, WeightsError> {
    let layout = Layout::of(Algorithm::from(&weights.policy));
    let Weights { users, items, policy, history, hidden } = weights;
    let sizes = Sizes { items: items.rows, dim: items.dim, history: *history, hidden: *hidden };
    let mut state = StateDict::default();
    for (key, table) in [(layout.users_key(), users), (layout.items_key(), items)] {
        push(&mut state, key, vec![table.rows, table.dim], &table.data)?;
    }
    let mut deciding = linears_of(policy).into_iter();
    for layer in layout.layers {
        let linear = match layer.decides {
            true => deciding.next().expect("the layout has as many deciding layers as the policy").clone(),
            false => zeros(sizes.of(layer.outputs), sizes.of(layer.inputs)),
        };
        push(&mut state, weight_key(layer.key), vec![linear.outputs, linear.inputs], &linear.weight)?;
        push(&mut state, bias_key(layer.key), vec![linear.outputs], &linear.bias)?;
    }
    sizes_of(&state, layout)?;
    check_shapes(&state, layout, &sizes)?;
    check_finite(&state)?;
    Ok(state)
}

/// The bytes of `model_*.pt` for weights.
pub fn write(weights: &Weights) -> Result<Vec<u8>, WeightsError> {
    Ok(state_dict_of(weights)?.write(Layout::of(Algorithm::from(&weights.policy)).nesting)?)
}

/// Writes a whole state_dict of an algorithm as a `.pt` file: all keys, those that decide nothing too, in the order of the
/// reference's files. Gives the bytes, and what scoring needs of it.
pub fn write_state(mut state: StateDict, algorithm: Algorithm) -> Result<(Vec<u8>, Weights), WeightsError> {
    let layout = Layout::of(algorithm);
    check_keys(&state, algorithm)?;
    let mut ordered = StateDict::default();
    for key in layout.keys() {
        let tensor = state.remove(&key).expect("check_keys found every key of the layout");
        ordered.push(key, tensor)?;
    }
    let bytes = ordered.write(layout.nesting)?;
    Ok((bytes, weights_of(ordered, algorithm)?))
}

fn zeros(outputs: usize, inputs: usize) -> Linear {
    Linear { inputs, outputs, weight: vec![0.0; outputs * inputs], bias: vec![0.0; outputs] }
}

fn push(state: &mut StateDict, key: String, shape: Vec<usize>, data: &[f32]) -> Result<(), WeightsError> {
    let tensor = Tensor::new(shape, data.to_vec()).ok_or_else(|| WeightsError::Length(key.clone()))?;
    Ok(state.push(key, tensor)?)
}

fn take(state: &mut StateDict, key: &str) -> Vec<f32> {
    state.remove(key).expect("check_keys found every key of the layout").into_data()
}

/// Gives the deciding layers, in the layout's order, their names.
fn policy_of(algorithm: Algorithm, mut linears: impl Iterator<Item = Linear>) -> Policy {
    let mut next = || linears.next().expect("the layout has as many deciding layers as the policy");
    match algorithm {
        Algorithm::Ddpg => Policy::Ddpg { fc: [next(), next(), next()] },
        Algorithm::Reinforce => Policy::Reinforce { pfc: [next(), next()], softmax: next() },
        Algorithm::Bcq => Policy::Bcq { decoder: [next(), next(), next()], perturbator: [next(), next(), next()] },
    }
}

/// The deciding layers in the layout's order.
fn linears_of(policy: &Policy) -> Vec<&Linear> {
    match policy {
        Policy::Ddpg { fc } => fc.iter().collect(),
        Policy::Reinforce { pfc, softmax } => pfc.iter().chain([softmax]).collect(),
        Policy::Bcq { decoder, perturbator } => decoder.iter().chain(perturbator).collect(),
    }
}

fn check_keys(state: &StateDict, algorithm: Algorithm) -> Result<(), WeightsError> {
    let is_attention = |key: &&str| key.split('.').any(|part| part == "attention");
    if let Some(key) = state.keys().find(is_attention) {
        return Err(WeightsError::Attention(excerpt(key)));
    }
    let expected = Layout::of(algorithm).keys();
    let missing: Vec<&String> = expected.iter().filter(|key| state.get(key).is_none()).collect();
    let unknown = state.keys().find(|key| !expected.iter().any(|e| e == key));
    if unknown.is_none() && missing.is_empty() {
        return Ok(());
    }
    let is_whole = |other: &Algorithm| {
        let keys = Layout::of(*other).keys();
        keys.len() == state.keys().len() && keys.iter().all(|key| state.get(key).is_some())
    };
    if let Some(found) = Algorithm::ALL.into_iter().find(is_whole) {
        return Err(WeightsError::OtherAlgorithm { expected: algorithm, found });
    }
    match (unknown, missing.as_slice()) {
        (Some(key), _) => Err(WeightsError::UnknownKey { key: excerpt(key), algorithm }),
        (None, [key, others @ ..]) => {
            Err(WeightsError::MissingKey { key: key.to_string(), algorithm, others: others.len() })
        }
        (None, []) => Ok(()),
    }
}

/// Reads d, H, h and count off the item table and the first deciding layer, and checks that the user table is one.
fn sizes_of(state: &StateDict, layout: &Layout) -> Result<Sizes, WeightsError> {
    matrix(state, layout.users_key(), 1, "(users, d) with at least one user")?;
    let [items, dim] = matrix(state, layout.items_key(), 2, "(items + 1, d) with at least one item")?;
    let first = weight_key(layout.first().key);
    let [hidden, inputs] = matrix(state, first.clone(), 1, "(h, inputs)")?;
    let state_inputs = inputs.checked_sub(layout.first_inputs_beyond_state * dim);
    match state_inputs.filter(|n| n % dim == 0 && n / dim >= 2) {
        Some(n) => Ok(Sizes { items, dim, history: n / dim - 1, hidden }),
        None => Err(WeightsError::History { key: first, inputs, formula: layout.first_inputs, dim }),
    }
}

/// The shape of a matrix that is not empty and has at least `rows_min` rows.
fn matrix(state: &StateDict, key: String, rows_min: usize, expected: &'static str) -> Result<[usize; 2], WeightsError> {
    let found = state.get(&key).map(Tensor::shape).unwrap_or_default();
    match *found {
        [rows, columns] if rows >= rows_min && columns >= 1 => Ok([rows, columns]),
        _ => Err(WeightsError::Dimensions { key, found: found.to_vec(), expected }),
    }
}

fn check_shapes(state: &StateDict, layout: &Layout, sizes: &Sizes) -> Result<(), WeightsError> {
    let [users, _] = matrix(state, layout.users_key(), 1, "(users, d)")?;
    check_shape(state, layout.users_key(), vec![users, sizes.dim], sizes)?;
    for layer in layout.layers {
        let (outputs, inputs) = (sizes.of(layer.outputs), sizes.of(layer.inputs));
        check_shape(state, weight_key(layer.key), vec![outputs, inputs], sizes)?;
        check_shape(state, bias_key(layer.key), vec![outputs], sizes)?;
    }
    Ok(())
}

fn check_shape(state: &StateDict, key: String, expected: Vec<usize>, sizes: &Sizes) -> Result<(), WeightsError> {
    let found = state.get(&key).map(Tensor::shape).unwrap_or_default();
    if found == expected {
        return Ok(());
    }
    Err(WeightsError::Shape { key, found: found.to_vec(), expected, sizes: *sizes })
}

fn check_finite(state: &StateDict) -> Result<(), WeightsError> {
    for (key, tensor) in state.iter() {
        if let Some((position, value)) = tensor.first_not_finite() {
            return Err(WeightsError::NotFinite { key: key.to_owned(), position, value });
        }
    }
    Ok(())
}
