//! How times are written where a database holds them (contract, section 5).

use super::given::Given;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::Serialize;

/// The parts of a pattern, as Java's `DateTimeFormatter` names them.
const PARTS: [&str; 7] = ["yyyy", "SSS", "MM", "dd", "HH", "mm", "ss"];

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
            pattern => is_pattern(pattern).then_some(TimeFormat::Pattern(text)),
        }
    }
}

fn is_pattern(pattern: &str) -> bool {
    let mut rest = pattern;
    let mut parts = 0;
    while let Some(first) = rest.chars().next() {
        if let Some(part) = PARTS.iter().find(|part| rest.starts_with(**part)) {
            parts += 1;
            rest = &rest[part.len()..];
        } else if first.is_alphabetic() {
            return false;
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    parts > 0
}

/// The time zone of this IANA name, from the tables that are part of the program.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_known_letters_only() {
        for pattern in ["yyyy-MM-dd HH:mm:ss", "yyyyMMddHHmmssSSS", "dd.MM.yyyy", "HH:mm · ss"] {
            assert!(is_pattern(pattern), "{pattern}");
        }
        for pattern in ["", "-", "yyyy-mm-dd hh", "yyy", "yyyy-MM-ddTHH", "%Y-%m-%d", "date"] {
            assert!(!is_pattern(pattern), "{pattern}");
        }
    }

    #[test]
    fn zones_are_compiled_in() {
        assert!(time_zone("UTC").is_some());
        assert!(time_zone("Asia/Shanghai").is_some());
        assert!(time_zone("Europe/Atlantis").is_none());
    }
}
