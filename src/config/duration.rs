//! Durations as people write them: a whole number and a unit.

use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// The longest duration: 100 years, far from any overflow when added to a time.
const MILLISECONDS_MAX: u64 = 36_500 * 86_400_000;

/// Units, longest first, and their lengths in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A duration in whole milliseconds, at most 36500 days; written `250ms`, `10s`, `60m`, `2h`, `1d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(u64);

impl Duration {
    /// So many milliseconds; `None` beyond 36500 days.
    pub const fn from_ms(ms: u64) -> Option<Duration> {
        if ms <= MILLISECONDS_MAX { Some(Duration(ms)) } else { None }
    }

    /// In milliseconds.
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// Whether it is a whole number of `unit`s.
    pub fn is_multiple_of(self, unit: Duration) -> bool {
        self.0.is_multiple_of(unit.0)
    }
}

/// Why a text is not a [`Duration`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a whole number with a unit (ms, s, m, h or d), such as 10s, or over 36500d")]
pub struct NotADuration;

impl FromStr for Duration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Duration, NotADuration> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(NotADuration)?;
        let number: u64 = number.parse().map_err(|_| NotADuration)?;
        number.checked_mul(*unit_ms).and_then(Duration::from_ms).ok_or(NotADuration)
    }
}

impl fmt::Display for Duration {
    /// In the longest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit_ms) = match self.0 {
            0 => ("s", 1_000),
            ms => *UNITS.iter().find(|(_, unit_ms)| ms.is_multiple_of(*unit_ms)).expect("the last unit is 1"),
        };
        write!(f, "{}{name}", self.0 / unit_ms)
    }
}

impl Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_unit() {
        let ms = |text: &str| text.parse().map(Duration::ms);
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("10s"), Ok(10_000));
        assert_eq!(ms("60m"), Ok(3_600_000));
        assert_eq!(ms("2h"), Ok(7_200_000));
        assert_eq!(ms("1d"), Ok(86_400_000));
        assert_eq!(ms("0s"), Ok(0));
        assert_eq!(ms("36500d"), Ok(MILLISECONDS_MAX));
    }

    #[test]
    fn refuses_everything_else() {
        for text in
            ["", "10", "s", "-1s", "+1s", "1.5s", "1 s", "1S", "1sec", "1h30m", "36501d", "99999999999999999999s"]
        {
            assert_eq!(text.parse::<Duration>(), Err(NotADuration), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(ms in 0..=MILLISECONDS_MAX) {
            let duration = Duration(ms);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = text.parse::<Duration>();
        }
    }
}
