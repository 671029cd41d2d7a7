//! Every instruction set against one slow, obvious program, bit by bit.

use super::*;
use crate::model::kernels::{Instructions, tanh};
use crate::model::philox::{Draw, fill_clamped_normal, philox4x32_10};
use crate::model::weights::{Embedding, Linear, Policy, Weights};
use proptest::prelude::*;

/// Numbers from a seed, in one of several shapes that scoring might stumble over.
struct Source {
    seed: u32,
    counter: u32,
    flavor: Flavor,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flavor {
    Normal,
    /// Small integers: many equal scores.
    Integers,
    /// Rows of very different lengths.
    Scales,
    /// One value dominates its row, so that eight bits say little about the others.
    Spikes,
    /// Scores and activations overflow.
    Huge,
    Subnormal,
    Zero,
    /// The same value everywhere.
    Constant,
    /// Every value is ±1, and its negation is as likely.
    Signs,
}

const FLAVORS: [Flavor; 9] = [
    Flavor::Normal,
    Flavor::Integers,
    Flavor::Scales,
    Flavor::Spikes,
    Flavor::Huge,
    Flavor::Subnormal,
    Flavor::Zero,
    Flavor::Constant,
    Flavor::Signs,
];

impl Source {
    fn new(seed: u32, flavor: Flavor) -> Source {
        Source { seed, counter: 0, flavor }
    }

    fn words(&mut self) -> [u32; 4] {
        self.counter += 1;
        philox4x32_10([self.counter, 0, 0, 0], [self.seed, 1])
    }

    fn below(&mut self, n: usize) -> usize {
        self.words()[0] as usize % n
    }

    fn value(&mut self, row_scale: f32) -> f32 {
        let words = self.words();
        let unit = words.map(|word| word as f32 / u32::MAX as f32 - 0.5);
        let normal = unit.iter().sum::<f32>();
        match self.flavor {
            Flavor::Normal => normal,
            Flavor::Integers => (words[0] % 4) as f32 - 1.0,
            Flavor::Scales => normal * row_scale,
            Flavor::Spikes => normal * if words[0].is_multiple_of(16) { 1e4 } else { 1.0 },
            Flavor::Huge => normal * 1e38,
            Flavor::Subnormal => normal * 1e-39,
            Flavor::Zero => 0.0,
            Flavor::Constant => 0.37,
            Flavor::Signs => {
                if words[0].is_multiple_of(2) {
                    1.0
                } else {
                    -1.0
                }
            }
        }
    }

    fn table(&mut self, rows: usize, dim: usize) -> Vec<f32> {
        let mut table = Vec::with_capacity(rows * dim);
        for _ in 0..rows {
            // Every fifth row repeats an earlier one: equal scores at different indices.
            if !table.is_empty() && self.below(5) == 0 {
                let row = self.below(table.len() / dim) * dim;
                table.extend_from_within(row..row + dim);
                continue;
            }
            let row_scale = 10f32.powi(self.below(9) as i32 - 4);
            table.extend((0..dim).map(|_| self.value(row_scale)));
        }
        table
    }

    fn linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        let weight = self.table(outputs, inputs);
        Linear { inputs, outputs, weight, bias: (0..outputs).map(|_| self.value(1.0)).collect() }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Ddpg,
    Reinforce,
    Bcq,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    kind: Kind,
    count: usize,
    dim: usize,
    history: usize,
    hidden: usize,
    flavor: Flavor,
    seed: u32,
}

const USERS: usize = 7;

fn weights(shape: Shape) -> Weights {
    let Shape { kind, count, dim, history, hidden, .. } = shape;
    let state = dim * (history + 1);
    // Layers of ordinary numbers, so that what reaches the table is not always zero or infinite.
    let (mut ordinary, mut strange) = (Source::new(shape.seed, Flavor::Normal), Source::new(shape.seed, shape.flavor));
    let mut layers =
        |inputs| [ordinary.linear(inputs, hidden), ordinary.linear(hidden, hidden), ordinary.linear(hidden, dim)];
    let policy = match kind {
        Kind::Ddpg => Policy::Ddpg { fc: layers(state) },
        Kind::Reinforce => {
            let [first, second, _] = layers(state);
            Policy::Reinforce { pfc: [first, second], softmax: strange.linear(hidden, count + 1) }
        }
        Kind::Bcq => Policy::Bcq { decoder: layers(state + 2 * dim), perturbator: layers(state + dim) },
    };
    let mut items = strange.table(count + 1, dim);
    items[count * dim..].fill(0.0);
    Weights {
        users: Embedding { rows: USERS, dim, data: ordinary.table(USERS, dim) },
        items: Embedding { rows: count + 1, dim, data: items },
        policy,
        history,
        hidden,
    }
}

fn slow_linear(layer: &Linear, x: &[f32], relu: bool) -> Vec<f32> {
    let outputs = layer.weight.chunks(layer.inputs).zip(&layer.bias).map(|(row, &bias)| {
        let sum = row.iter().zip(x).fold(bias, |sum, (w, x)| w.mul_add(*x, sum));
        if !relu || sum > 0.0 { sum } else { 0.0 }
    });
    outputs.collect()
}

fn slow_perceptron(layers: &[Linear; 3], x: &[f32]) -> Vec<f32> {
    slow_linear(&layers[2], &slow_linear(&layers[1], &slow_linear(&layers[0], x, true), true), false)
}

/// All scores of one request, by the contract's formulas.
fn slow_scores(weights: &Weights, state: &[f32], noise: &[f32]) -> Vec<f32> {
    let count = weights.count();
    let dot = |a: &[f32]| {
        let rows = weights.items.data.chunks(weights.dim()).take(count);
        rows.map(|row| row.iter().zip(a).fold(0.0, |sum: f32, (w, x)| w.mul_add(*x, sum))).collect()
    };
    match &weights.policy {
        Policy::Ddpg { fc } => dot(&slow_perceptron(fc, state)),
        Policy::Reinforce { pfc, softmax } => {
            let mut scores =
                slow_linear(softmax, &slow_linear(&pfc[1], &slow_linear(&pfc[0], state, true), true), false);
            scores.truncate(count);
            scores
        }
        Policy::Bcq { decoder, perturbator } => {
            let g = slow_perceptron(decoder, &[state, noise].concat());
            let p = slow_perceptron(perturbator, &[state, &g[..]].concat());
            dot(&g.iter().zip(p).map(|(g, p)| g + 0.05 * tanh(p)).collect::<Vec<_>>())
        }
    }
}

/// The k best of `scores` without `excluded`, by sorting everything.
fn slow_top_k(scores: &[f32], excluded: &[u32], k: usize) -> Vec<(u32, u32)> {
    let rank = |score: f32| if score.is_nan() { (1, 0.0) } else { (0, -score) };
    let mut order: Vec<u32> = (0..scores.len() as u32).filter(|item| !excluded.contains(item)).collect();
    order.sort_by(|&a, &b| {
        let (a_rank, b_rank) = (rank(scores[a as usize]), rank(scores[b as usize]));
        a_rank.partial_cmp(&b_rank).expect("ranks hold no NaN").then(a.cmp(&b))
    });
    let bits = |score: f32| if score.is_nan() { f32::NAN.to_bits() } else { score.to_bits() };
    order.into_iter().take(k).map(|item| (item, bits(scores[item as usize]))).collect()
}

fn answer(ranked: &Ranked, request: usize) -> Vec<(u32, u32)> {
    let scores = ranked.scores(request).iter().map(|score| score.to_bits());
    ranked.indices(request).iter().copied().zip(scores).collect()
}

/// Requests with short sequences, repeated and padding items.
fn requests(model: &PackedModel, batch: usize, source: &mut Source) -> Requests {
    let mut requests = Requests::new(model);
    for i in 0..batch {
        let length = source.below(model.history() + 1);
        let sequence: Vec<u32> = (0..length).map(|_| source.below(model.count() + 1) as u32).collect();
        let draw = Draw { user: 1000 + i as u64, time_ms: 20_000 };
        requests.push(source.below(USERS) as u32, &sequence, draw).expect("indices are in range");
    }
    requests
}

fn state(weights: &Weights, requests: &Requests, request: usize) -> Vec<f32> {
    let vector = |table: &Embedding, row: u32| table.data[row as usize * table.dim..][..table.dim].to_vec();
    let mut state = vector(&weights.users, requests.user(request));
    state.extend(requests.sequence(request).iter().flat_map(|&item| vector(&weights.items, item)));
    state
}

fn check(shape: Shape, batch: usize, k: usize, exclude: bool, seed: Option<u64>) -> Result<(), TestCaseError> {
    let weights = weights(shape);
    let mut source = Source::new(shape.seed ^ 0xABCD, Flavor::Normal);
    let asked = requests(&PackedModel::new(weights.clone(), seed), batch, &mut source);
    let expected: Vec<_> = (0..batch)
        .map(|request| {
            let mut noise = vec![0.0; 2 * shape.dim];
            if let Some(seed) = seed {
                fill_clamped_normal(seed, Draw { user: 1000 + request as u64, time_ms: 20_000 }, &mut noise);
            }
            let excluded = if exclude { asked.sequence(request) } else { &[] };
            slow_top_k(&slow_scores(&weights, &state(&weights, &asked, request), &noise), excluded, k)
        })
        .collect();
    for instructions in Instructions::ALL.into_iter().filter(|set| set.is_available()) {
        let model = Arc::new(PackedModel::with_instructions(weights.clone(), seed, instructions));
        let (mut scorer, mut ranked) = (Scorer::new(model), Ranked::default());
        // The second time its memory is used.
        for _ in 0..2 {
            scorer.top_k(&asked, k, exclude, &mut ranked);
            prop_assert_eq!(ranked.len(), batch);
            for (request, expected) in expected.iter().enumerate() {
                prop_assert_eq!(&answer(&ranked, request), expected, "{:?}, request {}", instructions, request);
            }
        }
    }
    Ok(())
}

fn shapes(counts: std::ops::Range<usize>) -> impl Strategy<Value = Shape> {
    let kinds = prop::sample::select(vec![Kind::Ddpg, Kind::Reinforce, Kind::Bcq]);
    (kinds, counts, 1usize..40, 0usize..4, 1usize..70, prop::sample::select(FLAVORS.to_vec()), any::<u32>()).prop_map(
        |(kind, count, dim, history, hidden, flavor, seed)| Shape { kind, count, dim, history, hidden, flavor, seed },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn small_catalogues_rank_as_the_slow_program_does(
        shape in shapes(1..90), batch in 0usize..20, k in 0usize..100, exclude: bool, seed: Option<u64>,
    ) {
        check(shape, batch, k, exclude, seed)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Large enough for several tiles of the first pass, with few of them in the answer.
    #[test]
    fn large_catalogues_rank_as_the_slow_program_does(
        shape in shapes(1500..6000), batch in 1usize..16, k in 1usize..20, exclude: bool,
    ) {
        check(shape, batch, k, exclude, Some(3))?;
    }
}

/// A model for the tests below.
fn small(kind: Kind, count: usize) -> Weights {
    weights(Shape { kind, count, dim: 8, history: 3, hidden: 12, flavor: Flavor::Normal, seed: 5 })
}

#[test]
fn a_batch_larger_than_a_chunk_answers_each_request_as_alone() {
    for kind in [Kind::Ddpg, Kind::Reinforce, Kind::Bcq] {
        let model = Arc::new(PackedModel::new(small(kind, 700), Some(9)));
        let asked = requests(&model, 2 * CHUNK + 3, &mut Source::new(1, Flavor::Normal));
        let mut scorer = Scorer::new(model.clone());
        let (mut together, mut alone) = (Ranked::default(), Ranked::default());
        scorer.top_k(&asked, 5, true, &mut together);
        for request in (0..asked.len()).step_by(37) {
            let mut one = Requests::new(&model);
            let draw = Draw { user: 1000 + request as u64, time_ms: 20_000 };
            one.push(asked.user(request), asked.sequence(request), draw).expect("it was accepted before");
            scorer.top_k(&one, 5, true, &mut alone);
            assert_eq!(answer(&alone, 0), answer(&together, request));
        }
    }
}

#[test]
fn a_state_answers_as_the_request_it_stands_for() {
    for kind in [Kind::Ddpg, Kind::Reinforce, Kind::Bcq] {
        let weights = small(kind, 50);
        let model = Arc::new(PackedModel::new(weights.clone(), Some(9)));
        let asked = requests(&model, 4, &mut Source::new(1, Flavor::Normal));
        let mut states = States::new(&model);
        for request in 0..asked.len() {
            let draw = Draw { user: 1000 + request as u64, time_ms: 20_000 };
            states.push(&state(&weights, &asked, request), draw).expect("the length is right");
        }
        let mut scorer = Scorer::new(model);
        let (mut of_requests, mut of_states) = (Ranked::default(), Ranked::default());
        scorer.top_k(&asked, 5, false, &mut of_requests);
        scorer.top_k_of_states(&states, 5, &mut of_states);
        assert_eq!(of_requests, of_states);
    }
}

/// The layers see the user alone, so that a sequence can be made of the answer it must not change otherwise.
#[test]
fn excluded_items_give_way_to_the_next() {
    let mut weights = small(Kind::Ddpg, 900);
    let Policy::Ddpg { fc } = &mut weights.policy else { unreachable!("asked for DDPG") };
    fc[0].weight.chunks_mut(fc[0].inputs).for_each(|row| row[8..].fill(0.0));
    for instructions in Instructions::ALL.into_iter().filter(|set| set.is_available()) {
        let model = Arc::new(PackedModel::with_instructions(weights.clone(), None, instructions));
        let mut scorer = Scorer::new(model.clone());
        let mut asked = Requests::new(&model);
        asked.push(3, &[], Draw::default()).expect("it fits");
        let (mut all, mut rest) = (Ranked::default(), Ranked::default());
        scorer.top_k(&asked, 9, false, &mut all);
        asked.clear();
        asked.push(3, &[all.indices(0)[0], all.indices(0)[4]], Draw::default()).expect("it fits");
        scorer.top_k(&asked, 7, true, &mut rest);
        let left = [1, 2, 3, 5, 6, 7, 8].map(|rank| all.indices(0)[rank]);
        assert_eq!(rest.indices(0), left, "{instructions:?}");
        scorer.top_k(&asked, 9, false, &mut rest);
        assert_eq!(rest, all, "{instructions:?}");
    }
}

#[test]
fn a_state_of_nan_and_infinity_is_answered() {
    let model = Arc::new(PackedModel::new(small(Kind::Bcq, 40), None));
    let mut states = States::new(&model);
    for value in [f32::NAN, f32::INFINITY, f32::MIN] {
        states.push(&vec![value; model.state_len()], Draw::default()).expect("the length is right");
    }
    let mut ranked = Ranked::default();
    Scorer::new(model).top_k_of_states(&states, 40, &mut ranked);
    for answered in 0..3 {
        let mut items = ranked.indices(answered).to_vec();
        items.sort_unstable();
        assert_eq!(items, (0..40).collect::<Vec<_>>());
    }
}

#[test]
fn normalizers_make_probabilities_of_logits() {
    let weights = small(Kind::Reinforce, 40);
    let Policy::Reinforce { pfc, softmax } = &weights.policy else { unreachable!("asked for REINFORCE") };
    let model = Arc::new(PackedModel::new(weights.clone(), None));
    let asked = requests(&model, 3, &mut Source::new(1, Flavor::Normal));
    let mut normalizers = Vec::new();
    Scorer::new(model.clone()).log_normalizers(&asked, &mut normalizers);
    for (request, normalizer) in normalizers.iter().enumerate() {
        let hidden = slow_linear(&pfc[1], &slow_linear(&pfc[0], &state(&weights, &asked, request), true), true);
        let logits = slow_linear(softmax, &hidden, false);
        assert_eq!(logits.len(), 41);
        let total: f64 = logits.iter().map(|&logit| (f64::from(logit) - normalizer).exp()).sum();
        assert!((total - 1.0).abs() < 1e-12, "probabilities sum to {total}");
    }
    let ddpg = Arc::new(PackedModel::new(small(Kind::Ddpg, 40), None));
    Scorer::new(ddpg).log_normalizers(&asked, &mut normalizers);
    assert!(normalizers.is_empty());
}

#[test]
fn given_noise_decides_over_drawn_noise() {
    let model = Arc::new(PackedModel::new(small(Kind::Bcq, 60), Some(4)));
    let asked = requests(&model, 3, &mut Source::new(2, Flavor::Normal));
    let mut noise = vec![0.0; 3 * 16];
    for (request, z) in noise.chunks_mut(16).enumerate() {
        fill_clamped_normal(4, Draw { user: 1000 + request as u64, time_ms: 20_000 }, z);
    }
    let mut scorer = Scorer::new(model);
    let (mut drawn, mut given, mut zero) = (Ranked::default(), Ranked::default(), Ranked::default());
    scorer.top_k(&asked, 6, false, &mut drawn);
    scorer.top_k_with_noise(&asked, &noise, 6, false, &mut given).expect("the length is right");
    scorer.top_k_with_noise(&asked, &[0.0; 48], 6, false, &mut zero).expect("the length is right");
    assert_eq!(drawn, given);
    assert_ne!(drawn, zero);
    let wrong = scorer.top_k_with_noise(&asked, &noise[1..], 6, false, &mut given);
    assert_eq!(wrong, Err(RequestError::NoiseLength { given: 47, expected: 48 }));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let model = PackedModel::new(small(Kind::Ddpg, 50), None);
    let mut asked = Requests::new(&model);
    let draw = Draw::default();
    assert_eq!(asked.push(7, &[], draw), Err(RequestError::User { user: 7, users: 7 }));
    assert_eq!(asked.push(0, &[50, 51], draw), Err(RequestError::Item { item: 51, count: 50 }));
    assert_eq!(asked.push(0, &[0; 4], draw), Err(RequestError::SequenceLength { given: 4, history: 3 }));
    assert!(asked.is_empty());
    assert_eq!(States::new(&model).push(&[0.0; 31], draw), Err(RequestError::StateLength { given: 31, expected: 32 }));
    asked.push(6, &[50, 2], draw).expect("the padding index is allowed");
    assert_eq!(asked.sequence(0), [50, 50, 2]);
}
