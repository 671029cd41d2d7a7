//! How busy each second of the day is.

/// Activity by hour of the day (UTC) in per cent of the busiest: asleep at four, a shoulder at lunch, busiest at
/// nine in the evening, as shops see it.
const HOURLY: [u64; 24] =
    [45, 28, 18, 13, 11, 13, 22, 36, 52, 66, 76, 80, 82, 80, 79, 78, 77, 78, 82, 90, 98, 100, 90, 68];

/// The weight that stands for an average second.
const MEAN: u64 = 1_000_000;

/// Weights of seconds, in integers.
pub(crate) struct Rhythm {
    /// Second of the day at which the log starts.
    start: u64,
    /// The rhythm's part, in 1/1,000,000.
    strength: u64,
    hourly_sum: u64,
}

impl Rhythm {
    pub(crate) fn new(start_ms: u64, strength: f64) -> Rhythm {
        Rhythm {
            start: start_ms / 1000 % 86_400,
            strength: (strength * 1e6) as u64,
            hourly_sum: HOURLY.iter().sum::<u64>(),
        }
    }

    /// The weight of a second, counted from the log's start: between hours the curve is straight.
    pub(crate) fn weight(&self, second: u64) -> u64 {
        let of_day = (self.start + second) % 86_400;
        let (hour, rest) = ((of_day / 3600) as usize, of_day % 3600);
        let curve = HOURLY[hour] * (3600 - rest) + HOURLY[(hour + 1) % 24] * rest;
        let shaped = curve * 24 * MEAN / (3600 * self.hourly_sum);
        (MEAN * (1_000_000 - self.strength) + shaped * self.strength) / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_scales_the_curve_around_the_mean() {
        let day = |strength| {
            let rhythm = Rhythm::new(0, strength);
            (0..86_400).map(|second| rhythm.weight(second)).collect::<Vec<u64>>()
        };
        let (even, full) = (day(0.0), day(1.0));
        assert!(even.iter().all(|&weight| weight == MEAN));
        let mean = full.iter().sum::<u64>() / 86_400;
        assert!(mean.abs_diff(MEAN) < MEAN / 1000, "{mean}");
        let (night, evening) = (full[4 * 3600], full[21 * 3600]);
        assert!(evening > 9 * night && evening < 10 * night);
    }

    #[test]
    fn the_clock_is_that_of_the_start() {
        let (midnight, noon) = (Rhythm::new(0, 1.0), Rhythm::new(12 * 3_600_000, 1.0));
        assert_eq!(midnight.weight(12 * 3600 + 5), noon.weight(5));
        assert_eq!(midnight.weight(60), noon.weight(12 * 3600 + 60));
    }
}
