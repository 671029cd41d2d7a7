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
//! Of all partitions, the one with the least watermark is folded next, and the first of equals: so all workers fold all chunks
//! in one order, which depends on the log alone, and the events that wait for a slower partition are those of a chunk or two
//! of each other one, however far apart partitions are (`day1.csv day2.csv`) and whoever unpacks them.
//!
//! The frontier that a worker announces is that least watermark, and its own events to come are all behind that place: so it
//! never announces too much, and because all workers get all summaries, all come to announce the same.
//!
//! Where the frontier stands still (rejected records only, or one time in all of them), it can't tell how far the results
//! of what was handed over have got. So each worker also follows worker 0, which takes all reports: how many bytes of rows
//! all reports hold up to a place in the common order is known to all, worker 0 tells which place it has reached, and nobody
//! goes more than [`REPORTS_BYTES_MAX`] beyond it.
//!
//! With `source.max_jump` a row may be rejected because of the rows before it, and a journal may say that rows were lost; then a
//! chunk's summary is known only when it is stamped; it is sent later, and nothing else changes.

mod partition;
mod stamp;

pub(super) use stamp::Stamping;

use crate::digest::RowHasher;
use crate::journal::Advances;
use crate::pipeline::Report;
use crate::sources::{FileLog, SourceError};
use dataflows::event::{Event, Time};
use partition::{Parsed, Partition};
use serde::{Deserialize, Serialize};
use stamp::stamp;
use std::collections::BTreeSet;
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

/// Bytes of rows in reports that worker 0 may have to come.
const REPORTS_BYTES_MAX: u64 = 64 << 20;

/// All that other rows can notice of a chunk.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Summary {
    partition: u32,
    chunk: u64,
    lines: u64,
    /// Largest time of the accepted rows.
    largest: Option<Time>,
    /// About what its rows take in a report.
    report_bytes: u64,
    /// There is no such chunk: the stream ended before it.
    end: bool,
}

/// What workers tell each other.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum News {
    /// A chunk is parsed.
    Chunk(Summary),
    /// Worker 0 has folded chunks whose reports hold so many bytes of rows.
    Taken(u64),
}

/// One worker's part in reading a log.
pub(super) struct Feed {
    log: Arc<FileLog>,
    stamping: Stamping,
    partitions: Vec<Partition>,
    /// Those that have not ended, by watermark: the first is folded next.
    open: BTreeSet<(Time, usize)>,
    peers: u64,
    spare: Vec<Parsed>,
    hasher: RowHasher,
    /// Bytes of rows in the reports of all chunks folded, whoever has them.
    folded_bytes: u64,
    /// How many of them worker 0 had folded when it last told.
    taken_bytes: u64,
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
        let open = |at| Partition::open(&log, at, &stamping, advances(at as u32), (index, peers));
        let partitions = (0..log.partitions().len()).map(open).collect::<Result<Vec<_>, FeedError>>()?;
        let open = partitions.iter().enumerate().map(|(at, partition)| (partition.course.watermark(), at)).collect();
        let (spare, hasher) = (Vec::new(), RowHasher::default());
        Ok(Feed { log, stamping, partitions, open, peers, spare, hasher, folded_bytes: 0, taken_bytes: 0 })
    }

    /// Parses the next chunk of ours that there is room for, of the partition with the least watermark. `false` if there
    /// is none now.
    pub(super) fn read(&mut self, news: &mut Vec<News>) -> Result<bool, FeedError> {
        let waits = |at: &usize| self.partitions[*at].has_more() && self.partitions[*at].parsed.len() < AHEAD_MAX;
        let Some(at) = self.open.iter().map(|&(_, at)| at).find(waits) else { return Ok(false) };
        let mut parsed = self.spare.pop().unwrap_or_default();
        let Some(chunk) = self.partitions[at].parse_next(&self.log, at, self.peers, &mut parsed)? else {
            let chunk = self.partitions[at].parsed.last_key_value().map(|(chunk, _)| chunk + 1);
            let chunk = chunk.unwrap_or(self.partitions[at].folded);
            let partition = at as u32;
            let end = Summary { partition, chunk, lines: 0, largest: None, report_bytes: 0, end: true };
            self.hear(News::Chunk(end));
            news.push(News::Chunk(end));
            return Ok(true);
        };
        if !self.waits_for_rows(at) {
            let largest = parsed.chunk.times.map(|(_, largest)| largest);
            news.push(News::Chunk(self.summary(at, chunk, largest, &parsed)));
        }
        self.partitions[at].parsed.insert(chunk, parsed);
        Ok(true)
    }

    /// Whether the largest time of a partition's chunks is known only when their rows are stamped: rows may be rejected
    /// because of those before them, or be no part of the run.
    fn waits_for_rows(&self, at: usize) -> bool {
        self.stamping.jump_max.is_some() || self.partitions[at].course.has_losses()
    }

    fn summary(&self, at: usize, chunk: u64, largest: Option<Time>, parsed: &Parsed) -> Summary {
        let report_bytes = if self.stamping.wants_rows { parsed.report_bytes() } else { 0 };
        Summary { partition: at as u32, chunk, lines: parsed.chunk.lines, largest, report_bytes, end: false }
    }

    /// Takes in what another worker tells.
    pub(super) fn hear(&mut self, news: News) {
        let summary = match news {
            News::Chunk(summary) => summary,
            News::Taken(bytes) => return self.taken_bytes = self.taken_bytes.max(bytes),
        };
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

    /// For worker 0, once it has taken all reports that have come to it: lets all workers go on from here.
    pub(super) fn take(&mut self, news: &mut Vec<News>) {
        if self.taken_bytes < self.folded_bytes {
            self.taken_bytes = self.folded_bytes;
            news.push(News::Taken(self.taken_bytes));
        }
    }

    /// Folds what can be folded; hands over the events of our chunks on the way, and a report of each.
    pub(super) fn fold(
        &mut self,
        news: &mut Vec<News>,
        mut give: impl FnMut(&mut Vec<Event>, Report),
    ) -> Result<(), FeedError> {
        let mut events = Vec::new();
        while let Some(&(watermark, at)) = self.open.first() {
            if self.partitions[at].end_if_done() {
                self.open.pop_first();
                continue;
            }
            if self.folded_bytes.saturating_sub(self.taken_bytes) > REPORTS_BYTES_MAX {
                break;
            }
            if !self.fold_next(at, news, &mut events, &mut give)? {
                break;
            }
            self.open.remove(&(watermark, at));
            self.open.insert((self.partitions[at].course.watermark(), at));
        }
        Ok(())
    }

    /// Folds the next chunk of partition `at`, if it is there.
    fn fold_next(
        &mut self,
        at: usize,
        news: &mut Vec<News>,
        events: &mut Vec<Event>,
        give: &mut impl FnMut(&mut Vec<Event>, Report),
    ) -> Result<bool, FeedError> {
        let partition = &mut self.partitions[at];
        let chunk = partition.folded;
        let summary = if let Some(parsed) = partition.parsed.remove(&chunk) {
            events.reserve(parsed.chunk.rows.len());
            let named = (at, self.log.partitions()[at].input());
            let (report, largest) = stamp(partition, named, &parsed, &self.stamping, &mut self.hasher, events)?;
            let summary = self.summary(at, chunk, largest, &parsed);
            if self.waits_for_rows(at) {
                news.push(News::Chunk(summary));
            }
            give(events, report);
            self.spare.push(parsed);
            summary
        } else if let Some(summary) = partition.summaries.remove(&chunk) {
            partition.pass(&summary);
            summary
        } else {
            return Ok(false);
        };
        self.folded_bytes += summary.report_bytes;
        self.partitions[at].folded += 1;
        Ok(true)
    }

    /// The first tick that may still get events, as far as this worker knows; `None` when there will be none.
    pub(super) fn frontier(&self) -> Option<Time> {
        self.open.first().map(|&(watermark, _)| self.stamping.tick.frontier(watermark))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
