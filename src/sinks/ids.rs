//! Which ids outputs show (`output.ids`; contract, section 5).

use dataflows::event::{ItemId, UserId};

/// How the ids of events become the ids of output rows. Canonical files don't ask: they hold raw ids always.
///
/// The other choice of the contract, model indices, belongs here: a variant with the two maps, in which an item that the
/// maps lack is `count` in the behaviour log and `None` in a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputIds {
    /// As in the log.
    #[default]
    Raw,
}

impl OutputIds {
    /// A user, in any row.
    pub(super) fn user(self, user: UserId) -> u64 {
        match self {
            OutputIds::Raw => user.0,
        }
    }

    /// The item of an event in the behaviour log.
    pub(super) fn logged_item(self, item: ItemId) -> u64 {
        match self {
            OutputIds::Raw => item.0,
        }
    }

    /// An item of a list; `None` if it is to be left out.
    pub(super) fn listed_item(self, item: ItemId) -> Option<u64> {
        match self {
            OutputIds::Raw => Some(item.0),
        }
    }
}
