//! The three policies as the trainer sees them: batches of their samples, steps, and the state_dict that comes out.

use tch::{Device, TchError, Tensor, no_grad};

use super::bcq::{Bcq, Noise};
use super::ddpg::Ddpg;
use super::network::Initial;
use super::reinforce::Reinforce;
use super::states::{Samples, States};
use super::trainer::{Feed, Learner};
use eddyline::learn::{Interactions, SessionRule, Sessions};
use eddyline::model::directory::Tables;
use eddyline::train::options::{Hyperparameters, Own};

type Result<T> = std::result::Result<T, TchError>;

/// Samples whose items are scored at once.
const SCORED: usize = 256;
/// k of the metric on held-out samples.
const K: f64 = 10.0;

/// A batch of transitions, with what BCQ draws for it.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) samples: Samples,
    pub(super) noise: Noise,
}

/// Makes batches of a log's samples.
#[derive(Debug)]
pub(super) struct Transitions<'a> {
    sessions: Sessions<'a>,
    users: usize,
    gamma: f64,
    /// Of every sample, for REINFORCE.
    returns: Option<Vec<f32>>,
    /// What noise depends on, for BCQ: seed, d, n.
    noise: Option<(u64, usize, usize)>,
}

impl<'a> Transitions<'a> {
    /// # Panics
    /// If the parameters are those of embeddings.
    pub(super) fn new(log: &'a Interactions, parameters: &Hyperparameters, dim: usize) -> Transitions<'a> {
        let (policy, rule) = match &parameters.own {
            Own::Reinforce(policy, own) => (policy, SessionRule::Gap(own.session_gap_ms)),
            Own::Ddpg(policy, _) | Own::Bcq(policy, _) => (policy, SessionRule::User),
            Own::Embeddings(_) | Own::Spectral(_) => unreachable!("embeddings have no transitions"),
        };
        let sessions = Sessions::new(log, policy.history, rule, &policy.rewards);
        let returns = matches!(parameters.own, Own::Reinforce(..)).then(|| sessions.returns(policy.gamma as f32));
        let noise = match &parameters.own {
            Own::Bcq(_, own) => Some((parameters.seed, dim, own.actions)),
            _ => None,
        };
        Transitions { sessions, users: log.users.len(), gamma: policy.gamma, returns, noise }
    }
}

impl Feed for Transitions<'_> {
    type Batch = Batch;

    fn samples(&self) -> u64 {
        self.sessions.len() as u64
    }

    fn batch(&self, epoch: u32, place: u64, numbers: &[usize]) -> Batch {
        let mut samples = Samples::fill(&self.sessions, numbers, self.users, self.gamma);
        if let Some(returns) = &self.returns {
            samples.rewards.iter_mut().zip(numbers).for_each(|(reward, &number)| *reward = returns[number]);
        }
        let noise = self
            .noise
            .filter(|_| epoch > 0)
            .map(|(seed, dim, actions)| Noise::draw(seed, epoch, place, numbers.len(), dim, actions));
        Batch { samples, noise: noise.unwrap_or_default() }
    }
}

/// One of them.
#[derive(Debug)]
pub(super) enum Policy {
    Reinforce(Box<Reinforce>),
    Ddpg(Box<Ddpg>),
    Bcq(Box<Bcq>),
}

impl Policy {
    /// As it begins.
    ///
    /// # Panics
    /// If the parameters are those of embeddings.
    pub(super) fn new(tables: &Tables, parameters: &Hyperparameters, device: Device) -> Result<Policy> {
        let mut initial = Initial::new(parameters.seed, device);
        let initial = &mut initial;
        let lr = parameters.lr;
        let states = |history| States::new(&tables.users, &tables.items, history, device);
        Ok(match &parameters.own {
            Own::Reinforce(policy, own) => {
                let states = states(policy.history)?;
                Policy::Reinforce(Reinforce::new(states, policy.hidden as i64, lr, own.clone(), initial)?.into())
            }
            Own::Ddpg(policy, own) => {
                Policy::Ddpg(Ddpg::new(states(policy.history)?, policy.hidden as i64, lr, own.clone(), initial)?.into())
            }
            Own::Bcq(policy, own) => {
                let states = states(policy.history)?;
                Policy::Bcq(Bcq::new(states, policy.hidden as i64, lr, own.clone(), initial)?.into())
            }
            Own::Embeddings(_) | Own::Spectral(_) => unreachable!("embeddings are no policy"),
        })
    }

    fn states(&self) -> &States {
        match self {
            Policy::Reinforce(policy) => &policy.states,
            Policy::Ddpg(policy) => &policy.states,
            Policy::Bcq(policy) => &policy.states,
        }
    }

    fn scores(&self, states: &Tensor) -> Result<Tensor> {
        match self {
            Policy::Reinforce(policy) => policy.scores(states),
            Policy::Ddpg(policy) => policy.scores(states),
            Policy::Bcq(policy) => policy.scores(states),
        }
    }

    /// The whole state_dict, by dotted key.
    pub(super) fn state_dict(&self) -> Result<Vec<(String, Tensor)>> {
        let (prefix, layers) = match self {
            Policy::Reinforce(policy) => ("", policy.layers()),
            Policy::Ddpg(policy) => ("", policy.layers()),
            Policy::Bcq(policy) => ("generator.", policy.layers()),
        };
        let [users, items] = self.states().tables()?;
        let tables = [("user_embeds", users), ("item_embeds", items)];
        let tables = tables.map(|(name, table)| (format!("{prefix}{name}.weight"), table));
        Ok(tables.into_iter().chain(layers).collect())
    }
}

impl Learner for Policy {
    type Batch = Batch;

    fn losses(&self) -> &'static [&'static str] {
        match self {
            Policy::Reinforce(_) => Reinforce::LOSSES,
            Policy::Ddpg(_) => Ddpg::LOSSES,
            Policy::Bcq(_) => Bcq::LOSSES,
        }
    }

    fn step(&mut self, batch: &Batch, step: i64) -> Result<Vec<f64>> {
        match self {
            Policy::Reinforce(policy) => policy.step(&batch.samples, step),
            Policy::Ddpg(policy) => policy.step(&batch.samples, step),
            Policy::Bcq(policy) => policy.step(&batch.samples, &batch.noise, step),
        }
    }

    /// Mean NDCG@10 of the next item among all items.
    fn held_out(&self, batch: &Batch) -> Result<(&'static str, f64)> {
        let sum = no_grad(|| {
            let states = self.states().gather(&batch.samples)?.states()?;
            let device = self.states().device();
            let actions = Tensor::f_from_slice(&batch.samples.actions)?.f_to_device(device)?.f_view([-1, 1])?;
            let mut sum = 0.0;
            for from in (0..batch.samples.len()).step_by(SCORED) {
                let rows = SCORED.min(batch.samples.len() - from) as i64;
                let scores = self.scores(&states.f_narrow(0, from as i64, rows)?)?;
                let actions = actions.f_narrow(0, from as i64, rows)?;
                // Rank from 1; equal scores go to the smaller index, and few are equal.
                let better = scores.f_gt_tensor(&scores.f_gather(1, &actions, false)?)?;
                let rank = better.f_sum_dim_intlist([1].as_slice(), false, tch::Kind::Float)?.f_add_scalar(1.0)?;
                let gain = rank.f_add_scalar(1.0)?.f_log2()?.f_reciprocal()?;
                let counted = gain.f_mul(&rank.f_le(K)?)?;
                sum += counted.f_sum(tch::Kind::Double)?.f_double_value(&[])?;
            }
            Ok::<_, TchError>(sum)
        })?;
        Ok(("held_out_ndcg@10", sum / batch.samples.len().max(1) as f64))
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let tensors = match self {
            Policy::Reinforce(policy) => policy.tensors(),
            Policy::Ddpg(policy) => policy.tensors(),
            Policy::Bcq(policy) => policy.tensors(),
        };
        tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
    }
}
