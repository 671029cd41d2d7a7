//! The rows of one file in their order, and what of it was no row.

use std::collections::BTreeMap;
use std::path::Path;

use dataflows::event::Time;
use dataflows::time::PartitionClock;
use serde::Serialize;

use super::error::LearnError;
use crate::config::{Columns as ColumnsSetting, Config};
use crate::plan;
use crate::sinks::RejectReason;
use crate::sources::chunk::Row;
use crate::sources::csv::Lines;
use crate::sources::diagnose::explain;
use crate::sources::{FileLog, Format, FormatError, Options, ParsedChunk, Reading, SourceError, parse};

/// How the rows of a log are read.
#[derive(Clone, Debug, Default)]
pub struct LogFormat {
    /// Columns, header, delimiter, time unit and behaviours.
    pub options: Options,
    /// How far beyond the largest time so far a row may lie (`source.max_jump`), in milliseconds.
    pub jump_max: Option<Time>,
    /// Whether six columns of features follow the event's four.
    pub features: Features,
}

/// Whether a log has features: `sex,age,pur_power,category,shop,brand` in columns 4 to 9, as in `tianchi.csv`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Features {
    /// It has them.
    Present,
    /// It has none that are read.
    #[default]
    Absent,
    /// It has them if its first row has exactly ten columns, the last six of which are numbers, or empty but not all of them.
    Auto,
}

impl LogFormat {
    /// As the configuration says. Preset `tianchi` has features; preset `events`, the default, has them where the first row
    /// looks like it, since its four columns are the same.
    ///
    /// # Errors
    /// As [`plan::source_options`].
    pub fn of(config: &Config) -> Result<LogFormat, FormatError> {
        let features = match config.source.columns {
            ColumnsSetting::Tianchi => Features::Present,
            ColumnsSetting::Events => Features::Auto,
            _ => Features::Absent,
        };
        let jump_max = config.source.max_jump.map(|jump| jump.ms());
        Ok(LogFormat { options: plan::source_options(config, None, 1)?, jump_max, features })
    }
}

/// What was read, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// Lines, header and blank ones counted.
    pub lines: u64,
    /// Rows that are events.
    pub events: u64,
    /// Rows that are none, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// What is wrong with the first of these, with file, row and column.
    pub first_rejected: Option<String>,
    /// The earliest and the latest time of the events, in milliseconds.
    pub times: Option<(Time, Time)>,
}

impl RowCounts {
    /// Rows that are no events.
    pub fn rejected_rows(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// The counts in one sentence: `3 rejected (2 time, 1 user)`.
    pub fn rejected_text(&self) -> String {
        let by_reason: Vec<String> = self.rejected.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        if by_reason.is_empty() {
            "0".to_owned()
        } else {
            format!("{} ({})", self.rejected_rows(), by_reason.join(", "))
        }
    }

    fn reject(&mut self, format: &Format, input: &str, offset: u64, reason: RejectReason, record: &[u8]) {
        *self.rejected.entry(reason.name()).or_default() += 1;
        if self.first_rejected.is_none() {
            self.first_rejected = Some(explain(format, input, offset, reason, record));
        }
    }

    fn count(&mut self, time: Time) {
        self.events += 1;
        let (least, largest) = self.times.unwrap_or((time, time));
        self.times = Some((least.min(time), largest.max(time)));
    }
}

/// One file, opened; it can be read again and again.
#[derive(Debug)]
pub struct RowReader {
    log: FileLog,
    jump_max: Option<Time>,
}

impl RowReader {
    /// Opens `path`.
    ///
    /// # Errors
    /// A file that cannot be read, or whose header does not have the columns.
    pub fn open(path: &Path, format: &LogFormat) -> Result<RowReader, LearnError> {
        let log = FileLog::open(&[path.to_owned()], &format.options)?;
        Ok(RowReader { log, jump_max: format.jump_max })
    }

    /// What messages call the file.
    pub fn input(&self) -> &str {
        self.log.partitions()[0].input()
    }

    /// How its lines are read.
    pub fn format(&self) -> &Format {
        self.log.partitions()[0].format()
    }

    /// Fails for what cannot be read twice.
    ///
    /// # Errors
    /// [`LearnError::Pipe`].
    pub fn require_file(&self) -> Result<(), LearnError> {
        match self.log.partitions()[0].size_bytes() {
            Some(_) => Ok(()),
            None => Err(LearnError::Pipe { input: self.input().to_owned() }),
        }
    }

    /// Gives every row that is an event to `take`, in the order of the file, with its record where `take` asks for it.
    ///
    /// # Errors
    /// The file cannot be read any more; or what `take` returns.
    pub fn each<E: From<SourceError>>(
        &self,
        mut take: impl FnMut(&Row, &mut RecordOf<'_>) -> Result<(), E>,
    ) -> Result<RowCounts, E> {
        let mut counts = RowCounts::default();
        let mut clock = PartitionClock::new(0);
        let mut chunk = ParsedChunk::default();
        let (format, input) = (self.format(), self.input());
        let take_chunk = |text: &[u8], first: bool| -> Result<(), E> {
            parse(format, text, first, &mut chunk);
            for line in chunk.rejected() {
                counts.reject(format, input, counts.lines + u64::from(line.line), line.reason, line.record);
            }
            let mut record = RecordOf(Lines::new(text, first));
            for row in &chunk.rows {
                if self.jump_max.is_some_and(|jump_max| clock.leaps(row.time, jump_max)) {
                    let offset = counts.lines + u64::from(row.line);
                    counts.reject(format, input, offset, RejectReason::Jump, record.of(row));
                    continue;
                }
                clock.observe(Some(row.time));
                counts.count(row.time);
                take(row, &mut record)?;
            }
            counts.lines += chunk.lines;
            Ok(())
        };
        each_chunk(&self.log, take_chunk)?;
        Ok(counts)
    }
}

/// Gives the whole lines of partition 0 to `take`, chunk by chunk, and whether a chunk is the start of the file.
fn each_chunk<E: From<SourceError>>(
    log: &FileLog,
    mut take: impl FnMut(&[u8], bool) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = Vec::new();
    match log.reading(0) {
        Reading::Chunks(chunks) => {
            for at in 0..chunks {
                let span = log.read_chunk(0, at, &mut buffer)?;
                take(&buffer[span], at == 0)?;
            }
        }
        Reading::Stream => {
            let mut stream = log.stream(0)?;
            let mut first = true;
            while let Some(text) = stream.next_chunk(&mut buffer)? {
                take(text, first)?;
                first = false;
            }
        }
    }
    Ok(())
}

/// Gives every line of partition 0 to `take`, without its line end.
///
/// # Errors
/// The file cannot be read any more.
pub fn each_line(log: &FileLog, mut take: impl FnMut(&[u8])) -> Result<(), SourceError> {
    each_chunk(log, |text, first| {
        let mut lines = Lines::new(text, first);
        let mut line = 0;
        while let Some(record) = lines.line(line) {
            take(record);
            line += 1;
        }
        Ok(())
    })
}

/// Finds the record that a row was read from. Rows must be asked for in their order.
#[derive(Debug)]
pub struct RecordOf<'a>(Lines<'a>);

impl<'a> RecordOf<'a> {
    /// The record of `row`, without its line end.
    pub fn of(&mut self, row: &Row) -> &'a [u8] {
        self.0.line(row.line).unwrap_or_default()
    }
}
