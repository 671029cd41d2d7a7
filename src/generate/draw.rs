//! Drawing from fixed distributions in constant time, by tables built once.

use super::numerics::{ln, pow};
use super::random::Random;

/// Ranks 0..n with chances proportional to (rank + 1)^−exponent: Walker's alias method, 8 bytes a rank.
pub(crate) struct Zipf {
    cells: Vec<Cell>,
}

/// A rank keeps `keep`/2^32 of its cell and leaves the rest to `alias`.
#[derive(Clone, Copy)]
struct Cell {
    keep: u32,
    alias: u32,
}

impl Zipf {
    /// The table of `count` ≥ 1 ranks.
    ///
    /// Weights fall with the rank, so those above the mean are a prefix: Vose's two work lists become two cursors, and
    /// nothing but the table itself is ever held.
    pub(crate) fn new(count: u32, exponent: f64) -> Zipf {
        let weight = |rank: u32| pow(f64::from(rank) + 1.0, -exponent);
        let total: f64 = (0..count).map(weight).sum();
        let scale = f64::from(count) / total;
        let share = |rank: u32| weight(rank) * scale;

        let mut cells: Vec<Cell> = (0..count).map(|alias| Cell { keep: u32::MAX, alias }).collect();
        let heavy = partition_point(count, |rank| share(rank) >= 1.0);
        let mut donor = 0;
        let mut left = share(0);
        for light in heavy..count {
            let kept = share(light);
            cells[light as usize] = Cell { keep: fraction(kept), alias: donor };
            left -= 1.0 - kept;
            while left < 1.0 && donor + 1 < heavy {
                cells[donor as usize] = Cell { keep: fraction(left), alias: donor + 1 };
                left += share(donor + 1) - 1.0;
                donor += 1;
            }
        }
        Zipf { cells }
    }

    /// The rank that 64 random bits stand for: their high part picks the cell, the rest is the place in it.
    #[inline]
    pub(crate) fn rank(&self, bits: u64) -> u32 {
        let product = u128::from(bits) * self.cells.len() as u128;
        let index = (product >> 64) as u32;
        let cell = self.cells[index as usize];
        if (product as u64 >> 32) as u32 <= cell.keep { index } else { cell.alias }
    }
}

/// The first rank in 0..count that fails `holds`, which holds for a prefix.
fn partition_point(count: u32, holds: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// A share in 0..=1 (but for rounding) as a threshold.
fn fraction(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32
}

/// Steps of the tabled quantile function below.
const QUANTILES: usize = 4096;

/// Exponentially distributed whole numbers ≥ 0, by interpolation in the quantile function; cut off at 9.0 times the mean.
pub(crate) struct Exponential {
    quantiles: Vec<u32>,
}

impl Exponential {
    /// `mean` ≥ 0, at most 2^28.
    pub(crate) fn new(mean: f64) -> Exponential {
        let quantile = |step: usize| {
            // Half a step short of certainty, where the quantile is infinite.
            let survives = 1.0 - (step as f64).min(QUANTILES as f64 - 0.5) / QUANTILES as f64;
            (-ln(survives) * mean) as u32
        };
        Exponential { quantiles: (0..=QUANTILES).map(quantile).collect() }
    }

    /// How many failures come before a success, where `mean` is their mean: a geometric distribution.
    pub(crate) fn geometric(mean: f64) -> Geometric {
        // The floor of an exponential is geometric. In 1/256, so that the floor is one of a nearly continuous number.
        let continuous = if mean > 0.0 { 1.0 / ln(1.0 + 1.0 / mean) } else { 0.0 };
        Geometric(Exponential::new(continuous * 256.0))
    }

    #[inline]
    pub(crate) fn draw(&self, random: &mut Random) -> u32 {
        let bits = random.bits();
        let step = (bits >> 52) as usize;
        let (low, high) = (self.quantiles[step], self.quantiles[step + 1]);
        low + ((u64::from(high - low) * (bits & 0xFFFF_FFFF)) >> 32) as u32
    }
}

/// Geometrically distributed whole numbers ≥ 0.
pub(crate) struct Geometric(Exponential);

impl Geometric {
    pub(crate) fn draw(&self, random: &mut Random) -> u32 {
        self.0.draw(random) >> 8
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Stream;
    use super::*;

    fn random() -> Random {
        Random::new(11, Stream::Sessions)
    }

    #[test]
    fn zipf_cells_add_up_to_the_weights() {
        for (count, exponent) in [(1, 1.0), (2, 0.5), (7, 0.0), (1000, 1.05), (5000, 0.7), (300, 3.0)] {
            let zipf = Zipf::new(count, exponent);
            let mut mass = vec![0.0; count as usize];
            for (rank, cell) in zipf.cells.iter().enumerate() {
                let keep = f64::from(cell.keep) / f64::from(u32::MAX);
                mass[rank] += keep;
                mass[cell.alias as usize] += 1.0 - keep;
            }
            let weights: Vec<f64> = (1..=count).map(|rank| f64::from(rank).powf(-exponent)).collect();
            let scale = f64::from(count) / weights.iter().sum::<f64>();
            for (got, weight) in mass.iter().zip(&weights) {
                assert!((got - weight * scale).abs() < 1e-5 * f64::from(count), "{count} {exponent}: {got}");
            }
        }
    }

    #[test]
    fn zipf_draws_follow_the_weights() {
        let zipf = Zipf::new(100, 1.0);
        let mut random = random();
        let mut seen = vec![0_u32; 100];
        (0..200_000).for_each(|_| seen[zipf.rank(random.bits()) as usize] += 1);
        let harmonic: f64 = (1..=100).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [0, 1, 9, 99] {
            let expected = 200_000.0 / harmonic / f64::from(rank + 1);
            let off = (f64::from(seen[rank as usize]) - expected).abs();
            assert!(off < 4.0 * expected.sqrt(), "rank {rank}: {} for {expected}", seen[rank as usize]);
        }
    }

    #[test]
    fn exponential_and_geometric_have_their_means() {
        let mut random = random();
        let exponential = Exponential::new(39_000.0);
        let mean = (0..100_000).map(|_| f64::from(exponential.draw(&mut random))).sum::<f64>() / 100_000.0;
        assert!((mean / 39_000.0 - 1.0).abs() < 0.02, "{mean}");
        let most = exponential.quantiles[QUANTILES];
        assert!(most > 8 * 39_000 && most < 10 * 39_000);
        let geometric = Exponential::geometric(9.0);
        let drawn: Vec<u32> = (0..100_000).map(|_| geometric.draw(&mut random)).collect();
        let mean = drawn.iter().map(|&n| f64::from(n)).sum::<f64>() / 100_000.0;
        assert!((mean / 9.0 - 1.0).abs() < 0.02, "{mean}");
        let none = drawn.iter().filter(|&&n| n == 0).count();
        assert!((9_500..10_500).contains(&none), "P(0) is 1/10: {none}");
        assert_eq!(Exponential::geometric(0.0).draw(&mut random), 0);
    }
}
