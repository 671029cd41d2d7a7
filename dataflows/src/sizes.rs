//! How much state a worker's dataflows hold, for whoever watches them.

use std::cell::Cell;

/// One worker's numbers, as of the last run of the operator that each belongs to.
///
/// Shared between the operators and their worker's loop; a cell written once a run costs nothing.
#[derive(Debug, Default)]
pub struct Sizes {
    /// Users with a sequence.
    pub users: Cell<u64>,
    /// Events that wait for their tick to be complete.
    pub waiting_events: Cell<u64>,
    /// Items in the window of the trending lists.
    pub window_items: Cell<u64>,
}
