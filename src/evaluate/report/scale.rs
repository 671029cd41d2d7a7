//! From values to coordinates, and where the ticks go.

use crate::evaluate::format::fixed;

/// A linear map from values to coordinates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// The values at the two ends.
    pub(super) domain: (f64, f64),
    /// The coordinates of the two ends.
    pub(super) range: (f64, f64),
}

impl Scale {
    /// The coordinate of `value`; the middle if the domain is a single value.
    pub(super) fn at(&self, value: f64) -> f64 {
        let (first, last) = self.domain;
        let share = if last > first { (value - first) / (last - first) } else { 0.5 };
        self.range.0 + share * (self.range.1 - self.range.0)
    }
}

/// A labelled place on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    /// The value there.
    pub(super) value: f64,
    /// What is written.
    pub(super) label: String,
    /// A second line: what all ticks from here on have in common, such as the date of hours.
    pub(super) context: Option<String>,
}

impl Tick {
    pub(super) fn new(value: f64, label: String) -> Tick {
        Tick { value, label, context: None }
    }
}

/// Ticks at round numbers, the first at or below `low`, the last at or above `high`, about `count` of them; the ends of the
/// axis are the first and the last.
pub(super) fn round_ticks(low: f64, high: f64, count: usize, label: impl Fn(f64, f64) -> String) -> Vec<Tick> {
    let high = if high > low { high } else { low + 1.0 };
    let step = round_step((high - low) / count.max(1) as f64);
    // The tolerance keeps 0.30000000000000004 from asking for one more tick.
    let first = (low / step + 1e-9).floor() as i64;
    let last = (high / step - 1e-9).ceil() as i64;
    (first..=last).map(|index| index as f64 * step).map(|value| Tick::new(value, label(value, step))).collect()
}

/// The least of 1, 2 or 5 times a power of ten that is not less than `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// The ends of an axis with these ticks.
pub(super) fn ends(ticks: &[Tick]) -> (f64, f64) {
    (ticks.first().map_or(0.0, |tick| tick.value), ticks.last().map_or(1.0, |tick| tick.value))
}

/// A tick label with as many decimals as the step between ticks needs.
pub(super) fn decimal(value: f64, step: f64) -> String {
    fixed(value, (-step.log10().floor()).clamp(0.0, 12.0) as usize)
}

/// A tick label in percent for a share.
pub(super) fn percent(value: f64, step: f64) -> String {
    format!("{} %", decimal(value * 100.0, step * 100.0))
}

/// A tick label for a count: 500, 20k, 1.5M.
pub(super) fn count(value: f64, step: f64) -> String {
    let (unit, suffix) =
        [(1e9, "G"), (1e6, "M"), (1e3, "k")].into_iter().find(|(unit, _)| value.abs() >= *unit).unwrap_or((1.0, ""));
    // A step below the unit needs decimals, but 20k beside 5k needs none.
    format!("{}{suffix}", decimal(value / unit, (step / unit).clamp(1e-3, 1.0)).trim_end_matches(".0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        assert_eq!(labels(&round_ticks(0.0, 0.1234, 5, decimal)), ["0.00", "0.05", "0.10", "0.15"]);
        assert_eq!(labels(&round_ticks(0.0, 0.3, 3, decimal)), ["0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(labels(&round_ticks(0.0, 37_000.0, 4, count)), ["0", "10k", "20k", "30k", "40k"]);
        assert_eq!(labels(&round_ticks(0.0, 1400.0, 3, count)), ["0", "500", "1k", "1.5k"]);
        assert_eq!(labels(&round_ticks(-0.02, 0.05, 4, decimal)), ["−0.02", "0.00", "0.02", "0.04", "0.06"]);
        assert_eq!(labels(&round_ticks(0.0, 0.75, 4, percent)), ["0 %", "20 %", "40 %", "60 %", "80 %"]);
    }

    #[test]
    fn no_range_still_has_an_axis() {
        assert_eq!(labels(&round_ticks(0.0, 0.0, 2, decimal)), ["0.0", "0.5", "1.0"]);
        let scale = Scale { domain: (3.0, 3.0), range: (0.0, 10.0) };
        assert_eq!(scale.at(3.0), 5.0);
    }

    #[test]
    fn any_range_has_a_bounded_number_of_ticks() {
        for exponent in -9..12 {
            for high in [1.0, 1.5, 2.0, 3.3, 7.0, 9.99] {
                let high = high * 10_f64.powi(exponent);
                let ticks = round_ticks(0.0, high, 5, decimal);
                assert!((3..=7).contains(&ticks.len()), "{high}: {ticks:?}");
                assert!(ends(&ticks).1 >= high * (1.0 - 1e-6));
            }
        }
    }
}
