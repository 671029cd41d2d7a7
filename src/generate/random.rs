//! Random numbers whose values are part of the format: the same on every machine, and no crate's to change.
//!
//! [`Random`] is xoshiro256++ 1.0 (Blackman and Vigna, 2019), its state filled by SplitMix64, as its authors advise.
//! [`mix`] is SplitMix64's finaliser, for values that must be found again without being stored.

/// One step of SplitMix64's Weyl sequence: 2^64 / φ, odd.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A well-mixed bijection of 64-bit words.
pub(crate) fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(GOLDEN);
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// What a stream of random numbers is for. Each use has a stream of its own, so that asking for rubbish, say, leaves
/// every event as it was.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Ranks = 1,
    Sessions = 2,
    Drift = 3,
    Delivery = 4,
    Rubbish = 5,
    Tastes = 6,
    Vectors = 7,
}

/// A stream of random words.
#[derive(Clone)]
pub(crate) struct Random([u64; 4]);

impl Random {
    pub(crate) fn new(seed: u64, stream: Stream) -> Random {
        let base = mix(seed).wrapping_add(mix(!(stream as u64)));
        Random([0, 1, 2, 3].map(|step: u64| mix(base.wrapping_add(step.wrapping_mul(GOLDEN)))))
    }

    /// The next 64 random bits.
    #[inline]
    pub(crate) fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in 0..`bound`; `bound` must not be 0. Its bias is below `bound`/2^64.
    #[inline]
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// Whether a thing of this chance happens.
    #[inline]
    pub(crate) fn happens(&mut self, chance: Chance) -> bool {
        chance.covers(self.bits() as u32)
    }
}

/// A probability as an integer threshold, so that no comparison of floats decides anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chance(u64);

impl Chance {
    /// `probability` in 0..=1, in steps of 2^−32.
    pub(crate) fn new(probability: f64) -> Chance {
        Chance((probability * 4_294_967_296.0) as u64)
    }

    /// Whether 32 random bits fall under it.
    #[inline]
    pub(crate) fn covers(self, bits: u32) -> bool {
        u64::from(bits) < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xoshiro_gives_its_published_sequence() {
        // From the state {1, 2, 3, 4}, as in the reference implementation's test vector.
        let mut random = Random([1, 2, 3, 4]);
        let drawn: Vec<u64> = (0..4).map(|_| random.bits()).collect();
        assert_eq!(drawn, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn splitmix_gives_its_published_sequence() {
        // SplitMix64 from seed 0.
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(mix(GOLDEN), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let first = |stream| Random::new(7, stream).bits();
        assert_ne!(first(Stream::Sessions), first(Stream::Drift));
        assert_ne!(first(Stream::Sessions), Random::new(8, Stream::Sessions).bits());
    }

    #[test]
    fn chances_are_what_they_say() {
        let mut random = Random::new(1, Stream::Sessions);
        let happened = (0..100_000).filter(|_| random.happens(Chance::new(0.3))).count();
        assert!((29_500..30_500).contains(&happened), "{happened}");
        assert!(!random.happens(Chance::new(0.0)));
        assert!(Chance::new(1.0).covers(u32::MAX));
    }

    #[test]
    fn below_reaches_both_ends() {
        let mut random = Random::new(2, Stream::Sessions);
        let mut seen = [0; 5];
        (0..1_000).for_each(|_| seen[random.below(5) as usize] += 1);
        assert!(seen.iter().all(|&n| n > 150), "{seen:?}");
    }
}
