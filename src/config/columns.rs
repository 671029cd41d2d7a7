//! Which column of a record holds what, and whether there is a header (contract, section 1).

use super::given::Given;
use serde::Serialize;
use std::fmt;

/// What an event is made of; all but the behaviour are needed.
const FIELDS: [&str; 4] = ["user", "item", "behavior", "time"];

/// Which column holds what. It shows as the configuration writes it: `events`, `time,user,-,item`, or
/// `user=visitor,item=product,time=ts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Columns {
    /// `user,item,behavior,time`, by position.
    Events,
    /// `user,item,time`, by position.
    Flinkrl,
    /// `user,item,behavior,time,sex,age,pur_power,category,shop,brand`, by position.
    Tianchi,
    /// Columns in their order; `user`, `item` and `time` occur once, `behavior` at most once.
    List(Vec<String>),
    /// By the names that the header gives them; all different.
    Named {
        /// The user's id.
        user: String,
        /// The item's id.
        item: String,
        /// The behaviour's name.
        behavior: Option<String>,
        /// The time.
        time: String,
    },
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Columns::Events => write!(f, "events"),
            Columns::Flinkrl => write!(f, "flinkrl"),
            Columns::Tianchi => write!(f, "tianchi"),
            Columns::List(names) => write!(f, "{}", names.join(",")),
            Columns::Named { user, item, behavior, time } => {
                write!(f, "user={user},item={item},")?;
                if let Some(behavior) = behavior {
                    write!(f, "behavior={behavior},")?;
                }
                write!(f, "time={time}")
            }
        }
    }
}

impl From<Columns> for String {
    fn from(columns: Columns) -> String {
        columns.to_string()
    }
}

impl Columns {
    /// Whether a column holds the behaviour; without one every event is a page view, `pv`.
    pub fn have_behavior(&self) -> bool {
        match self {
            Columns::Events | Columns::Tianchi => true,
            Columns::Flinkrl => false,
            Columns::List(names) => names.iter().any(|name| name == "behavior"),
            Columns::Named { behavior, .. } => behavior.is_some(),
        }
    }

    /// The names that are looked up in the header.
    pub fn named(&self) -> Vec<&str> {
        match self {
            Columns::Named { user, item, behavior, time } => [Some(user), Some(item), behavior.as_ref(), Some(time)]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn read(given: &Given) -> Option<Columns> {
        if let Some(table) = given.table() {
            let name = |value: &toml::Value| value.as_str().map(str::to_owned);
            let pairs = table.iter().map(|(field, value)| Some((field.clone(), name(value)?)));
            return Columns::from_pairs(&pairs.collect::<Option<Vec<_>>>()?);
        }
        match given.string()?.trim() {
            "events" => Some(Columns::Events),
            "flinkrl" => Some(Columns::Flinkrl),
            "tianchi" => Some(Columns::Tianchi),
            pairs if pairs.contains('=') => {
                let pair =
                    |pair: &str| pair.split_once('=').map(|(field, name)| (field.trim().into(), name.trim().into()));
                Columns::from_pairs(&pairs.split(',').map(pair).collect::<Option<Vec<_>>>()?)
            }
            list => Columns::from_list(list.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn from_list(names: Vec<String>) -> Option<Columns> {
        let count = |field: &str| names.iter().filter(|name| *name == field).count();
        let [users, items, behaviors, times] = FIELDS.map(count);
        (users == 1 && items == 1 && behaviors <= 1 && times == 1).then_some(Columns::List(names))
    }

    fn from_pairs(pairs: &[(String, String)]) -> Option<Columns> {
        let clash = |(i, (field, name)): (usize, &(String, String))| {
            pairs[..i].iter().any(|(other, taken)| other == field || taken == name)
        };
        let wrong = |(field, name): &(String, String)| name.trim().is_empty() || !FIELDS.contains(&field.as_str());
        if pairs.iter().any(wrong) || pairs.iter().enumerate().any(clash) {
            return None;
        }
        let find = |field: &str| pairs.iter().find(|(other, _)| other == field).map(|(_, name)| name.clone());
        Some(Columns::Named {
            user: find("user")?,
            item: find("item")?,
            behavior: find("behavior"),
            time: find("time")?,
        })
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

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["events", "flinkrl", "tianchi", "time,-,item,user", "user=a,item=b,behavior=c,time=d"] {
            let columns = read(text).unwrap();
            assert_eq!(columns.to_string(), text);
            assert_eq!(read(&columns.to_string()), Some(columns));
        }
    }

    #[test]
    fn a_table_gives_pairs() {
        let table = read("{ user = \"userId\", item = \"movieId\", time = \"timestamp\" }").unwrap();
        assert_eq!(Some(&table), read("time=timestamp, user=userId, item=movieId").as_ref());
        assert_eq!(table.named(), ["userId", "movieId", "timestamp"]);
        assert!(!table.have_behavior());
    }

    #[test]
    fn lists_need_each_field_once() {
        for wrong in ["", "user,item", "user,user,item,time", "evnts", "user,item,time,behavior,behavior"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn pairs_need_known_fields_and_different_names() {
        for wrong in [
            "user=a,item=a,time=t",
            "user=a,item=b",
            "user=a,item=b,when=t",
            "user=a,item=,time=t",
            "user=a,item=b,time=t,user=c",
            "{ user = \"a\", item = \"b\", time = 3 }",
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
