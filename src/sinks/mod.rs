//! Where results go. One shape for every sink: whole batches of rows up to a frontier, then the end.
//!
//! ```text
//!   pipeline ── Batch, Batch, …, End ──▶ SinkThread ──▶ canonical files (`--out`)
//!                (bounded by bytes)           └───────▶ embedded store  (`--store`)
//! ```
//!
//! A sink gets all rows of the ticks below [`Batch::frontier`], batch after batch, and at last the [`End`]. The rows of the
//! three dataflows come sorted by key; the behaviour log and the rejected records come in any order, since whichever worker
//! read them hands them on when it can. What a sink holds in the end does not depend on how rows were cut into batches.
//!
//! Invariants that every sink keeps, and `tests/sinks_contract.rs` checks for each:
//! - The same rows give the same content, however they are cut into batches and in whatever order records come.
//! - A sink that is dropped without [`Sink::finish`] leaves nothing that looks whole.
//! - Run again from the start, after an abort or after a finished run, it ends up as after one undisturbed run.

pub mod canonical;
mod disk;
pub mod embedded;
pub mod ids;
mod json;
pub mod thread;

use canonical::CanonicalError;
use dataflows::event::{Event, ItemId, Position, Time};
use dataflows::lists::Lists;
use dataflows::recent::Entry;
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use dataflows::state::{PaneState, UserState};
use embedded::StoreError;
use serde::{Deserialize, Serialize};
use std::mem::size_of;

/// Why a record could not be read as an event, in the order in which reasons are checked (contract, section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RejectReason {
    /// Over 64 KiB.
    TooLong,
    /// Not UTF-8.
    Encoding,
    /// Too few columns.
    Columns,
    /// The user is not a number, or out of range.
    User,
    /// The item is not a number, or out of range.
    Item,
    /// The behaviour is not in the configured set.
    Behavior,
    /// The time is not a number, or out of range.
    Time,
    /// The time lies more than `source.max_jump` beyond the partition's largest.
    Jump,
}

impl RejectReason {
    /// All of them, in that order.
    pub const ALL: [RejectReason; 8] = [
        RejectReason::TooLong,
        RejectReason::Encoding,
        RejectReason::Columns,
        RejectReason::User,
        RejectReason::Item,
        RejectReason::Behavior,
        RejectReason::Time,
        RejectReason::Jump,
    ];

    /// The reason's name in outputs (contract, section 1).
    pub fn name(self) -> &'static str {
        match self {
            RejectReason::TooLong => "too_long",
            RejectReason::Encoding => "encoding",
            RejectReason::Columns => "columns",
            RejectReason::User => "user",
            RejectReason::Item => "item",
            RejectReason::Behavior => "behavior",
            RejectReason::Time => "time",
            RejectReason::Jump => "jump",
        }
    }
}

/// A record that could not be read as an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Where in the log.
    pub position: Position,
    /// The first reason that applies.
    pub reason: RejectReason,
    /// The record's first 64 KiB, without its line end.
    pub record: Vec<u8>,
}

/// All rows that became final when the frontier reached `frontier`.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Rows with a time below this one are all in this batch or an earlier one. Every T and E here is below it.
    /// (`Time::MAX` with the last batch.)
    pub frontier: Time,
    /// Behaviour log: accepted and late events, in no particular order, not aligned with `frontier`.
    pub records: Vec<Event>,
    /// Rejected records, in no particular order, not aligned with `frontier`.
    pub rejected: Vec<Rejected>,
    /// Trending lists, by window end.
    pub popular: Vec<PopularList>,
    /// Sequences, by (time, user).
    pub recent: Lists<SequenceKey>,
    /// Recommendations, by (time, user).
    pub recommendations: Lists<RecommendationKey>,
    /// The state as of some F below `frontier`. It counts when all sinks are durable up to `frontier`, which is then beyond
    /// those of all batches before: so they hold all rows of the ticks up to F, and all records before the positions.
    pub snapshot: Option<SnapshotRows>,
}

impl Batch {
    /// The memory that the rows take, roughly, in bytes.
    pub fn bytes(&self) -> usize {
        let rejected: usize = self.rejected.iter().map(|r| size_of::<Rejected>() + r.record.len()).sum();
        let popular: usize = self.popular.iter().map(|list| size_of::<PopularList>() + list.items.len() * 16).sum();
        size_of::<Batch>()
            + self.records.len() * size_of::<Event>()
            + rejected
            + popular
            + lists_bytes(&self.recent)
            + lists_bytes(&self.recommendations)
            + self.snapshot.as_ref().map_or(0, SnapshotRows::bytes)
    }
}

fn lists_bytes<K>(lists: &Lists<K>) -> usize {
    let items: usize = lists.iter().map(|(_, items)| items.len() * 8).sum();
    lists.len() * (size_of::<K>() + size_of::<usize>()) + items
}

/// Where a partition is read on from, and its clock there (contract, section 5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPosition {
    /// Which partition.
    pub partition: u32,
    /// o_p: the first offset whose logical time is at or beyond the snapshot's frontier, or the read position.
    pub offset: u64,
    /// The largest event time accepted before it.
    pub largest: Option<Time>,
    /// The largest journalled advance before it.
    pub advanced: Time,
}

/// What a snapshot adds to the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRows {
    /// F: the state of the events with L < F. A multiple of the slide.
    pub frontier: Time,
    /// The users that changed since the snapshot before, in any order, each once.
    pub users: Vec<UserState>,
    /// The panes that entered since, in any order.
    pub panes: Vec<PaneState>,
    /// All partitions.
    pub positions: Vec<PartitionPosition>,
}

impl SnapshotRows {
    /// The memory that the rows take, roughly, in bytes.
    fn bytes(&self) -> usize {
        let lists: usize = self.users.iter().map(user_bytes).sum();
        lists + self.panes.len() * size_of::<PaneState>() + self.positions.len() * size_of::<PartitionPosition>()
    }
}

fn user_bytes(user: &UserState) -> usize {
    let items = user.standing.as_ref().map_or(0, |standing| standing.items.len());
    size_of::<UserState>() + user.entries.len() * size_of::<Entry>() + items * size_of::<ItemId>()
}

/// What is known once every row has been handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Where the run ended: `Time::MAX` at the end of the input, T with `--until T`.
    pub frontier: Time,
    /// The list that stores keep as the newest: at the end of the input that of E* = (floor(L_max/slide)+1)·slide, the first
    /// window end after every event; `None` if that window is empty (contract, section 3).
    pub popular: Option<PopularList>,
}

/// A place that results are written to.
///
/// To abort, drop the sink. After an error it must be dropped too: part of a batch may be missing.
pub trait Sink: Send {
    /// Takes the rows of one batch. They need not be durable, nor visible, when this returns.
    ///
    /// # Errors
    /// If they can't be written.
    fn write(&mut self, batch: &Batch) -> Result<(), SinkError>;

    /// Makes everything durable and whole, after the last batch.
    ///
    /// # Errors
    /// If that fails. Then the sink is as after an abort.
    fn finish(self: Box<Self>, end: &End) -> Result<(), SinkError>;
}

/// Why results could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The canonical files.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The embedded store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread of the operating system could not be started.
    #[error("cannot start the thread that writes results: {0}")]
    Thread(#[source] std::io::Error),
    /// The error itself has been handed out before.
    #[error("results are no longer written, since an earlier error stopped their sink")]
    Stopped,
}

impl SinkError {
    /// Whether the same run, started again later, may succeed with nothing changed in its input or configuration.
    pub fn is_retryable(&self) -> bool {
        match self {
            SinkError::Canonical(error) => error.is_retryable(),
            SinkError::Store(error) => error.is_retryable(),
            SinkError::Thread(_) => true,
            SinkError::Stopped => false,
        }
    }
}
