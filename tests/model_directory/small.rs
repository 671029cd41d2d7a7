//! A model directory small enough to be damaged by hand: d = 2, H = 3, h = 4, 5 users, 6 items.

use eddyline::model::{
    algorithm::Algorithm,
    maps::IdMap,
    state_dict::{Nesting, StateDict, Tensor},
    weights::{Embedding, Linear, Policy, Weights},
};

pub(crate) const DIM: usize = 2;
pub(crate) const HISTORY: usize = 3;
pub(crate) const HIDDEN: usize = 4;
const STATE: usize = DIM * (HISTORY + 1);

/// Values that are all different, so that a mix-up of tensors, rows or columns shows.
pub(crate) fn weights(algorithm: Algorithm) -> Weights {
    let mut counter = 0_u16;
    let mut values = |count: usize| -> Vec<f32> {
        let mut next = || {
            counter += 1;
            f32::from(counter) / 128.0 - 1.0
        };
        (0..count).map(|_| next()).collect()
    };
    let users = Embedding { rows: 5, dim: DIM, data: values(5 * DIM) };
    let items = Embedding { rows: 7, dim: DIM, data: values(7 * DIM) };
    let mut linear = |outputs: usize, inputs: usize| Linear {
        inputs,
        outputs,
        weight: values(outputs * inputs),
        bias: values(outputs),
    };
    let mut layers = |outputs, inputs| [linear(HIDDEN, inputs), linear(HIDDEN, HIDDEN), linear(outputs, HIDDEN)];
    let policy = match algorithm {
        Algorithm::Ddpg => Policy::Ddpg { fc: layers(DIM, STATE) },
        Algorithm::Reinforce => {
            let [pfc1, pfc2, softmax] = layers(7, STATE);
            Policy::Reinforce { pfc: [pfc1, pfc2], softmax }
        }
        Algorithm::Bcq => Policy::Bcq { decoder: layers(DIM, STATE + 2 * DIM), perturbator: layers(DIM, STATE + DIM) },
    };
    Weights { users, items, policy, history: HISTORY, hidden: HIDDEN }
}

pub(crate) fn users() -> IdMap {
    IdMap::from_ids((0..5).map(|i| 100 + i).collect()).unwrap()
}

pub(crate) fn items() -> IdMap {
    IdMap::from_ids((0..6).map(|i| 900 - i).collect()).unwrap()
}

/// Reads a `.pt`, lets `change` edit the tensors, and writes it again.
pub(crate) fn edit(bytes: &[u8], nesting: Nesting, change: impl FnOnce(&mut Vec<(String, Tensor)>)) -> Vec<u8> {
    let state = StateDict::read(bytes).unwrap();
    let mut entries: Vec<_> = state.iter().map(|(key, tensor)| (key.to_owned(), tensor.clone())).collect();
    change(&mut entries);
    let mut state = StateDict::default();
    for (key, tensor) in entries {
        state.push(key, tensor).unwrap();
    }
    state.write(nesting).unwrap()
}

/// A tensor of zeros.
pub(crate) fn zeros(shape: &[usize]) -> Tensor {
    Tensor::new(shape.to_vec(), vec![0.0; shape.iter().product()]).unwrap()
}
