//! How times are written where a database holds them (contract, section 5).

use super::given::Given;
use dataflows::event::Time;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::Serialize;
use std::fmt::Write;

/// A part of a time.
type Part = fn(DateTime) -> i16;

/// The parts of a pattern, as Java's `DateTimeFormatter` names them, and what they stand for.
const PARTS: [(&str, Part); 7] = [
    ("yyyy", DateTime::year),
    ("SSS", DateTime::millisecond),
    ("MM", |time| time.month().into()),
    ("dd", |time| time.day().into()),
    ("HH", |time| time.hour().into()),
    ("mm", |time| time.minute().into()),
    ("ss", |time| time.second().into()),
];

/// A BSON date, or text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum TimeFormat {
    /// A BSON date.
    Date,
    /// Text in a pattern of `yyyy`, `MM`, `dd`, `HH`, `mm`, `ss` and `SSS`; every other letter is refused.
    Pattern(String),
}

impl From<TimeFormat> for String {
    fn from(format: TimeFormat) -> String {
        match format {
            TimeFormat::Date => "date".into(),
            TimeFormat::Pattern(pattern) => pattern,
        }
    }
}

impl TimeFormat {
    pub(super) fn read(given: &Given) -> Option<TimeFormat> {
        let text = given.string()?;
        match text.as_str() {
            "date" => Some(TimeFormat::Date),
            pattern => parse(pattern).is_some().then_some(TimeFormat::Pattern(text)),
        }
    }
}

/// A piece of a pattern.
#[derive(Clone, Debug)]
enum Piece {
    /// A number of so many digits.
    Number(usize, Part),
    Literal(char),
}

/// `None` for text that is no pattern.
fn parse(pattern: &str) -> Option<Vec<Piece>> {
    let mut rest = pattern;
    let mut pieces = Vec::new();
    while let Some(first) = rest.chars().next() {
        if let Some((name, value)) = PARTS.iter().find(|(name, _)| rest.starts_with(name)) {
            pieces.push(Piece::Number(name.len(), *value));
            rest = &rest[name.len()..];
        } else if first.is_alphabetic() {
            return None;
        } else {
            pieces.push(Piece::Literal(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    pieces.iter().any(|piece| matches!(piece, Piece::Number(..))).then_some(pieces)
}

/// Writes times in a pattern, as they are in a time zone.
#[derive(Clone, Debug)]
pub struct TimeText {
    pieces: Vec<Piece>,
    zone: TimeZone,
}

impl TimeText {
    /// `None` if that is no pattern of [`TimeFormat::Pattern`].
    pub fn new(pattern: &str, zone: TimeZone) -> Option<TimeText> {
        parse(pattern).map(|pieces| TimeText { pieces, zone })
    }

    /// Appends `time`. The last day that can be written in every zone is 9999-12-30: later times count as its end.
    pub fn push(&self, out: &mut String, time: Time) {
        let time = i64::try_from(time).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
        let civil = self.zone.to_datetime(time.unwrap_or(Timestamp::MAX));
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => out.push(*literal),
                Piece::Number(width, value) => {
                    // Writing to a string does not fail.
                    let _ = write!(out, "{:0width$}", value(civil));
                }
            }
        }
    }
}

/// The time zone of this IANA name, from the tables that are part of the program.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_known_letters_only() {
        for pattern in ["yyyy-MM-dd HH:mm:ss", "yyyyMMddHHmmssSSS", "dd.MM.yyyy", "HH:mm · ss"] {
            assert!(parse(pattern).is_some(), "{pattern}");
        }
        for pattern in ["", "-", "yyyy-mm-dd hh", "yyy", "yyyy-MM-ddTHH", "%Y-%m-%d", "date"] {
            assert!(parse(pattern).is_none(), "{pattern}");
        }
    }

    #[test]
    fn times_are_written_as_they_are_in_the_zone() {
        let text = |pattern: &str, zone: &str, time: Time| {
            let mut out = String::from("at ");
            TimeText::new(pattern, time_zone(zone).unwrap()).unwrap().push(&mut out, time);
            out
        };
        let day = "yyyy-MM-dd HH:mm:ss";
        assert_eq!(text(day, "UTC", 0), "at 1970-01-01 00:00:00");
        assert_eq!(text(day, "Asia/Shanghai", 1_511_544_070_999), "at 2017-11-25 01:21:10");
        assert_eq!(text("yyyyMMddHHmmssSSS", "UTC", 1_511_544_070_007), "at 20171124172110007");
        assert_eq!(text("dd.MM.yyyy · HH", "Europe/Berlin", 1_511_544_070_000), "at 24.11.2017 · 18");
        // An hour later by the clock in summer.
        assert_eq!(text("HH", "Europe/Berlin", 1_500_000_000_000), "at 04");
        for time in [253_402_300_799_999, u64::MAX] {
            assert_eq!(text("yyyy-MM-dd", "UTC", time), "at 9999-12-30");
            assert!(text("yyyy", "Pacific/Kiritimati", time).starts_with("at 9999"));
        }
    }

    #[test]
    fn zones_are_compiled_in() {
        assert!(time_zone("UTC").is_some());
        assert!(time_zone("Asia/Shanghai").is_some());
        assert!(time_zone("Europe/Atlantis").is_none());
    }
}
