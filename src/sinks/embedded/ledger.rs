//! Whether the log that a replay reads is the one whose results the store holds (contract, section 5: another log under a known
//! name is refused, not merged).
//!
//! The store keeps, in one transaction with its frontier F, the [`Digest`] of the events whose tick ends below F; and of the
//! rejected records too once F is the end of the log, since they have no time. A replay reads the log from its start again, so it
//! comes to the same digest when it reaches F, or it is another log. The sum does not depend on order, on workers, or on where
//! batches are cut: what counts is each event's own tick.

use crate::digest::{Digest, RowHasher};
use crate::sinks::Batch;
use dataflows::event::{Event, Time};
use dataflows::time::Steps;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The digest of a log's rows below a frontier, as `meta` keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogDigest {
    /// The frontier. A program that knows nothing of digests moves the store's own and leaves this one behind.
    pub(super) below: Time,
    #[serde(flatten)]
    pub(super) digest: Digest,
}

/// Adds up a log's rows, and compares them with those that the store was made of.
pub(super) struct Ledger {
    tick: Steps,
    hasher: RowHasher,
    /// What the store says, until it has been compared.
    expected: Option<LogDigest>,
    /// Where the store stood when it was opened: events below are there.
    opened_at: Time,
    settled: LogDigest,
    /// Events at or beyond it, by tick.
    ahead: BTreeMap<Time, Digest>,
    rejected: Digest,
}

impl Ledger {
    /// For a store that says `expected`.
    pub(super) fn new(tick: Steps, expected: LogDigest) -> Ledger {
        Ledger {
            tick,
            hasher: RowHasher::default(),
            opened_at: expected.below,
            expected: Some(expected),
            settled: LogDigest::default(),
            ahead: BTreeMap::new(),
            rejected: Digest::default(),
        }
    }

    /// Whether the store's log has not been found to be this one yet. Until then nothing may be committed.
    pub(super) fn is_checking(&self) -> bool {
        self.expected.is_some()
    }

    /// Whether the store has this event, if it is of this log.
    pub(super) fn is_stored(&self, event: &Event) -> bool {
        self.tick.end_of(event.logical) < self.opened_at
    }

    /// The least logical time that [`Ledger::is_stored`] says no to; `None` if it says yes to all.
    pub(super) fn first_unstored(&self) -> Option<Time> {
        (self.opened_at < Time::MAX).then(|| self.tick.start_of(self.opened_at.saturating_sub(1)))
    }

    /// Adds a batch's rows. `Err` with both digests if the store is found to be another log's.
    pub(super) fn take(&mut self, batch: &Batch) -> Result<(), (LogDigest, LogDigest)> {
        let below = self.expected.map_or(batch.frontier, |expected| expected.below);
        for event in &batch.records {
            let tick = self.tick.end_of(event.logical);
            let digest = if tick < below { &mut self.settled.digest } else { self.ahead.entry(tick).or_default() };
            digest.add_row(self.hasher.record_row(event));
        }
        batch.rejected.iter().for_each(|rejected| self.rejected.add_row(self.hasher.rejected_row(rejected)));
        self.reach(batch.frontier)
    }

    /// All rows below `frontier` have been taken.
    pub(super) fn reach(&mut self, frontier: Time) -> Result<(), (LogDigest, LogDigest)> {
        if let Some(expected) = self.expected {
            if frontier < expected.below {
                return Ok(());
            }
            self.settle(expected.below);
            let found = self.found();
            if found != expected {
                return Err((expected, found));
            }
            self.expected = None;
        }
        self.settle(frontier);
        Ok(())
    }

    /// What the store is to say from now on.
    pub(super) fn found(&self) -> LogDigest {
        let mut found = self.settled;
        if found.below == Time::MAX {
            found.digest.merge(&self.rejected);
        }
        found
    }

    fn settle(&mut self, below: Time) {
        self.settled.below = below;
        while let Some(entry) = self.ahead.first_entry().filter(|entry| *entry.key() < below) {
            self.settled.digest.merge(&entry.remove());
        }
    }
}
