//! Randomness as a function of (seed, stream, epoch, index): nothing is drawn from a state, so a run that goes on from the
//! middle draws what it would have drawn, whatever the number of threads.
//!
//! - key = the seed, low word first; counter = (index low, index high, epoch, stream), through Philox4x32-10.
//! - [`Shuffle`] is a permutation that takes no memory: a Feistel network over the next even number of bits, walked until it
//!   is back within bounds.

use eddyline::model::philox::philox4x32_10;

/// What randomness is for. A number never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Stream {
    /// First values of weights; the epoch is the tensor's number.
    Weights = 1,
    /// The order of an epoch.
    Order = 2,
    /// Which samples are held out.
    HeldOut = 3,
    /// Negatives of the embeddings.
    Negatives = 4,
    /// ε of the generator's reparametrisation.
    Generator = 5,
    /// z for the actions of a target.
    Targets = 6,
    /// z for the actions that the perturbator learns from.
    Actions = 7,
    /// Negatives of the held-out samples.
    HeldOutNegatives = 8,
}

/// The numbers of one stream in one epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws {
    key: [u32; 2],
    epoch: u32,
    stream: u32,
}

impl Draws {
    /// Of a seed, a stream and an epoch.
    pub(super) fn new(seed: u64, stream: Stream, epoch: u32) -> Draws {
        Draws { key: [seed as u32, (seed >> 32) as u32], epoch, stream: stream as u32 }
    }

    /// Four words of 32 random bits.
    pub(super) fn block(&self, index: u64) -> [u32; 4] {
        philox4x32_10([index as u32, (index >> 32) as u32, self.epoch, self.stream], self.key)
    }

    /// Uniform in (0, 1).
    fn unit(word: u32) -> f32 {
        // 24 bits and a half: exact in f32, and never 0 or 1.
        ((word >> 8) as f32 + 0.5) / 16_777_216.0
    }

    /// Fills `values` with uniform numbers in (−bound, bound).
    pub(super) fn fill_uniform(&self, bound: f32, values: &mut [f32]) {
        for (index, values) in (0..).zip(values.chunks_mut(4)) {
            let words = self.block(index);
            values.iter_mut().zip(words).for_each(|(value, word)| *value = bound * (2.0 * Draws::unit(word) - 1.0));
        }
    }

    /// Fills `values` with standard normal numbers (Box and Muller), those of the blocks from `first` on.
    pub(super) fn fill_normal(&self, first: u64, values: &mut [f32]) {
        for (index, values) in (first..).zip(values.chunks_mut(4)) {
            let [a, b, c, d] = self.block(index);
            let pair = |radius: u32, angle: u32| {
                let radius = (-2.0 * Draws::unit(radius).ln()).sqrt();
                let (sin, cos) = (std::f32::consts::TAU * Draws::unit(angle)).sin_cos();
                [radius * cos, radius * sin]
            };
            let [[a, b], [c, d]] = [pair(a, b), pair(c, d)];
            values.iter_mut().zip([a, b, c, d]).for_each(|(value, normal)| *value = normal);
        }
    }

    /// Fills `values` with clamp(N(0, 1), −½, ½), those of the blocks from `first` on.
    ///
    /// A word stands for a probability, and the number is its normal quantile: with x = √(2π)(p − ½) the series x + x³/6 +
    /// 7x⁵/120 + …, which is right to 10⁻⁶ where it stays within ½, and beyond ½ where it does not. Without branches, a million
    /// of them take milliseconds.
    pub(super) fn fill_clamped_normal(&self, first: u64, values: &mut [f32]) {
        const SERIES: [f32; 6] =
            [34_807.0 / 5_702_400.0, 4_369.0 / 362_880.0, 127.0 / 5_040.0, 7.0 / 120.0, 1.0 / 6.0, 1.0];
        const SQRT_TAU: f32 = 2.506_628_3;
        for (index, values) in (first..).zip(values.chunks_mut(4)) {
            let clamped = self.block(index).map(|word| {
                let x = SQRT_TAU * (Draws::unit(word) - 0.5);
                let square = x * x;
                let series = SERIES.into_iter().fold(0.0, |sum, coefficient| sum * square + coefficient);
                (x * series).clamp(-0.5, 0.5)
            });
            values.iter_mut().zip(clamped).for_each(|(value, clamped)| *value = clamped);
        }
    }

    /// A number below `limit`, which is at least 1; by multiplication, whose bias is below 2^-32 for what fits 32 bits.
    pub(super) fn below(word: [u32; 2], limit: u64) -> u64 {
        let word = u64::from(word[0]) | u64::from(word[1]) << 32;
        ((u128::from(word) * u128::from(limit)) >> 64) as u64
    }
}

/// A permutation of 0 … n−1.
#[derive(Clone, Debug)]
pub(super) struct Shuffle {
    keys: [u64; Shuffle::ROUNDS],
    half_bits: u32,
    len: u64,
}

impl Shuffle {
    const ROUNDS: usize = 6;

    /// The permutation of `len` numbers that `draws` give.
    pub(super) fn new(len: u64, draws: Draws) -> Shuffle {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(1);
        let mut keys = [0; Shuffle::ROUNDS];
        for (pair, index) in keys.chunks_mut(2).zip(0..) {
            let [a, b, c, d] = draws.block(index);
            pair.copy_from_slice(&[u64::from(a) << 32 | u64::from(b), u64::from(c) << 32 | u64::from(d)]);
        }
        Shuffle { keys, half_bits, len }
    }

    /// Where `index` goes.
    pub(super) fn at(&self, index: u64) -> u64 {
        debug_assert!(index < self.len);
        let mut place = index;
        loop {
            place = self.network(place);
            if place < self.len {
                return place;
            }
        }
    }

    fn network(&self, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mixed(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_is_a_permutation_and_differs_by_epoch() {
        for len in [1, 2, 3, 5, 17, 64, 1000, 4097] {
            let order = |epoch| {
                let shuffle = Shuffle::new(len, Draws::new(7, Stream::Order, epoch));
                (0..len).map(|index| shuffle.at(index)).collect::<Vec<_>>()
            };
            let mut sorted = order(0);
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..len), "{len}");
            assert!(len < 17 || order(0) != order(1), "{len}");
            assert!(len < 17 || !order(0).is_sorted(), "{len}");
        }
    }

    #[test]
    fn a_shuffle_leaves_no_place_to_its_neighbourhood() {
        let len = 10_000_u64;
        let shuffle = Shuffle::new(len, Draws::new(3, Stream::Order, 1));
        let moved: f64 = (0..len).map(|index| shuffle.at(index).abs_diff(index) as f64).sum::<f64>() / len as f64;
        // Two uniform places are a third of the length apart.
        assert!((moved / len as f64 - 1.0 / 3.0).abs() < 0.02, "{moved}");
    }

    #[test]
    fn normal_numbers_are_normal_and_can_be_drawn_from_the_middle() {
        let draws = Draws::new(5, Stream::Generator, 2);
        let mut values = vec![0.0; 40_000];
        draws.fill_normal(0, &mut values);
        let mean = values.iter().sum::<f32>() / 40_000.0;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / 40_000.0;
        let beyond = values.iter().filter(|value| value.abs() > 1.96).count();
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        assert!((1_800..2_200).contains(&beyond), "{beyond}");
        let mut later = vec![0.0; 400];
        draws.fill_normal(250, &mut later);
        assert_eq!(later[..], values[1000..1400]);
    }

    /// The quantiles of the tables, and the share of numbers at the ends: 2Φ(−½).
    #[test]
    fn clamped_numbers_are_clamped_normal_ones() {
        let mut values = vec![0.0; 100_000];
        Draws::new(2, Stream::Actions, 1).fill_clamped_normal(0, &mut values);
        assert!(values.iter().all(|value| (-0.5..=0.5).contains(value)));
        let share = |below: f32| values.iter().filter(|&&value| value < below).count() as f64 / 1e5;
        for (z, probability) in [(-0.4, 0.344_578), (-0.1, 0.460_172), (0.0, 0.5), (0.253_347, 0.6), (0.495_850, 0.69)]
        {
            assert!((share(z) - probability).abs() < 0.005, "{z}: {}", share(z));
        }
        let ends = values.iter().filter(|value| value.abs() == 0.5).count() as f64 / 1e5;
        assert!((ends - 0.617_075).abs() < 0.005, "{ends}");
    }

    #[test]
    fn uniform_numbers_keep_their_bounds() {
        let mut values = vec![0.0; 9_999];
        Draws::new(1, Stream::Weights, 0).fill_uniform(0.25, &mut values);
        assert!(values.iter().all(|value| value.abs() < 0.25));
        assert!((values.iter().map(|value| value.abs()).sum::<f32>() / 9_999.0 - 0.125).abs() < 0.005);
        assert_eq!(Draws::below([u32::MAX; 2], 10), 9);
        assert_eq!(Draws::below([0; 2], 10), 0);
    }
}
