//! Rows → documents (contract, section 5; `docs/sinks-mongodb.md` shows them to users).

use crate::config::TimeText;
use crate::sinks::ids::OutputIds;
use dataflows::event::{Event, ItemId, Position, Time, UserId};
use dataflows::rows::RecommendationKey;
use mongodb::bson::raw::{RawArrayBuf, RawBsonRef, RawDocumentBuf, cstr};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime};

/// How times stand in documents (`output.time_format`).
#[derive(Clone, Debug)]
pub enum Times {
    /// BSON dates.
    Date,
    /// Text.
    Text(TimeText),
}

/// A key of two numbers below 2^64 in 16 bytes, big-endian, so that the server sorts them as numbers.
pub(super) type Key = [u8; 16];

pub(super) fn key(first: u64, second: u64) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key
}

/// A key as an `_id`.
pub(super) fn id(key: Key) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: key.to_vec() }
}

/// A position in one word: partition · 2^48 + offset.
pub(super) fn word(position: Position) -> u64 {
    u64::from(position.partition()) << 48 | position.offset()
}

/// What all documents have in common.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) ids: OutputIds,
    pub(super) behaviors: Vec<String>,
    pub(super) times: Times,
    /// Whether integers that fit are int32.
    pub(super) int32: bool,
    pub(super) log: u64,
    pub(super) model: Option<String>,
}

impl Shape {
    pub(super) fn record_key(&self, event: &Event) -> Key {
        key(self.log, word(event.position))
    }

    pub(super) fn record(&self, event: &Event) -> RawDocumentBuf {
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("_id"), id(self.record_key(event)));
        document.append(cstr!("user"), self.id(self.ids.logged_user(event.user)));
        document.append(cstr!("item"), self.id(self.ids.logged_item(event.item)));
        document.append(cstr!("behavior"), &*self.behaviors[usize::from(event.behavior.0)]);
        self.append_time(&mut document, event.time);
        if event.late {
            document.append(cstr!("late"), true);
        }
        document
    }

    pub(super) fn recommendation(&self, user: u64, row: &RecommendationKey, items: &[ItemId]) -> RawDocumentBuf {
        let mut listed = RawArrayBuf::new();
        for item in items.iter().filter_map(|&item| self.listed_item(item)) {
            listed.push(self.id(item));
        }
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("_id"), id(key(user, row.time)));
        document.append(cstr!("user"), self.id(user));
        document.append(cstr!("itemRec"), listed);
        self.append_time(&mut document, row.time);
        document.append(cstr!("lastReward"), self.integer(row.last_reward));
        document.append(cstr!("fromModel"), self.integer(row.from_model.into()));
        match &self.model {
            Some(model) => document.append(cstr!("model"), &**model),
            None => document.append(cstr!("model"), RawBsonRef::Null),
        }
        document
    }

    /// A user in rows that are keyed by it; `None` if it has no id in outputs: then there is no such row.
    pub(super) fn user(&self, user: UserId) -> Option<u64> {
        self.ids.key_user(user)
    }

    /// An item of a list; `None` if it is left out.
    pub(super) fn listed_item(&self, item: ItemId) -> Option<u64> {
        self.ids.listed_item(item)
    }

    /// An id, a time or a count, all of which are below 2^63 (contract, section 1).
    pub(super) fn id(&self, n: u64) -> RawBsonRef<'static> {
        self.integer(n.cast_signed())
    }

    fn integer(&self, n: i64) -> RawBsonRef<'static> {
        match i32::try_from(n) {
            Ok(n) if self.int32 => RawBsonRef::Int32(n),
            _ => RawBsonRef::Int64(n),
        }
    }

    fn append_time(&self, document: &mut RawDocumentBuf, time: Time) {
        match &self.times {
            Times::Date => document.append(cstr!("time"), date(time)),
            Times::Text(format) => document.append(cstr!("time"), &*text(format, time)),
        }
    }

    /// An array of times.
    pub(super) fn times(&self, times: impl Iterator<Item = Time>) -> RawArrayBuf {
        let mut array = RawArrayBuf::new();
        for time in times {
            match &self.times {
                Times::Date => array.push(date(time)),
                Times::Text(format) => array.push(&*text(format, time)),
            }
        }
        array
    }
}

fn date(time: Time) -> DateTime {
    DateTime::from_millis(time.cast_signed())
}

fn text(format: &TimeText, time: Time) -> String {
    let mut text = String::with_capacity(24);
    format.push(&mut text, time);
    text
}
