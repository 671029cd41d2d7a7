//! The rows that a snapshot is made of: what the dataflows know as of a frontier F, and go on from after a restart.
//!
//! F is the end of a tick, and S = floor(F/slide)·slide the last window end up to it. The users' state is that of the events
//! with L < F, the window's of those with L < S: all ticks up to F and window ends up to S are done. A restored run gets the
//! rows and then the events: the users those with L ≥ F, the window those with L ≥ S. What it puts out for times beyond F is
//! what the run before would have put out.
//!
//! So the log is read again from S on. The alternative, to keep what the open slide counts by tick, would cost every event
//! something, and not only those few that a restart reads twice.
//!
//! A snapshot holds only what changed since the one before. The newest row of a user stands; panes add up, and those that
//! have left the window by F are of no more use.

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

/// Events of one item that entered the window of the trending lists together, and leave it together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PaneState {
    /// The item.
    pub item: ItemId,
    /// The first window end at which they count.
    pub enters: Time,
    /// The first window end at which they count no more.
    pub leaves: Time,
    /// What they count, not 0.
    pub count: u64,
}
