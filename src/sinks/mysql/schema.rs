//! The tables (contract, section 5; `docs/sinks.md` shows them to users), and whether those that are there are like them.
//!
//! Every name is quoted: `rank` is a reserved word in MySQL 8, and `offset` may become one.

use super::connection::Server;
use super::error::MySqlError;
use std::collections::BTreeMap;

/// The version of the tables below, kept in `eddyline_meta`.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    columns: &'static [Column],
    key: &'static [&'static str],
    index: Option<&'static [&'static str]>,
}

#[derive(Debug)]
struct Column {
    name: &'static str,
    kind: Kind,
    nullable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    BigInt,
    UnsignedBigInt,
    Int,
    Bool,
    Text(u32),
    Moment,
    Json,
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, nullable: false }
}

/// The behaviour log.
pub(super) const RECORD: Table = Table {
    name: "record",
    columns: &[
        column("user", Kind::BigInt),
        column("item", Kind::BigInt),
        column("behavior", Kind::Text(16)),
        column("time", Kind::Moment),
        column("late", Kind::Bool),
        column("log", Kind::BigInt),
        column("partition", Kind::Int),
        column("offset", Kind::BigInt),
    ],
    key: &["log", "partition", "offset"],
    index: Some(&["user", "time"]),
};

/// The newest trending list.
pub(super) const TOP: Table = Table {
    name: "top",
    columns: &[
        column("rank", Kind::Int),
        column("item", Kind::BigInt),
        column("count", Kind::BigInt),
        column("window_end", Kind::Moment),
    ],
    key: &["rank"],
    index: None,
};

/// Recommendations.
pub(super) const RECOMMENDATION: Table = Table {
    name: "recommendation",
    columns: &[
        column("user", Kind::BigInt),
        column("time", Kind::Moment),
        column("items", Kind::Json),
        column("last_reward", Kind::BigInt),
        column("from_model", Kind::Int),
        Column { name: "model", kind: Kind::Text(64), nullable: true },
    ],
    key: &["user", "time"],
    index: None,
};

/// Whose results the others hold, and up to where: one row. Every transaction begins by locking it.
pub(super) const META: Table = Table {
    name: "eddyline_meta",
    columns: &[
        column("id", Kind::Int),
        column("schema_version", Kind::Int),
        column("fingerprint", Kind::Text(64)),
        column("pipeline", Kind::Json),
        column("log", Kind::BigInt),
        column("epoch", Kind::UnsignedBigInt),
        column("writer", Kind::Text(16)),
        column("frontier", Kind::UnsignedBigInt),
        column("status", Kind::Text(16)),
    ],
    key: &["id"],
    index: None,
};

/// All of them.
pub(super) const TABLES: [&Table; 4] = [&RECORD, &TOP, &RECOMMENDATION, &META];

/// The tables that belong together: those that readers see, or those that will take their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// What readers see.
    Current,
    /// Being built beside it.
    Next,
    /// Replaced, and about to be dropped.
    Old,
}

impl Generation {
    /// The name of one of its tables.
    pub(super) fn name(self, table: &Table) -> String {
        let suffix = match self {
            Generation::Current => "",
            Generation::Next => "__next",
            Generation::Old => "__old",
        };
        format!("{}{suffix}", table.name)
    }

    /// The same, quoted.
    pub(super) fn quoted(self, table: &Table) -> String {
        format!("`{}`", self.name(table))
    }
}

impl Kind {
    fn sql(self) -> String {
        match self {
            Kind::BigInt => "BIGINT".into(),
            Kind::UnsignedBigInt => "BIGINT UNSIGNED".into(),
            Kind::Int => "INT".into(),
            Kind::Bool => "BOOL".into(),
            Kind::Text(length) => format!("VARCHAR({length})"),
            Kind::Moment => "DATETIME(3)".into(),
            Kind::Json => "JSON".into(),
        }
    }

    /// Whether a column of that type, as `information_schema` names it, takes every value of this kind and gives it back.
    fn fits(self, found: &str) -> bool {
        let found = found.to_ascii_lowercase();
        let base = found.split(['(', ' ']).next().unwrap_or_default();
        let size = || found.split(['(', ')']).nth(1).and_then(|size| size.parse::<u32>().ok()).unwrap_or(0);
        let unsigned = found.contains("unsigned");
        match self {
            Kind::BigInt => base == "bigint" && !unsigned,
            Kind::UnsignedBigInt => base == "bigint" && unsigned,
            Kind::Int => base == "int" || base == "bigint",
            Kind::Bool => base == "tinyint",
            Kind::Text(length) => base == "varchar" && size() >= length,
            Kind::Moment => base == "datetime" && size() >= 3,
            // MariaDB's JSON is a longtext with a check.
            Kind::Json => base == "json" || base == "longtext",
        }
    }
}

impl Column {
    fn sql(&self) -> String {
        format!("`{}` {}{}", self.name, self.kind.sql(), if self.nullable { " NULL" } else { " NOT NULL" })
    }
}

impl Table {
    pub(super) fn column_names(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|column| column.name)
    }

    /// One of the columns of its key.
    pub(super) fn key_column(&self) -> &'static str {
        self.key[0]
    }

    /// What makes it.
    pub(super) fn create(&self, generation: Generation) -> String {
        let mut parts: Vec<String> = self.columns.iter().map(Column::sql).collect();
        parts.push(format!("PRIMARY KEY ({})", list(self.key)));
        parts.extend(self.index.map(|columns| format!("INDEX ({})", list(columns))));
        let name = generation.quoted(self);
        let parts = parts.join(", ");
        format!("CREATE TABLE IF NOT EXISTS {name} ({parts}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin")
    }

    /// In what a table that is there differs, and the statements that would make it right; `None` if it will do.
    pub(super) fn compare(&self, found: &Shape) -> Option<(String, String)> {
        if self.key.iter().any(|key| !found.columns.contains_key(*key)) || !found.is_table {
            let difference = if found.is_table { "it has another key" } else { "it is a view" };
            // Rows without the columns of the key have no place in it.
            let rename = format!("RENAME TABLE `{0}` TO `{0}_before_eddyline`", self.name);
            return Some((difference.into(), rename));
        }
        let (mut differences, mut changes) = (Vec::new(), Vec::new());
        for column in self.columns {
            match found.columns.get(column.name) {
                None => {
                    differences.push(format!("it has no column {}", column.name));
                    changes.push(format!("ADD COLUMN {}", column.sql()));
                }
                Some(there) if !column.kind.fits(&there.kind) || there.nullable != column.nullable => {
                    let null = if there.nullable { " NULL" } else { "" };
                    differences.push(format!("{} is {}{null}", column.name, there.kind));
                    changes.push(format!("MODIFY COLUMN {}", column.sql()));
                }
                Some(_) => {}
            }
        }
        let ours = |name: &str| self.columns.iter().any(|column| column.name == name);
        for (name, _) in found.columns.iter().filter(|(name, there)| there.is_demanded && !ours(name)) {
            differences.push(format!("its column {name} wants a value"));
            changes.push(format!("MODIFY COLUMN `{name}` {} NULL", found.columns[name].kind));
        }
        if !found.engine.eq_ignore_ascii_case("InnoDB") {
            differences.push(format!("its engine is {}, which has no transactions", found.engine));
            changes.push("ENGINE = InnoDB".into());
        }
        let keys = |name: &str| found.indexes.get(name).map(Vec::as_slice).unwrap_or_default();
        if keys("PRIMARY") != self.key {
            differences.push("it has another key".into());
            if !keys("PRIMARY").is_empty() {
                changes.push("DROP PRIMARY KEY".into());
            }
            changes.push(format!("ADD PRIMARY KEY ({})", list(self.key)));
        }
        if let Some(index) = self.index
            && !found
                .indexes
                .values()
                .any(|columns| columns.iter().map(String::as_str).take(index.len()).eq(index.iter().copied()))
        {
            differences.push(format!("it has no index on {}", index.join(", ")));
            changes.push(format!("ADD INDEX ({})", list(index)));
        }
        let alter = || format!("ALTER TABLE `{}` {}", self.name, changes.join(", "));
        (!differences.is_empty()).then(|| (differences.join("; "), alter()))
    }
}

fn list(columns: &[&str]) -> String {
    columns.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A table that is there.
#[derive(Debug, Default)]
pub(super) struct Shape {
    is_table: bool,
    engine: String,
    columns: BTreeMap<String, Found>,
    /// Their columns, by name.
    indexes: BTreeMap<String, Vec<String>>,
}

#[derive(Debug)]
struct Found {
    kind: String,
    nullable: bool,
    /// A row can't be without it.
    is_demanded: bool,
}

/// All tables with names of ours, by name.
pub(super) fn read(server: &mut Server) -> Result<BTreeMap<String, Shape>, MySqlError> {
    let generations = [Generation::Current, Generation::Next, Generation::Old];
    let names: Vec<String> =
        generations.iter().flat_map(|of| TABLES.map(|table| format!("'{}'", of.name(table)))).collect();
    let ours = format!("`TABLE_SCHEMA` = DATABASE() AND `TABLE_NAME` IN ({})", names.join(", "));
    let mut query = |columns: &str, from: &str| {
        let query = format!("SELECT {columns} FROM `information_schema`.`{from}` WHERE {ours}");
        server.query("information_schema", query)
    };
    let mut shapes = BTreeMap::<String, Shape>::new();
    for row in query("`TABLE_NAME`, `TABLE_TYPE`, `ENGINE`", "TABLES")? {
        let [Some(table), Some(kind), engine] = &row[..] else { continue };
        let shape = shapes.entry(table.clone()).or_default();
        shape.is_table = kind == "BASE TABLE";
        shape.engine = engine.clone().unwrap_or_default();
    }
    let columns = "`TABLE_NAME`, `COLUMN_NAME`, `COLUMN_TYPE`, `IS_NULLABLE`, `COLUMN_DEFAULT`, `EXTRA`";
    for row in query(columns, "COLUMNS")? {
        let [Some(table), Some(name), Some(kind), Some(nullable), default, extra] = &row[..] else { continue };
        let nullable = nullable == "YES";
        let has_value = default.is_some() || extra.as_deref().is_some_and(|extra| !extra.is_empty());
        let found = Found { kind: kind.clone(), nullable, is_demanded: !nullable && !has_value };
        shapes.entry(table.clone()).or_default().columns.insert(name.clone(), found);
    }
    for row in query("`TABLE_NAME`, `INDEX_NAME`, `COLUMN_NAME`, `SEQ_IN_INDEX`", "STATISTICS")? {
        let [Some(table), Some(index), Some(column), Some(place)] = &row[..] else { continue };
        let columns = shapes.entry(table.clone()).or_default().indexes.entry(index.clone()).or_default();
        let place = place.parse().unwrap_or(1usize).max(1);
        columns.resize(columns.len().max(place), String::new());
        columns[place - 1].clone_from(column);
    }
    Ok(shapes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn right(table: &Table) -> Shape {
        let columns = table.columns.iter().map(|column| {
            let kind = match column.kind {
                Kind::Bool => "tinyint(1)".into(),
                Kind::BigInt => "bigint(20)".into(),
                Kind::Int => "int".into(),
                Kind::Json => "longtext".into(),
                kind => kind.sql().to_lowercase(),
            };
            let found = Found { kind, nullable: column.nullable, is_demanded: !column.nullable };
            (column.name.to_owned(), found)
        });
        let owned = |columns: &[&str]| columns.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut indexes = BTreeMap::from([("PRIMARY".to_owned(), owned(table.key))]);
        indexes.extend(table.index.map(|columns| ("user".to_owned(), owned(columns))));
        Shape { is_table: true, engine: "InnoDB".into(), columns: columns.collect(), indexes }
    }

    #[test]
    fn tables_as_servers_report_them_will_do() {
        for table in TABLES {
            assert_eq!(table.compare(&right(table)), None);
        }
        let mut wider = right(&RECORD);
        wider.columns.get_mut("behavior").unwrap().kind = "varchar(40)".into();
        wider.columns.get_mut("time").unwrap().kind = "datetime(6)".into();
        wider.columns.insert("note".into(), Found { kind: "text".into(), nullable: true, is_demanded: false });
        wider.indexes.insert("item".into(), vec!["item".into()]);
        assert_eq!(RECORD.compare(&wider), None);
    }

    #[test]
    fn differences_come_with_what_mends_them() {
        let mut shape = right(&RECORD);
        shape.columns.remove("late");
        shape.columns.get_mut("time").unwrap().kind = "datetime".into();
        shape.columns.insert("id".into(), Found { kind: "int".into(), nullable: false, is_demanded: true });
        shape.engine = "MyISAM".into();
        shape.indexes = BTreeMap::from([("PRIMARY".into(), vec!["id".into()])]);
        let (difference, statements) = RECORD.compare(&shape).unwrap();
        assert_eq!(
            difference,
            "time is datetime; it has no column late; its column id wants a value; its engine is MyISAM, which has no \
             transactions; it has another key; it has no index on user, time"
        );
        assert_eq!(
            statements,
            "ALTER TABLE `record` MODIFY COLUMN `time` DATETIME(3) NOT NULL, ADD COLUMN `late` BOOL NOT NULL, MODIFY COLUMN \
             `id` int NULL, ENGINE = InnoDB, DROP PRIMARY KEY, ADD PRIMARY KEY (`log`, `partition`, `offset`), ADD INDEX \
             (`user`, `time`)"
        );
    }

    #[test]
    fn a_table_without_our_key_is_to_be_put_aside() {
        let mut shape = right(&RECORD);
        shape.columns.remove("offset");
        let (_, statements) = RECORD.compare(&shape).unwrap();
        assert_eq!(statements, "RENAME TABLE `record` TO `record_before_eddyline`");
    }
}
