//! Which column holds what: presets, lists of names and `role=name` pairs (contract, section 1, `source.columns`).
//!
//! - A preset (`events`, `tianchi`, `flinkrl`) is by position, whatever a header says.
//! - A list (`time,user,_,item`) is by position too, unless the file has a header that holds the names `user`, `item`,
//!   `time` (and `behavior`, if listed): then these columns are where the header says.
//! - Pairs (`user=visitor,item=product,time=ts`) are by name and need a header.
//!
//! Without a behaviour column every event is a page view. Positions count from 0, as partitions and offsets do.

use std::fmt;
use std::str::FromStr;

use super::error::FormatError;

/// What a column can hold that an event needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The user's id.
    User,
    /// The item's id.
    Item,
    /// The behaviour's name.
    Behavior,
    /// The event's time.
    Time,
}

impl Role {
    /// All roles, in the order in which their fields are checked.
    pub const ALL: [Role; 4] = [Role::User, Role::Item, Role::Behavior, Role::Time];

    /// The name that `source.columns` uses.
    pub fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Item => "item",
            Role::Behavior => "behavior",
            Role::Time => "time",
        }
    }

    fn named(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a file's columns are, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// The user's column.
    pub user: usize,
    /// The item's column.
    pub item: usize,
    /// The behaviour's column; without one every event is a page view.
    pub behavior: Option<usize>,
    /// The time's column.
    pub time: usize,
}

impl Positions {
    /// The column of `role`.
    pub fn of(&self, role: Role) -> Option<usize> {
        match role {
            Role::User => Some(self.user),
            Role::Item => Some(self.item),
            Role::Behavior => self.behavior,
            Role::Time => Some(self.time),
        }
    }

    /// What column `at` holds, if an event needs it.
    pub fn role_at(&self, at: usize) -> Option<Role> {
        Role::ALL.into_iter().find(|&role| self.of(role) == Some(at))
    }

    /// How many columns a row must have: up to the last one that an event needs.
    pub fn needed(&self) -> usize {
        Role::ALL.into_iter().filter_map(|role| self.of(role)).max().map_or(0, |last| last + 1)
    }

    /// The positions that `find` gives the roles; the first role that must have one and has none is the error.
    fn from_lookup(mut find: impl FnMut(Role) -> Option<usize>) -> Result<Positions, Role> {
        Ok(Positions {
            user: find(Role::User).ok_or(Role::User)?,
            item: find(Role::Item).ok_or(Role::Item)?,
            behavior: find(Role::Behavior),
            time: find(Role::Time).ok_or(Role::Time)?,
        })
    }
}

/// `source.columns`, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// By position.
    Preset(Positions),
    /// Names in the order of the columns, `user`, `item` and `time` among them.
    List(Vec<String>),
    /// Roles and the names that the header gives their columns.
    Named(Vec<(Role, String)>),
}

impl Default for Columns {
    fn default() -> Columns {
        Columns::EVENTS
    }
}

impl Columns {
    /// Preset `events`: `user,item,behavior,time`.
    pub const EVENTS: Columns = Columns::Preset(Positions { user: 0, item: 1, behavior: Some(2), time: 3 });
    /// Preset `tianchi`: `user,item,behavior,time,sex,age,pur_power,category,shop,brand`, of which an event needs four.
    pub const TIANCHI: Columns = Columns::EVENTS;
    /// Preset `flinkrl`: `user,item,time`.
    pub const FLINKRL: Columns = Columns::Preset(Positions { user: 0, item: 1, behavior: None, time: 2 });

    /// Where the columns are in a file whose line 0 has the fields `line0`, and whether that line is a header.
    /// `line0` is `None` in an empty file, where any columns will do, and has no fields if it is too long to be a header.
    pub(super) fn resolve(&self, header: Header, line0: Option<&[&str]>) -> Result<(Positions, bool), Unresolved> {
        let by_position = match self {
            Columns::Named(pairs) => return resolve_pairs(pairs, header, line0),
            Columns::Preset(positions) => *positions,
            Columns::List(names) => {
                if header != Header::Absent
                    && let Some(positions) = line0.and_then(|fields| named_positions(names, fields))
                {
                    return Ok((positions, true));
                }
                list_positions(names).expect("checked when the list was parsed")
            }
        };
        let is_header = match header {
            Header::Present => true,
            Header::Absent => false,
            Header::Auto => line0.is_some_and(|fields| looks_like_header(by_position, fields)),
        };
        Ok((by_position, is_header))
    }
}

/// Why columns could not be found in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// `source.columns` has names to be looked up, but `source.header` says that there is no header.
    NoHeader,
    /// Line 0 has no field of this name.
    Missing(Role, String),
}

/// The default rule: line 0 is a header if its user, item and time fields are all non-numeric (contract, section 1).
pub(super) fn looks_like_header(positions: Positions, fields: &[&str]) -> bool {
    let non_numeric = |at: usize| fields.get(at).is_some_and(|field| !is_number(field));
    non_numeric(positions.user) && non_numeric(positions.item) && non_numeric(positions.time)
}

/// Whether a field matches `[0-9]+`.
pub(super) fn is_number(field: &str) -> bool {
    !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit())
}

fn list_positions(names: &[String]) -> Result<Positions, Role> {
    Positions::from_lookup(|role| names.iter().position(|name| name == role.name()))
}

fn named_positions(names: &[String], fields: &[&str]) -> Option<Positions> {
    let listed = |role: Role| names.iter().any(|name| name == role.name());
    let find = |role: Role| listed(role).then(|| fields.iter().position(|field| *field == role.name())).flatten();
    let positions = Positions::from_lookup(find).ok()?;
    (positions.behavior.is_some() || !listed(Role::Behavior)).then_some(positions)
}

fn resolve_pairs(
    pairs: &[(Role, String)],
    header: Header,
    line0: Option<&[&str]>,
) -> Result<(Positions, bool), Unresolved> {
    if header == Header::Absent {
        return Err(Unresolved::NoHeader);
    }
    let position = |name: &String| match line0 {
        Some(fields) => fields.iter().position(|field| field == name),
        None => pairs.iter().position(|(_, paired)| paired == name),
    };
    if let Some((role, name)) = pairs.iter().find(|(_, name)| position(name).is_none()) {
        return Err(Unresolved::Missing(*role, name.clone()));
    }
    let find = |role: Role| pairs.iter().find(|(paired, _)| *paired == role).and_then(|(_, name)| position(name));
    Ok((Positions::from_lookup(find).expect("checked when the pairs were parsed"), line0.is_some()))
}

impl FromStr for Columns {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Columns, FormatError> {
        match text.trim() {
            "events" => Ok(Columns::EVENTS),
            "tianchi" => Ok(Columns::TIANCHI),
            "flinkrl" => Ok(Columns::FLINKRL),
            pairs if pairs.contains('=') => parse_pairs(pairs),
            list if list.contains(',') => parse_list(list),
            other => Err(FormatError::UnknownColumns { given: other.to_owned() }),
        }
    }
}

fn parse_list(text: &str) -> Result<Columns, FormatError> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    for role in Role::ALL {
        if names.iter().filter(|name| *name == role.name()).count() > 1 {
            return Err(FormatError::DuplicateColumn { column: role.name().to_owned() });
        }
    }
    list_positions(&names).map_err(|role| FormatError::NoColumn { role })?;
    Ok(Columns::List(names))
}

fn parse_pairs(text: &str) -> Result<Columns, FormatError> {
    let mut pairs: Vec<(Role, String)> = Vec::new();
    for pair in text.split(',') {
        let (role, name) = pair.split_once('=').unwrap_or((pair, ""));
        let role = Role::named(role.trim()).ok_or_else(|| FormatError::BadPair { given: pair.trim().to_owned() })?;
        let name = name.trim().to_owned();
        if name.is_empty() {
            return Err(FormatError::BadPair { given: pair.trim().to_owned() });
        }
        if pairs.iter().any(|(other, taken)| *other == role || *taken == name) {
            return Err(FormatError::DuplicateColumn { column: name });
        }
        pairs.push((role, name));
    }
    let paired = |role: Role| pairs.iter().position(|(other, _)| *other == role);
    Positions::from_lookup(paired).map_err(|role| FormatError::NoColumn { role })?;
    Ok(Columns::Named(pairs))
}

/// Whether line 0 of a file is a header (`source.header`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// It is if its user, item and time fields are all non-numeric.
    #[default]
    Auto,
    /// It is.
    Present,
    /// It is not.
    Absent,
}

impl FromStr for Header {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Header, FormatError> {
        match text {
            "auto" => Ok(Header::Auto),
            "true" => Ok(Header::Present),
            "false" => Ok(Header::Absent),
            other => Err(FormatError::UnknownHeader { given: other.to_owned() }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const EVENTS: Positions = Positions { user: 0, item: 1, behavior: Some(2), time: 3 };

    fn resolve(columns: &str, header: Header, line0: &str) -> Result<(Positions, bool), Unresolved> {
        let fields: Vec<&str> = line0.split(',').collect();
        columns.parse::<Columns>().unwrap().resolve(header, Some(&fields))
    }

    #[test]
    fn presets_are_by_position_whatever_the_header_says() {
        assert_eq!(resolve("events", Header::Auto, "user,item,behavior,timestamp_seconds"), Ok((EVENTS, true)));
        assert_eq!(resolve("events", Header::Auto, "time,user,item,behavior"), Ok((EVENTS, true)));
        assert_eq!(resolve("tianchi", Header::Auto, "1,2,pv,3,0,1,2,3,4,5"), Ok((EVENTS, false)));
        let flinkrl = Positions { user: 0, item: 1, behavior: None, time: 2 };
        assert_eq!(resolve("flinkrl", Header::Auto, "1,2,3"), Ok((flinkrl, false)));
        assert_eq!(flinkrl.needed(), 3);
    }

    #[test]
    fn a_header_needs_all_three_fields_non_numeric() {
        for (line, header) in [
            ("u,i,b,t", true),
            (",,,", true),
            ("u,i,b", false),
            ("", false),
            ("1,i,b,t", false),
            ("u,2,b,t", false),
            ("u,i,b,3", false),
            ("-1,i,b,1.5", true),
        ] {
            assert_eq!(resolve("events", Header::Auto, line), Ok((EVENTS, header)), "{line}");
        }
        assert_eq!(resolve("events", Header::Present, "1,2,pv,3"), Ok((EVENTS, true)));
        assert_eq!(resolve("events", Header::Absent, "u,i,b,t"), Ok((EVENTS, false)));
    }

    #[test]
    fn a_list_follows_a_header_that_has_its_names_and_is_by_position_otherwise() {
        let found = Positions { user: 2, item: 0, behavior: Some(3), time: 1 };
        let listed = Positions { user: 1, item: 2, behavior: Some(3), time: 0 };
        let list = "time,user,item,behavior";
        assert_eq!(resolve(list, Header::Auto, "item,time,user,behavior"), Ok((found, true)));
        assert_eq!(resolve(list, Header::Present, "item,time,user,behavior"), Ok((found, true)));
        assert_eq!(resolve(list, Header::Absent, "item,time,user,behavior"), Ok((listed, false)));
        assert_eq!(resolve(list, Header::Auto, "item,time,user,kind"), Ok((listed, true)));
        assert_eq!(resolve(list, Header::Auto, "3,1,2,pv"), Ok((listed, false)));
        let without_behavior = Positions { user: 2, item: 0, behavior: None, time: 3 };
        assert_eq!(resolve("item,_,user,time", Header::Absent, "1,2,3,4"), Ok((without_behavior, false)));
    }

    #[test]
    fn pairs_need_a_header_with_their_names() {
        let pairs = "user=visitor,item=product,time=ts";
        let found = Positions { user: 1, item: 3, behavior: None, time: 0 };
        assert_eq!(resolve(pairs, Header::Auto, "ts,visitor,event,product"), Ok((found, true)));
        let missing = Unresolved::Missing(Role::Item, "product".to_owned());
        assert_eq!(resolve(pairs, Header::Auto, "ts,visitor,event,item"), Err(missing));
        assert_eq!(resolve(pairs, Header::Absent, "ts,visitor,event,product"), Err(Unresolved::NoHeader));
    }

    #[test]
    fn wrong_columns_are_refused_in_plain_words() {
        for (columns, expected) in [
            ("event", "source.columns: `event` is neither a preset"),
            ("user,item", "source.columns: no column is `time`"),
            ("user,item,user,time", "source.columns: column `user` is named twice"),
            ("user=a,item=a,time=t", "source.columns: column `a` is named twice"),
            ("user=a,item=b", "source.columns: no column is `time`"),
            ("user=a,item=b,when=t", "source.columns: `when=t` is no pair"),
            ("user=a,item=,time=t", "source.columns: `item=` is no pair"),
        ] {
            let message = columns.parse::<Columns>().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
