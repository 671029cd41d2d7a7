//! The benchmark's log: Zipf users and items at a steady rate, with bounded disorder.

use std::io::{self, Write};

const START_S: u64 = 1_700_000_000;
const USERS_EXPONENT: f64 = 0.7;
const ITEMS_EXPONENT: f64 = 1.05;

pub struct Log {
    pub events: u64,
    pub users: u64,
    pub items: u64,
    pub span_s: u64,
    /// Each event's time lies up to so much before its place in the log.
    pub disorder_s: u64,
    pub seed: u64,
}

impl Log {
    /// Writes `user,item,behaviour,time` rows.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let mut random = Random(self.seed);
        let users = Zipf::new(self.users, USERS_EXPONENT, &mut random);
        let items = Zipf::new(self.items, ITEMS_EXPONENT, &mut random);
        for i in 0..self.events {
            let place_ms = u128::from(i) * u128::from(self.span_s) * 1000 / u128::from(self.events);
            let time_ms = START_S * 1000 + place_ms as u64 + 1000 * self.disorder_s;
            let time_s = (time_ms - random.below(1000 * self.disorder_s + 1)) / 1000;
            let behavior = match random.below(100) {
                0..88 => "pv",
                88..93 => "cart",
                93..96 => "fav",
                _ => "buy",
            };
            writeln!(out, "{},{},{behavior},{time_s}", users.sample(&mut random), items.sample(&mut random))?;
        }
        Ok(())
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Ids by rank with probability ∝ rank^−s, ranks shuffled over the ids; by Walker's alias method.
struct Zipf {
    ids: Vec<u64>,
    keep: Vec<f64>,
    alias: Vec<usize>,
}

impl Zipf {
    fn new(n: u64, exponent: f64, random: &mut Random) -> Zipf {
        let mut ids: Vec<u64> = (0..n).collect();
        for i in (1..ids.len()).rev() {
            ids.swap(i, random.below(i as u64 + 1) as usize);
        }
        let weights: Vec<f64> = (1..=n).map(|rank| (rank as f64).powf(-exponent)).collect();
        let mean = weights.iter().sum::<f64>() / n as f64;
        let mut keep: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        let mut alias: Vec<usize> = (0..ids.len()).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..ids.len()).partition(|&i| keep[i] < 1.0);
        while let (Some(s), Some(&l)) = (small.pop(), large.last()) {
            alias[s] = l;
            keep[l] -= 1.0 - keep[s];
            if keep[l] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        Zipf { ids, keep, alias }
    }

    fn sample(&self, random: &mut Random) -> u64 {
        let i = random.below(self.ids.len() as u64) as usize;
        self.ids[if random.unit() < self.keep[i] { i } else { self.alias[i] }]
    }
}
