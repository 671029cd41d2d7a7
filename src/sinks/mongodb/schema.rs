//! Collections and their indexes (contract, section 5; `docs/sinks-mongodb.md` shows them to users).

use super::command::{Store, number};
use super::error::MongoError;
use mongodb::bson::raw::{RawArrayBuf, RawDocumentBuf, cstr};
use mongodb::bson::{Bson, Document, rawdoc};

/// The behaviour log.
pub(super) const RECORDS: &str = "records";
/// What each user has consumed.
pub(super) const CONSUMED: &str = "userConsumed";
/// The recommendations.
pub(super) const RECOMMENDATIONS: &str = "recommendResults";
/// Whose results these are: see `meta.rs`.
pub(super) const META: &str = "eddyline";

/// The collections that hold results.
pub(super) const RESULTS: [&str; 3] = [RECORDS, CONSUMED, RECOMMENDATIONS];

/// The version of all that stands in `docs/sinks-mongodb.md`.
pub(super) const SCHEMA: i64 = 1;

/// Indexes beside those of `_id`, for the queries that readers make: fields, and whether up (1) or down (−1).
const INDEXES: [(&str, &[(&str, i32)]); 3] = [
    (RECORDS, &[("user", 1), ("time", 1)]),
    (CONSUMED, &[("user", 1)]),
    (RECOMMENDATIONS, &[("user", 1), ("time", -1)]),
];
/// What an index says of itself that changes nothing.
const HARMLESS: [&str; 6] = ["v", "key", "name", "ns", "background", "hidden"];
const NAMESPACE_NOT_FOUND: i32 = 26;

/// Makes the indexes that are not there, and with them their collections, which a transaction could not make.
///
/// # Errors
/// [`MongoError::Index`] if there is one in the way.
pub(super) async fn create_indexes(store: &Store) -> Result<(), MongoError> {
    for (collection, fields) in INDEXES {
        let there = indexes(store, collection).await?;
        let name = name(fields);
        let conflict = |index: &Document, problem: String| MongoError::Index {
            place: store.place.clone(),
            collection,
            name: index.get_str("name").unwrap_or("?").to_owned(),
            problem,
        };
        // A server need not say which index it is that a document violates, and `_id` is the one that may be.
        if let Some(index) = there.iter().find(|index| is_unique(index)) {
            return Err(conflict(index, "allows every value only once".to_owned()));
        }
        let is_needed =
            |index: &&Document| index.get_str("name").is_ok_and(|there| there == name) || has_fields(index, fields);
        match there.iter().find(is_needed) {
            Some(index) if has_fields(index, fields) && is_plain(index) => {}
            Some(index) => {
                return Err(conflict(index, format!("is not the one needed, {} without options", shell(fields))));
            }
            None => create(store, collection, &name, fields).await?,
        }
    }
    Ok(())
}

/// Drops a collection, if there is one.
pub(super) async fn drop(store: &Store, collection: &str) -> Result<(), MongoError> {
    match store.run(None, rawdoc! { "drop": collection }).await {
        Err(MongoError::Server { code: NAMESPACE_NOT_FOUND, .. }) => Ok(()),
        reply => reply.map(|_| ()),
    }
}

async fn create(store: &Store, collection: &'static str, name: &str, fields: &[(&str, i32)]) -> Result<(), MongoError> {
    let mut key = RawDocumentBuf::new();
    for (field, direction) in fields {
        // Names of our own, without NUL.
        if let Ok(field) = mongodb::bson::raw::CString::try_from(*field) {
            key.append(field, *direction);
        }
    }
    let mut list = RawArrayBuf::new();
    list.push(rawdoc! { "key": key, "name": name });
    let mut command = rawdoc! { "createIndexes": collection };
    command.append(cstr!("indexes"), list);
    store.run(None, command).await.map(|_| ())
}

/// The indexes of a collection; none if there is no such collection.
async fn indexes(store: &Store, collection: &str) -> Result<Vec<Document>, MongoError> {
    let reply = match store.run(None, rawdoc! { "listIndexes": collection }).await {
        Err(MongoError::Server { code: NAMESPACE_NOT_FOUND, .. }) => return Ok(Vec::new()),
        reply => reply?,
    };
    let listed = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let listed = listed.map_err(|_| store.strange("listIndexes"))?;
    Ok(listed.iter().filter_map(Bson::as_document).cloned().collect())
}

/// The name that MongoDB would give: `user_1_time_-1`.
fn name(fields: &[(&str, i32)]) -> String {
    fields.iter().map(|(field, direction)| format!("{field}_{direction}")).collect::<Vec<_>>().join("_")
}

/// As MongoDB's shell writes it: `{user: 1, time: -1}`.
fn shell(fields: &[(&str, i32)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(field, direction)| format!("{field}: {direction}")).collect();
    format!("{{{}}}", fields.join(", "))
}

fn has_fields(index: &Document, fields: &[(&str, i32)]) -> bool {
    let Ok(key) = index.get_document("key") else { return false };
    key.len() == fields.len()
        && key
            .keys()
            .zip(fields)
            .all(|(name, (field, direction))| name == field && number(key, name) == Some((*direction).into()))
}

/// Whether it is a unique index beside that of `_id`.
fn is_unique(index: &Document) -> bool {
    matches!(index.get("unique"), Some(Bson::Boolean(true))) && !has_fields(index, &[("_id", 1)])
}

/// Whether it is an index of all documents that allows any.
fn is_plain(index: &Document) -> bool {
    index.iter().all(|(option, value)| HARMLESS.contains(&&**option) || *value == Bson::Boolean(false))
}
