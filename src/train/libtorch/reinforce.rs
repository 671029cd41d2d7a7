//! Top-K off-policy REINFORCE (Chen et al., "Top-K Off-Policy Correction for a REINFORCE Recommender System",
//! arXiv 1812.02353).
//!
//! The log was made by some behaviour policy β, not by π. The gradient of the return of lists of K items is (the paper's
//! equation 6, with the first-order weights of section 4.2)
//!
//! ∇J = Σ ω(s,a) λ_K(s,a) R ∇log π(a|s), with
//! - ω = min(π(a|s)/β(a|s), c): the importance weight, capped (section 4.4);
//! - λ_K = K (1 − π(a|s))^(K−1): the top-K correction (section 4.3);
//! - R = Σ γ^k r_k to the end of the session.
//!
//! ω, λ and R are numbers here, not functions to be differentiated. β is learned beside π (section 4.2): a softmax layer of
//! its own on π's hidden layer, which its gradient does not reach; it descends −mean log β(a|s).
//!
//! π is softmax_fc(relu(pfc2(relu(pfc1(s))))) over the catalogue and the padding item, and β's layer is kept in the
//! state_dict's fc3, which has its shape and is else unused (contract, section 4); fc1 and fc2 stay as they begin.
//!
//! Nearly all work is in matrices of B × count. With P = softmax(h Wᵀ + b) and a loss −1/B Σ c_i log P_i[a_i], the gradient by
//! the logits is diag(c/B)(P − onehot(a)), so that
//!
//! - by W: Pᵀ (c⊙h)/B, less (c⊙h)_i/B in the row a_i;
//! - by b: Pᵀ c/B, less c_i/B at a_i;
//! - by h: (c/B)⊙(P W − W[a]).
//!
//! So P is written once and read twice, and no other matrix of that size is made.

use tch::{Kind, TchError, Tensor, no_grad};

use super::adam::Adam;
use super::network::{Init, Initial, Parameters, Spec};
use super::states::{Samples, States};
use eddyline::train::options::ReinforceParameters;

type Result<T> = std::result::Result<T, TchError>;

/// π and β.
#[derive(Debug)]
pub(super) struct Reinforce {
    pub(super) states: States,
    options: ReinforceParameters,
    /// pfc1, pfc2, softmax_fc (π) and fc3 (β).
    pub(super) parameters: Parameters,
    adam: Adam,
    /// fc1 and fc2, which decide nothing.
    unused: Parameters,
}

/// Gradients in the order of `parameters`, and the losses.
#[derive(Debug)]
pub(super) struct Gradients {
    pub(super) policy_loss: Tensor,
    pub(super) behavior_loss: Tensor,
    pub(super) weight: Tensor,
    pub(super) all: Vec<Tensor>,
}

impl Reinforce {
    /// What a step reports, in order.
    pub(super) const LOSSES: &'static [&'static str] = &["policy_loss", "behavior_loss", "importance_weight"];

    pub(super) fn new(
        states: States,
        hidden: i64,
        lr: f64,
        options: ReinforceParameters,
        initial: &mut Initial,
    ) -> Result<Reinforce> {
        let (state, outputs) = (states.width(), states.count + 1);
        let layer = |key, outputs, inputs| Spec::linear(key, outputs, inputs, Init::Xavier);
        let specs = [
            layer("pfc1", hidden, state),
            layer("pfc2", hidden, hidden),
            layer("softmax_fc", outputs, hidden),
            layer("fc3", outputs, hidden),
        ];
        let parameters = Parameters::new(&specs.concat(), initial)?;
        let unused = Parameters::new(&[layer("fc1", hidden, state), layer("fc2", hidden, hidden)].concat(), initial)?;
        Ok(Reinforce { states, options, adam: Adam::new(&parameters, lr)?, parameters, unused })
    }

    /// The step of this number, from 1. `samples.rewards` are returns.
    pub(super) fn step(&mut self, samples: &Samples, step: i64) -> Result<Vec<f64>> {
        let Gradients { policy_loss, behavior_loss, weight, all } = self.gradients(samples)?;
        self.adam.update(&mut self.parameters, &all, step)?;
        [policy_loss, behavior_loss, weight].iter().map(|value| value.f_double_value(&[])).collect()
    }

    /// Both losses and their gradients.
    pub(super) fn gradients(&self, samples: &Samples) -> Result<Gradients> {
        let (pi, beta) = (self.parameters.linear("softmax_fc"), self.parameters.linear("fc3"));
        let batch = self.states.gather(samples)?;
        let first = self.parameters.linear("pfc1").relu(&batch.states()?)?;
        let h = self.parameters.linear("pfc2").relu(&first)?;
        let returns = self.states.column(&samples.rewards)?;
        let actions = Tensor::f_from_slice(&samples.actions)?.f_to_device(self.states.device())?;
        let size = samples.len() as f64;
        let (losses, by_h, heads) = no_grad(|| {
            let hidden = h.f_detach()?;
            let chosen = actions.f_unsqueeze(1)?;
            let p = pi.apply(&hidden)?.f_softmax(1, Kind::Float)?;
            let b = beta.apply(&hidden)?.f_softmax(1, Kind::Float)?;
            // A probability that is 0 in 32 bits is none that can be divided by.
            let of = |all: &Tensor| all.f_gather(1, &chosen, false)?.f_clamp_min(f64::from(f32::MIN_POSITIVE));
            let (p_a, b_a) = (of(&p)?, of(&b)?);
            let weight = p_a.f_div(&b_a)?.f_clamp_max(self.options.weight_clip)?;
            let power = f64::from(self.options.top_k) - 1.0;
            let mut correction = p_a.f_neg()?.f_add_scalar_(1.0)?.f_pow_tensor_scalar(power)?;
            let correction = correction.f_mul_scalar_(f64::from(self.options.top_k))?;
            let mut c = weight.f_mul(&correction)?.f_mul_(&returns)?;
            let policy_loss = c.f_mul(&p_a.f_log()?)?.f_mean(Kind::Float)?.f_neg()?;
            let behavior_loss = b_a.f_log()?.f_mean(Kind::Float)?.f_neg()?;
            let c = c.f_div_scalar_(size)?;
            let one = c.f_full_like(1.0 / size)?;
            let by_h = p.f_matmul(&pi.weight)?.f_sub_(&pi.weight.f_index_select(0, &actions)?)?.f_mul_(&c)?;
            let mut heads = Vec::with_capacity(4);
            heads.extend(by_head(&p, &hidden, &c, &actions)?);
            heads.extend(by_head(&b, &hidden, &one, &actions)?);
            Ok::<_, TchError>(([policy_loss, behavior_loss, weight.f_mean(Kind::Float)?], by_h, heads))
        })?;
        // A function whose gradient by h is `by_h`.
        let through = h.f_mul(&by_h)?.f_sum(Kind::Float)?;
        let mut all = Tensor::f_run_backward(&[&through], &self.parameters.views()[..4], false, false)?;
        all.extend(heads);
        let [policy_loss, behavior_loss, weight] = losses;
        Ok(Gradients { policy_loss, behavior_loss, weight, all })
    }

    /// Scores of all items without the padding item, (B, count).
    pub(super) fn scores(&self, states: &Tensor) -> Result<Tensor> {
        let hidden = self.parameters.linear("pfc2").relu(&self.parameters.linear("pfc1").relu(states)?)?;
        self.parameters.linear("softmax_fc").apply(&hidden)?.f_narrow(1, 0, self.states.count)
    }

    /// What a checkpoint holds.
    pub(super) fn tensors(&self) -> Vec<(&'static str, Tensor)> {
        let [first, second] = self.adam.moments();
        [("policy", self.parameters.flat()), ("unused", self.unused.flat()), ("adam.m", first), ("adam.v", second)]
            .map(|(name, tensor)| (name, tensor.shallow_clone()))
            .into()
    }

    /// The layers of the state_dict.
    pub(super) fn layers(&self) -> Vec<(String, Tensor)> {
        let all = self.parameters.iter().chain(self.unused.iter());
        all.map(|(key, tensor)| (key.to_owned(), tensor.shallow_clone())).collect()
    }
}

/// Gradients by weight and bias of a softmax layer with the probabilities `p` and coefficients `c`, (B, 1).
fn by_head(p: &Tensor, hidden: &Tensor, c: &Tensor, actions: &Tensor) -> Result<[Tensor; 2]> {
    let scaled = hidden.f_mul(c)?;
    let mut weight = p.f_tr()?.f_matmul(&scaled)?;
    let mut bias = p.f_tr()?.f_mv(&c.f_view([-1])?)?;
    let minus = scaled.f_neg()?;
    let weight = weight.f_index_add_(0, actions, &minus)?;
    let bias = bias.f_index_add_(0, actions, &c.f_view([-1])?.f_neg()?)?;
    Ok([weight, bias])
}
