//! The reference PyTorch code's answers to 24 requests a model directory, for each algorithm: same items, scores within
//! 1e-4.

#![allow(clippy::unwrap_used)]

#[path = "model_golden/expected.rs"]
mod expected;
#[path = "model_golden/reference.rs"]
mod reference;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use eddyline::model::philox::Draw;
use eddyline::model::scorer::{PackedModel, Ranked, Requests, Scorer};
use eddyline::model::{Instructions, algorithm::Algorithm, directory::ModelDirectory};
use expected::{Answer, Expected};

const DIRECTORIES: [&str; 3] = ["models", "models_small_dims", "models_legacy"];
const SCORE_DIFFERENCE_MAX: f64 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Compares one scorer with every answer of every directory. The scorer is given the directory, the user, the history
/// and BCQ's z, and answers the k best items with their scores, best first.
fn check(algorithm: Algorithm, with_z: bool, top: impl Fn(&ModelDirectory, usize, &[usize], &[f32], usize) -> Answer) {
    for name in DIRECTORIES {
        let expected = Expected::read(&fixture(name));
        let directory = ModelDirectory::load(&fixture(name), algorithm).unwrap();
        let answers = expected.answers(algorithm, with_z);
        assert_eq!(answers.len(), 24);
        for (request, answer) in answers.iter().enumerate() {
            let zeros = vec![0.0; 2 * expected.dim];
            let z = if with_z { &expected.z[request] } else { &zeros };
            let (user, history) = (expected.users[request], &expected.histories[request]);
            let found = top(&directory, user, history, z, expected.k);
            assert_eq!(found.items, answer.items, "{name}, {algorithm}, request {request}");
            for (found, expected) in found.scores.iter().zip(&answer.scores) {
                let difference = (found - expected).abs();
                assert!(
                    difference < SCORE_DIFFERENCE_MAX,
                    "{name}, {algorithm}, request {request}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn reference_ddpg() {
    check(Algorithm::Ddpg, false, reference::top);
}

#[test]
fn reference_reinforce() {
    check(Algorithm::Reinforce, false, reference::top);
}

#[test]
fn reference_bcq_with_given_z() {
    check(Algorithm::Bcq, true, reference::top);
}

#[test]
fn reference_bcq_with_zero_z() {
    check(Algorithm::Bcq, false, reference::top);
}

#[test]
fn sizes_are_read_from_the_shapes() {
    for name in DIRECTORIES {
        let expected = Expected::read(&fixture(name));
        for algorithm in Algorithm::ALL {
            let directory = ModelDirectory::load(&fixture(name), algorithm).unwrap();
            let weights = &directory.weights;
            assert_eq!(
                (weights.dim(), weights.history, weights.hidden),
                (expected.dim, expected.history, expected.hidden)
            );
            assert_eq!((weights.users.rows, weights.count()), (expected.user_count, expected.item_count));
            assert_eq!((directory.users.len(), directory.items.len()), (expected.user_count, expected.item_count));
        }
    }
}

/// The scorer of the pipeline, on every instruction set that this processor has.
fn check_scorer(algorithm: Algorithm, with_z: bool) {
    for instructions in Instructions::ALL.into_iter().filter(|set| set.is_available()) {
        check(algorithm, with_z, |directory, user, history, z, k| {
            let model = Arc::new(PackedModel::with_instructions(directory.weights.clone(), None, instructions));
            let (mut scorer, mut ranked) = (Scorer::new(model.clone()), Ranked::default());
            let mut requests = Requests::new(&model);
            let history: Vec<u32> = history.iter().map(|&item| item as u32).collect();
            requests.push(user as u32, &history, Draw { user: 0, time_ms: 0 }).unwrap();
            scorer.top_k_with_noise(&requests, z, k, false, &mut ranked).unwrap();
            // The reference shows REINFORCE's scores as log-probabilities.
            let mut normalizers = Vec::new();
            scorer.log_normalizers(&requests, &mut normalizers);
            let normalizer = normalizers.first().copied().unwrap_or(0.0);
            Answer {
                items: ranked.indices(0).iter().map(|&item| item as usize).collect(),
                scores: ranked.scores(0).iter().map(|&score| f64::from(score) - normalizer).collect(),
            }
        });
    }
}

#[test]
fn scorer_ddpg() {
    check_scorer(Algorithm::Ddpg, false);
}

#[test]
fn scorer_reinforce() {
    check_scorer(Algorithm::Reinforce, false);
}

#[test]
fn scorer_bcq_with_given_z() {
    check_scorer(Algorithm::Bcq, true);
}

#[test]
fn scorer_bcq_with_zero_z() {
    check_scorer(Algorithm::Bcq, false);
}
