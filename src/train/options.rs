//! What a training is told, with the defaults of the contract, section 8.

use serde::Serialize;
use serde_json::{Map, Value, json, to_value};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

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

/// Where the tensors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl std::str::FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        let device = match text.strip_prefix("cuda") {
            None if text == "cpu" => Some(Device::Cpu),
            Some("") => Some(Device::Cuda(0)),
            Some(index) => index.strip_prefix(':').and_then(|index| index.parse().ok()).map(Device::Cuda),
            None => None,
        };
        device.ok_or_else(|| "expected cpu, cuda or cuda:N".to_owned())
    }
}

/// The loss of the embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EmbeddingLoss {
    /// 1 − cos for what happened, max(0, cos) for what did not: PyTorch's `CosineEmbeddingLoss` of margin 0.
    Cosine,
    /// Binary cross-entropy of σ(cos).
    Bce,
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

impl Default for EmbeddingParameters {
    fn default() -> EmbeddingParameters {
        EmbeddingParameters { dim: 32, loss: EmbeddingLoss::Cosine }
    }
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

impl Default for PolicyParameters {
    fn default() -> PolicyParameters {
        PolicyParameters { history: 10, hidden: 64, gamma: 0.99, rewards: vec![1, 2, 2, 3] }
    }
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

impl Default for ReinforceParameters {
    fn default() -> ReinforceParameters {
        ReinforceParameters { top_k: 10, weight_clip: 2.0, session_gap_ms: crate::learn::sessions::GAP_MS }
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

impl Default for DdpgParameters {
    fn default() -> DdpgParameters {
        DdpgParameters { tau: 0.001, behavior_weight: 0.0 }
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

impl Default for BcqParameters {
    fn default() -> BcqParameters {
        BcqParameters { tau: 0.005, phi: 0.05, lambda: 0.75, actions: 10, kl_weight: 0.5 }
    }
}

impl Hyperparameters {
    /// The contract's.
    pub fn new(subject: Subject) -> Hyperparameters {
        let policy = PolicyParameters::default();
        let (batch, lr, own) = match subject {
            Subject::Embeddings => (2048, 5e-4, Own::Embeddings(EmbeddingParameters::default())),
            Subject::Policy(Algorithm::Reinforce) => {
                (128, 1e-5, Own::Reinforce(policy, ReinforceParameters::default()))
            }
            Subject::Policy(Algorithm::Ddpg) => (2048, 1e-5, Own::Ddpg(policy, DdpgParameters::default())),
            Subject::Policy(Algorithm::Bcq) => (2048, 1e-5, Own::Bcq(policy, BcqParameters::default())),
        };
        Hyperparameters { seed: 1, batch, lr, held_out: 0.0, own }
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

/// Epochs, unless told otherwise.
pub fn default_epochs(subject: Subject) -> u32 {
    if subject == Subject::Embeddings { 10 } else { 100 }
}

/// Share of the samples that is held out where training may stop early.
pub const HELD_OUT: f64 = 0.05;

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
