//! Trainable tensors and the layers made of them.
//!
//! All tensors of a network are views of one flat tensor, so that a target network follows in one operation, and a
//! checkpoint holds one tensor a network. Gradients are asked for by name of the tensors that want them
//! (`Tensor::f_run_backward`), never gathered in the tensors: what an update does not need is not computed.

use tch::{Device, Kind, TchError, Tensor};

use super::random::{Draws, Stream};

type Result<T> = std::result::Result<T, TchError>;

/// Tensors begin at multiples of this, in floats: a cache line, as libtorch's kernels like it.
const ALIGNMENT: usize = 16;

/// How a tensor begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Init {
    /// Zeros: biases.
    Zeros,
    /// Ones: the scale of a batch normalisation.
    Ones,
    /// Uniform in ±√(6/(fan_in + fan_out)) (Glorot and Bengio 2010), of a matrix (fan_out, fan_in).
    Xavier,
    /// Uniform in ±√(6/fan_in) (He et al. 2015), of a matrix (fan_out, fan_in), for relu.
    Kaiming,
}

/// What a tensor is called, its shape, and how it begins.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) key: String,
    pub(super) shape: Vec<i64>,
    pub(super) init: Init,
}

impl Spec {
    /// Weight and bias of a layer.
    pub(super) fn linear(key: &str, outputs: i64, inputs: i64, init: Init) -> [Spec; 2] {
        let bias = Spec { key: format!("{key}.bias"), shape: vec![outputs], init: Init::Zeros };
        [Spec::weight(key, outputs, inputs, init), bias]
    }

    /// The weight of a layer that has no bias.
    pub(super) fn weight(key: &str, outputs: i64, inputs: i64, init: Init) -> Spec {
        Spec { key: format!("{key}.weight"), shape: vec![outputs, inputs], init }
    }

    fn len(&self) -> i64 {
        self.shape.iter().product()
    }

    fn values(&self, draws: Draws) -> Vec<f32> {
        let mut values = vec![0.0; self.len() as usize];
        let fan = |axis: usize| self.shape.get(axis).map_or(1.0, |&size| size as f64);
        match self.init {
            Init::Zeros => {}
            Init::Ones => values.fill(1.0),
            Init::Xavier => draws.fill_uniform((6.0 / (fan(0) + fan(1))).sqrt() as f32, &mut values),
            Init::Kaiming => draws.fill_uniform((6.0 / fan(1)).sqrt() as f32, &mut values),
        }
        values
    }
}

/// Gives every tensor of a training its own random numbers, in the order in which they are made.
#[derive(Debug)]
pub(super) struct Initial {
    seed: u64,
    tensors: u32,
    device: Device,
}

impl Initial {
    pub(super) fn new(seed: u64, device: Device) -> Initial {
        Initial { seed, tensors: 0, device }
    }

    fn next(&mut self) -> Draws {
        self.tensors += 1;
        Draws::new(self.seed, Stream::Weights, self.tensors)
    }
}

/// The tensors of a network.
#[derive(Debug)]
pub(super) struct Parameters {
    keys: Vec<String>,
    views: Vec<Tensor>,
    places: Vec<i64>,
    flat: Tensor,
}

impl Parameters {
    /// New tensors.
    pub(super) fn new(specs: &[Spec], initial: &mut Initial) -> Result<Parameters> {
        let mut places = Vec::with_capacity(specs.len());
        let mut values = Vec::new();
        for spec in specs {
            places.push(values.len() as i64);
            values.extend(spec.values(initial.next()));
            values.resize(values.len().next_multiple_of(ALIGNMENT), 0.0);
        }
        let flat = Tensor::f_from_slice(&values)?.f_to_device(initial.device)?;
        let shapes: Vec<&[i64]> = specs.iter().map(|spec| spec.shape.as_slice()).collect();
        let keys = specs.iter().map(|spec| spec.key.clone()).collect();
        let views = views(&flat, &places, &shapes, true)?;
        Ok(Parameters { keys, views, places, flat })
    }

    /// The same values in tensors of their own, which are not trained: a target network.
    pub(super) fn target(&self) -> Result<Parameters> {
        let flat = duplicate(&self.flat)?;
        let shapes: Vec<Vec<i64>> = self.views.iter().map(Tensor::size).collect();
        let shapes: Vec<&[i64]> = shapes.iter().map(Vec::as_slice).collect();
        let views = views(&flat, &self.places, &shapes, false)?;
        Ok(Parameters { keys: self.keys.clone(), views, places: self.places.clone(), flat })
    }

    /// θ' ← τ·θ + (1−τ)·θ', where this is θ'.
    pub(super) fn follow(&mut self, of: &Parameters, tau: f64) -> Result<()> {
        self.flat.f_lerp_(&of.flat, tau).map(drop)
    }

    /// All tensors, in the order of their specs.
    pub(super) fn views(&self) -> &[Tensor] {
        &self.views
    }

    /// Where each tensor begins in the flat one.
    pub(super) fn places(&self) -> &[i64] {
        &self.places
    }

    /// The flat tensor that holds all.
    pub(super) fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Keys and tensors.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.keys.iter().map(String::as_str).zip(&self.views)
    }

    /// The tensor of a key.
    ///
    /// # Panics
    /// If there is none: keys are written in this room only.
    pub(super) fn get(&self, key: &str) -> Tensor {
        let view = self.iter().find_map(|(k, view)| (k == key).then_some(view));
        view.unwrap_or_else(|| panic!("no tensor {key}")).shallow_clone()
    }

    /// The layer of a key.
    pub(super) fn linear(&self, key: &str) -> Linear {
        Linear { weight: self.get(&format!("{key}.weight")), bias: self.get(&format!("{key}.bias")) }
    }
}

/// The same numbers in memory of their own.
pub(super) fn duplicate(tensor: &Tensor) -> Result<Tensor> {
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

fn views(flat: &Tensor, places: &[i64], shapes: &[&[i64]], trained: bool) -> Result<Vec<Tensor>> {
    let view = |(&place, &shape): (&i64, &&[i64])| {
        let view = flat.f_narrow(0, place, shape.iter().product())?.f_view(shape)?;
        view.f_detach()?.f_set_requires_grad(trained)
    };
    places.iter().zip(shapes).map(view).collect()
}

/// `W x + b`.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl Linear {
    /// Of rows `x`, (B, inputs).
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        x.f_linear(&self.weight, Some(&self.bias))
    }

    /// relu of it.
    pub(super) fn relu(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x)?.f_relu_()
    }

    /// The part of it that the first columns of W make of their inputs, with the bias.
    pub(super) fn head(&self, x: &Tensor) -> Result<Tensor> {
        x.f_linear(&self.weight.f_narrow(1, 0, x.size()[1])?, Some(&self.bias))
    }

    /// The part of it that the last columns of W make of theirs, without the bias: `head(x) + tail(y)` is `apply([x ; y])`.
    pub(super) fn tail(&self, y: &Tensor) -> Result<Tensor> {
        let inputs = y.size()[y.dim() - 1];
        let weight = self.weight.f_narrow(1, self.weight.size()[1] - inputs, inputs)?;
        y.f_linear(&weight, None::<&Tensor>)
    }

    /// Both layers of the same inputs as one: this one's outputs, then those of `other`.
    pub(super) fn beside(&self, other: &Linear) -> Result<Linear> {
        let both = |one: &Tensor, other: &Tensor| Tensor::f_cat(&[one, other], 0);
        Ok(Linear { weight: both(&self.weight, &other.weight)?, bias: both(&self.bias, &other.bias)? })
    }

    /// The same layer for states whose columns are those of [`super::states::States::next`].
    pub(super) fn turned(&self, dim: i64, state: i64) -> Result<Linear> {
        let columns = self.weight.size()[1];
        let user = self.weight.f_narrow(1, 0, dim)?;
        let items = self.weight.f_narrow(1, dim, state - dim)?;
        let beyond = self.weight.f_narrow(1, state, columns - state)?;
        Ok(Linear { weight: Tensor::f_cat(&[items, user, beyond], 1)?, bias: self.bias.shallow_clone() })
    }
}

/// The CPU's memory of a contiguous tensor of floats, to read.
///
/// # Panics
/// If it is another kind of tensor.
pub(super) fn floats(tensor: &Tensor) -> &[f32] {
    let (pointer, len) = raw(tensor);
    // SAFETY: `raw` has checked that there are so many floats in memory that libtorch keeps while `tensor` lives; nothing
    // writes to it meanwhile, as all tensors here are used by one thread.
    unsafe { std::slice::from_raw_parts(pointer, len) }
}

/// The CPU's memory of a contiguous tensor of floats, to write.
///
/// # Panics
/// If it is another kind of tensor.
pub(super) fn floats_mut(tensor: &mut Tensor) -> &mut [f32] {
    let (pointer, len) = raw(tensor);
    // SAFETY: as in `floats`; other views of this memory are not looked at while the slice lives, as all tensors here are
    // used by one thread, which holds the slice.
    unsafe { std::slice::from_raw_parts_mut(pointer, len) }
}

fn raw(tensor: &Tensor) -> (*mut f32, usize) {
    assert!(tensor.kind() == Kind::Float && tensor.device() == Device::Cpu && tensor.is_contiguous());
    (tensor.data_ptr().cast(), tensor.numel())
}
