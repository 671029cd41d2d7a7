//! `prepare`: the Tianchi tables, or a plain log of events, → one log to learn from (contract, section 8).
//!
//! ```text
//! user_behavior.csv ─→ Interactions ─→ earliest of each ─→ users by events ─┐
//! user.csv, item.csv ─→ Table ──────────────────────────────────────────────┴─→ joined, by time ─→ tianchi.csv, events.csv
//! ```
//!
//! In this order: the rows are sorted by time; of each (user, item, behaviour) the earliest stays; users are drawn by how many
//! events they have left; rows whose user or item has no features are left out; what remains is written by time. Rows of one
//! time are written by user id, and those of one user in the order of the input.
//!
//! The result depends on the rows of the input, the options and the seed alone. Memory: 13 bytes an event of the input, 20 an event
//! that is kept, and 60 a user or item; the tables are held only as far as their users and items are kept.

pub mod error;
mod output;
mod select;
mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use error::PrepareError;
pub use select::{Counted, Group};

use std::path::{Path, PathBuf};

use hashbrown::{HashMap, HashSet};
use serde::Serialize;

use crate::learn::rows::Features;
use crate::learn::{Interactions, LogFormat, RowCounts};
use output::Output;
use select::select;
use table::{Table, TableCounts};

/// The tables' names (contract, section 8).
const BEHAVIOR_TABLE: &str = "user_behavior.csv";
const USER_TABLE: &str = "user.csv";
const ITEM_TABLE: &str = "item.csv";

/// The names of what is written: with features, and without.
const WITH_FEATURES: &str = "tianchi.csv";
const WITHOUT_FEATURES: &str = "events.csv";

/// What is to be prepared, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// A directory with the tables, or a file of events.
    pub input: PathBuf,
    /// The directory of the result.
    pub out: PathBuf,
    /// How the events are read; the tables of users and items have their delimiter.
    pub format: LogFormat,
    /// Users with few events, and with many; the ranges do not overlap.
    pub groups: [Group; 2],
    /// Which users are drawn.
    pub seed: u64,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The file that was written.
    pub file: PathBuf,
    /// Its rows.
    pub rows: u64,
    /// Its users.
    pub users: u64,
    /// Its items.
    pub items: u64,
    /// What was read of the events.
    pub read: RowCounts,
    /// Events left out because there is an earlier one of the same user, item and behaviour.
    pub duplicates: u64,
    /// Users by their number of events.
    pub selection: Counted,
    /// What was read of the table of users, if there is one.
    pub user_table: Option<TableCounts>,
    /// What was read of the table of items, if there is one.
    pub item_table: Option<TableCounts>,
    /// Kept events whose user is not in its table.
    pub rows_without_user: u64,
    /// Other kept events whose item is not in its table.
    pub rows_without_item: u64,
}

/// Prepares a log.
///
/// # Errors
/// Input that can't be read or leaves nothing, or output that can't be written; see [`PrepareError`]. Then no output bears its
/// final name.
pub fn run(options: &Options) -> Result<Summary, PrepareError> {
    let inputs = Inputs::find(&options.input)?;
    let format = LogFormat { features: Features::Absent, ..options.format.clone() };
    let log = Interactions::read(&inputs.events, &format)?;
    let (kept, duplicates, selection) = select(&log, &options.groups, options.seed);
    if kept.rows.is_empty() {
        return Err(PrepareError::NoUsers { input: inputs.events, selection, groups: options.groups });
    }
    let dialect = &format.options.dialect;
    let users: HashSet<u64> = kept.users.iter().map(|&user| log.users[user as usize]).collect();
    let items: HashSet<u64> = kept.rows.iter().map(|&(_, row)| log.items[log.item[row] as usize]).collect();
    let user_table = inputs.users.as_deref().map(|path| Table::read(path, "user", dialect, &users)).transpose()?;
    let item_table = inputs.items.as_deref().map(|path| Table::read(path, "item", dialect, &items)).transpose()?;
    drop((users, items));

    let mut writing =
        Writing { log: &log, users: user_table.as_ref(), items: item_table.as_ref(), joined: Joined::default() };
    let name = if user_table.is_some() || item_table.is_some() { WITH_FEATURES } else { WITHOUT_FEATURES };
    let mut output = Output::create(&options.out, name)?;
    for (user, row) in kept.by_time(&log) {
        if writing.joins(user, row) {
            output.row(|line| {
                writing.write(user, row, format.options.dialect.time_unit.milliseconds(), &dialect.behaviors, line)
            })?;
        }
    }
    let joined = writing.joined;
    if joined.rows == 0 {
        let (table, key) = match (&inputs.users, &inputs.items) {
            (Some(path), _) if joined.without_user == kept.rows.len() as u64 => (path.clone(), "user"),
            (_, Some(path)) => (path.clone(), "item"),
            (path, None) => (path.clone().unwrap_or_default(), "user"),
        };
        return Err(PrepareError::NothingJoins { events: inputs.events, table, key, rows: kept.rows.len() as u64 });
    }
    let file = output.finish()?;
    Ok(Summary {
        file,
        rows: joined.rows,
        users: joined.users.len() as u64,
        items: joined.items.len() as u64,
        read: log.counts.clone(),
        duplicates,
        selection,
        user_table: user_table.map(|table| table.counts),
        item_table: item_table.map(|table| table.counts),
        rows_without_user: joined.without_user,
        rows_without_item: joined.without_item,
    })
}

/// The files of the input.
#[derive(Debug)]
struct Inputs {
    events: PathBuf,
    users: Option<PathBuf>,
    items: Option<PathBuf>,
}

impl Inputs {
    fn find(input: &Path) -> Result<Inputs, PrepareError> {
        if !input.is_dir() {
            return Ok(Inputs { events: input.to_owned(), users: None, items: None });
        }
        let packed = |name: &str| {
            let names = [name.to_owned(), format!("{name}.gz"), format!("{name}.zst")];
            names.into_iter().map(|name| input.join(name)).find(|path| path.exists())
        };
        let events = packed(BEHAVIOR_TABLE).ok_or_else(|| PrepareError::NoEvents { directory: input.to_owned() })?;
        Ok(Inputs { events, users: packed(USER_TABLE), items: packed(ITEM_TABLE) })
    }
}

/// What came of joining.
#[derive(Default)]
struct Joined {
    rows: u64,
    users: HashSet<u32>,
    items: HashSet<u32>,
    without_user: u64,
    without_item: u64,
}

/// Events on their way out.
struct Writing<'a> {
    log: &'a Interactions,
    users: Option<&'a Table>,
    items: Option<&'a Table>,
    joined: Joined,
}

impl Writing<'_> {
    /// Whether the event has its features; counted.
    fn joins(&mut self, user: u32, row: usize) -> bool {
        let lacks = |table: Option<&Table>, id: u64| table.is_some_and(|table| !table.rows.contains_key(&id));
        let item = self.log.item[row];
        if lacks(self.users, self.log.users[user as usize]) {
            self.joined.without_user += 1;
            return false;
        }
        if lacks(self.items, self.log.items[item as usize]) {
            self.joined.without_item += 1;
            return false;
        }
        self.joined.rows += 1;
        self.joined.users.insert(user);
        self.joined.items.insert(item);
        true
    }

    /// Writes the event as a line: four columns, and six more where there are features; those of a missing table are empty.
    fn write(&self, user: u32, row: usize, unit_ms: u64, behaviors: &[String], line: &mut Vec<u8>) {
        let log = self.log;
        let (user, item) = (log.users[user as usize], log.items[log.item[row] as usize]);
        number(line, user);
        line.push(b',');
        number(line, item);
        line.push(b',');
        line.extend_from_slice(behaviors[usize::from(log.behavior[row])].as_bytes());
        line.push(b',');
        number(line, log.time[row] as u64 / unit_ms);
        if self.users.is_some() || self.items.is_some() {
            let [sex, age, power] = features(self.users, user);
            let of_user = [sex, age.map(age_bucket), power];
            for feature in of_user.into_iter().chain(features(self.items, item)) {
                line.push(b',');
                if let Some(value) = feature {
                    number(line, value);
                }
            }
        }
        line.push(b'\n');
    }
}

fn features(table: Option<&Table>, id: u64) -> [Option<u64>; 3] {
    table.and_then(|table| table.rows.get(&id)).map_or([None; 3], |features| features.map(Some))
}

fn number(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The bucket of an age in years: 1 below 30, 2 below 40, 3 below 50, else 4 (contract, section 8).
pub fn age_bucket(years: u64) -> u64 {
    match years {
        0..30 => 1,
        30..40 => 2,
        40..50 => 3,
        _ => 4,
    }
}

/// Raw id → features, as the tables hold them.
type FeatureRows = HashMap<u64, [u64; 3]>;
