//! Rows out of JSON objects (contract, section 1): one object a message, with the names of the fields configurable.
//!
//! Ids and times are JSON integers or strings of digits, since many producers quote 64-bit numbers; behaviours are
//! strings. Blanks around a string's content are trimmed, as around a field of CSV. Of a name that stands twice the last
//! value counts, as in most readers of JSON. What else the object holds is ignored, but it must be JSON.
//!
//! Two readers agree on every message, as for CSV. The fast one takes flat objects of plain strings and numbers and gives
//! up without a verdict on anything else: escapes, nesting, a name twice. The careful one is built on `serde_json`, takes
//! anything and alone finds reasons to reject.

use std::borrow::Cow;
use std::fmt;

use dataflows::event::{ItemId, UserId};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::sinks::RejectReason;

use super::chunk::Row;
use super::columns::{Columns, Positions, Role};
use super::digits::{number, short_number};
use super::error::FormatError;
use super::format::{Dialect, Format, RECORD_BYTES_MAX};

/// How to read JSON messages.
#[derive(Clone, Debug)]
pub struct JsonFormat {
    /// Knows behaviours and times; its columns mean nothing here.
    values: Format,
    /// The fields' names; without one for the behaviour, every event is a page view.
    user: String,
    item: String,
    behavior: Option<String>,
    time: String,
}

/// What the careful reader found of one message, by role; all that matters is whether it was a string or a number.
#[derive(Debug, Default)]
struct Found<'a> {
    user: Option<Value<'a>>,
    item: Option<Value<'a>>,
    behavior: Option<Value<'a>>,
    time: Option<Value<'a>>,
}

#[derive(Debug)]
enum Value<'a> {
    Integer(u64),
    Text(Cow<'a, str>),
    Other,
}

impl JsonFormat {
    /// Fields with the names that `columns` has: its pairs, or the roles' own names.
    ///
    /// # Errors
    /// Behaviours that cannot be; see [`FormatError`].
    pub fn new(columns: &Columns, dialect: Dialect) -> Result<JsonFormat, FormatError> {
        let has_behavior = match columns {
            Columns::Preset(positions) => positions.behavior.is_some(),
            Columns::List(names) => names.iter().any(|name| name == Role::Behavior.name()),
            Columns::Named(pairs) => pairs.iter().any(|(role, _)| *role == Role::Behavior),
        };
        let name = |role: Role| match columns {
            Columns::Named(pairs) => {
                pairs.iter().find(|(paired, _)| *paired == role).map_or(role.name(), |(_, name)| name).to_owned()
            }
            Columns::Preset(_) | Columns::List(_) => role.name().to_owned(),
        };
        let positions = Positions { user: 0, item: 1, behavior: has_behavior.then_some(2), time: 3 };
        Ok(JsonFormat {
            values: Format::new(dialect, positions, false)?,
            user: name(Role::User),
            item: name(Role::Item),
            behavior: has_behavior.then(|| name(Role::Behavior)),
            time: name(Role::Time),
        })
    }

    /// Behaviours and the unit of times.
    pub(super) fn values(&self) -> &Format {
        &self.values
    }

    /// The name of the field that holds `role`, if one does.
    pub fn field(&self, role: Role) -> Option<&str> {
        match role {
            Role::User => Some(&self.user),
            Role::Item => Some(&self.item),
            Role::Behavior => self.behavior.as_deref(),
            Role::Time => Some(&self.time),
        }
    }

    fn role(&self, name: &[u8]) -> Option<Role> {
        Role::ALL.into_iter().find(|&role| self.field(role).is_some_and(|field| field.as_bytes() == name))
    }

    /// Reads the message that `text` starts with and that is `length` bytes long; its row has line 0. The fast reader may
    /// look at what follows.
    ///
    /// # Errors
    /// The first reason that applies, in the order of [`RejectReason`].
    pub(super) fn read_message(&self, text: &[u8], length: usize) -> Result<Row, RejectReason> {
        match self.read_fast(text, length) {
            Some(row) => Ok(row),
            None => self.read_carefully(&text[..length]),
        }
    }

    fn read_carefully(&self, message: &[u8]) -> Result<Row, RejectReason> {
        if message.len() > RECORD_BYTES_MAX {
            return Err(RejectReason::TooLong);
        }
        let text = std::str::from_utf8(message).map_err(|_| RejectReason::Encoding)?;
        let Found { user, item, behavior, time } = self.find(text).ok_or(RejectReason::Columns)?;
        let (user, item, time) = user
            .zip(item)
            .zip(time)
            .map(|((user, item), time)| (user, item, time))
            .filter(|_| self.behavior.is_none() || behavior.is_some())
            .ok_or(RejectReason::Columns)?;
        let user = user.number().ok_or(RejectReason::User)?;
        let item = item.number().ok_or(RejectReason::Item)?;
        let behavior = match behavior {
            Some(Value::Text(name)) => self.values.behavior(trim(&name).as_bytes()).ok_or(RejectReason::Behavior)?,
            Some(_) => return Err(RejectReason::Behavior),
            None => self.values.fixed_behavior(),
        };
        let time = time.number().and_then(|units| self.values.time(units)).ok_or(RejectReason::Time)?;
        Ok(Row { line: 0, behavior, user: UserId(user), item: ItemId(item), time })
    }

    /// The fields of the object that `text` is; `None` if it is none.
    fn find<'a>(&self, text: &'a str) -> Option<Found<'a>> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let found = reader.deserialize_map(Fields(self)).ok()?;
        reader.end().ok()?;
        Some(found)
    }

    #[inline]
    fn read_fast(&self, text: &[u8], length: usize) -> Option<Row> {
        let message = text.get(..length)?;
        let (mut user, mut item, mut time, mut behavior) = (None, None, None, None);
        let mut at = skip_blanks(message, 0);
        if *message.get(at)? != b'{' || length > RECORD_BYTES_MAX {
            return None;
        }
        loop {
            at = skip_blanks(message, at + 1);
            let name = plain_string(message, at)?;
            at = skip_blanks(message, at + name.len() + 2);
            if *message.get(at)? != b':' {
                return None;
            }
            at = skip_blanks(message, at + 1);
            at = match self.role(name) {
                Some(Role::User) => take_number(text, at, &mut user)?,
                Some(Role::Item) => take_number(text, at, &mut item)?,
                Some(Role::Time) => take_number(text, at, &mut time)?,
                Some(Role::Behavior) => {
                    let name = plain_string(message, at)?;
                    once(&mut behavior, self.values.behavior(name)?)?;
                    at + name.len() + 2
                }
                None => skip_plain_value(message, at)?,
            };
            at = skip_blanks(message, at);
            match *message.get(at)? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        if skip_blanks(message, at + 1) != length || std::str::from_utf8(message).is_err() {
            return None;
        }
        let behavior = match &self.behavior {
            Some(_) => behavior?,
            None => self.values.fixed_behavior(),
        };
        Some(Row { line: 0, behavior, user: UserId(user?), item: ItemId(item?), time: self.values.time(time?)? })
    }
}

/// Puts `value` where nothing is yet.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// Where the first byte from `at` on is that is no blank of JSON.
#[inline(always)]
fn skip_blanks(message: &[u8], mut at: usize) -> usize {
    while message.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The content of the string that starts at `at`; `None` if it has escapes, or none does.
#[inline(always)]
fn plain_string(message: &[u8], at: usize) -> Option<&[u8]> {
    if *message.get(at)? != b'"' {
        return None;
    }
    let rest = &message[at + 1..];
    for (length, &byte) in rest.iter().enumerate() {
        match byte {
            b'"' => return Some(&rest[..length]),
            b'\\' | 0..=0x1F => return None,
            _ => {}
        }
    }
    None
}

/// Puts the integer at `at`, or the one that is all of the string there, into `place`, and gives where it ends.
#[inline(always)]
fn take_number(text: &[u8], at: usize, place: &mut Option<u64>) -> Option<usize> {
    let quoted = usize::from(*text.get(at)? == b'"');
    let start = at + quoted;
    let (value, end) = short_number(text, start)?;
    let after = *text.get(end)?;
    let is_whole = match quoted {
        // JSON knows no leading zeros, and a fraction or exponent may follow.
        0 => !matches!(after, b'.' | b'e' | b'E') && (text[start] != b'0' || end == start + 1),
        _ => after == b'"',
    };
    once(place, value).filter(|()| is_whole).map(|()| end + quoted)
}

/// Where the value at `at` ends, if it is a plain string, a number or a literal.
fn skip_plain_value(message: &[u8], at: usize) -> Option<usize> {
    let rest = message.get(at..)?;
    match rest.first()? {
        b'"' => Some(at + plain_string(message, at)?.len() + 2),
        b'-' | b'0'..=b'9' => Some(at + number_length(rest)?),
        _ => {
            let literal = [&b"true"[..], b"false", b"null"].into_iter().find(|literal| rest.starts_with(literal))?;
            Some(at + literal.len())
        }
    }
}

/// How long the JSON number is that `text` starts with.
fn number_length(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let start = usize::from(text[0] == b'-');
    let mut at = start + digits(start);
    if at == start || (text[start] == b'0' && at > start + 1) {
        return None;
    }
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        at += 1 + fraction;
        if fraction == 0 {
            return None;
        }
    }
    // An exponent is rare enough to be left to the careful reader.
    (!matches!(text.get(at), Some(b'e' | b'E'))).then_some(at)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

impl Value<'_> {
    fn number(&self) -> Option<u64> {
        match self {
            Value::Integer(value) => (*value <= i64::MAX as u64).then_some(*value),
            Value::Text(text) => number(trim(text).as_bytes()),
            Value::Other => None,
        }
    }
}

/// Reads an object's fields.
struct Fields<'f>(&'f JsonFormat);

impl<'a> Visitor<'a> for Fields<'_> {
    type Value = Found<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut object: A) -> Result<Found<'a>, A::Error> {
        let mut found = Found::default();
        while let Some(Text(name)) = object.next_key()? {
            let place = match self.0.role(name.as_bytes()) {
                Some(Role::User) => &mut found.user,
                Some(Role::Item) => &mut found.item,
                Some(Role::Behavior) => &mut found.behavior,
                Some(Role::Time) => &mut found.time,
                None => {
                    object.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *place = Some(object.next_value()?);
        }
        Ok(found)
    }
}

/// A name, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'a> Deserialize<'a> for Text<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Text(text) => Ok(Text(text)),
            Value::Integer(_) | Value::Other => Err(serde::de::Error::custom("a name is a string")),
        }
    }
}

impl<'a> Deserialize<'a> for Value<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Value<'a>, D::Error> {
        struct Any;
        impl<'a> Visitor<'a> for Any {
            type Value = Value<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_u64<E>(self, value: u64) -> Result<Value<'a>, E> {
                Ok(Value::Integer(value))
            }
            fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Value<'a>, E> {
                Ok(Value::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Value<'a>, E> {
                Ok(Value::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Value<'a>, E> {
                Ok(Value::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Value<'a>, E> {
                Ok(Value::Other)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Value<'a>, E> {
                Ok(Value::Other)
            }
            fn visit_unit<E>(self) -> Result<Value<'a>, E> {
                Ok(Value::Other)
            }
            fn visit_seq<A: serde::de::SeqAccess<'a>>(self, mut seq: A) -> Result<Value<'a>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }
            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Value<'a>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}
