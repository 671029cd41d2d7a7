//! `expected.json` of a fixture: requests, and the reference's answers.

use std::{fs, path::Path};

use eddyline::model::algorithm::Algorithm;
use serde_json::Value;

/// The best items of a request, best first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// Model indices.
    pub(crate) items: Vec<usize>,
    /// DDPG, BCQ: action · item; REINFORCE: log-softmax.
    pub(crate) scores: Vec<f64>,
}

/// The whole file.
pub(crate) struct Expected {
    json: Value,
    pub(crate) user_count: usize,
    pub(crate) item_count: usize,
    pub(crate) history: usize,
    pub(crate) dim: usize,
    pub(crate) hidden: usize,
    pub(crate) k: usize,
    pub(crate) users: Vec<usize>,
    pub(crate) histories: Vec<Vec<usize>>,
    pub(crate) z: Vec<Vec<f32>>,
}

impl Expected {
    pub(crate) fn read(dir: &Path) -> Expected {
        let json: Value = serde_json::from_slice(&fs::read(dir.join("expected.json")).unwrap()).unwrap();
        Expected {
            user_count: size(&json["n_users"]),
            item_count: size(&json["n_items"]),
            history: size(&json["hist"]),
            dim: size(&json["dim"]),
            hidden: size(&json["hidden"]),
            k: size(&json["k"]),
            users: list(&json["user"], size),
            histories: list(&json["item"], |items| list(items, size)),
            z: list(&json["bcq_z"], |z| list(z, |v| v.as_f64().unwrap() as f32)),
            json,
        }
    }

    pub(crate) fn answers(&self, algorithm: Algorithm, with_z: bool) -> Vec<Answer> {
        let name = match algorithm {
            Algorithm::Ddpg => "ddpg",
            Algorithm::Reinforce => "reinforce",
            Algorithm::Bcq if with_z => "bcq",
            Algorithm::Bcq => "bcq_z_zero",
        };
        let answers = &self.json[name];
        let items = list(&answers["items"], |items| list(items, size));
        let scores = list(&answers["scores"], |scores| list(scores, |v| v.as_f64().unwrap()));
        items.into_iter().zip(scores).map(|(items, scores)| Answer { items, scores }).collect()
    }
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn list<T>(value: &Value, item: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(item).collect()
}
