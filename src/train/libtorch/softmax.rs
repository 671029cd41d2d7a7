//! A softmax layer over the whole catalogue, forward and backward, on a processor with AVX2 and FMA.
//!
//! Nearly all of REINFORCE's work is such layers, and nearly all of theirs three products of a large matrix (the weight, or the
//! probabilities) and a small one (a batch's hidden vectors). libtorch's products copy both operands into another order each time;
//! here the small ones stay in the first-level cache as they are, and the large ones are read where they stand. With
//! e = exp(logit − the sample's largest), Z = Σe and coefficients c, the gradient of Σ c_i log P_i[a_i] less the part of the
//! chosen items is −(c/Z)⊙e: so probabilities are never written, and 1/Z goes into the small operand.
//!
//! Samples lie side by side (`(items, samples)`), so that sums over items are sums of vectors.
//!
//! Every sum is taken in an order that depends on the number of threads alone.

use std::arch::x86_64::{__m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps};

/// Columns of a block: two registers.
const COLUMNS: usize = 16;
const LANES: usize = 8;
/// Rows of a block: with two registers each, as many as there are registers to keep the sums in.
const ROWS: usize = 6;
/// Items whose part of all matrices stays in the second-level cache.
const TILE: usize = 96;

/// A layer over n items: weight (n, k) and bias (n).
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'a> {
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
}

/// Gradients of a layer, of the same shapes.
#[derive(Debug)]
pub(super) struct LayerMut<'a> {
    pub(super) weight: &'a mut [f32],
    pub(super) bias: &'a mut [f32],
}

/// A batch's hidden vectors.
#[derive(Debug)]
pub(super) struct Hidden {
    samples: usize,
    /// `samples`, and then some that are zero, up to whole blocks.
    padded: usize,
    /// k.
    width: usize,
    /// (k, padded).
    turned: Vec<f32>,
    /// (samples, k).
    rows: Vec<f32>,
}

impl Hidden {
    /// Of `samples` rows of `rows`.
    pub(super) fn new(rows: &[f32], samples: usize) -> Hidden {
        let (width, padded) = (rows.len() / samples, samples.next_multiple_of(COLUMNS));
        let mut turned = vec![0.0; width * padded];
        for (sample, row) in rows.chunks_exact(width).enumerate() {
            row.iter().enumerate().for_each(|(at, value)| turned[at * padded + sample] = *value);
        }
        Hidden { samples, padded, width, turned, rows: rows.to_vec() }
    }
}

/// What a layer makes of a batch. Its memory is used again by the next batch.
#[derive(Debug, Default)]
pub(super) struct Softmax {
    /// e, (n, padded).
    exponentials: Vec<f32>,
    /// 1/Z by sample, padded.
    scales: Vec<f32>,
}

/// Whether this processor can, with hidden vectors of this width.
pub(super) fn available(width: usize) -> bool {
    width.is_multiple_of(COLUMNS) && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

impl Softmax {
    /// Applies the layer.
    ///
    /// # Panics
    /// Where it is not [`available`].
    pub(super) fn forward(&mut self, layer: Layer<'_>, hidden: &Hidden, threads: usize) {
        assert!(available(hidden.width));
        let (padded, width) = (hidden.padded, hidden.width);
        let items = per_thread(layer.bias.len(), threads);
        self.exponentials.resize(layer.bias.len() * padded, 0.0);
        let weights = layer.weight.chunks(items * width).zip(layer.bias.chunks(items));
        let parts = self.exponentials.chunks_mut(items * padded).zip(weights);
        let largest = in_parallel(parts, |(logits, (weight, bias))| {
            // SAFETY: `available` was asserted.
            unsafe { logits_of(Layer { weight, bias }, hidden, logits) }
        });
        let largest = merge(largest, f32::max);
        let sums = in_parallel(self.exponentials.chunks_mut(items * padded), |logits| {
            // SAFETY: as above.
            unsafe { exponentials_of(logits, &largest) }
        });
        self.scales = merge(sums, |a, b| a + b).into_iter().map(f32::recip).collect();
    }

    /// The probability that sample `sample` gives `item`.
    pub(super) fn probability(&self, sample: usize, item: usize) -> f32 {
        let padded = self.scales.len();
        self.exponentials[item * padded + sample] * self.scales[sample]
    }

    /// Gradients of −Σ c_i log P_i[a_i]: by the layer into `gradient`, whatever it held, and by the hidden vectors, (samples, k).
    ///
    /// # Panics
    /// Where it is not [`available`], or after no [`forward`](Self::forward) of the same layer and batch.
    pub(super) fn backward(
        &self,
        layer: Layer<'_>,
        hidden: &Hidden,
        (coefficients, chosen): (&[f32], &[i64]),
        gradient: LayerMut<'_>,
        threads: usize,
    ) -> Vec<f32> {
        assert!(available(hidden.width));
        let (padded, width) = (hidden.padded, hidden.width);
        let items = per_thread(layer.bias.len(), threads);
        let mut scaled: Vec<f32> = coefficients.iter().zip(&self.scales).map(|(c, scale)| c * scale).collect();
        let products = |by: &[f32]| -> Vec<f32> {
            hidden.rows.chunks_exact(width).zip(by).flat_map(|(row, by)| row.iter().map(move |h| h * by)).collect()
        };
        let rows = products(&scaled);
        scaled.resize(padded, 0.0);
        let parts = self.exponentials.chunks(items * padded).zip(layer.weight.chunks(items * width));
        let gradients = gradient.weight.chunks_mut(items * width).zip(gradient.bias.chunks_mut(items));
        let by_hidden = in_parallel(parts.zip(gradients), |((exponentials, weight), (by_weight, by_bias))| {
            let gradient = LayerMut { weight: by_weight, bias: by_bias };
            // SAFETY: `available` was asserted.
            unsafe { gradients_of(exponentials, weight, hidden, (&scaled, &rows), gradient) }
        });
        let mut by_hidden = merge(by_hidden, |a, b| a + b);
        let (rows, batch) = (products(coefficients), coefficients.iter().zip(chosen));
        let each = by_hidden.chunks_exact_mut(width).zip(&self.scales).zip(rows.chunks_exact(width)).zip(batch);
        for (((by_hidden, scale), row), (c, &item)) in each {
            let place = item as usize * width..(item as usize + 1) * width;
            gradient.bias[item as usize] -= c;
            gradient.weight[place.clone()].iter_mut().zip(row).for_each(|(sum, value)| *sum -= value);
            let of_item = by_hidden.iter_mut().zip(&layer.weight[place]);
            of_item.for_each(|(sum, weight)| *sum = c * (scale * *sum - weight));
        }
        by_hidden
    }
}

/// Items of a thread: whole blocks.
fn per_thread(items: usize, threads: usize) -> usize {
    items.div_ceil(threads.max(1)).next_multiple_of(ROWS)
}

/// The work on all parts, each but the first in a thread of its own; results in order.
fn in_parallel<T: Send, R: Send>(parts: impl IntoIterator<Item = T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else { return Vec::new() };
    let work = &work;
    std::thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        let mut results = vec![work(first)];
        let joined = others.into_iter().map(|other| other.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        results.extend(joined);
        results
    })
}

fn merge(parts: Vec<Vec<f32>>, of: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    parts.for_each(|part| all.iter_mut().zip(part).for_each(|(a, b)| *a = of(*a, b)));
    all
}

/// A matrix to be read down its columns: element (row, step) stands at `row · self.row + step · self.step`.
#[derive(Clone, Copy)]
struct Left<'a> {
    values: &'a [f32],
    row: usize,
    step: usize,
}

/// A matrix to be read along its rows, which begin `step` apart.
#[derive(Clone, Copy)]
struct Right<'a> {
    values: &'a [f32],
    step: usize,
}

/// `into[row·stride..][..16] = start + Σ_step left[row, step] · right[step][..16]` for R rows, over `steps` steps. `start` is a number a
/// row, or, if there is none, what `into` holds.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn block<const R: usize>(
    left: Left<'_>,
    right: Right<'_>,
    steps: usize,
    start: Option<&[f32]>,
    into: &mut [f32],
    stride: usize,
) {
    let Some(last) = steps.checked_sub(1) else { return };
    assert!((R - 1) * left.row + last * left.step < left.values.len());
    assert!(last * right.step + COLUMNS <= right.values.len());
    assert!((R - 1) * stride + COLUMNS <= into.len());
    let mut sums: [[__m256; 2]; R] = std::array::from_fn(|row| match start {
        Some(start) => [_mm256_set1_ps(start[row]); 2],
        // SAFETY: the last row's end was asserted to lie within.
        None => unsafe {
            let from = into.as_ptr().add(row * stride);
            [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(LANES))]
        },
    });
    let (mut from_left, mut from_right) = (left.values.as_ptr(), right.values.as_ptr());
    for step in 0..steps {
        // SAFETY: the last step of the last row, and the last step's columns, were asserted to lie within; and no pointer is
        // moved beyond the last step.
        unsafe {
            let columns = [_mm256_loadu_ps(from_right), _mm256_loadu_ps(from_right.add(LANES))];
            for (row, sums) in sums.iter_mut().enumerate() {
                let factor = _mm256_set1_ps(*from_left.add(row * left.row));
                sums[0] = _mm256_fmadd_ps(factor, columns[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(factor, columns[1], sums[1]);
            }
            if step != last {
                from_left = from_left.add(left.step);
                from_right = from_right.add(right.step);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: as for the start.
        unsafe {
            let to = into.as_mut_ptr().add(row * stride);
            _mm256_storeu_ps(to, sums[0]);
            _mm256_storeu_ps(to.add(LANES), sums[1]);
        }
    }
}

/// [`block`] for all rows and columns of a product: `rows` of `left`, `columns` (whole blocks) of `right`, `into` of this width.
#[target_feature(enable = "avx2,fma")]
fn product(
    (left, rows): (Left<'_>, usize),
    (right, columns): (Right<'_>, usize),
    steps: usize,
    start: Option<&[f32]>,
    into: &mut [f32],
) {
    let mut row = 0;
    while row < rows {
        let of = Left { values: &left.values[row * left.row..], ..left };
        let start = start.map(|start| &start[row..]);
        let taken = [ROWS, 4, 2, 1].into_iter().find(|&size| size <= rows - row).unwrap_or(1);
        for column in (0..columns).step_by(COLUMNS) {
            let right = Right { values: &right.values[column..], ..right };
            let into = &mut into[row * columns + column..];
            match taken {
                ROWS => block::<ROWS>(of, right, steps, start, into, columns),
                4 => block::<4>(of, right, steps, start, into, columns),
                2 => block::<2>(of, right, steps, start, into, columns),
                _ => block::<1>(of, right, steps, start, into, columns),
            }
        }
        row += taken;
    }
}

/// Logits, (n, padded); returns the largest of each sample.
#[target_feature(enable = "avx2,fma")]
fn logits_of(layer: Layer<'_>, hidden: &Hidden, logits: &mut [f32]) -> Vec<f32> {
    let (width, padded) = (hidden.width, hidden.padded);
    let mut largest = vec![f32::NEG_INFINITY; padded];
    let right = Right { values: &hidden.turned, step: padded };
    let tiles = layer.weight.chunks(TILE * width).zip(layer.bias.chunks(TILE)).zip(logits.chunks_mut(TILE * padded));
    for ((weight, bias), logits) in tiles {
        let left = Left { values: weight, row: width, step: 1 };
        product((left, bias.len()), (right, padded), width, Some(bias), logits);
        for row in logits.chunks_exact(padded) {
            largest
                .iter_mut()
                .zip(row)
                .for_each(|(largest, logit)| *largest = if logit > largest { *logit } else { *largest });
        }
    }
    largest
}

/// Their exponentials, in place; returns the sums of each sample.
#[target_feature(enable = "avx2,fma")]
fn exponentials_of(logits: &mut [f32], largest: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; largest.len()];
    for row in logits.chunks_exact_mut(largest.len()) {
        for ((logit, largest), sum) in row.iter_mut().zip(largest).zip(&mut sums) {
            *logit = exp(*logit - largest);
            *sum += *logit;
        }
    }
    sums
}

/// Gradients by a layer without the parts of the chosen items, into `gradient`, and Σ_items e·weight, (samples, k).
#[target_feature(enable = "avx2,fma")]
fn gradients_of(
    exponentials: &[f32],
    weight: &[f32],
    hidden: &Hidden,
    (scaled, rows): (&[f32], &[f32]),
    gradient: LayerMut<'_>,
) -> Vec<f32> {
    const ZEROS: [f32; TILE] = [0.0; TILE];
    let Hidden { samples, padded, width, .. } = *hidden;
    let mut by_hidden = vec![0.0; samples * width];
    let tiles = exponentials.chunks(TILE * padded).zip(weight.chunks(TILE * width));
    let gradients = gradient.weight.chunks_mut(TILE * width).zip(gradient.bias.chunks_mut(TILE));
    for ((exponentials, weight), (by_weight, by_bias)) in tiles.zip(gradients) {
        let items = by_bias.len();
        let of_items = Left { values: exponentials, row: padded, step: 1 };
        product((of_items, items), (Right { values: rows, step: width }, width), samples, Some(&ZEROS), by_weight);
        for (sum, row) in by_bias.iter_mut().zip(exponentials.chunks_exact(padded)) {
            let mut lanes = [0.0; COLUMNS];
            for (row, scaled) in row.chunks_exact(COLUMNS).zip(scaled.chunks_exact(COLUMNS)) {
                let products = row.iter().zip(scaled);
                lanes.iter_mut().zip(products).for_each(|(lane, (e, c))| *lane = e.mul_add(*c, *lane));
            }
            *sum = lanes.iter().sum();
        }
        let of_samples = Left { values: exponentials, row: 1, step: padded };
        product((of_samples, samples), (Right { values: weight, step: width }, width), items, None, &mut by_hidden);
    }
    by_hidden
}

/// eˣ for x ≤ 0, to two units in the last place; 0 below −87.
///
/// 2ⁿ·eʳ with n = x/ln 2 rounded and |r| ≤ ln 2 / 2. The rounding is that of an addition after which the last bit counts ones, so n
/// stands in the low bits.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    // ln 2, in two parts of which the first is short.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Minimax coefficients of Cephes' expf.
    const C: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2[1], n.mul_add(-LN_2[0], x));
    let polynomial = C.iter().copied().reduce(|sum, c| sum.mul_add(r, c)).unwrap_or_default();
    let mantissa = polynomial.mul_add(r * r, r) + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { mantissa * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_right_to_two_units() {
        assert!(available(COLUMNS), "these tests need AVX2");
        for step in 0..=87_000 {
            let x = -(step as f32) / 1_000.0;
            // SAFETY: `available` was asserted.
            let (found, expected) = (f64::from(unsafe { exp(x) }), f64::from(x).exp());
            assert!((found - expected).abs() <= 2.0 * f64::from(f32::EPSILON) * expected, "{x}: {found}");
        }
        // SAFETY: as above.
        assert_eq!(unsafe { [exp(-87.5), exp(-1e9), exp(0.0)] }, [0.0, 0.0, 1.0]);
        // SAFETY: as above.
        assert!(unsafe { exp(f32::NAN) }.is_nan());
    }
}
