//! The forward passes of the contract, section 4, written down as plainly as possible in f64, and a full sort. Slow on
//! purpose.

use eddyline::model::{
    directory::ModelDirectory,
    weights::{Embedding, Linear, Policy, Weights},
};

use crate::expected::Answer;

/// The k best items; equal scores go to the smaller index; the padding row is no item.
pub(crate) fn top(directory: &ModelDirectory, user: usize, history: &[usize], z: &[f32], k: usize) -> Answer {
    let weights = &directory.weights;
    let scores = scores(weights, user, history, z);
    let mut items: Vec<usize> = (0..weights.count()).collect();
    items.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    items.truncate(k);
    Answer { scores: items.iter().map(|item| scores[*item]).collect(), items }
}

/// A score for each row of the item table.
fn scores(weights: &Weights, user: usize, history: &[usize], z: &[f32]) -> Vec<f64> {
    let s = state(weights, user, history);
    match &weights.policy {
        Policy::Ddpg { fc } => dot_products(&weights.items, &three_layers(fc, s)),
        Policy::Reinforce { pfc: [pfc1, pfc2], softmax } => {
            log_softmax(linear(softmax, &relu(linear(pfc2, &relu(linear(pfc1, &s))))))
        }
        Policy::Bcq { decoder, perturbator } => {
            let z: Vec<f64> = z.iter().map(|value| f64::from(*value)).collect();
            let g = three_layers(decoder, [s.clone(), z].concat());
            let p = three_layers(perturbator, [s, g.clone()].concat());
            let a: Vec<f64> = g.iter().zip(p).map(|(g, p)| g + 0.05 * p.tanh()).collect();
            dot_products(&weights.items, &a)
        }
    }
}

fn state(weights: &Weights, user: usize, history: &[usize]) -> Vec<f64> {
    assert_eq!(history.len(), weights.history);
    let items = history.iter().flat_map(|item| row(&weights.items, *item));
    row(&weights.users, user).into_iter().chain(items).collect()
}

fn row(table: &Embedding, index: usize) -> Vec<f64> {
    table.data[index * table.dim..(index + 1) * table.dim].iter().map(|value| f64::from(*value)).collect()
}

fn three_layers([first, second, third]: &[Linear; 3], x: Vec<f64>) -> Vec<f64> {
    linear(third, &relu(linear(second, &relu(linear(first, &x)))))
}

fn linear(layer: &Linear, x: &[f64]) -> Vec<f64> {
    assert_eq!(x.len(), layer.inputs);
    let output = |o: usize| {
        let weights = &layer.weight[o * layer.inputs..(o + 1) * layer.inputs];
        weights.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(layer.bias[o])
    };
    (0..layer.outputs).map(output).collect()
}

fn relu(x: Vec<f64>) -> Vec<f64> {
    x.into_iter().map(|value| value.max(0.0)).collect()
}

fn dot_products(items: &Embedding, a: &[f64]) -> Vec<f64> {
    (0..items.rows).map(|item| row(items, item).iter().zip(a).map(|(e, a)| e * a).sum()).collect()
}

fn log_softmax(logits: Vec<f64>) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = logits.iter().map(|logit| (logit - max).exp()).sum::<f64>().ln() + max;
    logits.into_iter().map(|logit| logit - log_sum).collect()
}
