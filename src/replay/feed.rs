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
//! With `source.max_jump` a row may be rejected because of the rows before it, so a chunk's summary is known only when it
//! is stamped; it is then sent later, and nothing else changes.

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
        let partitions = (0..log.partitions().len()).map(open).collect::<Result<_, FeedError>>()?;
        Ok(Feed { log, stamping, partitions, peers, spare: Vec::new(), hasher: RowHasher::default() })
    }

    /// Parses the next chunk of ours that there is room for, of the partition with the least watermark, so that
    /// partitions advance together. `false` if there is none now.
    pub(super) fn read(&mut self, summaries: &mut Vec<Summary>) -> Result<bool, FeedError> {
        let waiting = |p: &Partition| p.has_more() && p.parsed.len() < AHEAD_MAX;
        let least = (0..self.partitions.len())
            .filter(|&at| waiting(&self.partitions[at]))
            .min_by_key(|&at| self.partitions[at].course.watermark());
        let Some(at) = least else { return Ok(false) };
        let mut parsed = self.spare.pop().unwrap_or_default();
        let Some(chunk) = self.partitions[at].parse_next(&self.log, at, self.peers, &mut parsed)? else {
            let chunk = self.partitions[at].parsed.last_key_value().map(|(chunk, _)| chunk + 1);
            let chunk = chunk.unwrap_or(self.partitions[at].folded);
            self.summarise(Summary { partition: at as u32, chunk, lines: 0, largest: None, end: true }, summaries);
            return Ok(true);
        };
        if self.stamping.jump_max.is_none() {
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
                partition.end_if_done();
                if partition.ended {
                    break;
                }
                let chunk = partition.folded;
                if let Some(parsed) = partition.parsed.remove(&chunk) {
                    partition.summaries.remove(&chunk);
                    events.reserve(parsed.chunk.rows.len());
                    let lines = parsed.chunk.lines;
                    let named = (at, self.log.partitions()[at].input());
                    let (report, largest) =
                        stamp(partition, named, &parsed, &self.stamping, &mut self.hasher, &mut events)?;
                    if self.stamping.jump_max.is_some() {
                        summaries.push(Summary { partition: at as u32, chunk, lines, largest, end: false });
                    }
                    give(&mut events, report);
                    self.spare.push(parsed);
                } else if let Some(summary) = partition.summaries.remove(&chunk) {
                    partition.pass(&summary);
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
        open.map(|partition| self.stamping.tick.frontier(partition.course.watermark())).min()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
