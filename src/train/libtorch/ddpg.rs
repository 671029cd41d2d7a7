//! Deep deterministic policy gradient (Lillicrap et al., arXiv 1509.02971, Algorithm 1), on a log instead of a replay buffer.
//!
//! An action is a point in the items' space, a = μ(s|θ^μ); the item that is shown is the one whose vector has the largest
//! product with it. For each minibatch of transitions (s_i, a_i, r_i, s_{i+1}) of the log:
//!
//! 1. y_i = r_i + γ Q'(s_{i+1}, μ'(s_{i+1}|θ^μ')|θ^Q'); only r_i at the end of a session.
//! 2. The critic descends L = 1/N Σ (y_i − Q(s_i, a_i|θ^Q))².
//! 3. The actor ascends J = 1/N Σ Q(s_i, μ(s_i|θ^μ)|θ^Q).
//! 4. θ' ← τθ + (1−τ)θ', for both targets.
//!
//! Where the actor is kept to the log (Fujimoto and Gu, "A minimalist approach to offline reinforcement learning", arXiv
//! 2106.06860), step 3 is: the actor descends −J / (1/N Σ |Q(s_i, μ(s_i))|) + w · mean (μ(s_i) − a_i)², the divisor being a number
//! here; the paper's α is 1/w. Nothing else tells the actor which actions the log has, and it goes where the critic only guesses.
//!
//! μ is fc3(relu(fc2(relu(fc1(s))))) (contract, section 4). Q is given the action at its second layer, as in the paper:
//! fc3(relu(fc2([relu(fc1(s)) ; a]))). No noise is added to actions: the log's are what they are.

use tch::{Kind, Reduction, TchError, Tensor, no_grad};

use super::adam::Adam;
use super::network::{Init, Initial, Parameters, Spec};
use super::states::{Gathered, Samples, States};
use eddyline::train::options::DdpgParameters;

type Result<T> = std::result::Result<T, TchError>;

/// Actor, critic, and their targets.
#[derive(Debug)]
pub(super) struct Ddpg {
    pub(super) states: States,
    options: DdpgParameters,
    pub(super) actor: Parameters,
    pub(super) critic: Parameters,
    pub(super) actor_target: Parameters,
    pub(super) critic_target: Parameters,
    actor_adam: Adam,
    critic_adam: Adam,
}

impl Ddpg {
    /// What a step reports, in order.
    pub(super) const LOSSES: &'static [&'static str] = &["critic_loss", "actor_loss"];

    pub(super) fn new(
        states: States,
        hidden: i64,
        lr: f64,
        options: DdpgParameters,
        initial: &mut Initial,
    ) -> Result<Ddpg> {
        let (dim, state) = (states.dim, states.width());
        let layer = |key, outputs, inputs| Spec::linear(key, outputs, inputs, Init::Xavier);
        let actor = [layer("fc1", hidden, state), layer("fc2", hidden, hidden), layer("fc3", dim, hidden)].concat();
        let critic =
            [layer("fc1", hidden, state), layer("fc2", hidden, hidden + dim), layer("fc3", 1, hidden)].concat();
        let (actor, critic) = (Parameters::new(&actor, initial)?, Parameters::new(&critic, initial)?);
        Ok(Ddpg {
            states,
            options,
            actor_target: actor.target()?,
            critic_target: critic.target()?,
            actor_adam: Adam::new(&actor, lr)?,
            critic_adam: Adam::new(&critic, lr)?,
            actor,
            critic,
        })
    }

    /// The step of this number, from 1.
    pub(super) fn step(&mut self, samples: &Samples, step: i64) -> Result<Vec<f64>> {
        let batch = self.states.gather(samples)?;
        let (critic_loss, gradients) = self.critic_loss(samples, &batch)?;
        self.critic_adam.update(&mut self.critic, &gradients, step)?;
        let (actor_loss, gradients) = self.actor_loss(&batch)?;
        self.actor_adam.update(&mut self.actor, &gradients, step)?;
        self.actor_target.follow(&self.actor, self.options.tau)?;
        self.critic_target.follow(&self.critic, self.options.tau)?;
        Ok(vec![critic_loss.f_double_value(&[])?, actor_loss.f_double_value(&[])?])
    }

    /// L, and its gradients by θ^Q.
    pub(super) fn critic_loss(&self, samples: &Samples, batch: &Gathered) -> Result<(Tensor, Vec<Tensor>)> {
        let (reward, discount) = (self.states.column(&samples.rewards)?, self.states.column(&samples.discounts)?);
        let y = no_grad(|| {
            // The first layers of both as one: half the passes over the states, in larger products.
            let (actor, critic) = (self.actor_target.linear("fc1"), self.critic_target.linear("fc1"));
            let both = actor.beside(&critic)?.turned(self.states.dim, self.states.width())?.relu(&batch.next()?)?;
            let hidden = both.size()[1] / 2;
            let action = act(&self.actor_target, both.f_narrow(1, 0, hidden)?)?;
            let first = both.f_narrow(1, hidden, hidden)?;
            reward.f_add(&discount.f_mul(&value(&self.critic_target, &first, &action)?)?)
        })?;
        let first = self.critic.linear("fc1").relu(&batch.states()?)?;
        let q = value(&self.critic, &first, &batch.actions()?)?;
        let loss = q.f_mse_loss(&y, Reduction::Mean)?;
        let gradients = Tensor::f_run_backward(&[&loss], self.critic.views(), false, false)?;
        Ok((loss, gradients))
    }

    /// −J, or what is descended in its place, and its gradients by θ^μ.
    pub(super) fn actor_loss(&self, batch: &Gathered) -> Result<(Tensor, Vec<Tensor>)> {
        let states = batch.states()?;
        // The critic's first layer does not see the action.
        let first = no_grad(|| self.critic.linear("fc1").relu(&states))?;
        let action = act(&self.actor, self.actor.linear("fc1").relu(&states)?)?;
        let q = value(&self.critic, &first, &action)?;
        let mut loss = q.f_mean(Kind::Float)?.f_neg()?;
        if self.options.behavior_weight > 0.0 {
            let size = q.f_detach()?.f_abs()?.f_mean(Kind::Float)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
            let away = action.f_mse_loss(&batch.actions()?, Reduction::Mean)?;
            loss = loss.f_div(&size)?.f_add(&away.f_mul_scalar(self.options.behavior_weight)?)?;
        }
        let gradients = Tensor::f_run_backward(&[&loss], self.actor.views(), false, false)?;
        Ok((loss, gradients))
    }

    /// Scores of all items without the padding item, (B, count).
    pub(super) fn scores(&self, states: &Tensor) -> Result<Tensor> {
        act(&self.actor, self.actor.linear("fc1").relu(states)?)?.f_matmul(&self.states.items()?.f_tr()?)
    }

    /// What a checkpoint holds.
    pub(super) fn tensors(&self) -> Vec<(&'static str, Tensor)> {
        let [actor_1, actor_2] = self.actor_adam.moments();
        let [critic_1, critic_2] = self.critic_adam.moments();
        [
            ("actor", self.actor.flat()),
            ("critic", self.critic.flat()),
            ("actor_target", self.actor_target.flat()),
            ("critic_target", self.critic_target.flat()),
            ("actor_adam.m", actor_1),
            ("actor_adam.v", actor_2),
            ("critic_adam.m", critic_1),
            ("critic_adam.v", critic_2),
        ]
        .map(|(name, tensor)| (name, tensor.shallow_clone()))
        .into()
    }

    /// The layers of the state_dict.
    pub(super) fn layers(&self) -> Vec<(String, Tensor)> {
        self.actor.iter().map(|(key, tensor)| (key.to_owned(), tensor.shallow_clone())).collect()
    }
}

/// μ, from what its first layer made of the state.
fn act(actor: &Parameters, first: Tensor) -> Result<Tensor> {
    actor.linear("fc3").apply(&actor.linear("fc2").relu(&first)?)
}

/// Q, (B, 1), from what its first layer made of the state.
fn value(critic: &Parameters, first: &Tensor, action: &Tensor) -> Result<Tensor> {
    critic.linear("fc3").apply(&critic.linear("fc2").relu(&Tensor::f_cat(&[first, action], 1)?)?)
}
