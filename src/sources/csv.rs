//! Rows out of text: the CSV dialect of the contract (section 1), as a pure function of the bytes of a chunk.
//!
//! A row is a line. A line ends with LF; one CR before that, or before the end of the text, belongs to the line end. Its
//! fields are split at the delimiter, without any quoting, and trimmed of blanks: spaces and tabs, less the delimiter.
//!
//! Two readers agree on every line. The fast one takes what nearly all lines are: no blanks, numbers of at most 15
//! digits, names of at most seven bytes; it looks at each byte once, in words of eight, and gives up without a verdict
//! on anything else. The careful one, [`read_record`], takes any line and alone finds reasons to reject one.
//!
//! A line over 64 KiB is too long even if it is all blanks: whether it is cannot be known without reading all of it.

use dataflows::event::{ItemId, UserId};
use memchr::{memchr, memchr2};

use crate::sinks::RejectReason;

use super::chunk::{ParsedChunk, Row};
use super::columns::Role;
use super::digits::{number, short_name, short_number};
use super::format::{Field, Format, RECORD_BYTES_MAX};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Layouts that are compiled on their own, because nearly all logs have them.
const EVENTS: [Field; 4] = [Field::User, Field::Item, Field::Behavior, Field::Time];
const FLINKRL: [Field; 3] = [Field::User, Field::Item, Field::Time];

/// Reads all lines of `text` into `out`, in place of what it held.
///
/// `text` is whole lines (the last line of a file may lack its end) of at most 4 GiB; `first` says that it is the start
/// of a file, where a byte order mark and, if `format` has one, the header are passed over.
pub fn parse(format: &Format, text: &[u8], first: bool, out: &mut ParsedChunk) {
    out.clear();
    let start = if first { skip_head(format, text, out) } else { 0 };
    let fields = format.fields();
    if fields == EVENTS {
        parse_lines(format, &EVENTS, text, start, out);
    } else if fields == FLINKRL {
        parse_lines(format, &FLINKRL, text, start, out);
    } else {
        parse_lines(format, fields, text, start, out);
    }
    out.note_times();
}

/// The record on line `line` of a chunk, as [`parse`] counts lines; `None` past the last one.
///
/// For the few rows that are rejected only after they were read. It scans the chunk up to that line.
pub fn record_at(text: &[u8], first: bool, line: u32) -> Option<&[u8]> {
    let mut at = if first { without_mark(text) } else { 0 };
    for _ in 0..line {
        at += memchr(b'\n', text.get(at..)?)? + 1;
    }
    (at < text.len()).then(|| line_at(text, at).0)
}

/// The records of a chunk by their lines, as [`parse`] counts them, for lines that are asked for in ascending order: then the
/// chunk is scanned once.
#[derive(Debug)]
pub struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Lines<'a> {
    /// The lines of `text`; `first` says that it is the start of a file.
    pub fn new(text: &'a [u8], first: bool) -> Lines<'a> {
        Lines { text, at: if first { without_mark(text) } else { 0 }, line: 0 }
    }

    /// The record on line `line`, which must not be before the one asked for last; `None` past the last line.
    pub fn line(&mut self, line: u32) -> Option<&'a [u8]> {
        while self.line < line {
            self.at += memchr(b'\n', self.text.get(self.at..)?)? + 1;
            self.line += 1;
        }
        (self.at < self.text.len()).then(|| line_at(self.text, self.at).0)
    }
}

/// The numbers in the `N` columns of `record` from column `first` on; `None` for one that is missing or no number.
pub fn numbers_from<const N: usize>(format: &Format, record: &[u8], first: usize) -> [Option<u64>; N] {
    let mut fields = record.split(|&byte| byte == format.delimiter()).skip(first);
    std::array::from_fn(|_| fields.next().and_then(|field| number(format.trim(field))))
}

/// Whether each column of `record` holds more than blanks.
pub fn filled_columns(format: &Format, record: &[u8]) -> impl Iterator<Item = bool> {
    record.split(|&byte| byte == format.delimiter()).map(|field| !format.trim(field).is_empty())
}

/// How many columns `record` has.
pub fn column_count(format: &Format, record: &[u8]) -> usize {
    record.split(|&byte| byte == format.delimiter()).count()
}

/// Where the text starts behind a byte order mark.
pub(super) fn without_mark(text: &[u8]) -> usize {
    if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 }
}

/// Passes over a byte order mark and the header, and gives the start of the first line that may be a row.
fn skip_head(format: &Format, text: &[u8], out: &mut ParsedChunk) -> usize {
    let start = without_mark(text);
    if !format.header() || start == text.len() {
        return start;
    }
    out.lines = 1;
    line_at(text, start).1
}

/// The record that starts at `at`, without its line end, and where the next one starts.
pub(super) fn line_at(text: &[u8], at: usize) -> (&[u8], usize) {
    let rest = &text[at..];
    let (line, next) = match memchr(b'\n', rest) {
        Some(end) => (&rest[..end], at + end + 1),
        None => (rest, text.len()),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), next)
}

#[inline(always)]
fn parse_lines(format: &Format, fields: &[Field], text: &[u8], start: usize, out: &mut ParsedChunk) {
    let mut reader = FastReader { format, text, whole: text, utf8: None };
    let mut at = start;
    let mut line = u32::try_from(out.lines).unwrap_or(u32::MAX);
    while at < text.len() {
        if let Some((row, next)) = reader.line(fields, line, at) {
            out.rows.push(row);
            at = next;
        } else {
            at = read_carefully(format, text, at, line, out);
        }
        line += 1;
    }
    out.lines = u64::from(line);
}

#[inline(never)]
fn read_carefully(format: &Format, text: &[u8], at: usize, line: u32, out: &mut ParsedChunk) -> usize {
    let (record, next) = line_at(text, at);
    match read_record(format, record) {
        Ok(Some(row)) => out.rows.push(Row { line, ..row }),
        Ok(None) => {}
        Err(reason) => out.reject(line, reason, record),
    }
    next
}

/// Reads one record, without its line end; its row has line 0. `None` is a record of blanks, which is skipped.
///
/// # Errors
/// The first reason that applies, in the order of [`RejectReason`].
pub fn read_record(format: &Format, record: &[u8]) -> Result<Option<Row>, RejectReason> {
    if record.len() > RECORD_BYTES_MAX {
        return Err(RejectReason::TooLong);
    }
    if record.iter().all(|&byte| format.is_blank(byte)) {
        return Ok(None);
    }
    if std::str::from_utf8(record).is_err() {
        return Err(RejectReason::Encoding);
    }
    let [user, item, behavior, time] = needed_fields(format, record).ok_or(RejectReason::Columns)?;
    let user = number(user).ok_or(RejectReason::User)?;
    let item = number(item).ok_or(RejectReason::Item)?;
    let behavior = match format.positions().behavior {
        Some(_) => format.behavior(behavior).ok_or(RejectReason::Behavior)?,
        None => format.fixed_behavior(),
    };
    let time = number(time).and_then(|units| format.time(units)).ok_or(RejectReason::Time)?;
    Ok(Some(Row { line: 0, behavior, user: UserId(user), item: ItemId(item), time }))
}

/// The trimmed fields of user, item, behaviour (empty without such a column) and time; `None` if columns are missing.
fn needed_fields<'a>(format: &Format, record: &'a [u8]) -> Option<[&'a [u8]; 4]> {
    let mut found = [&record[..0]; 4];
    let mut fields = record.split(|&byte| byte == format.delimiter());
    for field in format.fields() {
        let text = fields.next()?;
        if *field != Field::Other {
            found[*field as usize] = format.trim(text);
        }
    }
    Some(found)
}

/// The trimmed field of `role`, if there is such a column in `format` and in `record`.
pub(super) fn field_of<'a>(format: &Format, record: &'a [u8], role: Role) -> Option<&'a [u8]> {
    let column = format.positions().of(role)?;
    let field = record.split(|&byte| byte == format.delimiter()).nth(column)?;
    Some(format.trim(field))
}

/// Reads the message that `text` starts with and that is `length` bytes long; its row has line 0. `None` is a message of
/// blanks, which is skipped.
///
/// A message is one record, with or without the end of a line behind it; a line end within it belongs to a field. What
/// follows it in `text` is LF, and then anything: the fast reader may look at it.
///
/// # Errors
/// The first reason that applies, in the order of [`RejectReason`].
pub(super) fn read_message(format: &Format, text: &[u8], length: usize) -> Result<Option<Row>, RejectReason> {
    let message = &text[..length];
    let mut reader = FastReader { format, text, whole: message, utf8: None };
    let fields = format.fields();
    let found = if fields == EVENTS {
        reader.line(&EVENTS, 0, 0)
    } else if fields == FLINKRL {
        reader.line(&FLINKRL, 0, 0)
    } else {
        reader.line(fields, 0, 0)
    };
    match found {
        // The line must end where the message does.
        Some((row, next)) if next == length + 1 || next == length => Ok(Some(row)),
        _ => read_record(format, without_line_end(message)),
    }
}

/// `message` without the one line end that it may have.
pub(super) fn without_line_end(message: &[u8]) -> &[u8] {
    let line = message.strip_suffix(b"\n").unwrap_or(message);
    line.strip_suffix(b"\r").unwrap_or(line)
}

struct FastReader<'a> {
    format: &'a Format,
    text: &'a [u8],
    /// What must be UTF-8, for a line within it to be read here.
    whole: &'a [u8],
    /// Whether it is, once a line has made it matter: by bytes that belong to no needed field.
    utf8: Option<bool>,
}

impl FastReader<'_> {
    /// The row that starts at `at`, and where the next line starts; `None` leaves the line to [`read_record`].
    #[inline(always)]
    fn line(&mut self, fields: &[Field], line: u32, at: usize) -> Option<(Row, usize)> {
        let (mut user, mut item, mut time) = (0, 0, 0);
        let mut behavior = self.format.fixed_behavior();
        let mut end = at;
        for (column, field) in fields.iter().enumerate() {
            if column > 0 {
                if *self.text.get(end)? != self.format.delimiter() {
                    return None;
                }
                end += 1;
            }
            match field {
                Field::User => (user, end) = short_number(self.text, end)?,
                Field::Item => (item, end) = short_number(self.text, end)?,
                Field::Time => (time, end) = short_number(self.text, end)?,
                Field::Behavior => {
                    let (word, after) = short_name(self.text, end, self.format.delimiter())?;
                    let index = self.format.behavior_words().iter().position(|&name| name == word)?;
                    behavior.0 = index as u8;
                    end = after;
                }
                Field::Other => end = self.skip_field(end)?,
            }
        }
        let next = self.end_of_line(end)?;
        let time = self.format.time(time)?;
        // Only a line with bytes in no needed field can be this long; the careful reader knows where exactly too long is.
        (next - at <= RECORD_BYTES_MAX)
            .then_some((Row { line, behavior, user: UserId(user), item: ItemId(item), time }, next))
    }

    #[inline(always)]
    fn skip_field(&mut self, at: usize) -> Option<usize> {
        let length = memchr2(self.format.delimiter(), b'\n', &self.text[at..])?;
        self.all_utf8().then_some(at + length)
    }

    /// Where the next line starts, if `end` is the end of the last needed field.
    #[inline(always)]
    fn end_of_line(&mut self, end: usize) -> Option<usize> {
        let byte = *self.text.get(end)?;
        if byte == b'\n' {
            return Some(end + 1);
        }
        if byte == b'\r' {
            return (*self.text.get(end + 1)? == b'\n').then_some(end + 2);
        }
        if byte == self.format.delimiter() && self.all_utf8() {
            return Some(end + memchr(b'\n', &self.text[end..])? + 1);
        }
        None
    }

    #[inline(always)]
    fn all_utf8(&mut self) -> bool {
        let whole = self.whole;
        *self.utf8.get_or_insert_with(|| std::str::from_utf8(whole).is_ok())
    }
}
