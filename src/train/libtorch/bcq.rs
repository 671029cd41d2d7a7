//! Batch-constrained deep Q-learning (Fujimoto, Meger, Precup, arXiv 1812.02900, Algorithm 1).
//!
//! The policy chooses among actions that are likely in the log: a generator G_ω, a conditional variational autoencoder, makes
//! actions of a state, a perturbator ξ_φ moves them by at most Φ, two critics value them. For each minibatch (s, a, r, s'):
//!
//! 1. μ, σ = E_ω1(s, a); ã = D_ω2(s, z), z ~ N(μ, σ); ω descends mean (a − ã)² + ½ KL(N(μ, σ) ‖ N(0, 1)), both means over all
//!    numbers of the minibatch, log σ kept in [−4, 15].
//! 2. n actions a_i ~ G_ω(s'), moved by ξ_φ'(s', a_i, Φ);
//!    y = r + γ max_i [λ min_j Q_θ'j(s', a_i) + (1−λ) max_j Q_θ'j(s', a_i)]; only r at the end of a session.
//! 3. θ_1 and θ_2 descend mean (y − Q_θj(s, a))², with the logged action a.
//! 4. φ ascends mean Q_θ1(s, a + ξ_φ(s, a, Φ)), a ~ G_ω(s).
//! 5. θ'_j and φ' follow by τ.
//!
//! An action of G is D_ω2(s, z) with z ~ clamp(N(0, 1), −½, ½), as the paper's own program draws it and as scoring does
//! (contract, section 4). The layers have the shapes of the state_dict there; a critic is fc3(relu(fc2(relu(fc1([s ; a]))))).
//!
//! The n actions of a state share it: what a first layer makes of the state is computed once for all of them
//! ([`super::network::Linear::head`]), which is nine tenths of the work of doing it n times.

use tch::{Kind, Reduction, TchError, Tensor, no_grad};

use super::adam::Adam;
use super::network::{Init, Initial, Linear, Parameters, Spec};
use super::random::{Draws, Stream};
use super::states::{Gathered, Samples, States};
use eddyline::train::options::BcqParameters;

type Result<T> = std::result::Result<T, TchError>;

const LOG_STD_MIN: f64 = -4.0;
const LOG_STD_MAX: f64 = 15.0;

/// Generator, perturbator, critics, and the targets.
#[derive(Debug)]
pub(super) struct Bcq {
    pub(super) states: States,
    options: BcqParameters,
    pub(super) generator: Parameters,
    pub(super) perturbator: Parameters,
    /// Both critics, `1.fc1` … and `2.fc1` ….
    pub(super) critics: Parameters,
    pub(super) perturbator_target: Parameters,
    pub(super) critics_target: Parameters,
    generator_adam: Adam,
    perturbator_adam: Adam,
    critics_adam: Adam,
    /// fc1–fc3 of the generator, which decide nothing.
    unused: Parameters,
}

/// The random numbers of a batch.
#[derive(Clone, Debug, Default)]
pub(super) struct Noise {
    /// ε of the reparametrisation, (B, 2d).
    pub(super) generator: Vec<f32>,
    /// z of the target's actions, (B·n, 2d), clamped.
    pub(super) targets: Vec<f32>,
    /// z of the perturbator's actions, (B, 2d), clamped.
    pub(super) actions: Vec<f32>,
}

impl Noise {
    /// Of `count` samples from the place `first` of an epoch's order on.
    pub(super) fn draw(seed: u64, epoch: u32, first: u64, count: usize, dim: usize, actions: usize) -> Noise {
        let latent = 2 * dim;
        let draw = |stream, per_sample: usize, fill: fn(&Draws, u64, &mut [f32])| {
            let mut values = vec![0.0; count * per_sample];
            // Blocks of four are dealt to samples whole, so that a sample's numbers do not depend on the batch's size.
            let blocks = per_sample.div_ceil(4) as u64;
            let draws = Draws::new(seed, stream, epoch);
            for (sample, values) in (first..).zip(values.chunks_mut(per_sample)) {
                fill(&draws, sample * blocks, values);
            }
            values
        };
        Noise {
            generator: draw(Stream::Generator, latent, Draws::fill_normal),
            targets: draw(Stream::Targets, latent * actions, Draws::fill_clamped_normal),
            actions: draw(Stream::Actions, latent, Draws::fill_clamped_normal),
        }
    }
}

impl Bcq {
    /// What a step reports, in order.
    pub(super) const LOSSES: &'static [&'static str] = &["generator_loss", "critic_loss", "perturbator_loss"];

    pub(super) fn new(
        states: States,
        hidden: i64,
        lr: f64,
        options: BcqParameters,
        initial: &mut Initial,
    ) -> Result<Bcq> {
        let (dim, state) = (states.dim, states.width());
        let latent = 2 * dim;
        let layer = |key: &str, outputs, inputs| Spec::linear(key, outputs, inputs, Init::Xavier);
        let three = |names: [&str; 3], inputs, outputs| {
            [layer(names[0], hidden, inputs), layer(names[1], hidden, hidden), layer(names[2], outputs, hidden)]
                .concat()
        };
        let encoder = [
            layer("encoder1", hidden, state + dim),
            layer("encoder2", hidden, hidden),
            layer("mean", latent, hidden),
            layer("log_std", latent, hidden),
        ];
        let decoder = three(["decoder1", "decoder2", "decoder3"], state + latent, dim);
        let critics =
            [three(["1.fc1", "1.fc2", "1.fc3"], state + dim, 1), three(["2.fc1", "2.fc2", "2.fc3"], state + dim, 1)];
        let generator = Parameters::new(&[encoder.concat(), decoder].concat(), initial)?;
        let perturbator = Parameters::new(&three(["fc1", "fc2", "fc3"], state + dim, dim), initial)?;
        let critics = Parameters::new(&critics.concat(), initial)?;
        Ok(Bcq {
            unused: Parameters::new(&three(["fc1", "fc2", "fc3"], state, dim), initial)?,
            states,
            options,
            perturbator_target: perturbator.target()?,
            critics_target: critics.target()?,
            generator_adam: Adam::new(&generator, lr)?,
            perturbator_adam: Adam::new(&perturbator, lr)?,
            critics_adam: Adam::new(&critics, lr)?,
            generator,
            perturbator,
            critics,
        })
    }

    /// The step of this number, from 1.
    pub(super) fn step(&mut self, samples: &Samples, noise: &Noise, step: i64) -> Result<Vec<f64>> {
        let batch = self.states.gather(samples)?;
        let (generator_loss, gradients) = self.generator_loss(&batch, noise)?;
        self.generator_adam.update(&mut self.generator, &gradients, step)?;
        let (critic_loss, gradients) = self.critic_loss(samples, &batch, noise)?;
        self.critics_adam.update(&mut self.critics, &gradients, step)?;
        let (perturbator_loss, gradients) = self.perturbator_loss(&batch, noise)?;
        self.perturbator_adam.update(&mut self.perturbator, &gradients, step)?;
        self.critics_target.follow(&self.critics, self.options.tau)?;
        self.perturbator_target.follow(&self.perturbator, self.options.tau)?;
        [generator_loss, critic_loss, perturbator_loss].iter().map(|loss| loss.f_double_value(&[])).collect()
    }

    /// The autoencoder's loss, and its gradients by ω.
    pub(super) fn generator_loss(&self, batch: &Gathered, noise: &Noise) -> Result<(Tensor, Vec<Tensor>)> {
        let (s, a) = (batch.states()?, batch.actions()?);
        let layer = |key| self.generator.linear(key);
        let encoded = joined(&layer("encoder1"), layer("encoder1").head(&s)?, &a)?;
        let encoded = layer("encoder2").relu(&encoded)?;
        let mean = layer("mean").apply(&encoded)?;
        let log_std = layer("log_std").apply(&encoded)?.f_clamp(LOG_STD_MIN, LOG_STD_MAX)?;
        let std = log_std.f_exp()?;
        let z = mean.f_add(&std.f_mul(&self.noise(&noise.generator)?)?)?;
        let made = decode(&self.generator, layer("decoder1").head(&s)?, &z)?;
        let reconstruction = made.f_mse_loss(&a, Reduction::Mean)?;
        // KL of one number: −½ (1 + 2 log σ − μ² − σ²).
        let kl = (log_std.f_mul_scalar(2.0)?.f_add_scalar(1.0)?.f_sub(&mean.f_square()?)?).f_sub(&std.f_square()?)?;
        let kl = kl.f_mean(Kind::Float)?.f_mul_scalar(-0.5)?;
        let loss = reconstruction.f_add(&kl.f_mul_scalar(self.options.kl_weight)?)?;
        let gradients = Tensor::f_run_backward(&[&loss], self.generator.views(), false, false)?;
        Ok((loss, gradients))
    }

    /// Both critics' losses, added, and their gradients by θ_1 and θ_2.
    pub(super) fn critic_loss(
        &self,
        samples: &Samples,
        batch: &Gathered,
        noise: &Noise,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let y = no_grad(|| self.target(samples, batch, noise))?;
        let (s, a) = (batch.states()?, batch.actions()?);
        let q = |critic| {
            let first = self.critics.linear(&format!("{critic}.fc1"));
            value(&self.critics, critic, joined(&first, first.head(&s)?, &a)?)
        };
        let loss = q(1)?.f_mse_loss(&y, Reduction::Mean)?.f_add(&q(2)?.f_mse_loss(&y, Reduction::Mean)?)?;
        let gradients = Tensor::f_run_backward(&[&loss], self.critics.views(), false, false)?;
        Ok((loss, gradients))
    }

    /// y, (B, 1).
    fn target(&self, samples: &Samples, batch: &Gathered, noise: &Noise) -> Result<Tensor> {
        let next = batch.next()?;
        let (dim, n) = (self.states.dim, self.options.actions as i64);
        let turned = |layer: Linear| layer.turned(dim, self.states.width());
        // One row a state for its n actions: (B, 1, h) beside (B, n, …).
        let head = |layer: &Linear| layer.head(&next)?.f_unsqueeze(1);
        let decoder = turned(self.generator.linear("decoder1"))?;
        let z = self.noise(&noise.targets)?.f_view([-1, n, 2 * dim])?;
        let made = decode(&self.generator, head(&decoder)?, &z)?;
        let perturbator = turned(self.perturbator_target.linear("fc1"))?;
        let first = joined(&perturbator, head(&perturbator)?, &made)?;
        let action = made.f_add(&self.perturbation(&self.perturbator_target, first)?)?;
        let q = |critic| {
            let layer = turned(self.critics_target.linear(&format!("{critic}.fc1")))?;
            value(&self.critics_target, critic, joined(&layer, head(&layer)?, &action)?)
        };
        let (q1, q2) = (q(1)?, q(2)?);
        let lambda = self.options.lambda;
        let least = q1.f_minimum(&q2)?.f_mul_scalar(lambda)?;
        let best = least.f_add(&q1.f_maximum(&q2)?.f_mul_scalar(1.0 - lambda)?)?.f_amax([1], false)?;
        let (reward, discount) = (self.states.column(&samples.rewards)?, self.states.column(&samples.discounts)?);
        reward.f_add(&discount.f_mul(&best)?)
    }

    /// −mean Q_θ1(s, a + ξ), and its gradients by φ.
    pub(super) fn perturbator_loss(&self, batch: &Gathered, noise: &Noise) -> Result<(Tensor, Vec<Tensor>)> {
        let s = batch.states()?;
        let critic = self.critics.linear("1.fc1");
        let (made, valued) = no_grad(|| {
            let z = self.noise(&noise.actions)?;
            Ok::<_, TchError>((
                decode(&self.generator, self.generator.linear("decoder1").head(&s)?, &z)?,
                critic.head(&s)?,
            ))
        })?;
        let perturbator = self.perturbator.linear("fc1");
        let first = joined(&perturbator, perturbator.head(&s)?, &made)?;
        let action = made.f_add(&self.perturbation(&self.perturbator, first)?)?;
        let q = value(&self.critics, 1, joined(&critic, valued, &action)?)?;
        let loss = q.f_mean(Kind::Float)?.f_neg()?;
        let gradients = Tensor::f_run_backward(&[&loss], self.perturbator.views(), false, false)?;
        Ok((loss, gradients))
    }

    /// Φ tanh(fc3(relu(fc2(first)))).
    fn perturbation(&self, perturbator: &Parameters, first: Tensor) -> Result<Tensor> {
        let moved = perturbator.linear("fc3").apply(&perturbator.linear("fc2").relu(&first)?)?;
        moved.f_tanh()?.f_mul_scalar(self.options.phi)
    }

    /// Rows of 2d numbers.
    fn noise(&self, values: &[f32]) -> Result<Tensor> {
        Tensor::f_from_slice(values)?.f_to_device(self.states.device())?.f_view([-1, 2 * self.states.dim])
    }

    /// Scores of all items without the padding item, with z = 0, as they are served; (B, count).
    pub(super) fn scores(&self, states: &Tensor) -> Result<Tensor> {
        let z = Tensor::f_zeros([states.size()[0], 2 * self.states.dim], (Kind::Float, states.device()))?;
        let made = decode(&self.generator, self.generator.linear("decoder1").head(states)?, &z)?;
        let perturbator = self.perturbator.linear("fc1");
        let first = joined(&perturbator, perturbator.head(states)?, &made)?;
        made.f_add(&self.perturbation(&self.perturbator, first)?)?.f_matmul(&self.states.items()?.f_tr()?)
    }

    /// What a checkpoint holds.
    pub(super) fn tensors(&self) -> Vec<(&'static str, Tensor)> {
        let [generator_1, generator_2] = self.generator_adam.moments();
        let [perturbator_1, perturbator_2] = self.perturbator_adam.moments();
        let [critics_1, critics_2] = self.critics_adam.moments();
        [
            ("generator", self.generator.flat()),
            ("perturbator", self.perturbator.flat()),
            ("critics", self.critics.flat()),
            ("unused", self.unused.flat()),
            ("perturbator_target", self.perturbator_target.flat()),
            ("critics_target", self.critics_target.flat()),
            ("generator_adam.m", generator_1),
            ("generator_adam.v", generator_2),
            ("perturbator_adam.m", perturbator_1),
            ("perturbator_adam.v", perturbator_2),
            ("critics_adam.m", critics_1),
            ("critics_adam.v", critics_2),
        ]
        .map(|(name, tensor)| (name, tensor.shallow_clone()))
        .into()
    }

    /// The layers of the state_dict.
    pub(super) fn layers(&self) -> Vec<(String, Tensor)> {
        let of = |outer: &'static str, parameters: &Parameters| {
            let entry = |(key, tensor): (&str, &Tensor)| (format!("{outer}.{key}"), tensor.shallow_clone());
            parameters.iter().map(entry).collect::<Vec<_>>()
        };
        let networks =
            [("generator", &self.unused), ("generator", &self.generator), ("perturbator", &self.perturbator)];
        networks.into_iter().flat_map(|(outer, parameters)| of(outer, parameters)).collect()
    }
}

/// `relu(W [s ; y] + b)` from `head`, what the layer makes of s.
fn joined(layer: &Linear, head: Tensor, y: &Tensor) -> Result<Tensor> {
    layer.tail(y)?.f_add(&head)?.f_relu_()
}

/// D_ω2, from what its first layer makes of the state.
fn decode(generator: &Parameters, head: Tensor, z: &Tensor) -> Result<Tensor> {
    let first = joined(&generator.linear("decoder1"), head, z)?;
    generator.linear("decoder3").apply(&generator.linear("decoder2").relu(&first)?)
}

/// Q_θ of a critic, from its first hidden layer.
fn value(critics: &Parameters, critic: u8, first: Tensor) -> Result<Tensor> {
    let layer = |name| critics.linear(&format!("{critic}.{name}"));
    layer("fc3").apply(&layer("fc2").relu(&first)?)
}
