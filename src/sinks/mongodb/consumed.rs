//! `userConsumed`: each user's newest pairs of item and time, kept up in the store (contract, section 5).
//!
//! ```text
//!   {_id, user, consumed: [item, …], time: [time, …], position: [place in the log, …], millis: […]?, last: {time, position}}
//! ```
//!
//! Records may come again, cut and ordered in any way, and late. What a document should hold is the `consumed_max` newest of
//! all records that its user ever had, by (time, partition, offset): a set that only depends on what is put in, as long as
//! each pair can be told from every other. So the arrays have a third beside them, of positions, and a fourth of times in
//! milliseconds where `time` is text, which may hold less.
//!
//! - *Append.* Nearly all records are newer than all that their user has, and `last` says so: they are pushed on the arrays,
//!   which the server cuts to length, and no document travels. A user costs one statement a batch.
//! - *Merge.* For the others the document is read, merged and written back, if that changes it.
//!
//! Every statement names the `last` that it was made for. Outside of transactions that is what keeps a writer that does not
//! know yet that it has been fenced from pushing a pair twice; a merge, which may leave `last` as it is, names the whole
//! array of positions for the same end.

use super::command::{Session, Store, again, number, one_of, statement};
use super::error::MongoError;
use super::rows::{Shape, Times, word};
use super::schema::CONSUMED;
use dataflows::event::{Event, Time};
use mongodb::bson::raw::{RawArrayBuf, RawDocumentBuf, cstr};
use mongodb::bson::{Bson, Document, rawdoc};
use std::collections::{BTreeMap, HashMap};

/// How many documents are read whole at a time.
const MERGE_USERS_MAX: usize = 16;
/// How many are asked for their `last` at a time; see the same limit in `command.rs`.
const LAST_USERS_MAX: usize = 250;

/// The order of a user's pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct When {
    time: Time,
    position: u64,
}

/// An item that was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    when: When,
    item: u64,
}

/// Users' new pairs, oldest first.
type NewPairs = BTreeMap<u64, Vec<Pair>>;

/// Whether a piece of work is done, or another writer came between and it has to be done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Outcome {
    Done,
    Clash,
}

/// Adds the pairs of `events` to their users' documents, if they are not there.
pub(super) async fn add(
    store: &Store,
    mut session: Session<'_>,
    shape: &Shape,
    consumed_max: usize,
    events: &[&Event],
) -> Result<Outcome, MongoError> {
    let users = group(shape, consumed_max, events);
    let mut last = last(store, again(&mut session), users.keys().copied()).await?;
    let documents = Documents { shape, consumed_max, guard_arrays: session.is_none() };
    let (mut new, mut appends, mut merges) = (Vec::new(), Vec::new(), NewPairs::new());
    for (user, pairs) in users {
        match (last.remove(&user), pairs.first()) {
            (_, None) => {}
            (None, _) => new.push(documents.first(user, &pairs)),
            (Some(last), Some(first)) if first.when > last => appends.push(documents.append(user, last, &pairs)),
            (Some(_), Some(_)) => {
                merges.insert(user, pairs);
            }
        }
    }
    if store.insert(again(&mut session), CONSUMED, &new).await? > 0
        || store.update(again(&mut session), CONSUMED, &appends).await? < appends.len()
    {
        return Ok(Outcome::Clash);
    }
    let merges: Vec<_> = merges.into_iter().collect();
    for part in merges.chunks(MERGE_USERS_MAX) {
        if documents.merge(store, again(&mut session), part.iter().cloned().collect()).await? == Outcome::Clash {
            return Ok(Outcome::Clash);
        }
    }
    Ok(Outcome::Done)
}

/// The pairs of each user, of which no more than `consumed_max` can stay.
fn group(shape: &Shape, consumed_max: usize, events: &[&Event]) -> NewPairs {
    let mut users = NewPairs::new();
    for event in events {
        let (Some(user), Some(item)) = (shape.user(event.user), shape.listed_item(event.item)) else { continue };
        let when = When { time: event.time, position: word(event.position) };
        users.entry(user).or_default().push(Pair { when, item });
    }
    for pairs in users.values_mut() {
        sort(pairs, consumed_max);
    }
    users
}

/// Sorts by place, drops what stands twice, and then the oldest beyond `max`.
fn sort(pairs: &mut Vec<Pair>, max: usize) {
    pairs.sort_unstable_by_key(|pair| pair.when);
    pairs.dedup_by_key(|pair| pair.when);
    pairs.drain(..pairs.len().saturating_sub(max));
}

/// The newest place that each of these users has in the store.
async fn last(
    store: &Store,
    mut session: Session<'_>,
    users: impl Iterator<Item = u64>,
) -> Result<HashMap<u64, When>, MongoError> {
    let users: Vec<i64> = users.map(u64::cast_signed).collect();
    let mut last = HashMap::with_capacity(users.len());
    for part in users.chunks(LAST_USERS_MAX) {
        let filter = one_of(part.iter().copied());
        for document in store.find(again(&mut session), CONSUMED, filter, rawdoc! { "last": 1 }).await? {
            let user = number(&document, "_id").ok_or_else(|| damaged(store, &document, "its _id is no number"))?;
            let when = document.get_document("last").ok().and_then(|last| {
                Some(When {
                    time: number(last, "time")?.cast_unsigned(),
                    position: number(last, "position")?.cast_unsigned(),
                })
            });
            last.insert(user.cast_unsigned(), when.ok_or_else(|| damaged(store, &document, "it has no field last"))?);
        }
    }
    Ok(last)
}

fn damaged(store: &Store, document: &Document, detail: &'static str) -> MongoError {
    let key = document.get("_id").map_or_else(|| "?".to_owned(), Bson::to_string);
    MongoError::Damaged { place: store.place.clone(), collection: CONSUMED, key, detail }
}

/// How the documents look.
struct Documents<'a> {
    shape: &'a Shape,
    consumed_max: usize,
    guard_arrays: bool,
}

impl Documents<'_> {
    fn first(&self, user: u64, pairs: &[Pair]) -> RawDocumentBuf {
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("_id"), user.cast_signed());
        document.append(cstr!("user"), self.shape.id(user));
        self.append_arrays(&mut document, pairs);
        document
    }

    /// The arrays and `last`.
    fn append_arrays(&self, document: &mut RawDocumentBuf, pairs: &[Pair]) {
        let arrays = self.arrays(pairs);
        document.append(cstr!("consumed"), arrays.consumed);
        document.append(cstr!("time"), arrays.time);
        document.append(cstr!("position"), arrays.position);
        if let Some(millis) = arrays.millis {
            document.append(cstr!("millis"), millis);
        }
        if let Some(newest) = pairs.last() {
            document.append(cstr!("last"), last_document(newest.when));
        }
    }

    fn arrays(&self, pairs: &[Pair]) -> Arrays {
        let mut consumed = RawArrayBuf::new();
        pairs.iter().for_each(|pair| consumed.push(self.shape.id(pair.item)));
        let time = self.shape.times(pairs.iter().map(|pair| pair.when.time));
        let is_text = matches!(self.shape.times, Times::Text(_));
        let millis = is_text.then(|| numbers(pairs.iter().map(|pair| pair.when.time)));
        Arrays { consumed, time, position: numbers(pairs.iter().map(|pair| pair.when.position)), millis }
    }

    /// Pushes pairs that are all newer than `last`.
    fn append(&self, user: u64, last: When, pairs: &[Pair]) -> RawDocumentBuf {
        let keep = -i64::try_from(self.consumed_max).unwrap_or(i64::MAX);
        let each = |array: RawArrayBuf| rawdoc! { "$each": array, "$slice": keep };
        let arrays = self.arrays(pairs);
        let mut push = RawDocumentBuf::new();
        push.append(cstr!("consumed"), each(arrays.consumed));
        push.append(cstr!("time"), each(arrays.time));
        push.append(cstr!("position"), each(arrays.position));
        if let Some(millis) = arrays.millis {
            push.append(cstr!("millis"), each(millis));
        }
        let newest = pairs.last().map_or(last, |pair| pair.when);
        let filter = rawdoc! { "_id": user.cast_signed(), "last": last_document(last) };
        statement(filter, rawdoc! { "$push": push, "$set": { "last": last_document(newest) } })
    }

    /// Reads the documents of users and puts their new pairs in.
    async fn merge(&self, store: &Store, mut session: Session<'_>, mut users: NewPairs) -> Result<Outcome, MongoError> {
        let everything = RawDocumentBuf::new;
        // One answer has 16 MB, perhaps less than all of them.
        while !users.is_empty() {
            let filter = one_of(users.keys().map(|user| user.cast_signed()));
            let mut statements = Vec::new();
            let documents = store.find(again(&mut session), CONSUMED, filter, everything()).await?;
            if documents.is_empty() {
                return Ok(Outcome::Clash);
            }
            for document in documents {
                let Some(user) = number(&document, "_id").map(i64::cast_unsigned) else { continue };
                let Some(new) = users.remove(&user) else { continue };
                let old = self.read(&document).map_err(|detail| damaged(store, &document, detail))?;
                statements.extend(self.merged(user, &old, new));
            }
            if store.update(again(&mut session), CONSUMED, &statements).await? < statements.len() {
                return Ok(Outcome::Clash);
            }
        }
        Ok(Outcome::Done)
    }

    /// What turns `old` into the newest of `old` and `new`; `None` if nothing has to be done.
    fn merged(&self, user: u64, old: &[Pair], new: Vec<Pair>) -> Option<RawDocumentBuf> {
        let last = old.last()?.when;
        let mut all = old.to_vec();
        all.extend(new);
        sort(&mut all, self.consumed_max);
        if all == old {
            return None;
        }
        let mut filter = rawdoc! { "_id": user.cast_signed(), "last": last_document(last) };
        if self.guard_arrays {
            filter.append(cstr!("position"), numbers(old.iter().map(|pair| pair.when.position)));
        }
        let mut set = RawDocumentBuf::new();
        self.append_arrays(&mut set, &all);
        Some(statement(filter, rawdoc! { "$set": set }))
    }

    fn read(&self, document: &Document) -> Result<Vec<Pair>, &'static str> {
        let array = |name: &str| document.get_array(name).map_err(|_| "one of its arrays is missing");
        let times = match self.shape.times {
            Times::Date => "time",
            Times::Text(_) => "millis",
        };
        let (items, positions, times) = (array("consumed")?, array("position")?, array(times)?);
        if items.len() != positions.len() || items.len() != times.len() {
            return Err("its arrays differ in length");
        }
        let pairs = items.iter().zip(positions).zip(times).map(|((item, position), time)| {
            Some(Pair {
                when: When { time: whole(time)?.cast_unsigned(), position: whole(position)?.cast_unsigned() },
                item: whole(item)?.cast_unsigned(),
            })
        });
        pairs.collect::<Option<Vec<_>>>().ok_or("one of its arrays holds something else")
    }
}

struct Arrays {
    consumed: RawArrayBuf,
    time: RawArrayBuf,
    position: RawArrayBuf,
    millis: Option<RawArrayBuf>,
}

fn whole(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(n) => Some((*n).into()),
        Bson::Int64(n) => Some(*n),
        Bson::DateTime(date) => Some(date.timestamp_millis()),
        _ => None,
    }
}

fn numbers(numbers: impl Iterator<Item = u64>) -> RawArrayBuf {
    let mut array = RawArrayBuf::new();
    numbers.for_each(|n| array.push(n.cast_signed()));
    array
}

fn last_document(when: When) -> RawDocumentBuf {
    rawdoc! { "time": when.time.cast_signed(), "position": when.position.cast_signed() }
}
