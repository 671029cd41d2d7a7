//! What the reader makes of one chunk of a file.

use dataflows::event::{Behavior, ItemId, Time, UserId};

use crate::sinks::RejectReason;

use super::format::RECORD_BYTES_MAX;

/// A line that is an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which line of the chunk, from 0.
    pub line: u32,
    /// How.
    pub behavior: Behavior,
    /// Who.
    pub user: UserId,
    /// What.
    pub item: ItemId,
    /// When.
    pub time: Time,
}

/// A line that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedLine<'a> {
    /// Which line of the chunk, from 0.
    pub line: u32,
    /// The first reason that applies; never [`RejectReason::Jump`], which the rules of time decide.
    pub reason: RejectReason,
    /// The record's first 64 KiB, without its line end.
    pub record: &'a [u8],
}

/// Everything that one chunk holds. It is filled again for every chunk, so that reading allocates nothing in the long
/// run; rows and rejected lines are in the order of the lines.
#[derive(Clone, Debug, Default)]
pub struct ParsedChunk {
    /// How many lines there are, header and blank lines counted; with those of the chunks before it, a row's offset.
    pub lines: u64,
    /// The lines that are events.
    pub rows: Vec<Row>,
    /// The earliest and the latest time of `rows`.
    pub times: Option<(Time, Time)>,
    /// Line, reason, and where the record ends in `records`; it starts where the one before it ends.
    rejected: Vec<(u32, RejectReason, usize)>,
    records: Vec<u8>,
}

impl ParsedChunk {
    /// The lines that are no events.
    pub fn rejected(&self) -> impl ExactSizeIterator<Item = RejectedLine<'_>> {
        let mut start = 0;
        self.rejected.iter().map(move |&(line, reason, end)| {
            let record = &self.records[start..end];
            start = end;
            RejectedLine { line, reason, record }
        })
    }

    pub(super) fn clear(&mut self) {
        self.lines = 0;
        self.rows.clear();
        self.times = None;
        self.rejected.clear();
        self.records.clear();
    }

    pub(super) fn reject(&mut self, line: u32, reason: RejectReason, record: &[u8]) {
        self.records.extend_from_slice(&record[..record.len().min(RECORD_BYTES_MAX)]);
        self.rejected.push((line, reason, self.records.len()));
    }

    pub(super) fn note_times(&mut self) {
        let span = self.rows.iter().fold((Time::MAX, 0), |(min, max), row| (min.min(row.time), max.max(row.time)));
        self.times = (!self.rows.is_empty()).then_some(span);
    }
}
