//! Snapshots on worker 0, put together from what the dataflows and the sources send.
//!
//! A snapshot is whole when the frontier has passed its F, so that all rows are there, and every partition has told its
//! position, which it does when it gets round to it. Snapshots leave in the order of their frontiers, since each holds only
//! what changed since the one before.

use crate::sinks::{PartitionPosition, SnapshotRows};
use dataflows::event::Time;
use dataflows::state::{PaneState, UserState};
use std::collections::BTreeMap;

/// What is there of snapshots, by F.
#[derive(Default)]
pub(super) struct Snapshots {
    by_frontier: BTreeMap<Time, Parts>,
}

#[derive(Default)]
struct Parts {
    users: Vec<UserState>,
    panes: Vec<PaneState>,
    positions: BTreeMap<u32, PartitionPosition>,
    /// How many positions make it whole, once it has been asked for.
    partitions: Option<usize>,
}

impl Snapshots {
    /// A snapshot at `frontier` will come, with the positions of so many partitions.
    pub(super) fn expect(&mut self, frontier: Time, partitions: usize) {
        self.at(frontier).partitions = Some(partitions);
    }

    pub(super) fn add_users(&mut self, frontier: Time, users: Vec<UserState>) {
        self.at(frontier).users.extend(users);
    }

    pub(super) fn add_panes(&mut self, frontier: Time, panes: Vec<PaneState>) {
        self.at(frontier).panes.extend(panes);
    }

    /// Takes in what a partition says; what it said before counts no more.
    pub(super) fn add_position(&mut self, frontier: Time, position: PartitionPosition) {
        self.at(frontier).positions.insert(position.partition, position);
    }

    fn at(&mut self, frontier: Time) -> &mut Parts {
        self.by_frontier.entry(frontier).or_default()
    }

    /// The F of the snapshot that is next to leave, whole or not.
    pub(super) fn first_asked(&self) -> Option<Time> {
        self.by_frontier.iter().find(|(_, parts)| parts.partitions.is_some()).map(|(&at, _)| at)
    }

    /// The F of the snapshot that is next to leave, if it is whole now that all is there below `frontier`.
    pub(super) fn next(&self, frontier: Time) -> Option<Time> {
        let mut asked = self.by_frontier.iter().filter_map(|(&at, parts)| Some((at, parts, parts.partitions?)));
        let (next, parts, partitions) = asked.next()?;
        (next < frontier && parts.positions.len() >= partitions).then_some(next)
    }

    /// The same snapshot, which leaves.
    pub(super) fn take_next(&mut self, frontier: Time) -> Option<SnapshotRows> {
        let next = self.next(frontier)?;
        let later = self.by_frontier.split_off(&(next + 1));
        // What is before it was told of snapshots that have left, or that nobody wants.
        let Parts { users, panes, positions, .. } = std::mem::replace(&mut self.by_frontier, later).remove(&next)?;
        Some(SnapshotRows { frontier: next, users, panes, positions: positions.into_values().collect(), last: None })
    }
}
