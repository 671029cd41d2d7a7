//! Where results go. One shape for every sink: whole batches of rows up to a frontier, then the end.
//!
//! ```text
//!   pipeline ── Batch, Batch, …, End ──▶ SinkSet ──▶ canonical files (`--out`)
//!                (bounded by bytes)          ├─────▶ embedded store  (`--store`)
//!                                            └─────▶ MySQL, Redis
//! ```
//!
//! A sink gets all rows of the ticks below [`Batch::frontier`], batch after batch, and at last the [`End`]. The rows of the
//! three dataflows come sorted by key; the behaviour log and the rejected records come in any order, since whichever worker
//! read them hands them on when it can. What a sink holds in the end does not depend on how rows were cut into batches.
//!
//! Invariants that every sink keeps, and `tests/sinks_contract.rs` checks for each:
//! - The same rows give the same content, however they are cut into batches and in whatever order records come.
//! - A sink that is dropped without [`Sink::finish`] leaves nothing that looks whole.
//! - Run again from the start, after an abort or after a finished run, it ends up as after one undisturbed run. A store also
//!   goes on from any frontier that it holds ([`Sink::durable`]).
//! - A store keeps whose results it holds ([`identity::RunIdentity`]) and up to which frontier, in one transaction with
//!   the rows where it can. It skips what lies below that frontier, and refuses a writer of an older epoch.
//!
//! In each sink's folder the same files play the same roles: `mod` the sink and its options, `open` whose store it is and how
//! it is made ours, `schema` its tables or keys, `rows` from batches to those, `error`.

mod address;
mod backoff;
pub mod canonical;
pub(crate) mod disk;
pub mod durable;
pub mod embedded;
pub mod gauges;
pub mod identity;
pub mod ids;
mod json;
pub mod mongodb;
pub mod mysql;
mod newest;
pub mod redis;
mod runtime;
pub mod set;
pub mod stop;
mod thread;

use canonical::CanonicalError;
use dataflows::event::{Event, ItemId, Position, Time};
use dataflows::lists::Lists;
use dataflows::recent::Entry;
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use dataflows::state::{PaneState, UserState};
use embedded::StoreError;
use gauges::SinkGauges;
use mongodb::MongoError;
use mysql::MySqlError;
use redis::RedisError;
use serde::{Deserialize, Serialize};
use std::mem::size_of;
use std::time::Duration;

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
    /// Behaviour log: accepted and late events, in no particular order. An event whose tick ends before `frontier` is in this
    /// batch or an earlier one; those of later ticks may be, too.
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
    /// How many rows there are, of all kinds.
    pub fn rows(&self) -> usize {
        let logged = self.records.len() + self.rejected.len();
        logged + self.popular.len() + self.recent.len() + self.recommendations.len()
    }

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
    /// o_p: the first offset whose logical time is in the slide that the snapshot's frontier lies in, or beyond it; or the read
    /// position.
    pub offset: u64,
    /// The largest event time accepted before it.
    pub largest: Option<Time>,
    /// The largest journalled advance before it.
    pub advanced: Time,
}

/// The window end E* of the list that stores keep as the newest once the log has ended (contract, section 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastWindow {
    /// The first window end after every event.
    pub end: Time,
    /// Its list, if a run that goes on from here will not put it out.
    pub list: Option<PopularList>,
}

/// What a snapshot adds to the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRows {
    /// F, the end of a tick; S is the last window end up to it (see [`dataflows::state`]).
    pub frontier: Time,
    /// The users that changed since the snapshot before, as of F, in any order, each once.
    pub users: Vec<UserState>,
    /// The panes that entered since, as of S, in any order.
    pub panes: Vec<PaneState>,
    /// All partitions, as of S.
    pub positions: Vec<PartitionPosition>,
    /// E* of the events with L < S, if there are any.
    pub last: Option<LastWindow>,
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

/// Rows in the order of their keys, so that neighbours in the table are written together.
fn by_position<T>(rows: &[T], position: impl Fn(&T) -> Position) -> Vec<&T> {
    let mut sorted: Vec<&T> = rows.iter().collect();
    sorted.sort_unstable_by_key(|row| position(row));
    sorted
}

/// Whether `list` is still the newest when all lists before `frontier` are known. Every window end with an event in its window
/// has a list; if the next one has none, the window is empty.
fn is_newest(list: &PopularList, slide: Time, frontier: Time) -> bool {
    list.window_end.saturating_add(slide) >= frontier
}

/// What is known once every row has been handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Rows with a time below this one are all there: `Time::MAX` at the end of the input, T + 1 with `--until T`, since
    /// those at T are there too.
    pub frontier: Time,
    /// The list that stores keep as the newest: at the end of the input that of E* = (floor(L_max/slide)+1)·slide, the first
    /// window end after every event, with `--until T` that of the last E ≤ T; `None` if that window is empty (contract,
    /// section 3).
    pub popular: Option<PopularList>,
}

/// A place that results are written to.
///
/// To abort, drop the sink. After an error it must be dropped too, since part of a batch may be missing; unless the error
/// says that a retry may cure it ([`SinkError::is_retryable`]): then the same call may be made again, on the same sink, which
/// connects anew by itself. What earlier calls have taken is not lost by such an error.
pub trait Sink: Send {
    /// What it is, in metrics: `mysql`.
    fn name(&self) -> &'static str;

    /// Takes the rows of one batch; also one without rows, for its frontier. They need not be durable, nor visible, when this
    /// returns. Writing a batch again changes nothing.
    ///
    /// # Errors
    /// If they can't be written.
    fn write(&mut self, batch: &Batch) -> Result<(), SinkError>;

    /// Makes everything written so far durable and visible, as far as the sink shows anything before its end.
    ///
    /// # Errors
    /// If that fails.
    fn flush(&mut self) -> Result<(), SinkError>;

    /// The frontier that the sink holds durably: all rows with T or E below it, ms. 0 if nothing.
    fn durable(&self) -> Time;

    /// How far what it holds may reach when it is opened: rows with T or E at or beyond it are not there. More than
    /// [`Sink::durable`] where a batch may be there in part, after a run that died over it.
    fn reached(&self) -> Time {
        self.durable()
    }

    /// Whether a generation is being built beside another one ([`identity::OtherPipeline::NewGeneration`]).
    fn is_building(&self) -> bool {
        false
    }

    /// Has the generation that is being built take the place of the old one, if this sink is building one.
    ///
    /// # Errors
    /// If that fails.
    fn promote(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Makes everything durable and whole, after the last batch. No call comes after it has succeeded.
    ///
    /// # Errors
    /// If that fails. Then the sink is as after an abort.
    fn finish(&mut self, end: &End) -> Result<(), SinkError>;
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
    /// MongoDB.
    #[error(transparent)]
    Mongo(#[from] MongoError),
    /// MySQL.
    #[error(transparent)]
    MySql(#[from] MySqlError),
    /// Redis.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// A thread of the operating system could not be started.
    #[error("cannot start the thread that writes results: {0}")]
    Thread(#[source] std::io::Error),
    /// The error itself has been handed out before, or the sink has been told to stop.
    #[error("results are no longer written, since their sink has stopped")]
    Stopped,
    /// The run was to be suspended, and a sink did not get its rows away in time.
    #[error(
        "{sink} has not taken all results within {} s{}; they are sent again when the run goes on",
        .waited.as_secs(),
        .reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
    )]
    NotDrained {
        /// [`Sink::name`].
        sink: &'static str,
        /// How long it had.
        waited: Duration,
        /// What it last failed with, if it is failing.
        reason: Option<String>,
    },
    /// A sink holds less than the snapshot that the run is to go on from.
    #[error(
        "{sink} holds {}, but the run goes on from its snapshot at {}: {sink} is new, or was emptied or set back since; put its \
         newer state back, or run with --from-start, which reads the log again and adds what is missing",
        held(*.durable),
        moment(*.snapshot)
    )]
    Behind {
        /// [`Sink::name`].
        sink: &'static str,
        /// Up to where it holds everything, ms.
        durable: Time,
        /// Up to where it must, ms.
        snapshot: Time,
    },
}

/// What a sink with that frontier holds, for people.
fn held(durable: Time) -> String {
    if durable == 0 { "no results".to_owned() } else { format!("results up to {}", moment(durable)) }
}

/// A frontier, for people.
fn moment(time: Time) -> String {
    match time {
        Time::MAX => "the end of the log".to_owned(),
        _ => i64::try_from(time)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .map_or_else(|| format!("{time} ms"), |time| time.to_string()),
    }
}

impl SinkError {
    /// [`SinkError::NotDrained`] of the sink with these gauges, which had `waited`.
    pub(crate) fn not_drained(gauges: &SinkGauges, waited: Duration) -> SinkError {
        let reason = gauges.last_error().filter(|_| !gauges.is_connected());
        SinkError::NotDrained { sink: gauges.name(), waited, reason }
    }

    /// Whether the same call, made again later, may succeed with nothing changed in input or configuration.
    pub fn is_retryable(&self) -> bool {
        match self {
            SinkError::Canonical(error) => error.is_retryable(),
            SinkError::Store(error) => error.is_retryable(),
            SinkError::Mongo(error) => error.is_retryable(),
            SinkError::MySql(error) => error.is_retryable(),
            SinkError::Redis(error) => error.is_retryable(),
            SinkError::Thread(_) | SinkError::NotDrained { .. } => true,
            SinkError::Stopped | SinkError::Behind { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::event::ItemId;

    #[test]
    fn a_list_is_the_newest_until_a_window_end_passes_without_one() {
        let list = PopularList { window_end: 80, items: vec![(ItemId(1), 1)] };
        // The list of 100 would be among those before 101.
        assert!(is_newest(&list, 20, 81) && is_newest(&list, 20, 100));
        assert!(!is_newest(&list, 20, 101) && !is_newest(&list, 20, Time::MAX));
    }
}
