//! The store's tables (contract, section 5; `docs/embedded-store.md` shows them to users) and the statements that fill them.

use rusqlite::{Connection, OptionalExtension};

/// The version of the schema below, kept in every generation's `meta`.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// Marks a SQLite file as a store of ours (`PRAGMA application_id`): "EdLn".
pub(super) const APPLICATION_ID: i32 = 0x4564_4c6e;

/// Tables and their definitions.
///
/// Rows of `record` and `recommendation` arrive in the order of the primary key, or nearly so, and those of the tables
/// keyed by user are sorted before they are written: a page is filled and left, which is most of what makes this fast.
const TABLES: [(&str, &str); 8] = [
    (
        "record",
        r#"("user" INTEGER NOT NULL, "item" INTEGER NOT NULL, "behavior" TEXT NOT NULL, "time" INTEGER NOT NULL,
            "logical_time" INTEGER NOT NULL, "late" INTEGER NOT NULL, "log" INTEGER NOT NULL, "partition" INTEGER NOT NULL,
            "offset" INTEGER NOT NULL, PRIMARY KEY ("log", "partition", "offset")) WITHOUT ROWID"#,
    ),
    (
        "recommendation",
        r#"("user" INTEGER NOT NULL, "time" INTEGER NOT NULL, "items" TEXT NOT NULL, "last_reward" INTEGER NOT NULL,
            "from_model" INTEGER NOT NULL, "model" TEXT, PRIMARY KEY ("time", "user")) WITHOUT ROWID"#,
    ),
    (
        "recommendation_latest",
        r#"("user" INTEGER PRIMARY KEY, "time" INTEGER NOT NULL, "items" TEXT NOT NULL, "last_reward" INTEGER NOT NULL,
            "from_model" INTEGER NOT NULL, "model" TEXT)"#,
    ),
    (
        "popular",
        r#"("window_end" INTEGER NOT NULL, "rank" INTEGER NOT NULL, "item" INTEGER NOT NULL, "count" INTEGER NOT NULL,
            PRIMARY KEY ("window_end", "rank")) WITHOUT ROWID"#,
    ),
    (
        "popular_latest",
        r#"("rank" INTEGER PRIMARY KEY, "item" INTEGER NOT NULL, "count" INTEGER NOT NULL, "window_end" INTEGER NOT NULL)"#,
    ),
    ("recent", r#"("user" INTEGER PRIMARY KEY, "time" INTEGER NOT NULL, "items" TEXT NOT NULL)"#),
    (
        "rejected",
        r#"("log" INTEGER NOT NULL, "partition" INTEGER NOT NULL, "offset" INTEGER NOT NULL, "reason" TEXT NOT NULL,
            "record" BLOB NOT NULL, PRIMARY KEY ("log", "partition", "offset")) WITHOUT ROWID"#,
    ),
    ("meta", r#"("key" TEXT PRIMARY KEY, "value" TEXT NOT NULL) WITHOUT ROWID"#),
];

/// Indexes, by name: table and columns. Made when a replay finishes: ten times cheaper than keeping them up row by row.
const INDEXES: [(&str, &str, &str); 2] = [
    ("record_user_item", "record", r#""user", "item""#),
    ("recommendation_user", "recommendation", r#""user", "time""#),
];

/// The tables that belong together: those that readers see, or those that will take their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// What readers see.
    Current,
    /// Being built beside it, with `next_` before each name.
    Next,
}

impl Generation {
    /// The quoted name of one of its tables.
    pub(super) fn table(self, name: &str) -> String {
        match self {
            Generation::Current => format!("\"{name}\""),
            Generation::Next => format!("\"next_{name}\""),
        }
    }

    /// Makes the tables, empty.
    pub(super) fn create(self, connection: &Connection) -> rusqlite::Result<()> {
        TABLES.iter().try_for_each(|(name, columns)| {
            connection.execute_batch(&format!("CREATE TABLE {} {columns}", self.table(name)))
        })
    }

    /// Removes the tables that are there.
    pub(super) fn drop(self, connection: &Connection) -> rusqlite::Result<()> {
        TABLES
            .iter()
            .try_for_each(|(name, _)| connection.execute_batch(&format!("DROP TABLE IF EXISTS {}", self.table(name))))
    }

    /// Makes the indexes that are not there. `number`: the generation's, which keeps index names apart.
    pub(super) fn create_indexes(self, connection: &Connection, number: u64) -> rusqlite::Result<()> {
        INDEXES.iter().try_for_each(|(name, table, columns)| {
            let table = self.table(table);
            connection.execute_batch(&format!("CREATE INDEX IF NOT EXISTS \"{name}_{number}\" ON {table} ({columns})"))
        })
    }

    /// A value of `meta`; `None` also if there is no such table.
    pub(super) fn meta(self, connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
        let name = self.table("meta");
        let exists = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        if !connection.prepare_cached(exists)?.exists([name.trim_matches('"')])? {
            return Ok(None);
        }
        let sql = format!("SELECT \"value\" FROM {name} WHERE \"key\" = ?1");
        connection.prepare_cached(&sql)?.query_row([key], |row| row.get(0)).optional()
    }

    /// Sets a value of `meta`.
    pub(super) fn set_meta(self, connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
        let sql = format!("INSERT OR REPLACE INTO {} VALUES (?1, ?2)", self.table("meta"));
        connection.prepare_cached(&sql)?.execute([key, value]).map(drop)
    }
}

/// Puts the next generation in the place of the current one. To be called in a transaction.
pub(super) fn replace_current(connection: &Connection) -> rusqlite::Result<()> {
    Generation::Current.drop(connection)?;
    TABLES.iter().try_for_each(|(name, _)| {
        let next = Generation::Next.table(name);
        connection.execute_batch(&format!("ALTER TABLE {next} RENAME TO \"{name}\""))
    })
}

/// The text of the statements that write rows.
pub(super) struct Statements {
    pub(super) record: String,
    pub(super) clear_records: String,
    pub(super) rejected: String,
    pub(super) clear_rejected: String,
    pub(super) popular: String,
    pub(super) popular_latest: String,
    pub(super) clear_popular_latest: String,
    pub(super) recommendation: String,
    pub(super) recommendation_latest: String,
    pub(super) recent: String,
}

impl Statements {
    pub(super) fn new(generation: Generation) -> Statements {
        // A row that is there already is the same row: its key comes from the log.
        let insert = |table: &str, values: usize| {
            let values = vec!["?"; values].join(", ");
            format!("INSERT INTO {} VALUES ({values}) ON CONFLICT DO NOTHING", generation.table(table))
        };
        let replace = |table: &str, values: usize| {
            let values = vec!["?"; values].join(", ");
            format!("INSERT OR REPLACE INTO {} VALUES ({values})", generation.table(table))
        };
        Statements {
            record: insert("record", 9),
            clear_records: format!("DELETE FROM {} WHERE \"logical_time\" >= ?", generation.table("record")),
            rejected: insert("rejected", 5),
            clear_rejected: format!("DELETE FROM {}", generation.table("rejected")),
            popular: insert("popular", 4),
            popular_latest: replace("popular_latest", 4),
            clear_popular_latest: format!("DELETE FROM {}", generation.table("popular_latest")),
            recommendation: insert("recommendation", 6),
            recommendation_latest: replace("recommendation_latest", 6),
            recent: replace("recent", 3),
        }
    }
}
