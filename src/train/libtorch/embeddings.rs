//! Embeddings of users and items by a two-tower network, DSSM (Huang et al., "Learning deep structured semantic models for
//! web search using clickthrough data", CIKM 2013; contract, section 8).
//!
//! ```text
//! user, sex, age, pur_power      4 vectors of d ─→ 256 ─ BN ─ relu ─→ 128 ─ BN ─ relu ─→ d ─→ unit norm ─┐
//!                                                                                                        ├─ cos
//! item, category, shop, brand    4 vectors of d ─→ 256 ─ BN ─ relu ─→ 128 ─ BN ─ relu ─→ d ─→ unit norm ─┘
//! ```
//!
//! **What is trained on.** The events of the training parts, as they stand, each with one negative: an item of the catalogue,
//! uniformly drawn until it is one that the user has in no event of their training part (after [`ATTEMPTS`] draws, as with a
//! user who has nearly everything, the last one is taken). A batch of B samples is B/2 events and their negatives. A log
//! without features, and a feature that the log does not know, have the feature's padding vector, zero.
//!
//! **Loss** of a pair: 1 − cos if it happened, max(0, cos) if not (PyTorch's `CosineEmbeddingLoss` of margin 0); or binary
//! cross-entropy of σ(cos).
//!
//! **Layers** before a batch normalisation have no bias: it would take it away again, and Adam would blow up the rounding errors
//! that are left of its gradient.
//!
//! The user's tower is run once an event, not once a sample: event and negative share the user, and a batch normalisation
//! over every row twice is the one over every row once, but for the unbiased estimate in the running variance.
//!
//! The first layer is linear, and its input is four vectors side by side: what comes out is the sum of what each gives alone.
//! Features have few values, of which a batch has fewer: the vector of each is sent through its part of the layer once, and rows
//! add up what came of theirs.
//!
//! **Tables** are updated as PyTorch's dense gradients and Adam do it: a row's moments decay in every step, also where the row
//! is in no sample. A row that was in none so far has no moments, and is left out, which is exact ([`super::tables`]).

use tch::{Kind, TchError, Tensor, no_grad};

use super::adam::Adam;
use super::bag;
use super::network::{Init, Initial, Parameters, Spec, floats};
use super::random::Draws;
use super::tables::Table;
use eddyline::learn::Interactions;
use eddyline::train::options::{EmbeddingLoss, EmbeddingParameters};

type Result<T> = std::result::Result<T, TchError>;

/// Draws of a negative before the last is taken.
const ATTEMPTS: u64 = 64;
/// Widths of a tower's hidden layers.
const WIDTHS: [i64; 2] = [256, 128];
const BN_MOMENTUM: f64 = 0.1;
const BN_EPSILON: f64 = 1e-5;
/// Over so many bins of the cosine the ROC AUC is counted.
const BINS: usize = 4096;

/// Both towers.
#[derive(Debug)]
pub(super) struct Embeddings {
    options: EmbeddingParameters,
    users: Tower,
    items: Tower,
    /// Cosines of the epoch so far: how many events, then how many negatives, fell into each bin.
    bins: Vec<u64>,
}

/// Indices of a batch's events: rows of the four tables of each tower.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs {
    /// For each of the user's four tables, B/2 rows.
    pub(super) users: [Vec<i32>; 4],
    /// For each of the item's, those of the events and then those of the negatives.
    pub(super) items: [Vec<i32>; 4],
}

/// What draws negatives.
#[derive(Debug)]
pub(super) struct Negatives {
    /// The items of each user's training part, sorted, without repeats: places, then items.
    places: Vec<usize>,
    had: Vec<u32>,
    catalogue: u64,
}

impl Negatives {
    pub(super) fn new(log: &Interactions) -> Negatives {
        let (mut places, mut had) = (vec![0], Vec::new());
        let mut items = Vec::new();
        for user in 0..log.users.len() {
            items.clear();
            items.extend(log.train(user).map(|row| log.item[row]));
            items.sort_unstable();
            items.dedup();
            had.extend_from_slice(&items);
            places.push(had.len());
        }
        Negatives { places, had, catalogue: log.catalogue as u64 }
    }

    /// An item that `user` never had, for the sample at `place` of an epoch.
    fn draw(&self, user: usize, draws: Draws, place: u64) -> u32 {
        let had = &self.had[self.places[user]..self.places[user + 1]];
        let mut item = 0;
        for attempt in 0..ATTEMPTS / 2 {
            let [a, b, c, d] = draws.block(place * (ATTEMPTS / 2) + attempt);
            for words in [[a, b], [c, d]] {
                item = Draws::below(words, self.catalogue) as u32;
                if had.binary_search(&item).is_err() {
                    return item;
                }
            }
        }
        item
    }
}

impl Pairs {
    /// The events of these users and rows, the first of them at `place` of its epoch.
    pub(super) fn fill(
        log: &Interactions,
        negatives: &Negatives,
        events: &[(usize, usize)],
        draws: Draws,
        place: u64,
    ) -> Pairs {
        let mut pairs = Pairs::default();
        let users = events.iter().map(|&(user, _)| user as u32);
        let chosen = events.iter().map(|&(_, row)| log.known_item(row));
        let drawn = (place..).zip(events).map(|(place, &(user, _))| negatives.draw(user, draws, place));
        let users: Vec<u32> = users.collect();
        let items: Vec<u32> = chosen.chain(drawn).collect();
        for table in 0..4 {
            pairs.users[table] = rows(&users, table, &log.user_features);
            pairs.items[table] = rows(&items, table, &log.item_features);
        }
        pairs
    }
}

/// The rows of table `table` for these indices: 0 is the id's own, then one a feature; without features its padding row, 0.
fn rows(indices: &[u32], table: usize, features: &[eddyline::learn::Feature]) -> Vec<i32> {
    match table.checked_sub(1).map(|feature| features.get(feature)) {
        None => indices.iter().map(|&index| index as i32).collect(),
        Some(None) => vec![0; indices.len()],
        Some(Some(feature)) => indices.iter().map(|&index| feature.index[index as usize] as i32).collect(),
    }
}

/// What a tower is asked with.
#[derive(Debug)]
struct Input {
    /// Rows of the ids' table, one a sample, and their vectors, (samples, d).
    ids: (Vec<i32>, Tensor),
    /// Of each used feature the rows that occur, and their vectors, (rows, d).
    features: Vec<(Vec<i32>, Tensor)>,
    /// Places in all features' rows, one feature after another: of the first sample's features, of the second's, …
    places: Vec<u32>,
    /// What each sample's features add to the first layer, (samples, 256).
    sums: Option<Tensor>,
}

impl Input {
    fn requires_grad(self) -> Result<Input> {
        let (rows, vectors) = self.ids;
        let sums = self.sums.map(|sums| sums.f_set_requires_grad(true)).transpose()?;
        Ok(Input { ids: (rows, vectors.f_set_requires_grad(true)?), sums, ..self })
    }

    fn leaves(&self) -> impl Iterator<Item = &Tensor> {
        std::iter::once(&self.ids.1).chain(&self.sums)
    }

    fn samples(&self) -> i64 {
        self.ids.1.size()[0]
    }
}

/// Four tables and the layers over them.
#[derive(Debug)]
struct Tower {
    name: &'static str,
    tables: [Table; 4],
    /// How many tables, from the first, have rows besides padding. What padding adds to a product is 0, and so is its gradient.
    used: usize,
    layers: Parameters,
    adam: Adam,
    /// Running mean and variance of each batch normalisation.
    running: [Tensor; 4],
}

impl Tower {
    fn new(name: &'static str, rows: [i64; 4], dim: i64, lr: f64, initial: &mut Initial) -> Result<Tower> {
        let used = rows.iter().rposition(|&rows| rows > 1).map_or(1, |last| last + 1);
        let mut tables = Vec::with_capacity(4);
        for rows in rows {
            tables.push(Table::new(rows, dim, lr, initial)?);
        }
        let norm = |key: &str, width| {
            let spec = |part, init| Spec { key: format!("{key}.{part}"), shape: vec![width], init };
            [spec("weight", Init::Ones), spec("bias", Init::Zeros)]
        };
        let [wide, narrow] = WIDTHS;
        let mut specs = vec![Spec::weight("fc1", wide, 4 * dim, Init::Kaiming)];
        specs.extend(norm("bn1", wide));
        specs.push(Spec::weight("fc2", narrow, wide, Init::Kaiming));
        specs.extend(norm("bn2", narrow));
        specs.extend(Spec::linear("fc3", dim, narrow, Init::Kaiming));
        let layers = Parameters::new(&specs, initial)?;
        let options = (Kind::Float, layers.flat().device());
        let [m1, m2] = WIDTHS.map(|width| Tensor::f_zeros([width], options));
        let [v1, v2] = WIDTHS.map(|width| Tensor::f_ones([width], options));
        let running = [m1?, v1?, m2?, v2?];
        let tables = tables.try_into().expect("there are four");
        Ok(Tower { name, tables, used, adam: Adam::new(&layers, lr)?, layers, running })
    }

    /// The input for samples of these rows.
    fn gather(&self, indices: &[Vec<i32>; 4]) -> Result<Input> {
        let features = self.used - 1;
        let ids = (indices[0].clone(), self.tables[0].gather(&indices[0])?);
        let mut input = Input { ids, features: Vec::new(), places: vec![0; indices[0].len() * features], sums: None };
        let (mut before, mut products) = (0, Vec::new());
        for (at, (table, of_samples)) in self.tables.iter().zip(indices).take(self.used).skip(1).enumerate() {
            let mut rows = Vec::new();
            // One more than the place among `rows`; 0 for none.
            let mut found = vec![0_u32; table.padding() as usize + 1];
            for (places, &row) in input.places.chunks_mut(features).zip(of_samples) {
                let found = &mut found[row as usize];
                if *found == 0 {
                    rows.push(row);
                    *found = rows.len() as u32;
                }
                places[at] = before + *found - 1;
            }
            before += rows.len() as u32;
            let vectors = table.gather(&rows)?;
            products.push(no_grad(|| vectors.f_linear(&self.first_weight(at + 1)?, None::<&Tensor>))?);
            input.features.push((rows, vectors));
        }
        if !products.is_empty() {
            input.sums = Some(bag::sums(&Tensor::f_cat(&products, 0)?, &input.places, features)?);
        }
        Ok(input)
    }

    /// The part of the first layer's weights for table `at`: (256, d).
    fn first_weight(&self, at: usize) -> Result<Tensor> {
        let weight = self.layers.get("fc1.weight");
        let dim = weight.size()[1] / self.tables.len() as i64;
        weight.f_narrow(1, at as i64 * dim, dim)
    }

    /// From the gradient by what features add up to, that by their vectors; what it says of the first layer's weights goes into
    /// `by_weight`.
    fn by_features(&self, input: &Input, by_sums: &Tensor, by_weight: &Tensor) -> Result<Vec<Tensor>> {
        let rows: Vec<i64> = input.features.iter().map(|(rows, _)| rows.len() as i64).collect();
        let by_products = bag::gradient(by_sums, &input.places, rows.iter().sum())?.f_split_with_sizes(&rows, 0)?;
        let mut by_vectors = Vec::with_capacity(rows.len());
        for (at, (by_product, (_, vectors))) in (1..).zip(by_products.iter().zip(&input.features)) {
            let dim = vectors.size()[1];
            by_vectors.push(by_product.f_matmul(&self.first_weight(at)?)?);
            by_weight.f_narrow(1, at as i64 * dim, dim)?.f_copy_(&by_product.f_tr()?.f_matmul(vectors)?)?;
        }
        Ok(by_vectors)
    }

    /// Unit vectors, (samples, d).
    fn forward(&self, input: &Input, training: bool) -> Result<Tensor> {
        let get = |key: &str, part: &str| self.layers.get(&format!("{key}.{part}"));
        let normalised = |x: &Tensor, norm: &str, at: usize| {
            let (mean, variance) = (&self.running[at], &self.running[at + 1]);
            let mut x = x.f_batch_norm(
                Some(&get(norm, "weight")),
                Some(&get(norm, "bias")),
                Some(mean),
                Some(variance),
                training,
                BN_MOMENTUM,
                BN_EPSILON,
                false,
            )?;
            x.f_relu_()
        };
        let first = input.ids.1.f_linear(&self.first_weight(0)?, None::<&Tensor>)?;
        let first = input.sums.iter().try_fold(first, |first, sums| first.f_add(sums))?;
        let x = normalised(&first, "bn1", 0)?;
        let x = normalised(&x.f_linear(&get("fc2", "weight"), None::<&Tensor>)?, "bn2", 2)?;
        let x = self.layers.linear("fc3").apply(&x)?;
        // As torch.nn.functional.normalize: by the norm, but at least 1e-12.
        let norm = x.f_norm_scalaropt_dim(2.0, [1], true)?.f_clamp_min(1e-12)?;
        x.f_div(&norm)
    }

    fn update(&mut self, by_vectors: &[(Vec<i32>, Tensor)], gradients: &[Tensor], step: i64) -> Result<()> {
        self.adam.update(&mut self.layers, gradients, step)?;
        self.tables
            .iter_mut()
            .zip(by_vectors)
            .try_for_each(|(table, (rows, by_rows))| table.update(rows, by_rows, step))
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let [first, second] = self.adam.moments();
        let mut all = vec![("layers", self.layers.flat()), ("layers.m", first), ("layers.v", second)];
        let running = ["bn1.mean", "bn1.var", "bn2.mean", "bn2.var"];
        all.extend(running.into_iter().zip(&self.running));
        let mut all: Vec<(String, Tensor)> =
            all.into_iter().map(|(part, tensor)| (format!("{}.{part}", self.name), tensor.shallow_clone())).collect();
        for (at, table) in self.tables.iter().enumerate() {
            let parts = table.tensors().into_iter();
            all.extend(parts.map(|(part, tensor)| (format!("{}.table{at}.{part}", self.name), tensor)));
        }
        all
    }
}

/// Gradients of a batch.
#[derive(Debug)]
pub(super) struct Gradients {
    pub(super) loss: Tensor,
    /// Of each tower, for each used table: rows, and the gradient by the vector of each.
    vectors: [Vec<(Vec<i32>, Tensor)>; 2],
    /// By the towers' layers.
    pub(super) layers: [Vec<Tensor>; 2],
    cosines: Tensor,
}

impl Embeddings {
    /// What a step reports, in order.
    pub(super) const LOSSES: &'static [&'static str] = &["loss"];

    pub(super) fn new(
        log: &Interactions,
        options: EmbeddingParameters,
        lr: f64,
        initial: &mut Initial,
    ) -> Result<Embeddings> {
        let rows = |ids: usize, features: &[eddyline::learn::Feature]| {
            let mut rows = [ids as i64 + 1, 1, 1, 1];
            rows[1..].iter_mut().zip(features).for_each(|(rows, feature)| *rows = feature.values.len() as i64 + 1);
            rows
        };
        let dim = options.dim as i64;
        let users = Tower::new("user", rows(log.users.len(), &log.user_features), dim, lr, initial)?;
        let items = Tower::new("item", rows(log.catalogue, &log.item_features), dim, lr, initial)?;
        Ok(Embeddings { options, users, items, bins: vec![0; 2 * BINS] })
    }

    /// The step of this number, from 1.
    pub(super) fn step(&mut self, pairs: &Pairs, step: i64) -> Result<Vec<f64>> {
        let Gradients { loss, vectors: [by_users, by_items], layers: [users, items], cosines } =
            self.gradients(pairs)?;
        self.users.update(&by_users, &users, step)?;
        self.items.update(&by_items, &items, step)?;
        count(&mut self.bins, &cosines)?;
        Ok(vec![loss.f_double_value(&[])?])
    }

    /// The loss and its gradients.
    pub(super) fn gradients(&self, pairs: &Pairs) -> Result<Gradients> {
        let users = self.users.gather(&pairs.users)?.requires_grad()?;
        let items = self.items.gather(&pairs.items)?.requires_grad()?;
        let cosines = self.cosines(&users, &items, true)?;
        let events = cosines.f_get(0)?;
        let negatives = cosines.f_get(1)?;
        let (of_events, of_negatives) = match self.options.loss {
            EmbeddingLoss::Cosine => (events.f_neg()?.f_add_scalar(1.0)?, negatives.f_relu()?),
            // −log σ(x) is softplus(−x), −log(1 − σ(x)) is softplus(x).
            EmbeddingLoss::Bce => (events.f_neg()?.f_softplus()?, negatives.f_softplus()?),
        };
        let loss = of_events.f_mean(Kind::Float)?.f_add(&of_negatives.f_mean(Kind::Float)?)?.f_mul_scalar(0.5)?;
        let mut inputs: Vec<&Tensor> = users.leaves().chain(items.leaves()).collect();
        let layers = [&self.users, &self.items].map(|tower| tower.layers.views());
        inputs.extend(layers.iter().copied().flatten());
        let mut by = Tensor::f_run_backward(&[&loss], &inputs, false, false)?.into_iter();
        let mut next = || by.next().ok_or_else(|| TchError::Kind("fewer gradients than tensors".into()));
        let mut of_input =
            |input: &Input| -> Result<_> { Ok((next()?, input.sums.as_ref().map(|_| next()).transpose()?)) };
        let by_inputs = [of_input(&users)?, of_input(&items)?];
        let layers: [Vec<Tensor>; 2] = layers.map(|views| by.by_ref().take(views.len()).collect());
        let mut vectors = [Vec::new(), Vec::new()];
        let towers = [(&self.users, users), (&self.items, items)].into_iter().zip(by_inputs);
        for ((vectors, layers), ((tower, input), (by_ids, by_sums))) in vectors.iter_mut().zip(&layers).zip(towers) {
            let by_features = match by_sums {
                Some(by_sums) => no_grad(|| tower.by_features(&input, &by_sums, &layers[0]))?,
                None => Vec::new(),
            };
            vectors.push((input.ids.0, by_ids));
            vectors.extend(input.features.into_iter().map(|(rows, _)| rows).zip(by_features));
        }
        Ok(Gradients { loss, vectors, layers, cosines: cosines.f_detach()? })
    }

    /// cos of each event and, in the second row, of each negative; (2, B/2).
    fn cosines(&self, users: &Input, items: &Input, training: bool) -> Result<Tensor> {
        let events = users.samples();
        let users = self.users.forward(users, training)?;
        let items = self.items.forward(items, training)?.f_view([2, events, self.options.dim as i64])?;
        users.f_mul(&items)?.f_sum_dim_intlist([2].as_slice(), false, Kind::Float)
    }

    /// Forgets the epoch's counts.
    pub(super) fn start_epoch(&mut self) {
        self.bins.fill(0);
    }

    /// ROC AUC of the epoch so far: each batch's as it was before its step.
    pub(super) fn auc(&self) -> f64 {
        auc(&self.bins)
    }

    /// ROC AUC of these pairs, with the running statistics of the batch normalisations.
    pub(super) fn auc_of(&self, pairs: &Pairs) -> Result<f64> {
        let mut bins = vec![0; 2 * BINS];
        no_grad(|| {
            let (users, items) = (self.users.gather(&pairs.users)?, self.items.gather(&pairs.items)?);
            count(&mut bins, &self.cosines(&users, &items, false)?)
        })?;
        Ok(auc(&bins))
    }

    /// The vectors of all users, and of all items and, in the last row, of the unknown item.
    pub(super) fn tables(&self, log: &Interactions) -> Result<[Tensor; 2]> {
        let users: Vec<u32> = (0..log.users.len() as u32).collect();
        let items: Vec<u32> = (0..log.catalogue as u32).collect();
        let mut of_items: [Vec<i32>; 4] = std::array::from_fn(|table| rows(&items, table, &log.item_features));
        // The unknown item: every feature is padding.
        for (rows, table) in of_items.iter_mut().zip(&self.items.tables) {
            rows.push(table.padding());
        }
        let of_users: [Vec<i32>; 4] = std::array::from_fn(|table| rows(&users, table, &log.user_features));
        no_grad(|| Ok([vectors(&self.users, &of_users)?, vectors(&self.items, &of_items)?]))
    }

    /// What a checkpoint holds, besides [`bins`](Self::bins).
    pub(super) fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut all = self.users.tensors();
        all.extend(self.items.tensors());
        all
    }

    /// The epoch's counts so far.
    pub(super) fn bins(&mut self) -> &mut Vec<u64> {
        &mut self.bins
    }
}

/// For tests: everything by name.
#[cfg(test)]
impl Embeddings {
    pub(super) fn named(&self) -> Result<Vec<(String, Tensor)>> {
        let mut all = Vec::new();
        for tower in [&self.users, &self.items] {
            for (at, table) in tower.tables.iter().enumerate() {
                all.push((format!("{}.table{at}", tower.name), table.view()?));
            }
            all.extend(
                tower.layers.iter().map(|(key, tensor)| (format!("{}.{key}", tower.name), tensor.shallow_clone())),
            );
            all.push((format!("{}.bn1.mean", tower.name), tower.running[0].shallow_clone()));
        }
        Ok(all)
    }

    /// Gradients by name, of tables as dense ones.
    pub(super) fn named_gradients(&self, gradients: &Gradients) -> Result<Vec<(String, Tensor)>> {
        let mut all = Vec::new();
        let of_towers = gradients.vectors.iter().zip(&gradients.layers);
        for (tower, (by_vectors, by_layers)) in [&self.users, &self.items].into_iter().zip(of_towers) {
            for (at, (table, (rows, by_rows))) in tower.tables.iter().zip(by_vectors).enumerate() {
                let mut dense = table.view()?.f_zeros_like()?;
                let dense = dense.f_index_add_(0, &Tensor::f_from_slice(rows)?, by_rows)?;
                drop(dense.f_get(i64::from(table.padding()))?.f_zero_()?);
                all.push((format!("{}.table{at}", tower.name), dense));
            }
            let layers = tower.layers.iter().zip(by_layers);
            all.extend(layers.map(|((key, _), by)| (format!("{}.{key}", tower.name), by.shallow_clone())));
        }
        Ok(all)
    }

    /// Takes tables that have only padding for used.
    pub(super) fn use_all_tables(&mut self) {
        [&mut self.users, &mut self.items].into_iter().for_each(|tower| tower.used = tower.tables.len());
    }

    /// Running statistics as they begin.
    pub(super) fn reset_running(&mut self) -> Result<()> {
        for running in [&mut self.users.running, &mut self.items.running] {
            let [m1, v1, m2, v2] = running;
            [m1, m2].into_iter().try_for_each(|mean| mean.f_zero_().map(drop))?;
            [v1, v2].into_iter().try_for_each(|variance| variance.f_fill_(1.0).map(drop))?;
        }
        Ok(())
    }
}

/// All vectors of a tower, so many at a time.
fn vectors(tower: &Tower, indices: &[Vec<i32>; 4]) -> Result<Tensor> {
    const ROWS: usize = 8192;
    let mut parts = Vec::new();
    for from in (0..indices[0].len()).step_by(ROWS) {
        let until = (from + ROWS).min(indices[0].len());
        let part = std::array::from_fn(|table| indices[table][from..until].to_vec());
        parts.push(tower.forward(&tower.gather(&part)?, false)?);
    }
    Tensor::f_cat(&parts, 0)
}

/// Counts cosines, (2, n), into bins.
fn count(bins: &mut [u64], cosines: &Tensor) -> Result<()> {
    let cosines = cosines.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
    let values = floats(&cosines);
    for (bins, values) in bins.chunks_mut(BINS).zip(values.chunks(values.len() / 2)) {
        for value in values {
            let bin = (value + 1.0) / 2.0 * BINS as f32;
            bins[(bin as usize).min(BINS - 1)] += 1;
        }
    }
    Ok(())
}

/// The share of (event, negative) pairs in which the event has the larger cosine; those of one bin count half.
fn auc(bins: &[u64]) -> f64 {
    let (events, negatives) = bins.split_at(BINS);
    let (mut below, mut ordered) = (0.0, 0.0);
    for (&event, &negative) in events.iter().zip(negatives) {
        ordered += event as f64 * (below + negative as f64 / 2.0);
        below += negative as f64;
    }
    ordered / (events.iter().sum::<u64>() as f64 * below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_under_the_curve_counts_ordered_pairs() {
        let mut bins = vec![0; 2 * BINS];
        (bins[10], bins[20], bins[BINS + 5], bins[BINS + 20]) = (1, 1, 1, 1);
        // Of four pairs: 10 over 5, 20 over 5, 20 with 20 (half), 10 not over 20.
        assert_eq!(auc(&bins), 2.5 / 4.0);
    }
}
