//! Prequential evaluation (contract, section 6): what each event met in the list that stood for its user.
//!
//! Everything is counted in integers, so that the result does not depend on the order of addition, and hence not on the
//! number of workers. Ratios, logarithms by rank and intervals are made from these counts at the very end.

use crate::event::{ItemId, Time, UserId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What is compared, in the order of every `[_; 3]` here: the recommendations, the popular list of floor(L/slide)·slide
/// (its first n), and the user's last n distinct items, newest first.
pub const METHODS: [&str; 3] = ["recommended", "popular", "repeat-recent"];

/// How a set of events met the lists of one method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// All events.
    pub events: u64,
    /// Events for which a list stood.
    pub with_list: u64,
    /// Sum of the behaviours' reward weights over the events whose item was in the list.
    pub reward: i64,
    /// `hits[r]`: events whose item was at rank r+1 of the list; n entries.
    pub hits: Vec<u64>,
}

/// One user's tallies, by method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserTally {
    /// Who.
    pub user: UserId,
    /// By method.
    pub methods: [Tally; 3],
}

/// The tallies of all events with logical times in [start, start + width).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Start of the span, a multiple of its width.
    pub start: Time,
    /// By method.
    pub methods: [Tally; 3],
}

/// The lists that one method put out over the whole log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTally {
    /// Lists put out.
    pub lists: u64,
    /// Items on them, with repeats.
    pub items: u64,
    /// Different items on them.
    pub distinct_items: u64,
    /// Sum over those items of −log2(the item's share of all events so far), in units of 2^−32 bit; an item of which no
    /// event was seen yet counts as one event.
    pub novelty_sum: i128,
}

/// Everything that the evaluation of a log needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    /// n, the length of the lists.
    pub n: usize,
    /// By user id.
    pub users: Vec<UserTally>,
    /// By start; all of one width.
    pub buckets: Vec<Bucket>,
    /// The buckets' width, ms.
    pub bucket_width: Time,
    /// By method.
    pub lists: [ListTally; 3],
    /// Different items that the log shows or that [are on offer](Offered): what coverage is a share of.
    pub catalogue: u64,
}

/// The items that a policy can put on a list, whether or not the log ever shows them.
#[derive(Clone, Default)]
pub struct Offered {
    count: u64,
    holds: Option<Holds>,
}

type Holds = Arc<dyn Fn(ItemId) -> bool + Send + Sync>;

impl Offered {
    /// `count` items, of which `holds` tells them.
    pub fn new(count: usize, holds: impl Fn(ItemId) -> bool + Send + Sync + 'static) -> Offered {
        Offered { count: count as u64, holds: Some(Arc::new(holds)) }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether an item is one of them.
    pub fn holds(&self, item: ItemId) -> bool {
        self.holds.as_ref().is_some_and(|holds| holds(item))
    }
}

impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_offer_is_told_by_its_number() {
        assert_eq!(format!("{:?}", Offered::new(3, |_| true)), "3 items");
    }
}
