//! Who and what there is: raw ids, categories, what follows what, and popularity that drifts.
//!
//! Users and items are counted from 0 inside; in the log they bear raw ids, scattered over four times as many numbers.
//! A **category** is [`CATEGORY_ITEMS`] items in a row of that count, and forms a ring: the successors of an item are
//! the next three. What is popular is independent of it.

use super::draw::Zipf;
use super::numerics::ln;
use super::options::Options;
use super::random::{Random, Stream, mix};

/// Items of a category; the last category may have fewer.
pub(crate) const CATEGORY_ITEMS: u32 = 32;

/// How far along the ring the next item is, all equally likely: the nearest one is the likeliest.
pub(crate) const SUCCESSOR_STEPS: [u32; 4] = [1, 1, 2, 3];

/// A bijection from 0..count into the numbers of so many bits.
#[derive(Clone, Copy)]
pub(crate) struct RawIds {
    mask: u64,
    shift: u32,
    salt: u64,
}

impl RawIds {
    pub(crate) fn users(count: u32) -> RawIds {
        RawIds::new(count, 0x5851_F42D_4C95_7F2D)
    }

    pub(crate) fn items(count: u32) -> RawIds {
        RawIds::new(count, 0x2545_F491_4F6C_DD1D)
    }

    /// `salt` is odd.
    fn new(count: u32, salt: u64) -> RawIds {
        let bits = (u64::from(count) * 4).next_power_of_two().trailing_zeros().max(10);
        RawIds { mask: (1 << bits) - 1, shift: bits.div_ceil(2), salt }
    }

    /// Odd factors, summands and right shifts by half the width are each a bijection of the words of that width.
    #[inline]
    pub(crate) fn raw(self, index: u32) -> u64 {
        let word = u64::from(index).wrapping_mul(self.salt).wrapping_add(self.salt >> 32) & self.mask;
        let word = (word ^ word >> self.shift).wrapping_mul(self.salt) & self.mask;
        word ^ word >> self.shift
    }
}

/// The category of an item, from 0.
pub(crate) fn category(item: u32) -> u32 {
    item / CATEGORY_ITEMS
}

/// The item `steps` further on in its category's ring, where there are `items` in all.
#[inline]
pub(crate) fn successor(item: u32, steps: u32, items: u32) -> u32 {
    let first = item - item % CATEGORY_ITEMS;
    let size = CATEGORY_ITEMS.min(items - first);
    first + (item - first + steps) % size
}

/// Which item is how popular, now.
pub(crate) struct Popularity {
    item_at_rank: Vec<u32>,
    ranks: Zipf,
    drift: Random,
    /// Trades a second and trades owed, in 2^−32.
    trades_per_second: u64,
    trades_owed: u64,
}

impl Popularity {
    pub(crate) fn new(options: &Options) -> Popularity {
        let mut random = Random::new(options.seed, Stream::Ranks);
        let mut item_at_rank: Vec<u32> = (0..options.items).collect();
        for last in (1..item_at_rank.len()).rev() {
            item_at_rank.swap(last, random.below(last as u64 + 1) as usize);
        }
        Popularity {
            item_at_rank,
            ranks: Zipf::new(options.items, options.item_exponent),
            drift: Random::new(options.seed, Stream::Drift),
            trades_per_second: trades_per_second(options),
            trades_owed: 0,
        }
    }

    /// The items by popularity, the most popular first.
    pub(crate) fn by_rank(&self) -> &[u32] {
        &self.item_at_rank
    }

    /// The item that 64 random bits pick.
    #[inline]
    pub(crate) fn item(&self, bits: u64) -> u32 {
        self.item_at_rank[self.ranks.rank(bits) as usize]
    }

    /// Lets a second pass.
    pub(crate) fn drift(&mut self) {
        self.trades_owed += self.trades_per_second;
        for _ in 0..self.trades_owed >> 32 {
            self.trade();
        }
        self.trades_owed &= 0xFFFF_FFFF;
    }

    /// One rank of the upper half trades items with one that is 2^k to 2^(k+1) times further down, k = 1, 2, 3.
    fn trade(&mut self) {
        let bits = self.drift.bits();
        let upper = self.drift.below(u64::from(upper_half(self.item_at_rank.len() as u32)));
        let doublings = 1 + (bits >> 32) % 3;
        let lower = ((upper + 1) << doublings) + (bits & ((1 << doublings) - 1)) - 1;
        if lower < self.item_at_rank.len() as u64 {
            self.item_at_rank.swap(upper as usize, lower as usize);
        }
    }
}

/// Ranks that have a rank twice as far down.
fn upper_half(items: u32) -> u32 {
    (items / 2).max(1)
}

/// Trades a second, in 2^−32, that leave half of the items at their rank after the half-life.
fn trades_per_second(options: &Options) -> u64 {
    let Some(half_life_ms) = options.drift_half_life_ms else { return 0 };
    // A rank is the upper one of a trade in one way, and the lower one in (1/2 + 1/4 + 1/8)/3 as many.
    let per_rank = ln(2.0) / (1.0 + 7.0 / 24.0) / (half_life_ms as f64 / 1000.0);
    (per_rank * f64::from(upper_half(options.items)) * 4_294_967_296.0) as u64
}

/// The user's favourite number `which`, 0..4, as random bits for [`Popularity::item`]: fixed for ever, stored nowhere.
#[inline]
pub(crate) fn favourite_bits(seed: u64, user: u32, which: u64) -> u64 {
    mix(mix(seed ^ Stream::Tastes as u64) ^ (u64::from(user) << 2 | which))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_ids_are_distinct_and_scattered() {
        for count in [1, 7, 1000, 65_536] {
            let ids = RawIds::items(count);
            let mut raw: Vec<u64> = (0..count).map(|index| ids.raw(index)).collect();
            raw.sort_unstable();
            raw.dedup();
            assert_eq!(raw.len(), count as usize);
            assert!(*raw.last().expect("not empty") < u64::from(count * 8).max(1024));
        }
        let ids = RawIds::users(1000);
        let neighbours = (0..999).filter(|&i| ids.raw(i).abs_diff(ids.raw(i + 1)) < 40).count();
        assert!(neighbours < 100, "{neighbours}");
    }

    #[test]
    fn successors_go_round_within_the_category() {
        assert_eq!(successor(5, 1, 100), 6);
        assert_eq!(successor(31, 3, 100), 2);
        assert_eq!(successor(99, 1, 100), 96, "the last category has four items");
        assert_eq!(successor(0, 2, 1), 0);
        assert!((0..100).all(|item| category(successor(item, 3, 100)) == category(item)));
    }

    #[test]
    fn half_of_the_ranks_change_in_a_half_life() {
        let options = Options { items: 20_000, drift_half_life_ms: Some(3_600_000), ..Options::default() };
        let mut popularity = Popularity::new(&options);
        let before = popularity.by_rank().to_vec();
        (0..3600).for_each(|_| popularity.drift());
        let same = (0..2000).filter(|&rank| before[rank] == popularity.by_rank()[rank]).count();
        assert!((900..1100).contains(&same), "{same} of 2000");
        let mut items = popularity.by_rank().to_vec();
        items.sort_unstable();
        assert!(items.iter().enumerate().all(|(i, &item)| i as u32 == item), "still a permutation");
    }

    #[test]
    fn without_drift_and_with_few_items_nothing_breaks() {
        for items in [1, 2, 3] {
            let mut popularity =
                Popularity::new(&Options { items, drift_half_life_ms: Some(60_000), ..Options::default() });
            (0..1000).for_each(|_| popularity.drift());
            assert!(popularity.item(u64::MAX) < items);
        }
        let options = Options { drift_half_life_ms: None, ..Options::default() };
        let mut popularity = Popularity::new(&options);
        let before = popularity.by_rank().to_vec();
        (0..100).for_each(|_| popularity.drift());
        assert_eq!(before, popularity.by_rank());
    }
}
