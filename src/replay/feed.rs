//! Reading a log on many workers at once, with the logical times of its own order.
//!
//! ```text
//! worker a:  parse chunk 0 ─ summary ─┐  parse chunk 2 ─ …
//! worker b:  parse chunk 1 ─ summary ─┼─ to all workers
//!                                     ↓
//! every worker: fold the summaries in order; where its own chunk is next: stamp its rows, hand them over
//! ```
//!
//! Chunks are parsed in any order, by whoever they belong to. A chunk's rows get their offsets and logical times when the
//! summaries of all chunks before it are there: its line count and its largest time are all that later rows can notice of
//! a chunk ([`PartitionClock::observe`]). So L and W_p are those of the file's row order, whoever read what and when.
//!
//! The frontier that a worker announces is the least watermark of the partitions, as far as it has folded them, and its own
//! events to come are all behind that place: so it never announces too much, and because all workers get all summaries,
//! all come to announce the same.
//!
//! With `source.max_jump` a row may be rejected because of the rows before it, and a journal may say that rows were lost; then a
//! chunk's summary is known only when it is stamped; it is sent later, and nothing else changes.

use crate::digest::{Digest, RowHasher};
use crate::journal::Advances;
use crate::pipeline::Report;
use crate::sinks::{RejectReason, Rejected};
use crate::sources::csv::record_at;
use crate::sources::{FileLog, ParsedChunk, Reading, Row, SourceError, Stream, parse};
use dataflows::event::{Event, Position, Time};
use dataflows::time::{LatePolicy, PartitionClock, Steps};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a log can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The input.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Offsets end here.
    #[error("{input} has more than 2^48 lines: divide it into several files")]
    TooManyLines {
        /// The file.
        input: String,
    },
}

/// Chunks of one partition that a worker parses before their turn has come.
const AHEAD_MAX: usize = 2;

/// The rules that rows are stamped by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamping {
    pub(super) lateness: Time,
    pub(super) late: LatePolicy,
    pub(super) jump_max: Option<Time>,
    pub(super) tick: Steps,
    /// A partition ends where its watermark reaches this, and events at or after it don't take part.
    pub(super) until: Time,
    /// Whether reports carry rows.
    pub(super) wants_rows: bool,
}

/// All that other rows can notice of a chunk.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Summary {
    partition: u32,
    chunk: u64,
    lines: u64,
    /// Largest time of the accepted rows.
    largest: Option<Time>,
    /// There is no such chunk: the stream ended before it.
    end: bool,
}

/// One worker's part in reading a log.
pub(super) struct Feed {
    log: Arc<FileLog>,
    stamping: Stamping,
    partitions: Vec<Partition>,
    peers: u64,
    spare: Vec<Parsed>,
    hasher: RowHasher,
}

/// A chunk of ours, parsed.
#[derive(Default)]
struct Parsed {
    chunk: ParsedChunk,
    /// Kept where rows may yet be rejected.
    text: Vec<u8>,
    /// Bytes read, as they are on disk.
    bytes: u64,
}

struct Partition {
    clock: PartitionClock,
    advances: Advances,
    /// Chunks folded so far, and their lines.
    folded: u64,
    lines: u64,
    /// Number of chunks, once known.
    chunks: Option<u64>,
    summaries: BTreeMap<u64, Summary>,
    parsed: BTreeMap<u64, Parsed>,
    ours: Ours,
    /// Of our stream, so far.
    read_bytes: u64,
    ended: bool,
}

/// Which chunks of a partition a worker parses.
enum Ours {
    /// Every so many, by position; the next one.
    Chunks { next: u64 },
    /// All, in order.
    Stream { stream: Box<Stream>, next: u64, at_end: bool },
    /// None (any more).
    None,
}

impl Feed {
    /// Worker `index` of `peers`.
    pub(super) fn new(
        log: Arc<FileLog>,
        stamping: Stamping,
        advances: &dyn Fn(u32) -> Advances,
        index: usize,
        peers: usize,
    ) -> Result<Feed, FeedError> {
        let (index, peers) = (index as u64, peers as u64);
        let partition = |at: usize| {
            let (ours, chunks) = match log.reading(at) {
                Reading::Chunks(count) => {
                    let next = (index + peers - at as u64 % peers) % peers;
                    (if next < count { Ours::Chunks { next } } else { Ours::None }, Some(count))
                }
                // Standard input is process 0's, whose first worker is worker 0.
                Reading::Stream if stream_owner(&log, at, peers) == index => {
                    (Ours::Stream { stream: Box::new(log.stream(at)?), next: 0, at_end: false }, None)
                }
                Reading::Stream => (Ours::None, None),
            };
            Ok(Partition {
                clock: PartitionClock::new(stamping.lateness),
                advances: advances(at as u32),
                folded: 0,
                lines: 0,
                chunks,
                summaries: BTreeMap::new(),
                parsed: BTreeMap::new(),
                ours,
                read_bytes: 0,
                ended: false,
            })
        };
        let partitions = (0..log.partitions().len()).map(partition).collect::<Result<_, FeedError>>()?;
        Ok(Feed { log, stamping, partitions, peers, spare: Vec::new(), hasher: RowHasher::default() })
    }

    /// Parses the next chunk of ours that there is room for, of the partition with the least watermark, so that
    /// partitions advance together. `false` if there is none now.
    pub(super) fn read(&mut self, summaries: &mut Vec<Summary>) -> Result<bool, FeedError> {
        let waiting = |p: &Partition| !p.ended && p.parsed.len() < AHEAD_MAX && !matches!(p.ours, Ours::None);
        let least = (0..self.partitions.len())
            .filter(|&at| waiting(&self.partitions[at]))
            .min_by_key(|&at| self.partitions[at].clock.watermark());
        let Some(at) = least else { return Ok(false) };
        let mut parsed = self.spare.pop().unwrap_or_default();
        let Some(chunk) = self.partitions[at].parse_next(&self.log, at, self.peers, &mut parsed)? else {
            let chunk = self.partitions[at].parsed.last_key_value().map(|(chunk, _)| chunk + 1);
            let chunk = chunk.unwrap_or(self.partitions[at].folded);
            self.summarise(Summary { partition: at as u32, chunk, lines: 0, largest: None, end: true }, summaries);
            return Ok(true);
        };
        if !self.partitions[at].waits_for_rows(&self.stamping) {
            let (lines, largest) = (parsed.chunk.lines, parsed.chunk.times.map(|(_, largest)| largest));
            summaries.push(Summary { partition: at as u32, chunk, lines, largest, end: false });
        }
        self.partitions[at].parsed.insert(chunk, parsed);
        Ok(true)
    }

    fn summarise(&mut self, summary: Summary, summaries: &mut Vec<Summary>) {
        self.hear(summary);
        summaries.push(summary);
    }

    /// Takes in a summary of another worker's chunk.
    pub(super) fn hear(&mut self, summary: Summary) {
        let partition = &mut self.partitions[summary.partition as usize];
        if partition.ended {
            return;
        }
        if summary.end {
            partition.chunks = Some(summary.chunk);
        } else {
            partition.summaries.insert(summary.chunk, summary);
        }
    }

    /// Folds what can be folded; hands over the events of our chunks on the way, and a report of each.
    pub(super) fn fold(
        &mut self,
        summaries: &mut Vec<Summary>,
        mut give: impl FnMut(&mut Vec<Event>, Report),
    ) -> Result<(), FeedError> {
        let mut events = Vec::new();
        for at in 0..self.partitions.len() {
            loop {
                let partition = &mut self.partitions[at];
                partition.end_if_done(self.stamping.until);
                if partition.ended {
                    break;
                }
                let chunk = partition.folded;
                if let Some(parsed) = partition.parsed.remove(&chunk) {
                    partition.summaries.remove(&chunk);
                    events.reserve(parsed.chunk.rows.len());
                    let lines = parsed.chunk.lines;
                    let stamped =
                        stamp(partition, at, &parsed, &self.stamping, &self.log, &mut self.hasher, &mut events);
                    let (report, largest) = stamped?;
                    if partition.waits_for_rows(&self.stamping) {
                        summaries.push(Summary { partition: at as u32, chunk, lines, largest, end: false });
                    }
                    give(&mut events, report);
                    self.spare.push(parsed);
                } else if let Some(summary) = partition.summaries.remove(&chunk) {
                    partition.clock.observe(summary.largest);
                    partition.lines += summary.lines;
                    partition.advances.apply(partition.lines, &mut partition.clock);
                } else {
                    break;
                }
                partition.folded += 1;
            }
        }
        Ok(())
    }

    /// The first tick that may still get events, as far as this worker knows; `None` when there will be none.
    pub(super) fn frontier(&self) -> Option<Time> {
        let open = self.partitions.iter().filter(|partition| !partition.ended);
        open.map(|partition| self.stamping.tick.frontier(partition.clock.watermark())).min()
    }
}

fn stream_owner(log: &FileLog, at: usize, peers: u64) -> u64 {
    if log.partitions()[at].size_bytes().is_none() { 0 } else { at as u64 % peers }
}

impl Partition {
    /// Whether the largest time of a chunk is known only when its rows are stamped: rows may be rejected because of those
    /// before them, or be no part of the run.
    fn waits_for_rows(&self, stamping: &Stamping) -> bool {
        stamping.jump_max.is_some() || self.advances.have_losses()
    }

    fn end_if_done(&mut self, until: Time) {
        if self.chunks.is_some_and(|chunks| self.folded >= chunks) || self.clock.watermark() >= until {
            self.ended = true;
            self.ours = Ours::None;
            self.parsed.clear();
            self.summaries.clear();
        }
    }

    /// Parses our next chunk; `None` if a stream turned out to have none.
    fn parse_next(
        &mut self,
        log: &FileLog,
        at: usize,
        peers: u64,
        parsed: &mut Parsed,
    ) -> Result<Option<u64>, FeedError> {
        let format = log.partitions()[at].format();
        let (text, chunk) = match &mut self.ours {
            Ours::Chunks { next } => {
                let chunk = *next;
                *next += peers;
                (Some(log.read_chunk(at, chunk, &mut parsed.text)?), chunk)
            }
            Ours::Stream { stream, next, at_end } => {
                let (text, chunk) = (stream.next_chunk(&mut parsed.text)?, *next);
                *next += 1;
                *at_end = text.is_none();
                (text, chunk)
            }
            Ours::None => (None, 0),
        };
        parsed.bytes = match (&self.ours, text) {
            (Ours::Stream { stream, .. }, _) => {
                stream.read_bytes() - std::mem::replace(&mut self.read_bytes, stream.read_bytes())
            }
            (_, text) => text.map_or(0, <[u8]>::len) as u64,
        };
        if let Some(text) = text {
            parse(format, text, chunk == 0, &mut parsed.chunk);
        }
        let done = match &self.ours {
            Ours::Chunks { next } => self.chunks.is_some_and(|chunks| *next >= chunks),
            Ours::Stream { at_end, .. } => *at_end,
            Ours::None => true,
        };
        let found = text.is_some().then_some(chunk);
        if done {
            self.ours = Ours::None;
        }
        Ok(found)
    }
}

/// Gives the rows of a chunk, whose turn has come, their offsets and logical times. Returns the largest time accepted, too.
fn stamp(
    partition: &mut Partition,
    at: usize,
    parsed: &Parsed,
    stamping: &Stamping,
    log: &FileLog,
    hasher: &mut RowHasher,
    events: &mut Vec<Event>,
) -> Result<(Report, Option<Time>), FeedError> {
    let first_line = partition.lines;
    let mut out = Stamped { report: Report::default(), largest: None, at: at as u32, first_line };
    let mut rejected = parsed.chunk.rejected().peekable();
    for row in &parsed.chunk.rows {
        while let Some(line) = rejected.next_if(|line| line.line < row.line) {
            if !partition.advances.is_lost(first_line + u64::from(line.line)) {
                out.reject(line.line, line.reason, line.record, stamping, hasher, log)?;
            }
        }
        let offset = first_line + u64::from(row.line);
        partition.advances.apply(offset, &mut partition.clock);
        if partition.clock.watermark() >= stamping.until {
            return Ok((out.report, out.largest));
        }
        if partition.advances.is_lost(offset) {
            continue;
        }
        if stamping.jump_max.is_some_and(|jump_max| partition.clock.leaps(row.time, jump_max)) {
            let record = record_at(&parsed.text, first_line == 0, row.line).unwrap_or_default();
            out.reject(row.line, RejectReason::Jump, record, stamping, hasher, log)?;
            continue;
        }
        out.accept(row, &mut partition.clock, stamping, hasher, events, log)?;
    }
    for line in rejected.filter(|line| !partition.advances.is_lost(first_line + u64::from(line.line))) {
        out.reject(line.line, line.reason, line.record, stamping, hasher, log)?;
    }
    out.report.counts.lines = parsed.chunk.lines;
    out.report.bytes = parsed.bytes;
    partition.lines += parsed.chunk.lines;
    partition.advances.apply(partition.lines, &mut partition.clock);
    Ok((out.report, out.largest))
}

struct Stamped {
    report: Report,
    largest: Option<Time>,
    at: u32,
    first_line: u64,
}

impl Stamped {
    fn position(&self, line: u32, log: &FileLog) -> Result<Position, FeedError> {
        let offset = self.first_line + u64::from(line);
        Position::new(self.at, offset)
            .ok_or_else(|| FeedError::TooManyLines { input: log.partitions()[self.at as usize].input().to_owned() })
    }

    fn accept(
        &mut self,
        row: &Row,
        clock: &mut PartitionClock,
        stamping: &Stamping,
        hasher: &RowHasher,
        events: &mut Vec<Event>,
        log: &FileLog,
    ) -> Result<(), FeedError> {
        let stamp = clock.accept(row.time);
        let event = Event {
            user: row.user,
            item: row.item,
            time: row.time,
            logical: stamp.logical,
            position: self.position(row.line, log)?,
            behavior: row.behavior,
            late: stamp.late,
        };
        let report = &mut self.report;
        self.largest = self.largest.max(Some(row.time));
        report.counts.accepted += 1;
        let (least, largest) = report.times.unwrap_or((row.time, row.time));
        report.times = Some((least.min(row.time), largest.max(row.time)));
        if stamp.late {
            report.counts.late += 1;
            report.late.add_row(hasher.late_row(&event));
        }
        if stamping.wants_rows {
            report.records.push(event);
        }
        if stamping.late.admits(stamp.late) && stamp.logical < stamping.until {
            report.logical_max = report.logical_max.max(Some(stamp.logical));
            events.push(event);
        }
        Ok(())
    }

    fn reject(
        &mut self,
        line: u32,
        reason: RejectReason,
        record: &[u8],
        stamping: &Stamping,
        hasher: &RowHasher,
        log: &FileLog,
    ) -> Result<(), FeedError> {
        let rejected = Rejected { position: self.position(line, log)?, reason, record: record.to_vec() };
        self.report.counts.rejected[reason as usize] += 1;
        let digest: &mut Digest = &mut self.report.rejected;
        digest.add_row(hasher.rejected_row(&rejected));
        if self.report.first_rejected.is_none() {
            self.report.first_rejected = Some(rejected.clone());
        }
        if stamping.wants_rows {
            self.report.rejections.push(rejected);
        }
        Ok(())
    }
}
