//! Adam (Kingma and Ba, arXiv 1412.6980), as `torch.optim.Adam` computes it, in one pass over memory.
//!
//! PyTorch's own takes some ten operations a tensor, each of which reads and writes all of it; for tables and for the layer
//! over the catalogue that is most of a step. On the CPU all of it is one loop here; every number is computed on its own, so
//! threads change no bit. On a GPU, where a pass costs little, it is operations of libtorch.

use tch::{Device, TchError, Tensor};

use super::network::{Parameters, floats, floats_mut};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// Below this a thread costs more than it saves.
const PER_THREAD_MIN: usize = 1 << 16;

/// Both moments of a network's tensors.
#[derive(Debug)]
pub(super) struct Adam {
    lr: f64,
    /// m, laid out as the parameters are.
    first: Tensor,
    /// v.
    second: Tensor,
}

impl Adam {
    pub(super) fn new(parameters: &Parameters, lr: f64) -> Result<Adam, TchError> {
        let zeros = || parameters.flat().f_zeros_like();
        Ok(Adam { lr, first: zeros()?, second: zeros()? })
    }

    /// m and v, for checkpoints.
    pub(super) fn moments(&self) -> [&Tensor; 2] {
        [&self.first, &self.second]
    }

    /// One step, the `step`-th (from 1), with one gradient a tensor of `parameters`, in order.
    pub(super) fn update(
        &mut self,
        parameters: &mut Parameters,
        gradients: &[Tensor],
        step: i64,
    ) -> Result<(), TchError> {
        let rates = Rates::new(self.lr, step);
        let places: Vec<i64> = parameters.places().to_vec();
        let flat = parameters.flat().shallow_clone();
        for (place, gradient) in places.into_iter().zip(gradients) {
            let gradient = gradient.f_contiguous()?;
            let len = gradient.numel() as i64;
            let part = |of: &Tensor| of.f_narrow(0, place, len);
            let (value, first, second) = (part(&flat)?, part(&self.first)?, part(&self.second)?);
            rates.apply(value, &gradient.f_view([len])?, first, second)?;
        }
        Ok(())
    }
}

/// What of Adam depends on the step alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    /// lr / (1 − β₁^t).
    step_size: f64,
    /// √(1 − β₂^t).
    correction: f64,
}

impl Rates {
    pub(super) fn new(lr: f64, step: i64) -> Rates {
        let power = |beta: f64| beta.powf(step as f64);
        Rates { step_size: lr / (1.0 - power(BETA_1)), correction: (1.0 - power(BETA_2)).sqrt() }
    }

    pub(super) fn apply(
        &self,
        mut value: Tensor,
        gradient: &Tensor,
        mut first: Tensor,
        mut second: Tensor,
    ) -> Result<(), TchError> {
        if value.device() == Device::Cpu {
            self.slices(floats_mut(&mut value), floats(gradient), floats_mut(&mut first), floats_mut(&mut second));
            return Ok(());
        }
        let _guard = tch::no_grad_guard();
        let first = first.f_lerp_(gradient, 1.0 - BETA_1)?;
        let squares = gradient.f_square()?.f_mul_scalar_(1.0 - BETA_2)?;
        let second = second.f_mul_scalar_(BETA_2)?.f_add_(&squares)?;
        let denominator = second.f_sqrt()?.f_div_scalar_(self.correction)?.f_add_scalar_(EPSILON)?;
        value.f_sub_(&first.f_div(&denominator)?.f_mul_scalar_(self.step_size)?).map(drop)
    }

    fn slices(&self, value: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).min(value.len() / PER_THREAD_MIN).max(1);
        if threads == 1 {
            return self.elements(value, gradient, first, second);
        }
        let length = value.len().div_ceil(threads);
        std::thread::scope(|scope| {
            let parts = value.chunks_mut(length).zip(gradient.chunks(length));
            let moments = first.chunks_mut(length).zip(second.chunks_mut(length));
            for ((value, gradient), (first, second)) in parts.zip(moments) {
                scope.spawn(move || self.elements(value, gradient, first, second));
            }
        });
    }

    /// The arithmetic, on equally long slices.
    pub(super) fn elements(&self, value: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let (keep, take) = (BETA_2 as f32, (1.0 - BETA_2) as f32);
        let (move_by, epsilon) = ((1.0 - BETA_1) as f32, EPSILON as f32);
        let (step_size, correction) = (self.step_size as f32, self.correction as f32);
        for (((value, gradient), first), second) in value.iter_mut().zip(gradient).zip(first).zip(second) {
            *first += move_by * (gradient - *first);
            *second = keep * *second + take * gradient * gradient;
            *value -= step_size * *first / (second.sqrt() / correction + epsilon);
        }
    }
}
