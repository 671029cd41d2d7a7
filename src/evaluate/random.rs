//! The random words of the bootstrap: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
//! OOPSLA 2014), started at a point that depends only on (seed, stream).
//!
//! It is counter-based: word i of a stream is `mix(start + (i + 1)·γ)`. Each resample has a stream of its own, so what it
//! draws does not depend on which thread draws it, or when. All streams are stretches of one sequence of 2^64 words: a
//! thousand streams of a few million words each overlap with a probability below 10^−6.

/// 2^64 divided by the golden ratio, made odd: the step between two words.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser that turns the counter into a word.
fn mix(counter: u64) -> u64 {
    let z = (counter ^ (counter >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One stream of random words.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    counter: u64,
}

impl Stream {
    /// The stream `index` of `seed`.
    pub(super) fn new(seed: u64, index: u64) -> Stream {
        Stream { counter: mix(mix(seed.wrapping_add(GAMMA)).wrapping_add(index.wrapping_mul(GAMMA))) }
    }

    /// 64 uniform bits.
    pub(super) fn word(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(GAMMA);
        mix(self.counter)
    }

    /// A uniform integer in 0..bound, exactly (Lemire, "Fast random integer generation in an interval", 2019).
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0, "an empty interval has no integer to draw");
        loop {
            let product = u128::from(self.word()) * u128::from(bound);
            let low = product as u64;
            if low >= bound || low >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// How many of `trials` fair coins show heads: a binomial(trials, ½) draw, exactly, by counting bits.
    pub(super) fn heads(&mut self, trials: u64) -> u64 {
        let whole: u64 = (0..trials / 64).map(|_| u64::from(self.word().count_ones())).sum();
        let rest = trials % 64;
        whole + if rest == 0 { 0 } else { u64::from((self.word() >> (64 - rest)).count_ones()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finaliser_is_the_published_one() {
        // First outputs of the reference implementation (Vigna, splitmix64.c) from state 1234567.
        let mut stream = Stream { counter: 1_234_567 };
        let words: Vec<u64> = (0..3).map(|_| stream.word()).collect();
        assert_eq!(words, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn below_is_uniform() {
        let mut stream = Stream::new(1, 0);
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[stream.below(7) as usize] += 1;
        }
        // Chi-squared with 6 degrees of freedom: 22.5 is passed once in a thousand seeds.
        let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi2 < 22.5, "{counts:?}");
    }

    #[test]
    fn heads_has_the_binomial_mean_and_variance() {
        let mut stream = Stream::new(7, 3);
        for trials in [0_u64, 1, 63, 64, 65, 1000] {
            let draws: Vec<f64> = (0..20_000).map(|_| stream.heads(trials) as f64).collect();
            let mean = draws.iter().sum::<f64>() / 2e4;
            let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 2e4;
            let expected = trials as f64 / 4.0;
            assert!((mean - trials as f64 / 2.0).abs() <= 5.0 * (expected / 2e4).sqrt(), "{trials}: mean {mean}");
            assert!((variance - expected).abs() <= 0.06 * expected, "{trials}: variance {variance}");
        }
    }

    #[test]
    fn streams_differ() {
        let first: Vec<u64> = (0..100).map(|i| Stream::new(5, i).word()).collect();
        let mut unique = first.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), first.len());
        assert_ne!(Stream::new(5, 0).word(), Stream::new(6, 0).word());
    }
}
