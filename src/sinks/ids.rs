//! Which ids outputs show (`output.ids`; contract, section 5).

use dataflows::event::{ItemId, UserId};
use std::fmt;
use std::sync::Arc;

/// How the ids of events become the ids of output rows. Canonical files don't ask: they hold raw ids always.
#[derive(Clone, Debug, Default)]
pub enum OutputIds {
    /// As in the log.
    #[default]
    Raw,
    /// The indices of a model. An id that it lacks is `count` in the behaviour log, which holds every event. It is left out of
    /// lists, and so is a row whose key it would be: under `count`, the rows of all unknown users would overwrite each other.
    Model {
        /// Of users.
        users: Indices,
        /// Of items.
        items: Indices,
    },
}

/// Raw ids → 0 … count−1.
#[derive(Clone)]
pub struct Indices {
    count: u64,
    index: Arc<dyn Fn(u64) -> Option<u32> + Send + Sync>,
}

impl Indices {
    /// `count` ids, whose indices `index` knows.
    pub fn new(count: usize, index: impl Fn(u64) -> Option<u32> + Send + Sync + 'static) -> Indices {
        Indices { count: count as u64, index: Arc::new(index) }
    }

    fn get(&self, id: u64) -> Option<u64> {
        (self.index)(id).map(u64::from)
    }
}

impl fmt::Debug for Indices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} indices", self.count)
    }
}

impl OutputIds {
    /// The user of an event in the behaviour log.
    pub(super) fn logged_user(&self, user: UserId) -> u64 {
        match self {
            OutputIds::Raw => user.0,
            OutputIds::Model { users, .. } => users.get(user.0).unwrap_or(users.count),
        }
    }

    /// The item of an event in the behaviour log.
    pub(super) fn logged_item(&self, item: ItemId) -> u64 {
        match self {
            OutputIds::Raw => item.0,
            OutputIds::Model { items, .. } => items.get(item.0).unwrap_or(items.count),
        }
    }

    /// The user whose row it is; `None` if the row is to be left out.
    pub(super) fn key_user(&self, user: UserId) -> Option<u64> {
        match self {
            OutputIds::Raw => Some(user.0),
            OutputIds::Model { users, .. } => users.get(user.0),
        }
    }

    /// An item of a list; `None` if it is to be left out.
    pub(super) fn listed_item(&self, item: ItemId) -> Option<u64> {
        match self {
            OutputIds::Raw => Some(item.0),
            OutputIds::Model { items, .. } => items.get(item.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_ids_are_the_count_in_the_log_and_nowhere_else() {
        let of = |count: u32| Indices::new(count as usize, move |id| u32::try_from(id).ok().filter(|id| *id < count));
        let ids = OutputIds::Model { users: of(3), items: of(5) };
        assert_eq!([2, 3, 1 << 62].map(|user| ids.logged_user(UserId(user))), [2, 3, 3]);
        assert_eq!([4, 5, 1 << 62].map(|item| ids.logged_item(ItemId(item))), [4, 5, 5]);
        assert_eq!([2, 3].map(|user| ids.key_user(UserId(user))), [Some(2), None]);
        assert_eq!([4, 5].map(|item| ids.listed_item(ItemId(item))), [Some(4), None]);
    }
}
