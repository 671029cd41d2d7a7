//! What a training is told, with the defaults of the contract, section 8.

use serde::Serialize;
use serde_json::{Map, Value, json, to_value};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Config, EmbeddingMethod, TrainSection};
pub use crate::config::{Device, EmbeddingLoss};
use crate::learn::LogFormat;
use crate::model::algorithm::Algorithm;

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The tables of users and items that the policies start from.
    Embeddings,
    /// A policy over them.
    Policy(Algorithm),
}

impl Subject {
    /// The word on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Subject::Embeddings => "embeddings",
            Subject::Policy(algorithm) => algorithm.name(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The numbers that decide what comes out. Two runs with equal ones, on equal data, may share a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// Everything random follows from it.
    pub seed: u64,
    /// Samples a step.
    pub batch: usize,
    /// Adam's step size.
    pub lr: f64,
    /// Share of the samples that is held out for early stopping; 0 without it.
    pub held_out: f64,
    /// What only this subject has.
    pub own: Own,
}

/// What one subject has and others lack.
#[derive(Clone, Debug, PartialEq)]
pub enum Own {
    /// `train embeddings`.
    Embeddings(EmbeddingParameters),
    /// `train embeddings --method spectral`.
    Spectral(SpectralParameters),
    /// `train reinforce`.
    Reinforce(PolicyParameters, ReinforceParameters),
    /// `train ddpg`.
    Ddpg(PolicyParameters, DdpgParameters),
    /// `train bcq`.
    Bcq(PolicyParameters, BcqParameters),
}

/// Of the embeddings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EmbeddingParameters {
    /// d: of the ids, of every feature, and of what comes out.
    pub dim: usize,
    /// What is minimised.
    pub loss: EmbeddingLoss,
}

/// Of the embeddings that are made of what follows what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpectralParameters {
    /// d.
    pub dim: usize,
}

/// Of all policies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyParameters {
    /// H: items of a history.
    pub history: usize,
    /// h: width of the hidden layers.
    pub hidden: usize,
    /// γ, the discount of later rewards.
    pub gamma: f64,
    /// The weight of each behaviour, as configured.
    pub rewards: Vec<i64>,
}

/// Of top-k off-policy REINFORCE.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReinforceParameters {
    /// K of the top-K correction: the length of the lists that the policy is for.
    pub top_k: u32,
    /// The most that an importance weight π/β counts.
    pub weight_clip: f64,
    /// The gap that ends a session, in milliseconds.
    pub session_gap_ms: i64,
}

impl ReinforceParameters {
    /// As configured.
    pub fn of(section: &TrainSection) -> ReinforceParameters {
        let &TrainSection { top_k, weight_clip, session_gap, .. } = section;
        let session_gap_ms = i64::try_from(session_gap.ms()).unwrap_or(i64::MAX);
        ReinforceParameters { top_k, weight_clip, session_gap_ms }
    }
}

/// Of DDPG.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DdpgParameters {
    /// τ, how far the target networks follow at each step.
    pub tau: f64,
    /// How much the actor is kept to the log's actions; 0 is DDPG.
    pub behavior_weight: f64,
}

impl DdpgParameters {
    /// As configured.
    pub fn of(section: &TrainSection) -> DdpgParameters {
        DdpgParameters { tau: section.tau.unwrap_or(0.001), behavior_weight: section.behavior_weight }
    }
}

/// Of BCQ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BcqParameters {
    /// τ, how far the target networks follow at each step.
    pub tau: f64,
    /// Φ: the perturbation's largest size.
    pub phi: f64,
    /// λ: how much the lesser of the two critics counts.
    pub lambda: f64,
    /// n: actions sampled for a target.
    pub actions: usize,
    /// The weight of the KL term in the generator's loss.
    pub kl_weight: f64,
}

impl BcqParameters {
    /// As configured. Φ is the contract's, since scoring has it, and the file can't carry another.
    pub fn of(section: &TrainSection) -> BcqParameters {
        let &TrainSection { tau, lambda, actions, kl_weight, .. } = section;
        BcqParameters { tau: tau.unwrap_or(0.005), phi: 0.05, lambda, actions, kl_weight }
    }
}

impl Hyperparameters {
    /// As configured for `subject`; by default the contract's.
    pub fn of(subject: Subject, config: &Config) -> Hyperparameters {
        let section = &config.train;
        let &TrainSection { dim, history, hidden, gamma, loss, .. } = section;
        let policy = || PolicyParameters { history, hidden, gamma, rewards: config.behaviors.rewards.clone() };
        let own = match (subject, section.method) {
            (Subject::Embeddings, EmbeddingMethod::Dssm) => Own::Embeddings(EmbeddingParameters { dim, loss }),
            (Subject::Embeddings, EmbeddingMethod::Spectral) => Own::Spectral(SpectralParameters { dim }),
            (Subject::Policy(Algorithm::Reinforce), _) => Own::Reinforce(policy(), ReinforceParameters::of(section)),
            (Subject::Policy(Algorithm::Ddpg), _) => Own::Ddpg(policy(), DdpgParameters::of(section)),
            (Subject::Policy(Algorithm::Bcq), _) => Own::Bcq(policy(), BcqParameters::of(section)),
        };
        let batch = if subject == Subject::Policy(Algorithm::Reinforce) { 128 } else { 2048 };
        let lr = if subject == Subject::Embeddings { 5e-4 } else { 1e-5 };
        Hyperparameters {
            seed: section.seed,
            batch: section.batch.unwrap_or(batch),
            lr: section.lr.unwrap_or(lr),
            held_out: if section.patience.is_some() { HELD_OUT } else { 0.0 },
            own,
        }
    }

    /// All of them in one object.
    pub fn json(&self) -> Value {
        let part = |value: Result<Value, serde_json::Error>| match value {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let own = match &self.own {
            Own::Embeddings(own) => vec![part(to_value(own))],
            Own::Spectral(own) => {
                let common = json!({ "method": "spectral", "seed": self.seed });
                return [part(Ok(common)), part(to_value(own))].into_iter().flatten().collect::<Map<_, _>>().into();
            }
            Own::Reinforce(policy, own) => vec![part(to_value(policy)), part(to_value(own))],
            Own::Ddpg(policy, own) => vec![part(to_value(policy)), part(to_value(own))],
            Own::Bcq(policy, own) => vec![part(to_value(policy)), part(to_value(own))],
        };
        let common = json!({ "seed": self.seed, "batch": self.batch, "lr": self.lr, "held_out": self.held_out });
        [part(Ok(common))].into_iter().chain(own).flatten().collect::<Map<_, _>>().into()
    }

    /// What is trained.
    pub fn subject(&self) -> Subject {
        match &self.own {
            Own::Embeddings(_) | Own::Spectral(_) => Subject::Embeddings,
            Own::Reinforce(..) => Subject::Policy(Algorithm::Reinforce),
            Own::Ddpg(..) => Subject::Policy(Algorithm::Ddpg),
            Own::Bcq(..) => Subject::Policy(Algorithm::Bcq),
        }
    }
}

/// Epochs, as configured or by default.
pub fn epochs(subject: Subject, section: &TrainSection) -> u32 {
    section.epochs.unwrap_or(if subject == Subject::Embeddings { 10 } else { 100 })
}

/// Share of the samples that is held out where training may stop early.
const HELD_OUT: f64 = 0.05;

/// A training, resolved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The log.
    pub data: PathBuf,
    /// How it is read.
    pub format: LogFormat,
    /// The model directory.
    pub dir: PathBuf,
    /// What decides the outcome.
    pub parameters: Hyperparameters,
    /// After so many epochs it is done; a run that has done fewer goes on.
    pub epochs: u32,
    /// Stop after so many epochs without a better metric on the held-out samples.
    pub patience: Option<u32>,
    /// Where tensors are.
    pub device: Device,
    /// Threads of libtorch; `None` leaves it to libtorch, one a core.
    pub threads: Option<usize>,
    /// Write a checkpoint at least so often, besides each epoch's end.
    pub checkpoint: Duration,
    /// Forget an earlier run's checkpoint, and replace what is in the directory.
    pub restart: bool,
    /// Write TensorBoard's event files here.
    pub tensorboard: Option<PathBuf>,
}
