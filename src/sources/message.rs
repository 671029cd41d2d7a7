//! Rows out of messages (contract, section 1): one message, one record, in CSV or JSON.

use std::ops::Range;

use crate::sinks::RejectReason;

use super::chunk::Row;
use super::columns::{Columns, Header, Role};
use super::csv;
use super::diagnose;
use super::error::FormatError;
use super::format::{Dialect, Format, RECORD_BYTES_MAX};
use super::json::JsonFormat;

/// How a message's value is written.
#[derive(Clone, Debug)]
pub enum MessageFormat {
    /// A line of fields.
    Csv(Format),
    /// An object.
    Json(JsonFormat),
}

impl MessageFormat {
    /// Lines, with columns by position.
    ///
    /// # Errors
    /// Columns that are looked up in a header, or behaviours that cannot be.
    pub fn csv(columns: &Columns, dialect: Dialect) -> Result<MessageFormat, FormatError> {
        let (positions, _) = columns.resolve(Header::Absent, None).map_err(|_| FormatError::MessagesHaveNoHeader)?;
        Ok(MessageFormat::Csv(Format::new(dialect, positions, false)?))
    }

    /// JSON objects, whose fields have the names of `columns`: of its pairs, or `user`, `item`, `behavior`, `time`.
    ///
    /// # Errors
    /// Behaviours that cannot be.
    pub fn json(columns: &Columns, dialect: Dialect) -> Result<MessageFormat, FormatError> {
        JsonFormat::new(columns, dialect).map(MessageFormat::Json)
    }

    /// Reads a message's value; its row has line 0. `None` is a line of blanks, which is skipped.
    ///
    /// # Errors
    /// The first reason that applies, in the order of [`RejectReason`]; never [`RejectReason::Jump`].
    pub fn read(&self, value: &[u8]) -> Result<Option<Row>, RejectReason> {
        self.read_at(value, 0..value.len())
    }

    /// [`MessageFormat::read`] for the value at `place` of `text`, behind which there is LF or the end: faster, because
    /// words of eight bytes may be read that end behind it.
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn read_at(&self, text: &[u8], place: Range<usize>) -> Result<Option<Row>, RejectReason> {
        let (text, length) = (&text[place.start..], place.len());
        match self {
            MessageFormat::Csv(format) => csv::read_message(format, text, length),
            MessageFormat::Json(format) => format.read_message(text, length).map(Some),
        }
    }

    /// What is kept of a rejected value: its first 64 KiB, of a line without its end.
    pub fn record<'a>(&self, value: &'a [u8]) -> &'a [u8] {
        let record = match self {
            MessageFormat::Csv(_) => csv::without_line_end(value),
            MessageFormat::Json(_) => value,
        };
        &record[..record.len().min(RECORD_BYTES_MAX)]
    }

    /// Why the record at `offset` of `input` was rejected, in one line: for `--strict`, and for people who ask.
    pub fn explain(&self, input: &str, offset: u64, reason: RejectReason, record: &[u8]) -> String {
        match self {
            MessageFormat::Csv(format) => diagnose::explain(format, input, offset, reason, record),
            MessageFormat::Json(format) => explain_json(format, input, offset, reason, record),
        }
    }
}

fn explain_json(format: &JsonFormat, input: &str, offset: u64, reason: RejectReason, record: &[u8]) -> String {
    let name = |role: Role| format.field(role).unwrap_or(role.name());
    let integer = |role| format!("`{}` is no whole number from 0 to {}", name(role), i64::MAX);
    let values = format.values().dialect();
    let problem = match reason {
        RejectReason::TooLong => format!("it is longer than {RECORD_BYTES_MAX} bytes"),
        RejectReason::Encoding => "it is not UTF-8".to_owned(),
        RejectReason::Columns => {
            let names: Vec<&str> = Role::ALL.into_iter().filter_map(|role| format.field(role)).collect();
            format!("it is no JSON object with the fields {}", names.join(", "))
        }
        RejectReason::User => integer(Role::User),
        RejectReason::Item => integer(Role::Item),
        RejectReason::Behavior => format!("`{}` is none of {}", name(Role::Behavior), values.behaviors.join(", ")),
        RejectReason::Time => {
            let unit = values.time_unit.plural();
            format!("`{}` is no whole number of {unit} from 1970-01-01 to 9999-12-31", name(Role::Time))
        }
        RejectReason::Jump => {
            format!("`{}` is further beyond the largest time before it than source.max_jump", name(Role::Time))
        }
    };
    format!("{input}: offset {offset}: {problem}: {}", diagnose::shown(record))
}
