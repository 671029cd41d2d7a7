//! Values of flags.

use crate::config::Duration;
use dataflows::event::Time;

/// Milliseconds since 1970, or a date with a zone.
pub(super) fn time(text: &str) -> Result<Time, String> {
    let milliseconds = text.parse().ok();
    let date = || text.parse::<jiff::Timestamp>().ok().and_then(|date| Time::try_from(date.as_millisecond()).ok());
    milliseconds.or_else(date).ok_or_else(|| "expected milliseconds, or a date such as 2017-12-03T00:00:00Z".to_owned())
}

/// A whole number, perhaps in thousands, millions or billions: `500k`, `10M`, `1G`.
pub(super) fn count(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let count = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    count.ok_or_else(|| "expected a whole number, such as 250, 500k, 10M or 1G".to_owned())
}

/// A [`count`] of at most 2^32−1.
pub(super) fn count_small(text: &str) -> Result<u32, String> {
    u32::try_from(count(text)?).map_err(|_| format!("expected at most {}", u32::MAX))
}

/// A duration, or `off`.
pub(super) fn duration_or_off(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "off" => Ok(None),
        text => text.parse().map(Some).map_err(|_| "expected off, or a duration such as 24h".to_owned()),
    }
}

/// One ASCII character; `\t` is a tab.
pub(super) fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err("expected one ASCII character, or \\t".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_or_dates() {
        assert_eq!(time("1511568000000"), Ok(1_511_568_000_000));
        assert_eq!(time("2017-11-25T00:00:00Z"), Ok(1_511_568_000_000));
        assert_eq!(time("2017-11-25T08:00:00+08:00"), Ok(1_511_568_000_000));
        for wrong in ["", "-1", "yesterday", "2017-11-25", "1969-12-31T23:59:59Z"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_may_have_a_unit() {
        assert_eq!(count("0"), Ok(0));
        assert_eq!(count("500k"), Ok(500_000));
        assert_eq!(count("10M"), Ok(10_000_000));
        assert_eq!(count("1G"), Ok(1_000_000_000));
        for wrong in ["", "k", "-1", "1.5M", "1 M", "1m", "99999999999G", "é"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
        assert!(count_small("5G").is_err());
    }

    #[test]
    fn delimiters_are_one_byte() {
        assert_eq!(delimiter("\\t"), Ok(b'\t'));
        assert_eq!(delimiter(";"), Ok(b';'));
        assert!(delimiter("").is_err() && delimiter("::").is_err() && delimiter("é").is_err());
    }
}
