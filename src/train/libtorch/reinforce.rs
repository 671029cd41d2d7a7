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
//! So P is written once and read twice, and no other matrix of that size is made. On a processor with AVX2 the layers are
//! [`super::softmax`]'s, elsewhere libtorch's operations.

use tch::{Kind, TchError, Tensor, no_grad};

use super::adam::Adam;
use super::network::{Init, Initial, Parameters, Spec, floats, floats_mut};
#[cfg(target_arch = "x86_64")]
use super::softmax::{Hidden, Layer, LayerMut, Softmax, available};
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
    /// π's layer and β's.
    #[cfg(target_arch = "x86_64")]
    softmax: [Softmax; 2],
}

/// What both layers make of a batch's hidden vectors.
struct Heads {
    /// Of the policy, of the behaviour policy; and the mean importance weight.
    losses: [Tensor; 3],
    /// Of the policy's loss by the hidden vectors, (B, hidden).
    by_hidden: Tensor,
    /// By weight and bias of π's layer, then of β's.
    gradients: [Tensor; 4],
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
        let adam = Adam::new(&parameters, lr)?;
        Ok(Reinforce {
            states,
            options,
            parameters,
            adam,
            unused,
            #[cfg(target_arch = "x86_64")]
            softmax: Default::default(),
        })
    }

    /// The step of this number, from 1. `samples.rewards` are returns.
    pub(super) fn step(&mut self, samples: &Samples, step: i64) -> Result<Vec<f64>> {
        let Gradients { policy_loss, behavior_loss, weight, all } = self.gradients(samples)?;
        self.adam.update(&mut self.parameters, &all, step)?;
        [policy_loss, behavior_loss, weight].iter().map(|value| value.f_double_value(&[])).collect()
    }

    /// Both losses and their gradients.
    pub(super) fn gradients(&mut self, samples: &Samples) -> Result<Gradients> {
        let batch = self.states.gather(samples)?;
        let first = self.parameters.linear("pfc1").relu(&batch.states()?)?;
        let h = self.parameters.linear("pfc2").relu(&first)?;
        let Heads { losses, by_hidden, gradients } = self.heads(&h.f_detach()?, samples)?;
        // A function whose gradient by h is `by_hidden`.
        let through = h.f_mul(&by_hidden)?.f_sum(Kind::Float)?;
        let mut all = Tensor::f_run_backward(&[&through], &self.parameters.views()[..4], false, false)?;
        all.extend(gradients);
        let [policy_loss, behavior_loss, weight] = losses;
        Ok(Gradients { policy_loss, behavior_loss, weight, all })
    }

    fn heads(&mut self, hidden: &Tensor, samples: &Samples) -> Result<Heads> {
        #[cfg(target_arch = "x86_64")]
        if hidden.device() == tch::Device::Cpu && available(hidden.size()[1] as usize) {
            return no_grad(|| self.heads_here(hidden, samples));
        }
        no_grad(|| self.heads_by_libtorch(hidden, samples))
    }

    /// c, the losses' terms, and the importance weight of a sample of which π and β give the item these probabilities.
    #[cfg(target_arch = "x86_64")]
    fn coefficient(&self, pi: f64, beta: f64, returned: f64) -> [f64; 4] {
        // A probability that is 0 in 32 bits is none that can be divided by. Comparisons keep what is no number; `min` and
        // `max` would not, and nobody would be told of it.
        let [pi, beta] =
            [pi, beta].map(|p| if p < f64::from(f32::MIN_POSITIVE) { f64::from(f32::MIN_POSITIVE) } else { p });
        let k = f64::from(self.options.top_k);
        let weight = if pi / beta > self.options.weight_clip { self.options.weight_clip } else { pi / beta };
        let c = weight * k * (1.0 - pi).powf(k - 1.0) * returned;
        [c, -c * pi.ln(), -beta.ln(), weight]
    }

    /// [`heads_by_libtorch`](Self::heads_by_libtorch) by our own layers.
    #[cfg(target_arch = "x86_64")]
    fn heads_here(&mut self, hidden: &Tensor, samples: &Samples) -> Result<Heads> {
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
        let hidden = hidden.f_contiguous()?;
        let h = Hidden::new(floats(&hidden), samples.len());
        let [pi, beta] = ["softmax_fc", "fc3"].map(|key| self.parameters.linear(key));
        let [of_pi, of_beta] =
            [&pi, &beta].map(|linear| Layer { weight: floats(&linear.weight), bias: floats(&linear.bias) });
        let [mut p, mut b] = std::mem::take(&mut self.softmax);
        p.forward(of_pi, &h, threads);
        b.forward(of_beta, &h, threads);
        let (mut sums, mut coefficients) = ([0.0; 3], Vec::with_capacity(samples.len()));
        let size = samples.len() as f64;
        for (sample, (&item, &returned)) in samples.actions.iter().zip(&samples.rewards).enumerate() {
            let [pi, beta] = [&p, &b].map(|softmax| f64::from(softmax.probability(sample, item as usize)));
            let [c, terms @ ..] = self.coefficient(pi, beta, f64::from(returned));
            coefficients.push((c / size) as f32);
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term / size);
        }
        let mut gradients = [
            pi.weight.f_empty_like()?,
            pi.bias.f_empty_like()?,
            beta.weight.f_empty_like()?,
            beta.bias.f_empty_like()?,
        ];
        let [weight, bias, beta_weight, beta_bias] = &mut gradients;
        let gradient = LayerMut { weight: floats_mut(weight), bias: floats_mut(bias) };
        let by_hidden = p.backward(of_pi, &h, (&coefficients, &samples.actions), gradient, threads);
        coefficients.fill((1.0 / size) as f32);
        let gradient = LayerMut { weight: floats_mut(beta_weight), bias: floats_mut(beta_bias) };
        b.backward(of_beta, &h, (&coefficients, &samples.actions), gradient, threads);
        self.softmax = [p, b];
        let by_hidden = Tensor::f_from_slice(&by_hidden)?.f_view(hidden.size().as_slice())?;
        Ok(Heads { losses: sums.map(|sum| Tensor::from(sum as f32)), by_hidden, gradients })
    }

    fn heads_by_libtorch(&self, hidden: &Tensor, samples: &Samples) -> Result<Heads> {
        let (pi, beta) = (self.parameters.linear("softmax_fc"), self.parameters.linear("fc3"));
        let returns = self.states.column(&samples.rewards)?;
        let actions = Tensor::f_from_slice(&samples.actions)?.f_to_device(self.states.device())?;
        let size = samples.len() as f64;
        let chosen = actions.f_unsqueeze(1)?;
        let p = pi.apply(hidden)?.f_softmax(1, Kind::Float)?;
        let b = beta.apply(hidden)?.f_softmax(1, Kind::Float)?;
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
        let by_hidden = p.f_matmul(&pi.weight)?.f_sub_(&pi.weight.f_index_select(0, &actions)?)?.f_mul_(&c)?;
        let [by_weight, by_bias] = by_head(&p, hidden, &c, &actions)?;
        let [by_beta_weight, by_beta_bias] = by_head(&b, hidden, &one, &actions)?;
        let losses = [policy_loss, behavior_loss, weight.f_mean(Kind::Float)?];
        Ok(Heads { losses, by_hidden, gradients: [by_weight, by_bias, by_beta_weight, by_beta_bias] })
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

#[cfg(all(test, target_arch = "x86_64"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::network::Initial;
    use super::super::random::{Draws, Stream};
    use super::*;
    use eddyline::config::Config;
    use eddyline::model::weights::Embedding;
    use tch::Device;

    /// Batches and catalogues that are no multiples of a block, one sample, more threads than blocks.
    #[test]
    fn our_layers_are_libtorchs() {
        for (batch, items, scale, threads) in
            [(1, 5, 1.0, 1), (37, 411, 1.0, 3), (128, 1_000, 40.0, 2), (48, 97, 5.0, 8)]
        {
            let draw = |tensor, count: usize, bound| {
                let mut values = vec![0.0; count];
                Draws::new(7, Stream::Negatives, tensor).fill_uniform(bound, &mut values);
                values
            };
            let table = |rows| Embedding { rows, dim: 1, data: vec![0.0; rows] };
            let states = States::new(&table(1), &table(items), 1, Device::Cpu).unwrap();
            let options = ReinforceParameters { weight_clip: 1.5, ..ReinforceParameters::of(&Config::default().train) };
            let mut policy = Reinforce::new(states, 32, 0.1, options, &mut Initial::new(3, Device::Cpu)).unwrap();
            // Logits of any size.
            drop(no_grad(|| policy.parameters.flat().shallow_clone().f_mul_scalar_(scale)).unwrap());
            let actions = (0..batch).map(|at| (at * 31 % items) as i64).collect();
            let samples = Samples::of(Vec::new(), actions, draw(1, batch, 3.0), Vec::new());
            let hidden = Tensor::from_slice(&draw(2, batch * 32, 1.0)).view([batch as i64, 32]).relu();
            let expected = no_grad(|| policy.heads_by_libtorch(&hidden, &samples)).unwrap();
            let before = tch::get_num_threads();
            tch::set_num_threads(threads);
            let found = no_grad(|| policy.heads_here(&hidden, &samples));
            tch::set_num_threads(before);
            let found = found.unwrap();
            let pairs = expected.losses.iter().zip(&found.losses);
            let pairs = pairs.chain(expected.gradients.iter().zip(&found.gradients));
            for (expected, found) in pairs.chain([(&expected.by_hidden, &found.by_hidden)]) {
                assert_eq!(expected.size(), found.size());
                let most = expected.abs().max().double_value(&[]).max(1e-3);
                let off = (expected - found).abs().max().double_value(&[]);
                assert!(off <= 2e-5 * most, "off by {off} of {most}, batch {batch}, {items} items");
            }
        }
    }
}
