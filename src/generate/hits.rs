//! What the generated model reaches on its log, beside the popular list: a slow prequential evaluation (contract,
//! section 6) on the default pipeline settings, hit rate at 8 only.

use super::statistics::{Read, bytes, events};
use super::*;
use crate::model::weights::{Linear, Policy, Weights};
use std::collections::HashMap;

const TICK_S: u64 = 20;
const SLIDE_S: u64 = 80;
const WINDOW_S: u64 = 3_600;
const N: usize = 8;

/// Hits of each method, over the events of the users looked at.
#[derive(Debug, Default)]
struct Hits {
    events: u64,
    model: u64,
    popular: u64,
    repeat: u64,
}

impl Hits {
    fn rates(&self) -> [f64; 3] {
        [self.model, self.popular, self.repeat].map(|hits| hits as f64 / self.events as f64)
    }
}

fn apply(layer: &Linear, x: &[f32], relu: bool) -> Vec<f32> {
    let rows = layer.weight.chunks_exact(layer.inputs).zip(&layer.bias);
    let value = |(row, bias): (&[f32], &f32)| bias + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
    rows.map(value).map(|value| if relu { value.max(0.0) } else { value }).collect()
}

/// The model indices of the best items.
fn best(weights: &Weights, user: usize, sequence: &[usize]) -> Vec<usize> {
    let row = |table: &[f32], index: usize| table[index * weights.dim()..(index + 1) * weights.dim()].to_vec();
    let mut state = row(&weights.users.data, user);
    for slot in 0..weights.history {
        let padding = weights.history - sequence.len();
        let item = slot.checked_sub(padding).map_or(weights.count(), |place| sequence[place]);
        state.extend(row(&weights.items.data, item));
    }
    let Policy::Ddpg { fc } = &weights.policy else { panic!("not a DDPG policy") };
    let action = apply(&fc[2], &apply(&fc[1], &apply(&fc[0], &state, true), true), false);
    let vectors = weights.items.data.chunks_exact(weights.dim()).take(weights.count());
    let score = |vector: &[f32]| vector.iter().zip(&action).map(|(v, a)| v * a).sum::<f32>();
    let mut scores: Vec<(f32, usize)> = vectors.map(score).zip(0..).collect();
    let order = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let n = N.min(scores.len() - 1);
    scores.select_nth_unstable_by(n, order);
    scores.truncate(N);
    scores.into_iter().map(|(_, item)| item).collect()
}

/// Trending items, moved on from slide to slide.
#[derive(Default)]
struct Trending {
    end: u64,
    expired: usize,
    arrived: usize,
    counts: HashMap<u64, i64>,
    list: Vec<u64>,
}

impl Trending {
    fn advance(&mut self, log: &[Read], time: u64) {
        let end = time / SLIDE_S * SLIDE_S;
        if end == self.end {
            return;
        }
        self.end = end;
        while log[self.arrived].time < end {
            *self.counts.entry(log[self.arrived].item).or_default() += 1;
            self.arrived += 1;
        }
        while log[self.expired].time + WINDOW_S < end {
            *self.counts.entry(log[self.expired].item).or_default() -= 1;
            self.expired += 1;
        }
        let mut ranked: Vec<(i64, u64)> = self.counts.iter().map(|(&item, &count)| (-count, item)).collect();
        ranked.sort_unstable();
        self.list = ranked.into_iter().filter(|&(count, _)| count < 0).take(N).map(|(_, item)| item).collect();
    }
}

/// Looks at one user in `every`, from whatever they do; trending items count everyone.
fn evaluate(options: &Options, shape: &ModelShape, every: u64) -> Hits {
    let mut log = events(&bytes(options).0);
    log.sort_by_key(|event| event.time);
    let Model { weights, users, items } = model(options, shape).expect("valid");
    let index = |ids: &[u64]| ids.iter().zip(0..).map(|(&id, index)| (id, index)).collect::<HashMap<u64, usize>>();
    let (user_index, item_index) = (index(&users), index(&items));

    let mut hits = Hits::default();
    let mut trending = Trending::default();
    let mut histories: HashMap<u64, Vec<u64>> = HashMap::new();
    let mut standing: HashMap<u64, Vec<u64>> = HashMap::new();
    let mut active: Vec<u64> = Vec::new();
    let mut tick = 0;
    for event in &log {
        if event.time / TICK_S != tick {
            tick = event.time / TICK_S;
            active.sort_unstable();
            active.dedup();
            for user in active.drain(..) {
                let history = &histories[&user];
                let newest = &history[history.len().saturating_sub(shape.history)..];
                let sequence: Vec<usize> = newest.iter().map(|item| item_index[item]).collect();
                let list = best(&weights, user_index[&user], &sequence);
                standing.insert(user, list.into_iter().map(|item| items[item]).collect());
            }
        }
        trending.advance(&log, event.time);
        if !(user_index[&event.user] as u64).is_multiple_of(every) {
            continue;
        }
        let history = histories.entry(event.user).or_default();
        let mut repeat: Vec<u64> = Vec::new();
        for &item in history.iter().rev() {
            if repeat.len() < N && !repeat.contains(&item) {
                repeat.push(item);
            }
        }
        hits.events += 1;
        hits.model += u64::from(standing.get(&event.user).is_some_and(|list| list.contains(&event.item)));
        hits.popular += u64::from(trending.list.contains(&event.item));
        hits.repeat += u64::from(repeat.contains(&event.item));
        history.push(event.item);
        active.push(event.user);
    }
    hits
}

#[test]
fn the_model_beats_the_popular_list() {
    let options = Options { events: 12_000, users: 300, items: 600, ..Options::default() };
    let [model, popular, repeat] = evaluate(&options, &ModelShape { dim: 16, history: 10 }, 1).rates();
    assert!(model > 1.5 * popular && model > repeat, "{model} against {popular} and {repeat}");
}

/// `cargo test --release generate::hits -- --ignored --nocapture` prints the figures of `docs/generate.md`.
#[test]
#[ignore = "takes a minute in a release build; prints figures"]
fn figures() {
    let sample = Options { events: 36_000, users: 3_000, items: 1_500, ..Options::default() };
    let default = Options::default();
    let large =
        Options { items: 200_000, users: 500_000, events: 2_000_000, item_exponent: 1.05, ..Options::default() };
    for (name, options, dim, every) in [
        ("sample", &sample, 16, 1),
        ("sample", &sample, 32, 1),
        ("default", &default, 32, 50),
        ("large", &large, 32, 700),
    ] {
        let hits = evaluate(options, &ModelShape { dim, history: 10 }, every);
        eprintln!("{name} d={dim}: {hits:?} {:.3?}", hits.rates());
    }
}
