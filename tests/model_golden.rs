//! The reference PyTorch code's answers to 24 requests a model directory, for each algorithm: same items, scores within
//! 1e-4.

#![allow(clippy::unwrap_used)]

#[path = "model_golden/expected.rs"]
mod expected;
#[path = "model_golden/reference.rs"]
mod reference;

use std::path::{Path, PathBuf};

use eddyline::model::{algorithm::Algorithm, directory::ModelDirectory};
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
