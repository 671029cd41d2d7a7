//! Vectors of items from what follows what: the space in which a policy's action can say what comes next.
//!
//! DDPG and BCQ answer with a vector a and rank items by a·v_j. The best that such an answer can do in squares is to be the mean of
//! the next items' vectors, a = Σ_j p(j|s) v_j, and that scores item k by Σ_j p(j|s) v_j·v_k. Where the table's columns are
//! orthonormal, V Vᵀ is a projection, and the scores are those of the distribution p(·|s) itself, projected into the d dimensions
//! of V's columns. So they had better be the d dimensions that keep most of it: of p̂(·|i), what came soon after item i, each i
//! weighted by how often it was there. With N_ij the weight of the pairs "j after i" and n_i = Σ_j N_ij, these are the leading
//! right singular vectors of diag(n)^(−½) N, which are the leading eigenvectors of
//!
//! G = Nᵀ diag(n)⁻¹ N.
//!
//! (Of the vectors that the two towers make, popular items' are nearly the same, so that a·v_j tells none from the others.)
//!
//! **Pairs** are those of a user's training part, at most [`WINDOW`] events apart; k apart they weigh 1/k.
//!
//! **G is never made.** A product with it is two ways through the log, so that memory is that of some d columns. Its leading
//! eigenvectors are found by subspace iteration with [`MORE`] columns more than wanted (Halko, Martinsson, Tropp, arXiv 0909.4061,
//! Algorithm 4.4), and Rayleigh and Ritz's step at the end.
//!
//! **Users' vectors are zeros.** A vector made of the events that a policy is trained to foresee tells them in advance: least
//! squares learn to read it, and it does not know the events to come. What the user did last is in the state anyway.
//!
//! The table is scaled so that the numbers of the log's actions have a mean square of 1.

use tch::{Kind, TchError, Tensor};

use super::random::{Draws, Stream};
use eddyline::learn::Interactions;
use eddyline::model::weights::Embedding;

/// Events at most that are between those of a pair, and one.
const WINDOW: usize = 3;
/// Columns beyond those that are wanted.
const MORE: usize = 16;
/// Products with G, before the one that the last step takes. More change the vectors, but no longer what can be done with them.
const ITERATIONS: u32 = 12;
/// Products with G in all.
pub(super) const PRODUCTS: u32 = ITERATIONS + 1;
/// Eigenvalues below this share of the largest are none: a log of few transitions has fewer dimensions than are asked for.
const LEAST: f64 = 1e-9;

/// What came of it.
#[derive(Debug)]
pub(super) struct Spectral {
    /// One row an item, and the unknown item's, zero.
    pub(super) items: Embedding,
    /// The mean, over all pairs, of the probability that the best estimate in these dimensions gives to the item that came.
    pub(super) probability: f64,
}

/// The vectors of a log's items, one user of which has two training events at least. `goes_on` is asked before each product, with its number from 1; `None` where it says no.
pub(super) fn spectral(
    log: &Interactions,
    dim: usize,
    seed: u64,
    goes_on: impl Fn(u32) -> bool,
) -> Result<Option<Spectral>, TchError> {
    let pairs = Pairs::new(log);
    let (count, columns) = (log.catalogue, (dim + MORE).min(log.catalogue));
    let mut start = vec![0.0; count * columns];
    Draws::new(seed, Stream::Weights, 0).fill_normal(0, &mut start);
    let mut basis = orthonormal(&start.into_iter().map(f64::from).collect::<Vec<_>>(), columns)?;
    for number in 1..=ITERATIONS {
        if !goes_on(number) {
            return Ok(None);
        }
        basis = orthonormal(&pairs.product(&basis, columns), columns)?;
    }
    if !goes_on(PRODUCTS) {
        return Ok(None);
    }
    let image = matrix(&pairs.product(&basis, columns), columns)?;
    let basis = matrix(&basis, columns)?;
    // Ascending.
    let (values, turn) = basis.f_tr()?.f_matmul(&image)?.f_linalg_eigh("U")?;
    let kept = dim.min(columns);
    let first = (columns - kept) as i64;
    let vectors = numbers(&basis.f_matmul(&turn.f_narrow(1, first, kept as i64)?)?)?;
    let values = numbers(&values)?;
    let most = values.last().copied().unwrap_or_default();
    let mut items = vec![0.0_f64; (count + 1) * dim];
    for place in (0..kept).filter(|place| most > 0.0 && values[columns - 1 - place] > LEAST * most) {
        let column = vectors.iter().skip(kept - 1 - place).step_by(kept);
        // Whether an eigenvector or its negative comes out is the library's choice.
        let largest =
            column.clone().copied().fold(0.0, |most: f64, value| if value.abs() > most.abs() { value } else { most });
        for (item, value) in column.enumerate() {
            items[item * dim + place] = value * largest.signum();
        }
    }
    let scale = pairs.root_mean_square(&items, dim);
    let data = items.into_iter().map(|value| if scale > 0.0 { (value / scale) as f32 } else { 0.0 }).collect();
    let total: f64 = pairs.weight.iter().sum();
    let kept: f64 = values[columns - kept..].iter().sum();
    Ok(Some(Spectral { items: Embedding { rows: count + 1, dim, data }, probability: kept / total }))
}

/// What follows what in a log.
struct Pairs<'a> {
    log: &'a Interactions,
    /// n_i.
    weight: Vec<f64>,
}

impl<'a> Pairs<'a> {
    fn new(log: &'a Interactions) -> Pairs<'a> {
        let mut weight = vec![0.0; log.catalogue];
        Pairs::each(log, |before, _, share| weight[before] += share);
        Pairs { log, weight }
    }

    /// Calls `with` for each pair: the item before, the item after, and what the pair weighs.
    fn each(log: &Interactions, mut with: impl FnMut(usize, usize, f64)) {
        for user in 0..log.users.len() {
            let items = &log.item[log.train(user)];
            for (at, &after) in items.iter().enumerate() {
                for apart in 1..=WINDOW.min(at) {
                    with(items[at - apart] as usize, after as usize, 1.0 / apart as f64);
                }
            }
        }
    }

    /// G times a matrix of so many columns, by rows.
    fn product(&self, of: &[f64], columns: usize) -> Vec<f64> {
        let row = |item: usize| item * columns..(item + 1) * columns;
        let mut following = vec![0.0; of.len()];
        Pairs::each(self.log, |before, after, share| {
            add(&mut following[row(before)], &of[row(after)], share / self.weight[before]);
        });
        let mut product = vec![0.0; of.len()];
        Pairs::each(self.log, |before, after, share| add(&mut product[row(after)], &following[row(before)], share));
        product
    }

    /// Of the numbers of the training events' items.
    fn root_mean_square(&self, items: &[f64], dim: usize) -> f64 {
        let rows = (0..self.log.users.len()).flat_map(|user| self.log.train(user));
        let (mut sum, mut events) = (0.0, 0_u64);
        for row in rows {
            let item = self.log.item[row] as usize;
            sum += items[item * dim..(item + 1) * dim].iter().map(|value| value * value).sum::<f64>();
            events += 1;
        }
        (sum / (events * dim as u64) as f64).sqrt()
    }
}

fn add(to: &mut [f64], of: &[f64], times: f64) {
    to.iter_mut().zip(of).for_each(|(to, of)| *to += times * of);
}

fn matrix(values: &[f64], columns: usize) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(values)?.f_view([-1, columns as i64])
}

/// By rows.
fn numbers(tensor: &Tensor) -> Result<Vec<f64>, TchError> {
    Vec::try_from(tensor.f_to_kind(Kind::Double)?.f_contiguous()?.f_view([-1])?)
}

/// Orthonormal columns that span what those of a matrix do.
fn orthonormal(values: &[f64], columns: usize) -> Result<Vec<f64>, TchError> {
    let (q, _) = Tensor::f_linalg_qr(&matrix(values, columns)?, "reduced")?;
    numbers(&q)
}
