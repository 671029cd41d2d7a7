//! Made-up counts for the tests of the table and the report: two weeks of a shop, hour by hour.

use super::metrics::add;
use super::random::Stream;
use dataflows::evaluation::{Bucket, Evaluation, ListTally, Tally, UserTally};
use dataflows::event::{Time, UserId};

const N: usize = 8;
const HOUR: Time = 3_600_000;
/// 2017-11-25 00:00 UTC.
const START: Time = 1_511_568_000_000;
const HOURS: u64 = 14 * 24;

/// What one event met: per method, whether a list stood, and the rank of its item.
fn event(stream: &mut Stream, hour: u64, seen: u64, weight: i64) -> [Tally; 3] {
    let uniform = |stream: &mut Stream| stream.word() as f64 / 2f64.powi(64);
    let warm = (hour as f64 / 48.0).min(1.0);
    let chance = [0.09 + 0.08 * warm + 0.03 * (seen as f64).ln_1p() / 4.0, 0.07 + 0.02 * warm, 0.11];
    let listed = [seen > 0, hour > 0, seen > 0];
    std::array::from_fn(|method| {
        let mut tally = Tally { events: 1, with_list: u64::from(listed[method]), reward: 0, hits: vec![0; N] };
        if listed[method] && uniform(stream) < chance[method] {
            let rank = (uniform(stream).powi(2) * N as f64) as usize;
            tally.hits[rank.min(N - 1)] = 1;
            tally.reward = weight;
        }
        tally
    })
}

/// An hour of the two weeks, busier in the evening, on weekends, and at one sale.
fn hour(stream: &mut Stream) -> u64 {
    loop {
        let hour = stream.below(HOURS);
        let evening = 1.0 + (std::f64::consts::TAU * ((hour % 24) as f64 - 14.0) / 24.0).sin();
        let sale = if (200..206).contains(&hour) { 4.0 } else { 1.0 };
        let outage = if (120..130).contains(&hour) { 0.0 } else { 1.0 };
        if (stream.below(1000) as f64) < 110.0 * (evening + 0.15) * sale * outage {
            return hour;
        }
    }
}

/// `users` users with a Zipf-like number of events each.
pub(crate) fn evaluation(users: u64) -> Evaluation {
    let mut stream = Stream::new(42, 0);
    let mut evaluation = Evaluation { n: N, bucket_width: HOUR, catalogue: 12_431, ..Evaluation::default() };
    let mut buckets = std::collections::BTreeMap::<Time, [Tally; 3]>::new();
    for user in 0..users {
        let count = 1 + users * 2 / (user + 1 + stream.below(users / 4 + 1));
        let mut hours: Vec<u64> = (0..count).map(|_| hour(&mut stream)).collect();
        hours.sort_unstable();
        let mut methods: [Tally; 3] = Default::default();
        for (seen, hour) in (0..).zip(hours) {
            let weight = [1, 1, 1, 1, 2, 2, 3][stream.below(7) as usize];
            let met = event(&mut stream, hour, seen, weight);
            let bucket = buckets.entry(START + hour * HOUR).or_default();
            for method in 0..3 {
                add(&mut methods[method], &met[method]);
                add(&mut bucket[method], &met[method]);
            }
        }
        evaluation.users.push(UserTally { user: UserId(user), methods });
    }
    evaluation.buckets = buckets.into_iter().map(|(start, methods)| Bucket { start, methods }).collect();
    evaluation.lists = [(9213, 11.37), (412, 7.21), (12_019, 10.02)].map(|(distinct_items, bits)| ListTally {
        lists: 30_000,
        items: 240_000,
        distinct_items,
        novelty_sum: (bits * 240_000.0 * 2f64.powi(32)) as i128,
    });
    evaluation
}

/// A log of which no event ever had a list.
pub(crate) fn without_lists() -> Evaluation {
    let mut evaluation = evaluation(20);
    let strip = |tally: &mut Tally| {
        *tally = Tally { events: tally.events, hits: vec![0; N], ..Tally::default() };
    };
    evaluation.users.iter_mut().for_each(|user| user.methods.iter_mut().for_each(strip));
    evaluation.buckets.iter_mut().for_each(|bucket| bucket.methods.iter_mut().for_each(strip));
    evaluation.lists = Default::default();
    evaluation
}
