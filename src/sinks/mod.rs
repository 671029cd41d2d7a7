//! Where results go. One shape for every sink: whole batches of rows up to a frontier, then the end.

use dataflows::event::{Event, Position, Time};
use dataflows::lists::Lists;
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use serde::{Deserialize, Serialize};

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
}
