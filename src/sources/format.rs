//! One file's format, resolved: what a reader of its lines needs to know (contract, section 1).

use std::str::FromStr;

use dataflows::event::{Behavior, Time};

use super::columns::{Positions, Role};
use super::digits;
use super::error::FormatError;

/// The latest time an event may have: 9999-12-31T23:59:59.999Z.
pub const TIME_MAX: Time = 253_402_300_799_999;

/// The longest record, in bytes without its line end; a longer one is rejected as too long.
pub const RECORD_BYTES_MAX: usize = 64 << 10;

/// The unit of a log's times (`source.time_unit`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds since the Unix epoch.
    #[default]
    Seconds,
    /// Milliseconds since the Unix epoch.
    Milliseconds,
}

impl TimeUnit {
    /// Milliseconds in one unit.
    pub fn milliseconds(self) -> u64 {
        match self {
            TimeUnit::Seconds => 1000,
            TimeUnit::Milliseconds => 1,
        }
    }

    /// In a sentence.
    pub fn plural(self) -> &'static str {
        match self {
            TimeUnit::Seconds => "seconds",
            TimeUnit::Milliseconds => "milliseconds",
        }
    }

    /// As written in `source.time_unit`.
    pub fn name(self) -> &'static str {
        match self {
            TimeUnit::Seconds => "s",
            TimeUnit::Milliseconds => "ms",
        }
    }
}

impl FromStr for TimeUnit {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<TimeUnit, FormatError> {
        match text {
            "s" => Ok(TimeUnit::Seconds),
            "ms" => Ok(TimeUnit::Milliseconds),
            other => Err(FormatError::UnknownTimeUnit { given: other.to_owned() }),
        }
    }
}

/// The byte between two fields (`source.delimiter`): ASCII, no digit, no line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delimiter(u8);

impl Delimiter {
    /// The byte.
    pub fn byte(self) -> u8 {
        self.0
    }

    /// As it is written in `source.delimiter`.
    pub fn written(self) -> String {
        char::from(self.0).escape_default().to_string()
    }
}

impl Default for Delimiter {
    fn default() -> Delimiter {
        Delimiter(b',')
    }
}

impl FromStr for Delimiter {
    type Err = FormatError;

    /// One character; a tab may also be written `\t` or `tab`.
    fn from_str(text: &str) -> Result<Delimiter, FormatError> {
        match text.as_bytes() {
            b"\\t" | b"tab" => Ok(Delimiter(b'\t')),
            &[byte] if byte.is_ascii() && !byte.is_ascii_digit() && !matches!(byte, b'\n' | b'\r') => {
                Ok(Delimiter(byte))
            }
            _ => Err(FormatError::BadDelimiter { given: text.escape_debug().to_string() }),
        }
    }
}

/// What one column of a row is to the reader. The first four are in the order in which fields are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    User,
    Item,
    Behavior,
    Time,
    Other,
}

/// What a log's lines look like whatever the file: the settings that all files share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Between two fields.
    pub delimiter: Delimiter,
    /// Of the time column.
    pub time_unit: TimeUnit,
    /// The behaviours' names in the order of their indices (`pv`, `cart`, `fav`, `buy` by default).
    pub behaviors: Vec<String>,
}

impl Default for Dialect {
    fn default() -> Dialect {
        let behaviors = ["pv", "cart", "fav", "buy"].map(str::to_owned).to_vec();
        Dialect { delimiter: Delimiter::default(), time_unit: TimeUnit::default(), behaviors }
    }
}

impl Dialect {
    /// Whether `byte` is a blank: a space or a tab, unless it is the delimiter.
    fn is_blank(&self, byte: u8) -> bool {
        matches!(byte, b' ' | b'\t') && byte != self.delimiter.byte()
    }

    /// All fields of a line, trimmed.
    pub(super) fn fields<'a>(&self, line: &'a str) -> Vec<&'a str> {
        let blank = |character: char| u8::try_from(character).is_ok_and(|byte| self.is_blank(byte));
        line.split(char::from(self.delimiter.byte())).map(|field| field.trim_matches(blank)).collect()
    }
}

/// How to read the lines of one file.
#[derive(Clone, Debug)]
pub struct Format {
    dialect: Dialect,
    positions: Positions,
    header: bool,
    /// One for each column up to the last one needed.
    fields: Vec<Field>,
    /// Of every event, where no column holds it.
    fixed_behavior: Behavior,
    /// The behaviours' names as [`digits::name_word`]s.
    behavior_words: Vec<u64>,
    /// The latest time, in the log's unit.
    time_max_units: u64,
}

impl Format {
    /// A format with columns at `positions`; `header` says whether line 0 is one.
    pub fn new(dialect: Dialect, positions: Positions, header: bool) -> Result<Format, FormatError> {
        check_behaviors(&dialect)?;
        let fixed_behavior = match positions.behavior {
            Some(_) => Behavior(0),
            None => behavior_index(&dialect.behaviors, b"pv").ok_or(FormatError::NoPageView)?,
        };
        let field = |at| match positions.role_at(at) {
            Some(Role::User) => Field::User,
            Some(Role::Item) => Field::Item,
            Some(Role::Behavior) => Field::Behavior,
            Some(Role::Time) => Field::Time,
            None => Field::Other,
        };
        Ok(Format {
            positions,
            header,
            fields: (0..positions.needed()).map(field).collect(),
            fixed_behavior,
            behavior_words: dialect.behaviors.iter().map(|name| digits::name_word(name.as_bytes())).collect(),
            time_max_units: TIME_MAX / dialect.time_unit.milliseconds(),
            dialect,
        })
    }

    /// The settings that all files share.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Where the columns are.
    pub fn positions(&self) -> Positions {
        self.positions
    }

    /// Whether line 0 is a header.
    pub fn header(&self) -> bool {
        self.header
    }

    /// The byte between two fields.
    pub(super) fn delimiter(&self) -> u8 {
        self.dialect.delimiter.byte()
    }

    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(super) fn behavior_words(&self) -> &[u64] {
        &self.behavior_words
    }

    pub(super) fn fixed_behavior(&self) -> Behavior {
        self.fixed_behavior
    }

    /// The behaviour of this name.
    pub(super) fn behavior(&self, name: &[u8]) -> Option<Behavior> {
        behavior_index(&self.dialect.behaviors, name)
    }

    /// A number from the time column in milliseconds; `None` after 9999-12-31.
    #[inline]
    pub(super) fn time(&self, units: u64) -> Option<Time> {
        (units <= self.time_max_units).then(|| units * self.dialect.time_unit.milliseconds())
    }

    /// Whether `byte` is a blank.
    pub(super) fn is_blank(&self, byte: u8) -> bool {
        self.dialect.is_blank(byte)
    }

    /// `field` without the blanks around it.
    pub(super) fn trim<'a>(&self, field: &'a [u8]) -> &'a [u8] {
        let Some(first) = field.iter().position(|&byte| !self.is_blank(byte)) else { return &[] };
        let last = field.iter().rposition(|&byte| !self.is_blank(byte)).unwrap_or(first);
        &field[first..=last]
    }
}

fn behavior_index(behaviors: &[String], name: &[u8]) -> Option<Behavior> {
    let index = behaviors.iter().position(|behavior| behavior.as_bytes() == name)?;
    u8::try_from(index).ok().map(Behavior)
}

fn check_behaviors(dialect: &Dialect) -> Result<(), FormatError> {
    let blank = |character: char| matches!(character, ' ' | '\t');
    let unreadable = |character: char| matches!(character, '\n' | '\r') || character == char::from(dialect.delimiter.0);
    for (at, name) in dialect.behaviors.iter().enumerate() {
        if name.is_empty() || name.starts_with(blank) || name.ends_with(blank) || name.contains(unreadable) {
            return Err(FormatError::BadBehavior { name: name.escape_debug().to_string() });
        }
        if dialect.behaviors[..at].contains(name) {
            return Err(FormatError::BadBehaviors { problem: format!("`{name}` is named twice; name it once") });
        }
    }
    match dialect.behaviors.len() {
        0 => Err(FormatError::BadBehaviors { problem: "none is named; name at least one".to_owned() }),
        1..=256 => Ok(()),
        count => Err(FormatError::BadBehaviors { problem: format!("{count} are too many; name at most 256") }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const EVENTS: Positions = Positions { user: 0, item: 1, behavior: Some(2), time: 3 };

    #[test]
    fn delimiters_are_one_ascii_character_that_fields_do_not_hold() {
        for (text, byte) in [(",", b','), ("tab", b'\t'), ("\\t", b'\t'), ("\t", b'\t'), (" ", b' '), ("|", b'|')] {
            assert_eq!(text.parse::<Delimiter>().unwrap().byte(), byte);
        }
        for text in ["", "5", "\n", "\r", "::", "¦"] {
            let message = text.parse::<Delimiter>().unwrap_err().to_string();
            assert!(message.contains("cannot separate fields") && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn behaviors_that_cannot_be_read_are_refused() {
        let refused = |behaviors: Vec<String>, positions: Positions| {
            Format::new(Dialect { behaviors, ..Dialect::default() }, positions, false).unwrap_err()
        };
        for name in ["", " pv", "pv\t", "p\nv", "p,v"] {
            let error = refused(vec!["buy".to_owned(), name.to_owned()], EVENTS);
            assert_eq!(error, FormatError::BadBehavior { name: name.escape_debug().to_string() });
        }
        let message = |behaviors| refused(behaviors, EVENTS).to_string();
        assert_eq!(message(vec![]), "behaviours: none is named; name at least one");
        assert_eq!(message(vec!["a".to_owned(); 2]), "behaviours: `a` is named twice; name it once");
        let many = (0..257).map(|name| name.to_string()).collect();
        assert_eq!(message(many), "behaviours: 257 are too many; name at most 256");
        let flinkrl = Positions { user: 0, item: 1, behavior: None, time: 2 };
        assert_eq!(refused(vec!["buy".to_owned()], flinkrl), FormatError::NoPageView);
    }
}
