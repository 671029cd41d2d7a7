//! The rows that a snapshot is made of: what the dataflows know as of a frontier F, and go on from after a restart.
//!
//! F is a multiple of the slide. Everything with a logical time below F is in the state and nothing else is: all ticks and
//! window ends up to F, F's own included, are done. A restored run gets the rows and then the events with L ≥ F; what it puts
//! out for times beyond F is what the run before would have put out.
//!
//! A snapshot holds only what changed since the one before; the newest row of a user stands.

use crate::event::{ItemId, Time, UserId};
use crate::recent::Entry;
use serde::{Deserialize, Serialize};

/// One user, as of the snapshot's frontier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserState {
    /// Who.
    pub user: UserId,
    /// The sequence, oldest first.
    pub entries: Vec<Entry>,
    /// The newest recommendation; `None` before the first.
    pub standing: Option<StandingState>,
}

/// A recommendation that stands until the user's next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingState {
    /// Its items, best first, never empty.
    pub items: Vec<ItemId>,
    /// The reward so far of the events since it whose item is on it.
    pub reward: i64,
}

/// The events of one item that count in the same windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaneState {
    /// Which item.
    pub item: ItemId,
    /// The first window end that they count at.
    pub enters: Time,
    /// The first window end that they no longer count at.
    pub leaves: Time,
    /// Their number, weighted.
    pub count: i64,
}
