//! Logs that grow while they are read: topics of Kafka, and files that are followed.
//!
//! ```text
//! LiveLog::open (once a process) ─→ LogDescription (process 0's is everybody's)
//!        │
//!        └─ reader (one a worker) ─→ LiveSource: assign, poll ─→ Fetched: (partition, offset, value) ─→ Row or RejectReason
//! ```
//!
//! Invariants:
//! - A partition's records are handed over once each, in the order of their offsets, from the assigned offset on. Offsets
//!   that are left out hold no record (markers of transactions, records of aborted ones).
//! - What heals by itself (a broker that is away) is no error: nothing is handed over until it is back.
//! - A partition is at its end only where an answer of the log says so. What is not known is not the end.
//! - Memory is bounded, whatever waits in the log.

mod error;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use error::LiveError;

use crate::sinks::RejectReason;

use super::chunk::Row;
use super::follow::FollowLog;
use super::format::RECORD_BYTES_MAX;
use super::kafka::KafkaLog;
use super::message::MessageFormat;

/// One worker's part of a live log.
pub trait LiveSource {
    /// Reads `partition` from `offset` on; again for a partition that is read already, from another place.
    ///
    /// # Errors
    /// The offset cannot be read from; see [`LiveError`].
    fn assign(&mut self, partition: u32, offset: u64) -> Result<(), LiveError>;

    /// Stops or resumes handing over records of an assigned partition. Cheap, and immediate.
    fn set_paused(&mut self, partition: u32, paused: bool);

    /// Appends what has arrived to `into`, as far as there is room. Never waits.
    ///
    /// # Errors
    /// Reading cannot go on as it is; see [`LiveError`]. After [`LiveError::Lost`] it may, from another offset.
    fn poll(&mut self, into: &mut Fetched) -> Result<(), LiveError>;

    /// How far an assigned partition is.
    fn status(&self, partition: u32) -> PartitionStatus;

    /// Tells others how far results are durable: the offsets at which reading would go on. Never waits; what fails is logged.
    fn commit(&mut self, offsets: &[(u32, u64)]);

    /// About how many records of an assigned partition are not handed over yet, if that is known.
    fn lag(&self, partition: u32) -> Option<u64>;

    /// Partitions that the log has got since it was opened; each is told once.
    fn new_partitions(&mut self) -> Range<u32>;

    /// How the records of an assigned partition are written; `None` until a file's first line is there.
    fn format(&self, partition: u32) -> Option<&MessageFormat>;
}

/// What a log is, as of when it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDescription {
    /// The 63 bits that stand for the log in output rows (contract, section 5).
    pub id: u64,
    /// What messages call it.
    pub name: String,
    /// Its partitions, in order.
    pub partitions: Vec<Extent>,
}

/// Which offsets a partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Of the first record that is there.
    pub begin: u64,
    /// After the last one; `None` where only reading tells.
    pub end: Option<u64>,
    /// Of a followed file, its size.
    pub bytes: Option<u64>,
}

/// How far a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// The offset of the next record, or one before it with nothing between.
    pub position: u64,
    /// The end of the log when that was asked last.
    pub end: Option<u64>,
    /// Since when the position is known to be the end of the log; see [`AtEnd`].
    pub at_end: Option<AtEnd>,
    /// Nothing will come any more: a pipe was closed, or the end that was there at the start is reached and asked for.
    pub ended: bool,
}

/// A time during which all answers of the log said that the position is its end, while the partition was not paused.
///
/// An outage ends it, as does a record, a pause, or a time without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtEnd {
    /// The first such answer, when it had come.
    pub since: Instant,
    /// The latest one, when it was asked for.
    pub seen: Instant,
}

impl PartitionStatus {
    /// How long the partition is proven to be at its end (contract, section 2: `idle`); zero if it is not. Does not grow
    /// while the log gives no answers.
    pub fn idle_for(&self) -> Duration {
        self.at_end.map_or(Duration::ZERO, |at_end| at_end.seen.saturating_duration_since(at_end.since))
    }

    /// [`AtEnd::since`].
    pub fn at_end_since(&self) -> Option<Instant> {
        self.at_end.map(|at_end| at_end.since)
    }
}

/// A live log, opened by every process.
#[derive(Debug)]
pub enum LiveLog {
    /// A topic of Kafka.
    Kafka(KafkaLog),
    /// Files and pipes that grow.
    Follow(FollowLog),
}

impl LiveLog {
    /// What the log was when this process opened it.
    pub fn description(&self) -> &LogDescription {
        match self {
            LiveLog::Kafka(log) => log.description(),
            LiveLog::Follow(log) => log.description(),
        }
    }

    /// The part of one worker, which reads about `share` of the partitions. `description` is that of process 0.
    pub fn reader(&self, description: &LogDescription, share: usize) -> Box<dyn LiveSource> {
        match self {
            LiveLog::Kafka(log) => Box::new(log.reader(description, share)),
            LiveLog::Follow(log) => Box::new(log.reader(description)),
        }
    }
}

/// Of a value more than this is not kept: enough to see that it is too long, whatever line end it has.
const VALUE_BYTES_KEPT: usize = RECORD_BYTES_MAX + 8;

/// Records that have arrived, in one buffer; those of a partition in the order of their offsets.
#[derive(Debug)]
pub struct Fetched {
    bytes_max: usize,
    /// All values, each with LF behind it.
    text: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    partition: u32,
    /// There is a record, but it has no value.
    is_null: bool,
    offset: u64,
    /// In `text`; the next value starts behind the LF.
    end: usize,
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Which partition it is of.
    pub partition: u32,
    /// Where it stands there.
    pub offset: u64,
    is_null: bool,
    /// Starts with the value.
    text: &'a [u8],
    length: usize,
}

impl Fetched {
    /// Room for about `bytes_max` bytes of values, and at least one record.
    pub fn new(bytes_max: usize) -> Fetched {
        Fetched { bytes_max, text: Vec::new(), entries: Vec::new() }
    }

    /// Forgets all records, and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is no room for more.
    pub fn is_full(&self) -> bool {
        self.text.len() >= self.bytes_max
    }

    /// The records.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        let mut start = 0;
        self.entries.iter().map(move |&Entry { partition, is_null, offset, end }| {
            let text = &self.text[start..];
            let length = end - start;
            start = end + 1;
            Record { partition, offset, is_null, text, length }
        })
    }

    pub(super) fn push(&mut self, partition: u32, offset: u64, value: Option<&[u8]>) {
        let kept = value.unwrap_or_default();
        self.text.extend_from_slice(&kept[..kept.len().min(VALUE_BYTES_KEPT)]);
        self.entries.push(Entry { partition, is_null: value.is_none(), offset, end: self.text.len() });
        self.text.push(b'\n');
    }
}

impl<'a> Record<'a> {
    /// The value, as far as it is kept; empty where there is none.
    pub fn value(&self) -> &'a [u8] {
        &self.text[..self.length]
    }

    /// The event that it is; `None` for a line of blanks.
    ///
    /// # Errors
    /// The first reason that applies; a record without a value has no columns.
    #[inline]
    pub fn read(&self, format: &MessageFormat) -> Result<Option<Row>, RejectReason> {
        if self.is_null {
            return Err(RejectReason::Columns);
        }
        format.read_at(self.text, 0..self.length)
    }
}
