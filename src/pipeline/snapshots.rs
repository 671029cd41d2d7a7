//! Snapshots on worker 0, put together from what the dataflows and the sources send.
//!
//! A snapshot is whole when the frontier has passed its request, so that all rows are there, and every partition has told its
//! position, which it does when it gets round to it. Snapshots leave in the order of their requests, since each holds only
//! what changed since the one before.

use crate::sinks::{PartitionPosition, SnapshotRows};
use dataflows::event::Time;
use dataflows::state::{PaneState, UserState};
use std::collections::BTreeMap;

/// What is there of snapshots, by the time of the request.
#[derive(Default)]
pub(super) struct Snapshots {
    by_request: BTreeMap<Time, Parts>,
}

#[derive(Default)]
struct Parts {
    users: Vec<UserState>,
    panes: Vec<PaneState>,
    positions: BTreeMap<u32, PartitionPosition>,
    /// F, and how many positions make it whole, once it has been asked for.
    asked: Option<(Time, usize)>,
}

impl Parts {
    fn have_positions(&self) -> bool {
        self.asked.is_some_and(|(_, partitions)| self.positions.len() >= partitions)
    }
}

impl Snapshots {
    /// A snapshot at `frontier` will come, with the positions of so many partitions.
    pub(super) fn expect(&mut self, request: Time, frontier: Time, partitions: usize) {
        self.at(request).asked = Some((frontier, partitions));
    }

    pub(super) fn add_users(&mut self, request: Time, users: Vec<UserState>) {
        self.at(request).users.extend(users);
    }

    pub(super) fn add_panes(&mut self, request: Time, panes: Vec<PaneState>) {
        self.at(request).panes.extend(panes);
    }

    /// Takes in what a partition says; what it said before counts no more.
    pub(super) fn add_position(&mut self, request: Time, position: PartitionPosition) {
        self.at(request).positions.insert(position.partition, position);
    }

    fn at(&mut self, request: Time) -> &mut Parts {
        self.by_request.entry(request).or_default()
    }

    /// Whether all partitions have told their position by a request.
    pub(super) fn has_positions(&self, request: Time) -> bool {
        self.by_request.get(&request).is_some_and(Parts::have_positions)
    }

    /// The request of the snapshot that is next to leave, whole or not.
    pub(super) fn first_asked(&self) -> Option<Time> {
        self.by_request.iter().find(|(_, parts)| parts.asked.is_some()).map(|(&request, _)| request)
    }

    /// The request of the snapshot that is next to leave, if it is whole now that all is there below `frontier`.
    pub(super) fn next(&self, frontier: Time) -> Option<Time> {
        let (&next, parts) = self.by_request.iter().find(|(_, parts)| parts.asked.is_some())?;
        (next < frontier && parts.have_positions()).then_some(next)
    }

    /// The same snapshot, which leaves.
    pub(super) fn take_next(&mut self, frontier: Time) -> Option<SnapshotRows> {
        let next = self.next(frontier)?;
        let later = self.by_request.split_off(&(next + 1));
        // What is before it was told of snapshots that have left, or that nobody wants.
        let Parts { users, panes, positions, asked } = std::mem::replace(&mut self.by_request, later).remove(&next)?;
        let positions = positions.into_values().collect();
        Some(SnapshotRows { frontier: asked?.0, users, panes, positions, last: None })
    }
}
