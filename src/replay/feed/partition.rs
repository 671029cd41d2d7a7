//! One partition, as one worker sees it: which of its chunks it parses, and how far all of them have been folded.

use super::stamp::{Course, Stamping};
use super::{FeedError, Summary};
use crate::journal::Advances;
use crate::sinks::Rejected;
use crate::sources::csv::record_at;
use crate::sources::{FileLog, ParsedChunk, Reading, Stream, parse};
use dataflows::event::Event;
use std::collections::BTreeMap;
use std::ops::Range;

/// A chunk of ours, parsed.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) chunk: ParsedChunk,
    /// What was read, kept where rows may yet be rejected; the chunk's own lines are those in `span`.
    buffer: Vec<u8>,
    span: Range<usize>,
    /// Bytes read, as they are on disk.
    pub(super) bytes: u64,
}

impl Parsed {
    /// The record on a line of it; `first` says that it is the start of a file.
    pub(super) fn record(&self, first: bool, line: u32) -> &[u8] {
        record_at(&self.buffer[self.span.clone()], first, line).unwrap_or_default()
    }

    /// About what its rows take in a report.
    pub(super) fn report_bytes(&self) -> u64 {
        let rejected = self.chunk.rejected().map(|line| size_of::<Rejected>() + line.record.len()).sum::<usize>();
        (self.chunk.rows.len() * size_of::<Event>() + rejected) as u64
    }
}

pub(super) struct Partition {
    pub(super) course: Course,
    /// Chunks folded so far, and their lines.
    pub(super) folded: u64,
    pub(super) lines: u64,
    /// Number of chunks, once known.
    pub(super) chunks: Option<u64>,
    pub(super) summaries: BTreeMap<u64, Summary>,
    pub(super) parsed: BTreeMap<u64, Parsed>,
    ours: Ours,
    /// Of our stream, so far.
    read_bytes: u64,
    pub(super) ended: bool,
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

impl Partition {
    /// Partition `at` for worker `index` of `peers`.
    pub(super) fn open(
        log: &FileLog,
        at: usize,
        stamping: &Stamping,
        advances: Advances,
        (index, peers): (u64, u64),
    ) -> Result<Partition, FeedError> {
        let (ours, chunks) = match log.reading(at) {
            Reading::Chunks(count) => {
                let next = (index + peers - at as u64 % peers) % peers;
                (if next < count { Ours::Chunks { next } } else { Ours::None }, Some(count))
            }
            Reading::Stream if stream_owner(log, at, peers) == index => {
                (Ours::Stream { stream: Box::new(log.stream(at)?), next: 0, at_end: false }, None)
            }
            Reading::Stream => (Ours::None, None),
        };
        Ok(Partition {
            course: Course::new(stamping, advances),
            folded: 0,
            lines: 0,
            chunks,
            summaries: BTreeMap::new(),
            parsed: BTreeMap::new(),
            ours,
            read_bytes: 0,
            ended: false,
        })
    }

    /// Whether there may be a chunk that this worker has to parse.
    pub(super) fn has_more(&self) -> bool {
        !self.ended && !matches!(self.ours, Ours::None)
    }

    /// Notes that the partition has ended, if all its chunks are folded or time has stopped; says whether it has.
    pub(super) fn end_if_done(&mut self) -> bool {
        if self.chunks.is_some_and(|chunks| self.folded >= chunks) || self.course.has_stopped() {
            self.ended = true;
            self.ours = Ours::None;
            self.parsed.clear();
            self.summaries.clear();
        }
        self.ended
    }

    /// Folds a chunk that another worker stamps.
    pub(super) fn pass(&mut self, summary: &Summary) {
        self.lines += summary.lines;
        self.course.pass(summary.largest, self.lines);
    }

    /// Parses our next chunk; `None` if a stream turned out to have none.
    pub(super) fn parse_next(
        &mut self,
        log: &FileLog,
        at: usize,
        peers: u64,
        parsed: &mut Parsed,
    ) -> Result<Option<u64>, FeedError> {
        let format = log.partitions()[at].format();
        let (span, chunk) = match &mut self.ours {
            Ours::Chunks { next } => {
                let chunk = *next;
                *next += peers;
                (Some(log.read_chunk(at, chunk, &mut parsed.buffer)?), chunk)
            }
            Ours::Stream { stream, next, at_end } => {
                let (length, chunk) = (stream.next_chunk(&mut parsed.buffer)?.map(<[u8]>::len), *next);
                *next += 1;
                *at_end = length.is_none();
                (length.map(|length| 0..length), chunk)
            }
            Ours::None => (None, 0),
        };
        let found = span.is_some().then_some(chunk);
        parsed.span = span.unwrap_or_default();
        parsed.bytes = match &self.ours {
            Ours::Stream { stream, .. } => {
                stream.read_bytes() - std::mem::replace(&mut self.read_bytes, stream.read_bytes())
            }
            _ => parsed.span.len() as u64,
        };
        parse(format, &parsed.buffer[parsed.span.clone()], chunk == 0, &mut parsed.chunk);
        let done = match &self.ours {
            Ours::Chunks { next } => self.chunks.is_some_and(|chunks| *next >= chunks),
            Ours::Stream { at_end, .. } => *at_end,
            Ours::None => true,
        };
        if done {
            self.ours = Ours::None;
        }
        Ok(found)
    }
}

/// Standard input is process 0's, whose first worker is worker 0.
fn stream_owner(log: &FileLog, at: usize, peers: u64) -> u64 {
    if log.partitions()[at].size_bytes().is_none() { 0 } else { at as u64 % peers }
}
