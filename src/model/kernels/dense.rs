//! Linear layers: lanes run over outputs.

use super::lanes::{Lanes, accumulate, for_user_groups};
use super::{Aligned, Instructions, Matrix, portable::Portable};
use crate::model::weights::Linear;

/// Columns of a panel: two registers of the widest instruction set.
pub(crate) const PANEL: usize = 32;

/// What follows a layer's sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// Nothing.
    Identity,
    /// x where x > 0, else +0 (also for −0 and NaN).
    Relu,
}

/// A layer's weights, transposed and cut into panels of 32 outputs, so that a step along the inputs is one load.
#[derive(Debug)]
pub(crate) struct Panels {
    inputs: usize,
    outputs: usize,
    /// Panel by panel, inputs × 32, outputs beyond the last being 0.
    weight: Aligned<f32>,
    bias: Aligned<f32>,
}

impl Panels {
    pub(crate) fn new(layer: &Linear) -> Panels {
        let width = layer.outputs.next_multiple_of(PANEL);
        let (mut weight, mut bias) = (Aligned::zeros(width * layer.inputs), Aligned::zeros(width));
        bias[..layer.outputs].copy_from_slice(&layer.bias);
        for (output, row) in layer.weight.chunks_exact(layer.inputs).enumerate() {
            let panel = &mut weight[output / PANEL * PANEL * layer.inputs..];
            for (k, &w) in row.iter().enumerate() {
                panel[k * PANEL + output % PANEL] = w;
            }
        }
        Panels { inputs: layer.inputs, outputs: layer.outputs, weight, bias }
    }
}

/// out = activation(W x + b) for each row x of `inputs`, of which the first columns are read; each sum starts at the
/// bias and adds `W[o][k]·x[k]` in order of k with one rounding each.
pub(crate) fn dense(
    instructions: Instructions,
    layer: &Panels,
    inputs: &Matrix,
    activation: Activation,
    out: &mut Matrix,
) {
    out.reshape(inputs.rows(), layer.outputs);
    assert!(layer.inputs <= inputs.stride(), "a layer reads columns that its input has");
    instructions.assert_available();
    // SAFETY: the instruction set is there; the shapes are asserted.
    unsafe {
        match instructions {
            Instructions::Portable => dense_with::<Portable>(layer, inputs, activation, out),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 | Instructions::Avx2Int8 => dense_avx2(layer, inputs, activation, out),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 | Instructions::Avx512Vnni => dense_avx512(layer, inputs, activation, out),
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("asserted to be available"),
        }
    }
}

/// # Safety
/// As [`dense_with`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn dense_avx2(layer: &Panels, inputs: &Matrix, activation: Activation, out: &mut Matrix) {
    // SAFETY: passed on.
    unsafe { dense_with::<super::avx2::Avx2>(layer, inputs, activation, out) }
}

/// # Safety
/// As [`dense_with`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn dense_avx512(layer: &Panels, inputs: &Matrix, activation: Activation, out: &mut Matrix) {
    // SAFETY: passed on.
    unsafe { dense_with::<super::avx512::Avx512>(layer, inputs, activation, out) }
}

/// # Safety
/// The processor must have L's instructions, `inputs` at least as many columns as the layer reads, and `out` as many
/// rows as `inputs` and the layer's outputs as columns.
#[inline(always)]
unsafe fn dense_with<L: Lanes>(layer: &Panels, inputs: &Matrix, activation: Activation, out: &mut Matrix) {
    for first_column in (0..layer.bias.len()).step_by(2 * L::N) {
        // SAFETY: panels are `inputs` × PANEL, and the column lies in one; users are rows of both matrices.
        unsafe {
            let panel = first_column / PANEL * PANEL * layer.inputs + first_column % PANEL;
            let weights = layer.weight.as_ptr().add(panel);
            let bias = layer.bias.as_ptr().add(first_column);
            let start = [L::load(bias), L::load(bias.add(L::N))];
            for_user_groups!(L, inputs.rows(), |user| columns(
                weights,
                inputs.cells().as_ptr().add(user * inputs.stride()),
                inputs.stride(),
                layer.inputs,
                start,
                activation,
                out.cells_mut().as_mut_ptr().add(user * out.stride() + first_column),
                out.stride(),
            ));
        }
    }
}

/// # Safety
/// As [`accumulate`]; `out` must be valid for U rows of 2·N values, `out_stride` apart.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn columns<L: Lanes, const U: usize>(
    weights: *const f32,
    factors: *const f32,
    stride: usize,
    depth: usize,
    start: [L; 2],
    activation: Activation,
    out: *mut f32,
    out_stride: usize,
) {
    // SAFETY: passed on; the rows of `out` are valid.
    unsafe {
        for (u, sums) in accumulate::<L, U>(weights, factors, stride, depth, start).into_iter().enumerate() {
            for (register, sum) in sums.into_iter().enumerate() {
                let value = if activation == Activation::Relu { sum.relu() } else { sum };
                value.store(out.add(u * out_stride + register * L::N));
            }
        }
    }
}
