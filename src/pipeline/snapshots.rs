//! Snapshots on worker 0, put together from what the dataflows and the sources send.
//!
//! A snapshot is whole when the frontier has passed its F, so that all rows are there, and every partition has told its
//! position, which it does when it gets round to it. Snapshots leave in the order of their frontiers, since each holds only
//! what changed since the one before.

use crate::sinks::{PartitionPosition, SnapshotRows};
use dataflows::event::Time;
use dataflows::state::{PaneState, UserState};
use std::collections::BTreeMap;

/// Snapshots that have been asked for, by F.
#[derive(Default)]
pub(super) struct Snapshots {
    asked: BTreeMap<Time, Parts>,
}

#[derive(Default)]
struct Parts {
    users: Vec<UserState>,
    panes: Vec<PaneState>,
    positions: BTreeMap<u32, PartitionPosition>,
    /// How many positions make it whole.
    partitions: usize,
}

impl Snapshots {
    /// A snapshot at `frontier` will come, with the positions of so many partitions.
    pub(super) fn expect(&mut self, frontier: Time, partitions: usize) {
        self.asked.entry(frontier).or_default().partitions = partitions;
    }

    pub(super) fn add_users(&mut self, frontier: Time, users: Vec<UserState>) {
        if let Some(parts) = self.asked.get_mut(&frontier) {
            parts.users.extend(users);
        }
    }

    pub(super) fn add_panes(&mut self, frontier: Time, panes: Vec<PaneState>) {
        if let Some(parts) = self.asked.get_mut(&frontier) {
            parts.panes.extend(panes);
        }
    }

    /// Takes in what a partition says; what it said before counts no more.
    pub(super) fn add_position(&mut self, frontier: Time, position: PartitionPosition) {
        if let Some(parts) = self.asked.get_mut(&frontier) {
            parts.positions.insert(position.partition, position);
        }
    }

    /// The F of the snapshot that is next to leave, if it is whole now that all is there below `frontier`.
    pub(super) fn next(&self, frontier: Time) -> Option<Time> {
        let (&next, parts) = self.asked.first_key_value()?;
        (next < frontier && parts.positions.len() >= parts.partitions).then_some(next)
    }

    /// The same snapshot, which leaves.
    pub(super) fn take_next(&mut self, frontier: Time) -> Option<SnapshotRows> {
        let next = self.next(frontier)?;
        let Parts { users, panes, positions, .. } = self.asked.remove(&next)?;
        Some(SnapshotRows { frontier: next, users, panes, positions: positions.into_values().collect() })
    }
}
