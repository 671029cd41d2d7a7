//! A table of features: an id and three numbers a row, no header (one is passed over if there is one).

use std::path::{Path, PathBuf};

use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
use serde::Serialize;

use super::{FeatureRows, PrepareError};
use crate::learn::rows::each_line;
use crate::sources::columns::Positions;
use crate::sources::csv::{column_count, numbers_from};
use crate::sources::{Columns, Dialect, FileLog, Format, Header, Options};

/// The columns of the tables, for messages.
const USER_COLUMNS: &str = "user,sex,age,pur_power";
const ITEM_COLUMNS: &str = "item,category,shop,brand";
const COLUMNS: usize = 4;

/// Columns are by position, so that any text can be opened; only the delimiter is used of this.
const POSITIONS: Positions = Positions { user: 0, item: 1, behavior: Some(2), time: 3 };

/// What was read of a table, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableCounts {
    /// The file.
    pub path: PathBuf,
    /// Lines, blank ones counted.
    pub lines: u64,
    /// Rows with an id and three numbers.
    pub rows: u64,
    /// Rows that are none.
    pub rejected: u64,
    /// What is wrong with the first of these.
    pub first_rejected: Option<String>,
    /// Rows whose id an earlier row has, among those that are kept; the earlier one counts.
    pub repeated: u64,
    /// Ids kept.
    pub kept: u64,
}

/// The rows of a table whose ids are wanted.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) rows: FeatureRows,
    pub(super) counts: TableCounts,
}

impl Table {
    /// Reads the rows of `wanted` ids; `key` is what the ids are of: `user` or `item`.
    pub(super) fn read(
        path: &Path,
        key: &str,
        dialect: &Dialect,
        wanted: &HashSet<u64>,
    ) -> Result<Table, PrepareError> {
        let columns = if key == "user" { USER_COLUMNS } else { ITEM_COLUMNS };
        let options = Options {
            columns: Columns::Preset(POSITIONS),
            header: Header::Absent,
            dialect: dialect.clone(),
            ..Options::default()
        };
        let log = FileLog::open(&[path.to_owned()], &options)?;
        let format = log.partitions()[0].format();
        let mut rows: FeatureRows = HashMap::new();
        let mut counts = TableCounts { path: path.to_owned(), ..TableCounts::default() };
        each_line(&log, |record| {
            let line = counts.lines;
            counts.lines += 1;
            if record.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
                return;
            }
            let [Some(id), Some(first), Some(second), Some(third)] = numbers_from(format, record, 0) else {
                // A row of names is a header; these tables have none, but exports of them do.
                if line > 0 || !is_header(format, record) {
                    counts.rejected += 1;
                    counts.first_rejected.get_or_insert_with(|| explain(format, record, path, line, columns));
                }
                return;
            };
            counts.rows += 1;
            if !wanted.contains(&id) {
                return;
            }
            match rows.entry(id) {
                Entry::Vacant(place) => {
                    place.insert([first, second, third]);
                    counts.kept += 1;
                }
                Entry::Occupied(_) => counts.repeated += 1,
            }
        })?;
        if counts.rows == 0 {
            let first = counts.first_rejected.map_or(String::new(), |first| format!(" ({first})"));
            return Err(PrepareError::EmptyTable { path: path.to_owned(), lines: counts.lines, columns, first });
        }
        Ok(Table { rows, counts })
    }
}

fn is_header(format: &Format, record: &[u8]) -> bool {
    column_count(format, record) >= COLUMNS
        && numbers_from::<COLUMNS>(format, record, 0).iter().all(Option::is_none)
        && record.iter().any(u8::is_ascii_alphabetic)
}

fn explain(format: &Format, record: &[u8], path: &Path, line: u64, columns: &str) -> String {
    let found = column_count(format, record);
    let at = format!("{}, row {line}", path.display());
    if found < COLUMNS {
        return format!("{at}: {found} columns, but a row is {columns}");
    }
    let numbers: [Option<u64>; COLUMNS] = numbers_from(format, record, 0);
    let column = numbers.iter().position(Option::is_none).unwrap_or(0);
    let name = columns.split(',').nth(column).unwrap_or_default();
    format!("{at}, column {column}: {name} is not a whole number")
}
