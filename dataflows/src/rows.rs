//! The rows that the dataflows put out (contract, section 5), before any sink gives them a shape.

use crate::event::{ItemId, Time, UserId};
use serde::{Deserialize, Serialize};

/// Key of a row of *recent*: user `user`'s sequence as of tick `time`. Its items are oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SequenceKey {
    /// The tick's end T.
    pub time: Time,
    /// Whose sequence.
    pub user: UserId,
}

/// Key and scalars of a recommendation. Its items are best first, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecommendationKey {
    /// The tick's end T.
    pub time: Time,
    /// For whom.
    pub user: UserId,
    /// How many of the items, from the first, the model chose; the others are popular ones.
    pub from_model: u32,
    /// −1 before the user's first recommendation; else the events since the one before whose item was in it.
    pub last_reward: i64,
}

/// One list of trending items.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PopularList {
    /// The window's end E.
    pub window_end: Time,
    /// Items and their counts, by count descending, then by smaller item id. Never empty.
    pub items: Vec<(ItemId, u64)>,
}
