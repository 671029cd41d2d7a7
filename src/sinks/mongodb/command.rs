//! The few commands that the sink sends, and what comes back of them.
//!
//! `insert` and `update` are sent as they are, and not through the driver's `bulk_write`: that one needs MongoDB 8, and here
//! the reply has to tell a document that is there already from one that the server refuses. All of them can be part of a
//! transaction; outside of one they wait until a majority has them in its journals.

use super::error::{MongoError, Place};
use super::rows::{Key, id};
use mongodb::bson::raw::{BindRawBsonRef, CStr, RawArrayBuf, RawBsonRef, RawDocumentBuf, cstr};
use mongodb::bson::{Bson, Document, rawdoc};
use mongodb::error::Result;
use mongodb::{Client, ClientSession, Database};
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::watch;

/// How long to wait for an answer before the connection counts as broken. A server under load may need some seconds.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// How long the server waits for a majority before it says that there is none.
const WRITE_WAIT_MS: i64 = 30_000;
/// A command may have 16 MB; its answer may be as long as itself.
const COMMAND_BYTES_MAX: usize = 8 << 20;
/// Servers take 100,000; fewer make a shorter list of duplicates.
const COMMAND_ROWS_MAX: usize = 10_000;
/// How many documents are asked for by `_id` at a time. The test server's cost grows with the square of it.
const IDS_MAX: usize = 250;
const DUPLICATE_KEY: i32 = 11000;

/// A database, how to name it, and a word that ends every wait for it.
pub(super) struct Store {
    pub(super) client: Client,
    pub(super) database: Database,
    pub(super) place: Place,
    /// TLS is on although the address does not say so.
    pub(super) assumes_tls: bool,
    pub(super) stopped: watch::Receiver<bool>,
}

/// The transaction that a command is part of, if any.
pub(super) type Session<'a> = Option<&'a mut ClientSession>;

/// Lends a session once more.
pub(super) fn again<'a>(session: &'a mut Session<'_>) -> Session<'a> {
    session.as_deref_mut()
}

impl Store {
    /// Waits for an answer, though not for ever.
    pub(super) async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T>>,
    ) -> std::result::Result<T, MongoError> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            answer = answer => answer.map_err(|error| {
                MongoError::new(&self.place, &error).explain_tls(self.assumes_tls)
            }),
            () = tokio::time::sleep(ANSWER_WAIT) => Err(MongoError::silent(&self.place, ANSWER_WAIT)),
            // An error says that there is nobody left who could raise it.
            Ok(_) = stopped.wait_for(|stopped| *stopped) => Err(MongoError::Stopped(self.place.clone())),
        }
    }

    pub(super) async fn run(
        &self,
        session: Session<'_>,
        command: RawDocumentBuf,
    ) -> std::result::Result<Document, MongoError> {
        let command = self.database.run_raw_command(command);
        match session {
            Some(session) => self.answer(command.session(session).into_future()).await,
            None => self.answer(command.into_future()).await,
        }
    }

    /// Inserts documents, in any order; returns how many were there already.
    pub(super) async fn insert(
        &self,
        mut session: Session<'_>,
        collection: &'static str,
        documents: &[RawDocumentBuf],
    ) -> std::result::Result<usize, MongoError> {
        let mut there = 0;
        for part in parts(documents) {
            let command = write_command(cstr!("insert"), collection, cstr!("documents"), part, session.is_none());
            match self.run(again(&mut session), command).await {
                // So some servers say that it has cost the transaction.
                Err(MongoError::Server { code: DUPLICATE_KEY, .. }) if session.is_some() => return Ok(there + 1),
                reply => there += self.failures(&reply?, collection, part)?,
            }
        }
        Ok(there)
    }

    /// Carries out update statements, in any order; returns how many found their document.
    pub(super) async fn update(
        &self,
        mut session: Session<'_>,
        collection: &'static str,
        statements: &[RawDocumentBuf],
    ) -> std::result::Result<usize, MongoError> {
        let mut found = 0;
        for part in parts(statements) {
            let command = write_command(cstr!("update"), collection, cstr!("updates"), part, session.is_none());
            let reply = self.run(again(&mut session), command).await?;
            self.failures(&reply, collection, part)?;
            found += number(&reply, "n").unwrap_or(0) as usize;
        }
        Ok(found)
    }

    /// The documents of one batch of `find`. Where there are more than fit 16 MB, the others are left out.
    pub(super) async fn find(
        &self,
        session: Session<'_>,
        collection: &'static str,
        filter: RawDocumentBuf,
        projection: RawDocumentBuf,
    ) -> std::result::Result<Vec<Document>, MongoError> {
        let batch = i32::try_from(IDS_MAX).unwrap_or(i32::MAX);
        let command = rawdoc! {
            "find": collection, "filter": filter, "projection": projection, "batchSize": batch, "singleBatch": true,
        };
        let mut reply = self.run(session, command).await?;
        let cursor = reply.get_document_mut("cursor").ok().and_then(|cursor| cursor.remove("firstBatch"));
        let Some(Bson::Array(documents)) = cursor else { return Err(self.strange("find")) };
        let document = |value| if let Bson::Document(document) = value { Some(document) } else { None };
        Ok(documents.into_iter().filter_map(document).collect())
    }

    /// Which of these keys are an `_id` of a document.
    pub(super) async fn existing(
        &self,
        mut session: Session<'_>,
        collection: &'static str,
        keys: &[Key],
    ) -> std::result::Result<HashSet<Key>, MongoError> {
        let mut existing = HashSet::new();
        for part in keys.chunks(IDS_MAX) {
            let filter = one_of(part.iter().map(|&key| id(key)));
            for document in self.find(again(&mut session), collection, filter, rawdoc! { "_id": 1 }).await? {
                let Some(Bson::Binary(id)) = document.get("_id") else { continue };
                existing.extend(Key::try_from(&*id.bytes));
            }
        }
        Ok(existing)
    }

    /// What of a reply to a write is no success; the number of documents that were there already, if that is all.
    fn failures(
        &self,
        reply: &Document,
        collection: &'static str,
        part: &[RawDocumentBuf],
    ) -> std::result::Result<usize, MongoError> {
        let none = Vec::new();
        let failures = reply.get_array("writeErrors").unwrap_or(&none);
        if let Some(failure) = failures.iter().filter_map(Bson::as_document).find(|failure| !is_there(failure)) {
            let code = number(failure, "code").unwrap_or(0) as i32;
            let reason = failure.get_str("errmsg").unwrap_or("for no reason that it names");
            let error = MongoError::from_code(&self.place, code, reason, false);
            if error.is_retryable() || !matches!(error, MongoError::Server { .. }) {
                return Err(error);
            }
            let document = number(failure, "index").and_then(|i| part.get(i as usize));
            let key = document.map_or_else(|| "?".to_owned(), key_text);
            let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
            return Err(MongoError::Refused { place: self.place.clone(), collection, key, reason });
        }
        if let Ok(failure) = reply.get_document("writeConcernError") {
            let code = number(failure, "code").unwrap_or(0) as i32;
            return Err(MongoError::from_code(&self.place, code, failure.get_str("errmsg").unwrap_or(""), false));
        }
        Ok(failures.len())
    }

    /// An answer that no server of MongoDB's protocol gives.
    pub(super) fn strange(&self, command: &str) -> MongoError {
        let reason = format!("it does not answer \"{command}\" as MongoDB does");
        MongoError::Server { place: self.place.clone(), code: 0, reason, retryable: false }
    }
}

/// `{_id: {$in: […]}}`.
pub(super) fn one_of(ids: impl Iterator<Item = impl BindRawBsonRef>) -> RawDocumentBuf {
    let mut array = RawArrayBuf::new();
    ids.for_each(|id| array.push(id));
    rawdoc! { "_id": { "$in": array } }
}

/// The statement `{q, u}`.
pub(super) fn statement(filter: RawDocumentBuf, update: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! { "q": filter, "u": update }
}

/// An integer of any width.
pub(super) fn number(document: &Document, key: &str) -> Option<i64> {
    match *document.get(key)? {
        Bson::Int32(n) => Some(n.into()),
        Bson::Int64(n) => Some(n),
        Bson::Double(n) => Some(n as i64),
        _ => None,
    }
}

/// Whether a write failed because the document is there already. An opened database has no unique index but that of `_id`; one
/// that was made since is named by servers that name any.
fn is_there(failure: &Document) -> bool {
    number(failure, "code") == Some(DUPLICATE_KEY.into())
        && match failure.get_document("keyPattern") {
            Ok(pattern) => pattern.keys().eq(["_id"]),
            Err(_) => failure.get_str("errmsg").is_ok_and(|told| told.contains("_id") || !told.contains("index: ")),
        }
}

fn write_command(
    name: &'static CStr,
    collection: &str,
    list: &'static CStr,
    rows: &[RawDocumentBuf],
    is_alone: bool,
) -> RawDocumentBuf {
    let mut array = RawArrayBuf::new();
    rows.iter().for_each(|row| array.push(row));
    let mut command = RawDocumentBuf::new();
    command.append(name, collection);
    command.append(cstr!("ordered"), false);
    if is_alone {
        command.append(cstr!("writeConcern"), write_concern());
    }
    command.append(list, array);
    command
}

/// A majority has it in its journals: no failure of a minority, nor of the power, takes it back.
pub(super) fn write_concern() -> RawDocumentBuf {
    rawdoc! { "w": "majority", "j": true, "wtimeout": WRITE_WAIT_MS }
}

/// `rows` in as many parts as commands are needed.
fn parts(rows: &[RawDocumentBuf]) -> impl Iterator<Item = &[RawDocumentBuf]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(COMMAND_ROWS_MAX).take_while(|row| {
            bytes += row.as_bytes().len();
            bytes <= COMMAND_BYTES_MAX
        });
        // One that is too large alone is for the server to refuse.
        let count = fits.count().max(1).min(rest.len());
        let (part, after) = rest.split_at(count);
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

/// The `_id` of a document or of an update statement, for people.
fn key_text(document: &RawDocumentBuf) -> String {
    let id = match document.get_document("q") {
        Ok(filter) => filter.get("_id"),
        Err(_) => document.get("_id"),
    };
    match id {
        Ok(Some(RawBsonRef::Binary(binary))) => {
            let digits: String = binary.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("HexData(0, \"{digits}\")")
        }
        Ok(Some(RawBsonRef::Int64(n))) => n.to_string(),
        Ok(Some(RawBsonRef::String(text))) => format!("\"{text}\""),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;

    fn rows(count: usize, bytes: usize) -> Vec<RawDocumentBuf> {
        vec![rawdoc! { "text": "x".repeat(bytes) }; count]
    }

    #[test]
    fn commands_stay_below_their_limits() {
        let sizes = |rows: &[RawDocumentBuf]| parts(rows).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&rows(3, 10)), [3]);
        assert_eq!(sizes(&rows(25_000, 10)), [10_000, 10_000, 5000]);
        assert_eq!(sizes(&rows(5, 3 << 20)), [2, 2, 1]);
        // It is the server that refuses one that is too large.
        assert_eq!(sizes(&rows(2, 20 << 20)), [1, 1]);
    }

    #[test]
    fn only_a_duplicate_of_the_key_is_there_already() {
        assert!(is_there(&doc! { "code": 11000, "keyPattern": { "_id": 1 } }));
        assert!(is_there(&doc! { "code": 11000, "errmsg": "E11000 duplicate key error index: _id_ dup key" }));
        assert!(is_there(&doc! { "code": 11000, "errmsg": "E11000 duplicate key error collection: shop.records" }));
        assert!(!is_there(&doc! { "code": 11000, "keyPattern": { "user": 1 } }));
        assert!(!is_there(&doc! { "code": 11000, "errmsg": "E11000 duplicate key error index: user_1 dup key" }));
        assert!(!is_there(&doc! { "code": 121 }));
    }
}
