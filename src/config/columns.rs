//! Which column of a record holds what, and whether there is a header (contract, section 1).

use super::given::Given;
use serde::Serialize;
use std::fmt;

/// Column lists with a name of their own.
const PRESETS: [(&str, &str); 3] = [
    ("events", "user,item,behavior,time"),
    ("flinkrl", "user,item,time"),
    ("tianchi", "user,item,behavior,time,sex,age,pur_power,category,shop,brand"),
];

/// The columns that are read.
const FIELDS: [&str; 4] = ["user", "item", "behavior", "time"];

/// More columns than any log has; keeps a slip of the finger from asking for the billionth.
const COLUMN_MAX: usize = 9_999;

/// Where a column stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Column {
    /// At this position, from 0.
    At(usize),
    /// Under this name in the header.
    Named(String),
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Column::At(position) => write!(f, "{position}"),
            Column::Named(name) => write!(f, "\"{name}\""),
        }
    }
}

/// The columns of an event; no two are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Columns {
    /// The user's id.
    pub user: Column,
    /// The item's id.
    pub item: Column,
    /// The behaviour's name; without it every event has the first behaviour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behavior: Option<Column>,
    /// The time.
    pub time: Column,
}

impl Columns {
    /// Those that are looked up in the header.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        [Some(&self.user), Some(&self.item), self.behavior.as_ref(), Some(&self.time)].into_iter().flatten().filter_map(
            |column| match column {
                Column::Named(name) => Some(name.as_str()),
                Column::At(_) => None,
            },
        )
    }

    pub(super) fn read(given: &Given) -> Option<Columns> {
        if let Some(table) = given.table() {
            return Columns::from_table(&table);
        }
        if let Some(text) = given.string() {
            let list = PRESETS.iter().find(|(name, _)| *name == text).map_or(text.as_str(), |(_, list)| list);
            if !list.starts_with('[') {
                return Columns::from_list(list.split(','));
            }
        }
        let names = given.list()?.iter().map(Given::string).collect::<Option<Vec<String>>>()?;
        Columns::from_list(names.iter().map(String::as_str))
    }

    fn from_list<'a>(names: impl Iterator<Item = &'a str>) -> Option<Columns> {
        let names: Vec<&str> = names.map(str::trim).collect();
        let unique = |field: &str| names.iter().filter(|name| **name == field).count() <= 1;
        let find = |field: &str| names.iter().position(|name| *name == field).map(Column::At);
        if names.len() > COLUMN_MAX || !FIELDS.into_iter().all(unique) {
            return None;
        }
        Some(Columns { user: find("user")?, item: find("item")?, behavior: find("behavior"), time: find("time")? })
    }

    fn from_table(table: &toml::Table) -> Option<Columns> {
        if !table.keys().all(|key| FIELDS.contains(&key.as_str())) {
            return None;
        }
        let find = |field: &str| table.get(field).map(Column::from_value);
        let columns = Columns {
            user: find("user")??,
            item: find("item")??,
            behavior: match find("behavior") {
                None => None,
                Some(column) => Some(column?),
            },
            time: find("time")??,
        };
        columns.are_distinct().then_some(columns)
    }

    fn are_distinct(&self) -> bool {
        let behavior = self.behavior.as_ref();
        self.user != self.item
            && self.item != self.time
            && self.time != self.user
            && [&self.user, &self.item, &self.time].into_iter().all(|column| behavior != Some(column))
    }
}

impl Column {
    fn from_value(value: &toml::Value) -> Option<Column> {
        match value {
            toml::Value::Integer(position) => {
                usize::try_from(*position).ok().filter(|position| *position <= COLUMN_MAX).map(Column::At)
            }
            toml::Value::String(name) if !name.trim().is_empty() => Some(Column::Named(name.trim().to_owned())),
            _ => None,
        }
    }
}

/// Whether line 0 is a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "toml::Value")]
pub enum Header {
    /// It is if its user, item and time fields are all not numbers.
    Auto,
    /// It is.
    Present,
    /// It is not.
    Absent,
}

impl From<Header> for toml::Value {
    fn from(header: Header) -> toml::Value {
        match header {
            Header::Auto => toml::Value::String("auto".into()),
            Header::Present => toml::Value::Boolean(true),
            Header::Absent => toml::Value::Boolean(false),
        }
    }
}

impl Header {
    pub(super) fn read(given: &Given) -> Option<Header> {
        match given.boolean() {
            Some(true) => Some(Header::Present),
            Some(false) => Some(Header::Absent),
            None => (given.string()? == "auto").then_some(Header::Auto),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Columns> {
        Columns::read(&Given::Text(text.to_owned()))
    }

    fn at(user: usize, item: usize, behavior: Option<usize>, time: usize) -> Option<Columns> {
        let behavior = behavior.map(Column::At);
        Some(Columns { user: Column::At(user), item: Column::At(item), behavior, time: Column::At(time) })
    }

    #[test]
    fn presets_are_lists() {
        assert_eq!(read("events"), at(0, 1, Some(2), 3));
        assert_eq!(read("flinkrl"), at(0, 1, None, 2));
        assert_eq!(read("tianchi"), at(0, 1, Some(2), 3));
    }

    #[test]
    fn lists_give_positions() {
        assert_eq!(read("time, session, item,-,user"), at(4, 2, None, 0));
        assert_eq!(read("[\"item\", \"user\", \"time\"]"), at(1, 0, None, 2));
        for wrong in ["", "user,item", "user,user,item,time", "evnts", "[1,2,3]"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tables_give_names_or_positions() {
        let columns = read("{ user = \"userId\", item = 3, time = \"timestamp\" }").unwrap();
        assert_eq!(columns.user, Column::Named("userId".into()));
        assert_eq!(columns.item, Column::At(3));
        assert_eq!(columns.behavior, None);
        assert_eq!(columns.named().collect::<Vec<_>>(), ["userId", "timestamp"]);
        for wrong in [
            "{ user = 0, item = 0, time = 1 }",
            "{ user = 0, item = 1 }",
            "{ user = 0, item = 1, time = 2, behaviour = 3 }",
            "{ user = 0, item = 1, time = 2, behavior = 2 }",
            "{ user = -1, item = 1, time = 2 }",
            "{ user = \" \", item = 1, time = 2 }",
            "{ user = 0, item = 1, time = 10000 }",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn headers_are_auto_or_a_truth_value() {
        let header = |text: &str| Header::read(&Given::Text(text.to_owned()));
        assert_eq!(header("auto"), Some(Header::Auto));
        assert_eq!(header("true"), Some(Header::Present));
        assert_eq!(header("false"), Some(Header::Absent));
        assert_eq!(header("yes"), None);
    }
}
