//! The dialect read in the plainest way: the whole text, line after line, one rule after the other.

use crate::sinks::RejectReason;
use crate::sources::columns::Positions;
use crate::sources::format::{Format, TimeUnit};

/// What a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The header, or a line of blanks.
    Passed,
    /// User, item, index of the behaviour, time in milliseconds.
    Event(u64, u64, usize, u64),
    /// The reason, and the record as far as it is kept.
    Rejected(RejectReason, Vec<u8>),
}

/// All lines of `text`.
pub(super) fn read(format: &Format, text: &[u8]) -> Vec<Line> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let mut records: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    if records.last() == Some(&&b""[..]) {
        records.pop();
    }
    let mut lines: Vec<Line> = records.into_iter().map(|record| read_line(format, record)).collect();
    if format.header() && !lines.is_empty() {
        lines[0] = Line::Passed;
    }
    lines
}

pub(super) fn read_line(format: &Format, line: &[u8]) -> Line {
    let record = line.strip_suffix(b"\r").unwrap_or(line);
    let delimiter = char::from(format.dialect().delimiter.byte());
    let blank = |character: char| (character == ' ' || character == '\t') && character != delimiter;
    if record.len() > 65_536 {
        return Line::Rejected(RejectReason::TooLong, record[..65_536].to_vec());
    }
    let rejected = |reason| Line::Rejected(reason, record.to_vec());
    let Ok(text) = std::str::from_utf8(record) else { return rejected(RejectReason::Encoding) };
    if text.chars().all(blank) {
        return Line::Passed;
    }
    let fields: Vec<&str> = text.split(delimiter).map(|field| field.trim_matches(blank)).collect();
    let Positions { user, item, behavior, time } = format.positions();
    let last = user.max(item).max(time).max(behavior.unwrap_or(0));
    if fields.len() <= last {
        return rejected(RejectReason::Columns);
    }
    let Some(user) = number(fields[user]) else { return rejected(RejectReason::User) };
    let Some(item) = number(fields[item]) else { return rejected(RejectReason::Item) };
    let name = behavior.map_or("pv", |at| fields[at]);
    let Some(behavior) = format.dialect().behaviors.iter().position(|known| known == name) else {
        return rejected(RejectReason::Behavior);
    };
    let scale = if format.dialect().time_unit == TimeUnit::Seconds { 1000 } else { 1 };
    match number(fields[time]).and_then(|units| units.checked_mul(scale)) {
        Some(time) if time <= 253_402_300_799_999 => Line::Event(user, item, behavior, time),
        _ => rejected(RejectReason::Time),
    }
}

fn number(field: &str) -> Option<u64> {
    if field.is_empty() || !field.chars().all(|character| character.is_ascii_digit()) {
        return None;
    }
    let significant = field.trim_start_matches('0');
    let value: u64 = if significant.is_empty() { 0 } else { significant.parse().ok()? };
    (value < 1 << 63).then_some(value)
}
