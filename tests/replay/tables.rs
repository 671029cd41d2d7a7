//! What an embedded store holds.

use rusqlite::{Connection, OpenFlags, types::Value};
use std::collections::BTreeMap;
use std::path::Path;

/// The rows of every table but `meta`, in the order of their columns.
pub type Tables = BTreeMap<&'static str, Vec<String>>;

const TABLES: [(&str, &str); 7] = [
    ("record", "\"log\", \"partition\", \"offset\", user, item, behavior, time, logical_time, late"),
    ("recommendation", "time, user, items, last_reward, from_model, model"),
    ("recommendation_latest", "user, time, items, last_reward, from_model, model"),
    ("popular", "window_end, \"rank\", item, count"),
    ("popular_latest", "\"rank\", item, count, window_end"),
    ("recent", "user, time, items"),
    ("rejected", "\"log\", \"partition\", \"offset\", reason, record"),
];

fn open(store: &Path) -> Connection {
    Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// Everything that `store` holds.
pub fn tables(store: &Path) -> Tables {
    let connection = open(store);
    TABLES.into_iter().map(|(table, columns)| (table, rows(&connection, table, columns))).collect()
}

fn rows(connection: &Connection, table: &str, columns: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("SELECT {columns} FROM \"{table}\" ORDER BY {columns}")).unwrap();
    let count = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| {
        let values: Vec<Value> = (0..count).map(|at| row.get(at)).collect::<Result<_, _>>()?;
        Ok(values.iter().map(text).collect::<Vec<_>>().join("|"))
    };
    statement.query_map([], row).unwrap().map(Result::unwrap).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// A value of `meta`.
pub fn meta(store: &Path, key: &str) -> String {
    open(store).query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).unwrap()
}
