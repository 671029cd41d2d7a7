//! What a source says of a piece of its log, besides the events that take part.

use crate::digest::{Digest, RowHasher};
use crate::sinks::{PartitionPosition, Rejected};
use dataflows::event::{Event, Time};
use serde::{Deserialize, Serialize};

/// How many of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Lines or messages read, headers and blank lines included.
    pub lines: u64,
    /// Records that are events, late ones included.
    pub accepted: u64,
    /// Late events, whether they take part or not.
    pub late: u64,
    /// Rejected records by reason, in the order of [`crate::sinks::RejectReason`].
    pub rejected: [u64; 8],
}

impl Counts {
    /// Rejected records, whatever the reason.
    pub fn rejected_all(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// Adds those of another piece.
    pub fn add(&mut self, other: &Counts) {
        self.lines += other.lines;
        self.accepted += other.accepted;
        self.late += other.late;
        self.rejected.iter_mut().zip(other.rejected).for_each(|(sum, count)| *sum += count);
    }
}

/// What a source says of a piece of its log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// How many of what.
    pub counts: Counts,
    /// Bytes read, as they are on disk.
    pub bytes: u64,
    /// Digest of the late events.
    pub late: Digest,
    /// Digest of the rejected records.
    pub rejected: Digest,
    /// Accepted events, if anybody wants them.
    pub records: Vec<Event>,
    /// Rejected records, if anybody wants them.
    pub rejections: Vec<Rejected>,
    /// The first rejected record by position.
    pub first_rejected: Option<Rejected>,
    /// The least and the largest event time.
    pub times: Option<(Time, Time)>,
    /// The largest logical time of the events that take part.
    pub logical_max: Option<Time>,
    /// Of a live log: ends of the slides that have such an event, in any order.
    pub slide_ends: Vec<Time>,
    /// Where partitions are read on from after a snapshot: its request, and the position. In this report or an earlier one of the
    /// same worker is every row before it.
    pub positions: Vec<(Time, PartitionPosition)>,
}

impl Report {
    /// Counts an accepted event.
    #[inline]
    pub fn count_event(&mut self, event: &Event, hasher: &mut RowHasher) {
        self.counts.accepted += 1;
        let (least, largest) = self.times.unwrap_or((event.time, event.time));
        self.times = Some((least.min(event.time), largest.max(event.time)));
        if event.late {
            self.counts.late += 1;
            self.late.add_row(hasher.late_row(event));
        }
    }

    /// Counts a rejected record.
    pub fn count_rejected(&mut self, rejected: &Rejected, hasher: &mut RowHasher) {
        self.counts.rejected[rejected.reason as usize] += 1;
        self.rejected.add_row(hasher.rejected_row(rejected));
        if self.first_rejected.is_none() {
            self.first_rejected = Some(rejected.clone());
        }
    }

    /// Takes in what another report counted, without its rows, slides and positions.
    pub fn absorb(&mut self, other: &mut Report) {
        self.counts.add(&other.counts);
        self.bytes += other.bytes;
        self.late.merge(&other.late);
        self.rejected.merge(&other.rejected);
        self.logical_max = self.logical_max.max(other.logical_max);
        self.times = match (self.times, other.times) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
        let first = [self.first_rejected.take(), other.first_rejected.take()];
        self.first_rejected = first.into_iter().flatten().min_by_key(|rejected| rejected.position);
    }
}
