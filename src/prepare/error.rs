//! What can go wrong with preparing a log. Every message is one line that says what to do.

use std::io;
use std::path::PathBuf;

use super::select::{Counted, Group};
use crate::learn::LearnError;
use crate::sources::SourceError;

/// Why there is no prepared log.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The events.
    #[error(transparent)]
    Events(#[from] LearnError),
    /// A table of features.
    #[error(transparent)]
    Table(#[from] SourceError),
    /// The directory lacks the one table that is needed.
    #[error("{}: no user_behavior.csv in it (nor .gz, .zst); name the directory of the Tianchi tables, or a file of events", directory.display())]
    NoEvents {
        /// The directory.
        directory: PathBuf,
    },
    /// A table of features without a row.
    #[error("{}: none of its {lines} lines is a row of {columns}{first}; remove the table to prepare without these features", path.display())]
    EmptyTable {
        /// The table.
        path: PathBuf,
        /// Lines in it.
        lines: u64,
        /// The columns a row should have.
        columns: &'static str,
        /// What is wrong with the first line, or nothing.
        first: String,
    },
    /// All users have too few or too many events.
    #[error(
        "{}: no user is left: of {} users {} have fewer than {} events, {} more than {} and {} a number between the ranges, or none was to be drawn; choose with --light-events, --heavy-events, --light-users and --heavy-users",
        input.display(), selection.users, selection.users_below, groups[0].events_min, selection.users_above, groups[1].events_max,
        selection.users_between
    )]
    NoUsers {
        /// The events.
        input: PathBuf,
        /// How many events the users have.
        selection: Counted,
        /// What was asked for.
        groups: [Group; 2],
    },
    /// No event has its features.
    #[error(
        "{}: none of the {rows} kept rows of {} has its {key} there; the tables must be of one data set", table.display(), events.display()
    )]
    NothingJoins {
        /// The events.
        events: PathBuf,
        /// The table.
        table: PathBuf,
        /// What joins: user or item.
        key: &'static str,
        /// Kept rows.
        rows: u64,
    },
    /// The result can't be written.
    #[error("can't {action} {}: {source}", path.display())]
    Output {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
