//! What may be wrong with a log's settings, in words that help.
//!
//! Nothing here decides anything: a record that cannot be read is rejected, whatever seems to be the matter. But where
//! most records are, a person wants to hear that the delimiter is another one, and not ten million times that a column is
//! missing.

use std::fmt;

use dataflows::event::Time;

use crate::sinks::RejectReason;

use super::columns::{Columns, Role, is_number, looks_like_header};
use super::csv::{field_of, line_at, read_record, without_mark};
use super::digits::number;
use super::format::{Delimiter, Dialect, Format, RECORD_BYTES_MAX, TimeUnit};

/// How many lines are looked at.
const LINES_MAX: usize = 200;
/// How many unknown behaviours are named, and how much of a field is shown.
const SHOWN_NAMES: usize = 5;
const SHOWN_CHARACTERS: usize = 40;

/// 1990 and 2100 in seconds: where the times of real logs are.
const PLAUSIBLE_SECONDS: std::ops::Range<u64> = 631_152_000..4_102_444_800;

/// What seems to be the matter with a log's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The text is in a 16-bit encoding.
    Utf16,
    /// The text goes on and on without a line end.
    NoLineEnds,
    /// Line 0 is read as an event but looks like a header.
    HeaderThere,
    /// Line 0 is passed over as a header but reads as an event.
    HeaderMissing,
    /// The header calls a column by another role's name than it is read as.
    HeaderDiffers {
        /// The column, from 0.
        column: usize,
        /// What the header calls it.
        named: Role,
        /// What it is read as.
        read_as: Role,
    },
    /// Rows read with another delimiter.
    Delimiter(Delimiter),
    /// Rows read with a preset.
    Preset(&'static str),
    /// Fields are in quotes.
    Quoted,
    /// Rows have fewer columns than needed.
    TooFewColumns {
        /// How many most rows have at the most.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// Known behaviours stand in another column.
    BehaviorColumn {
        /// That column, from 0.
        column: usize,
        /// The column they are read from.
        read_from: usize,
    },
    /// The behaviours are others than the configured ones.
    Behaviors {
        /// Some of those in the file.
        found: Vec<String>,
        /// Those that are known.
        known: Vec<String>,
    },
    /// The times look like another unit.
    TimeUnit(TimeUnit),
    /// The times are finer than milliseconds.
    TimesTooFine,
    /// The times are written as dates or with a fraction.
    TimesWritten {
        /// One of them.
        example: String,
    },
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hint::Utf16 => f.write_str("the text seems to be UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"),
            Hint::NoLineEnds => f.write_str("the first 64 KiB hold no line end; give a text file with one row a line"),
            Hint::HeaderThere => f.write_str("row 0 looks like a header (source.header = \"auto\" or \"true\")"),
            Hint::HeaderMissing => f.write_str(
                "row 0 is passed over as a header but looks like an event (source.header = \"auto\" or \"false\")",
            ),
            Hint::HeaderDiffers { column, named, read_as } => write!(
                f,
                "the header calls column {column} `{named}`, but it is read as {read_as}; list the columns in their order (source.columns)"
            ),
            Hint::Delimiter(delimiter) => {
                let written = delimiter.written();
                write!(f, "the delimiter seems to be `{written}` (source.delimiter = \"{written}\")")
            }
            Hint::Preset(name) => {
                write!(f, "the rows look like those of the preset {name} (source.columns = \"{name}\")")
            }
            Hint::Quoted => f.write_str("fields seem to be in quotes, which are not read; write them without"),
            Hint::TooFewColumns { found, needed } => {
                write!(f, "rows have {found} columns where {needed} are needed (source.columns, source.delimiter)")
            }
            Hint::BehaviorColumn { column, read_from } => write!(
                f,
                "behaviours seem to be in column {column}, but are read from column {read_from}, counted from 0 (source.columns)"
            ),
            Hint::Behaviors { found, known } => {
                write!(f, "behaviours like {} are unknown; known are {}", found.join(", "), known.join(", "))
            }
            Hint::TimeUnit(unit) => {
                let plural = unit.plural();
                write!(f, "times look like {plural} (source.time_unit = \"{}\")", unit.name())
            }
            Hint::TimesTooFine => {
                f.write_str("times look like microseconds or nanoseconds; write them in ms (source.time_unit = \"ms\")")
            }
            Hint::TimesWritten { example } => write!(
                f,
                "times like {example} are no whole numbers; write seconds or milliseconds since 1970-01-01 UTC (source.time_unit)"
            ),
        }
    }
}

/// What seems wrong with `format` for a file that starts with `head`, most telling first; empty if nothing does.
pub fn hints(format: &Format, head: &[u8]) -> Vec<Hint> {
    if is_utf16(head) {
        return vec![Hint::Utf16];
    }
    if head.len() > RECORD_BYTES_MAX && !head.contains(&b'\n') {
        return vec![Hint::NoLineEnds];
    }
    let sample = Sample::of(format, head);
    let mut hints = sample.about_header();
    match sample.most_are_read() {
        true => hints.extend(sample.about_accepted_times()),
        false => hints.extend(sample.about_rejected()),
    }
    hints
}

fn is_utf16(head: &[u8]) -> bool {
    let marked = head.starts_with(b"\xFF\xFE") || head.starts_with(b"\xFE\xFF");
    let zeros = head.iter().filter(|&&byte| byte == 0).count();
    marked && zeros > 0 || head.len() > 8 && zeros * 5 > head.len() * 2
}

/// The first lines of a file.
struct Sample<'a> {
    format: &'a Format,
    line0: &'a [u8],
    /// Without the header and lines of blanks.
    records: Vec<&'a [u8]>,
}

impl<'a> Sample<'a> {
    fn of(format: &'a Format, head: &'a [u8]) -> Sample<'a> {
        let mut at = without_mark(head);
        let mut lines = Vec::new();
        while at < head.len() && lines.len() < LINES_MAX {
            let (record, next) = line_at(head, at);
            // The last line may be cut off; it says something only if it is the only one.
            if next < head.len() || lines.is_empty() || head.len() <= RECORD_BYTES_MAX {
                lines.push(record);
            }
            at = next;
        }
        let line0 = lines.first().copied().unwrap_or_default();
        let data = lines.into_iter().skip(usize::from(format.header()));
        let records = data.filter(|record| !record.iter().all(|&byte| format.is_blank(byte))).collect();
        Sample { format, line0, records }
    }

    fn read_by(&self, format: &Format) -> usize {
        self.records.iter().filter(|record| matches!(read_record(format, record), Ok(Some(_)))).count()
    }

    /// Whether more than half of the records are counted in `count`.
    fn is_most(&self, count: usize) -> bool {
        count * 2 > self.records.len()
    }

    fn most_are_read(&self) -> bool {
        self.is_most(self.read_by(self.format)) || self.records.is_empty()
    }

    fn rejected_for(&self, reason: RejectReason) -> Vec<&'a [u8]> {
        self.records.iter().copied().filter(|record| read_record(self.format, record) == Err(reason)).collect()
    }

    fn about_header(&self) -> Vec<Hint> {
        let line = String::from_utf8_lossy(self.line0);
        let fields = self.format.dialect().fields(&line);
        let positions = self.format.positions();
        if !self.format.header() {
            return looks_like_header(positions, &fields).then_some(Hint::HeaderThere).into_iter().collect();
        }
        if matches!(read_record(self.format, self.line0), Ok(Some(_))) {
            return vec![Hint::HeaderMissing];
        }
        let named = |column: usize| Role::ALL.into_iter().find(|role| fields.get(column) == Some(&role.name()));
        let differs = |read_as: Role| {
            let column = positions.of(read_as)?;
            let named = named(column).filter(|&named| named != read_as)?;
            Some(Hint::HeaderDiffers { column, named, read_as })
        };
        Role::ALL.into_iter().find_map(differs).into_iter().collect()
    }

    fn about_accepted_times(&self) -> Option<Hint> {
        let in_seconds = self.times().filter(|time| PLAUSIBLE_SECONDS.contains(time)).count();
        let unit = self.format.dialect().time_unit;
        (unit == TimeUnit::Milliseconds && !self.records.is_empty() && self.is_most(in_seconds))
            .then_some(Hint::TimeUnit(TimeUnit::Seconds))
    }

    /// The time fields that are numbers.
    fn times(&self) -> impl Iterator<Item = u64> {
        let field = |record: &&'a [u8]| field_of(self.format, record, Role::Time);
        self.records.iter().filter_map(field).filter_map(number)
    }

    fn about_rejected(&self) -> Option<Hint> {
        self.other_delimiter()
            .or_else(|| self.quotes())
            .or_else(|| self.behaviors())
            .or_else(|| self.other_preset())
            .or_else(|| self.too_few_columns())
            .or_else(|| self.rejected_times())
    }

    fn other_delimiter(&self) -> Option<Hint> {
        [",", ";", "\t", "|", " "].into_iter().find_map(|candidate| {
            let delimiter = candidate.parse().ok()?;
            let dialect = Dialect { delimiter, ..self.format.dialect().clone() };
            let format = Format::new(dialect, self.format.positions(), self.format.header()).ok()?;
            self.is_most(self.read_by(&format)).then_some(Hint::Delimiter(delimiter))
        })
    }

    fn quotes(&self) -> Option<Hint> {
        let quoted = |record: &&&[u8]| {
            let field = field_of(self.format, record, Role::User).unwrap_or_default();
            field.len() > 1 && field.starts_with(b"\"") && field.ends_with(b"\"")
        };
        self.is_most(self.records.iter().filter(quoted).count()).then_some(Hint::Quoted)
    }

    fn other_preset(&self) -> Option<Hint> {
        [("events", Columns::EVENTS), ("flinkrl", Columns::FLINKRL)].into_iter().find_map(|(name, columns)| {
            let Columns::Preset(positions) = columns else { return None };
            let format = Format::new(self.format.dialect().clone(), positions, self.format.header()).ok()?;
            self.is_most(self.read_by(&format)).then_some(Hint::Preset(name))
        })
    }

    fn too_few_columns(&self) -> Option<Hint> {
        let short = self.rejected_for(RejectReason::Columns);
        let delimiter = self.format.delimiter();
        let columns = |record: &&[u8]| record.split(|&byte| byte == delimiter).count();
        let found = short.iter().map(columns).max()?;
        self.is_most(short.len()).then_some(Hint::TooFewColumns { found, needed: self.format.positions().needed() })
    }

    fn behaviors(&self) -> Option<Hint> {
        let read_from = self.format.positions().behavior?;
        let known_in = |column: usize| {
            let field = |record: &&[u8]| {
                let field = record.split(|&byte| byte == self.format.delimiter()).nth(column)?;
                self.format.behavior(self.format.trim(field))
            };
            self.is_most(self.records.iter().filter_map(field).count())
        };
        if let Some(column) = (0..16).filter(|&column| column != read_from).find(|&column| known_in(column)) {
            return Some(Hint::BehaviorColumn { column, read_from });
        }
        let rejected = self.rejected_for(RejectReason::Behavior);
        let mut found = Vec::new();
        for field in rejected.iter().filter_map(|record| field_of(self.format, record, Role::Behavior)) {
            let name = shown(field);
            if found.len() < SHOWN_NAMES && !found.contains(&name) {
                found.push(name);
            }
        }
        let known = self.format.dialect().behaviors.clone();
        self.is_most(rejected.len()).then_some(Hint::Behaviors { found, known })
    }

    fn rejected_times(&self) -> Option<Hint> {
        let rejected = self.rejected_for(RejectReason::Time);
        if !self.is_most(rejected.len()) {
            return None;
        }
        let field = field_of(self.format, rejected.first()?, Role::Time)?;
        let Some(time) = number(field) else {
            let whole = is_number(&String::from_utf8_lossy(field));
            return Some(if whole { Hint::TimesTooFine } else { Hint::TimesWritten { example: shown(field) } });
        };
        match PLAUSIBLE_SECONDS.contains(&(time / 1000)) {
            true => Some(Hint::TimeUnit(TimeUnit::Milliseconds)),
            false => Some(Hint::TimesTooFine),
        }
    }
}

/// A field in quotation marks, on one line of reasonable length.
pub(super) fn shown(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    let mut shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("`{}`", shown.escape_debug().to_string().replace("\\\"", "\""))
}

/// Why the record at `offset` of `input` was rejected, in one line: for `--strict`, and for people who ask.
pub fn explain(format: &Format, input: &str, offset: u64, reason: RejectReason, record: &[u8]) -> String {
    let field = |role: Role| {
        let column = format.positions().of(role).unwrap_or_default();
        let value = shown(field_of(format, record, role).unwrap_or_default());
        format!("column {column} ({role}): {value}")
    };
    let problem = match reason {
        RejectReason::TooLong => format!("the row is longer than {RECORD_BYTES_MAX} bytes"),
        RejectReason::Encoding => {
            let valid = std::str::from_utf8(record).map_or_else(|error| error.valid_up_to(), str::len);
            format!("the row is not UTF-8 at byte {valid}")
        }
        RejectReason::Columns => {
            let found = record.split(|&byte| byte == format.delimiter()).count();
            let needed = format.positions().needed();
            format!("the row has {found} columns where {needed} are needed: {}", shown(record))
        }
        RejectReason::User => format!("{} is no whole number from 0 to {}", field(Role::User), i64::MAX),
        RejectReason::Item => format!("{} is no whole number from 0 to {}", field(Role::Item), i64::MAX),
        RejectReason::Behavior => {
            format!("{} is none of {}", field(Role::Behavior), format.dialect().behaviors.join(", "))
        }
        RejectReason::Time => {
            let unit = format.dialect().time_unit.plural();
            format!("{} is no whole number of {unit} from 1970-01-01 to 9999-12-31", field(Role::Time))
        }
        RejectReason::Jump => {
            format!("{} is further beyond the largest time before it than source.max_jump", field(Role::Time))
        }
    };
    format!("{input}: row {offset} (counted from 0): {problem}")
}

/// A warning about the unit of a log whose times span less than a second or more than a century (contract, section 1).
pub fn unit_warning(earliest: Time, latest: Time, unit: TimeUnit) -> Option<String> {
    const SECOND: u64 = 1000;
    const CENTURY: u64 = 36_525 * 24 * 3600 * SECOND;
    let span = match latest.saturating_sub(earliest) {
        0..SECOND => "less than a second",
        SECOND..=CENTURY => return None,
        _ => "more than a century",
    };
    let (unit, name) = (unit.plural(), unit.name());
    Some(format!("the log's times span {span} when read as {unit}; check source.time_unit, which is \"{name}\""))
}
