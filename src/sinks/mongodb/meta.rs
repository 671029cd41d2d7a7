//! The document that says whose results the collections hold, how far they are, and who may write: `_id` "pipeline" in the
//! collection `eddyline`.
//!
//! ```text
//!   {_id: "pipeline", schema, fingerprint, parts, status, frontier, reached?, epoch?, writer, session?, commits}
//! ```
//!
//! - `writer` is a fresh token of each opening. All writes ask for it, so that an earlier writer stops; in a transaction they
//!   also change this document (`commits`), so that of two writers at the same time one fails.
//! - `session` is the one of the server that the writer's transactions are in. A writer that was killed may leave one open,
//!   which would hold up the next for the minute after which servers give transactions up: so that one ends the session.
//! - `epoch` is the greatest that has opened the database: a lesser one is refused.
//! - `frontier`, ms: all rows with T below it are there; [`Time::MAX`] is the greatest int64.
//! - `reached`, ms: the frontier of the furthest batch of which some rows may be there without the others.
//! - `status`: "unfinished", "finished" as after [`crate::sinks::Sink::finish`], or "purging": the collections are being
//!   dropped, which is taken up again if it was interrupted.

use super::command::{Session, Store, number, statement};
use super::error::MongoError;
use super::schema::META;
use crate::sinks::identity::Pipeline;
use dataflows::event::Time;
use mongodb::bson::raw::{RawArrayBuf, RawDocumentBuf, cstr};
use mongodb::bson::{Binary, Bson, Document, rawdoc};

const PIPELINE: &str = "pipeline";

/// How the collections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Still being filled, or left by a run that was killed.
    Unfinished,
    /// Whole, up to the frontier.
    Finished,
    /// Being dropped.
    Purging,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Unfinished => "unfinished",
            Status::Finished => "finished",
            Status::Purging => "purging",
        }
    }

    fn read(name: &str) -> Option<Status> {
        [Status::Unfinished, Status::Finished, Status::Purging].into_iter().find(|status| status.name() == name)
    }
}

/// What stands in the document.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    pub(super) schema: i64,
    pub(super) pipeline: Pipeline,
    pub(super) status: Status,
    pub(super) frontier: Time,
    /// Rows with T below it may be there: `frontier`, or more.
    pub(super) reached: Time,
    pub(super) writer: Writer,
}

/// What a writer moves as it goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moves {
    pub(super) frontier: Option<Time>,
    pub(super) reached: Option<Time>,
    pub(super) status: Option<Status>,
}

impl Meta {
    /// The document, if there is one.
    pub(super) async fn read(store: &Store) -> Result<Option<Meta>, MongoError> {
        let found = store.find(None, META, rawdoc! { "_id": PIPELINE }, rawdoc! {}).await?;
        let Some(document) = found.first() else { return Ok(None) };
        let meta = Meta::parse(document).ok_or_else(|| MongoError::Damaged {
            place: store.place.clone(),
            collection: META,
            key: format!("\"{PIPELINE}\""),
            detail: "a field is missing, or is not what it should be",
        });
        meta.map(Some)
    }

    /// Asks for a change of a document that is not there, which takes the right to write and changes nothing.
    pub(super) async fn check_rights(store: &Store) -> Result<(), MongoError> {
        let update = rawdoc! { "$set": { "x": 0 } };
        store.update(None, META, &[statement(rawdoc! { "_id": "no such document" }, update)]).await.map(drop)
    }

    fn parse(document: &Document) -> Option<Meta> {
        let text = |name: &str| document.get_str(name).ok().map(str::to_owned);
        let frontier = time(number(document, "frontier")?);
        Some(Meta {
            schema: number(document, "schema")?,
            pipeline: Pipeline {
                fingerprint: text("fingerprint")?,
                parts: serde_json::from_str(&text("parts")?).ok()?,
            },
            status: Status::read(&text("status")?)?,
            frontier,
            reached: number(document, "reached").map_or(frontier, |reached| time(reached).max(frontier)),
            writer: Writer {
                token: text("writer")?,
                epoch: number(document, "epoch").map(i64::cast_unsigned),
                session: document.get("session").and_then(|session| match session {
                    Bson::Binary(id) => Some(id.clone()),
                    _ => None,
                }),
            },
        })
    }

    /// Puts the document in the place of the one that `before` wrote; false if another writer was faster.
    pub(super) async fn replace(&self, store: &Store, before: Option<&str>) -> Result<bool, MongoError> {
        let mut document = rawdoc! {
            "_id": PIPELINE,
            "schema": self.schema,
            "fingerprint": &*self.pipeline.fingerprint,
            // Its names have dots, which mean something else in names of fields.
            "parts": serde_json::Value::Object(self.pipeline.parts.clone()).to_string(),
            "status": self.status.name(),
            "frontier": stored(self.frontier),
            "commits": 0_i64,
        };
        self.writer.append_to(&mut document);
        match before {
            None => Ok(store.insert(None, META, &[document]).await? == 0),
            Some(writer) => change(store, writer, document).await,
        }
    }

    /// Writes what a new writer changes of the document that `before` wrote; false if another writer was faster.
    pub(super) async fn renew(&self, store: &Store, before: &str) -> Result<bool, MongoError> {
        let mut set = rawdoc! { "status": self.status.name() };
        self.writer.append_to(&mut set);
        change(store, before, rawdoc! { "$set": set, "$inc": { "commits": 1_i64 } }).await
    }
}

async fn change(store: &Store, writer: &str, update: RawDocumentBuf) -> Result<bool, MongoError> {
    let filter = rawdoc! { "_id": PIPELINE, "writer": writer };
    Ok(store.update(None, META, &[statement(filter, update)]).await? == 1)
}

/// Makes sure that `writer` is the one who may write, and moves what is given.
///
/// # Errors
/// [`MongoError::Fenced`] or [`MongoError::TakenOver`] if it is not.
pub(super) async fn check(
    store: &Store,
    session: Session<'_>,
    writer: &Writer,
    moves: Moves,
) -> Result<(), MongoError> {
    let mut update = rawdoc! { "$inc": { "commits": 1_i64 } };
    let mut further = RawDocumentBuf::new();
    if let Some(frontier) = moves.frontier {
        further.append(cstr!("frontier"), stored(frontier));
    }
    if let Some(reached) = moves.reached {
        further.append(cstr!("reached"), stored(reached));
    }
    if !further.is_empty() {
        update.append(cstr!("$max"), further);
    }
    if let Some(status) = moves.status {
        update.append(cstr!("$set"), rawdoc! { "status": status.name() });
    }
    let filter = rawdoc! { "_id": PIPELINE, "writer": &*writer.token };
    if store.update(session, META, &[statement(filter, update)]).await? == 1 {
        return Ok(());
    }
    // Outside of the transaction, which is lost.
    let found = Meta::read(store).await?;
    Err(writer.fenced(store, found.and_then(|meta| meta.writer.epoch)))
}

/// Who writes.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) token: String,
    pub(super) epoch: Option<u64>,
    /// Of its transactions.
    pub(super) session: Option<Binary>,
}

impl Writer {
    fn append_to(&self, document: &mut RawDocumentBuf) {
        document.append(cstr!("writer"), &*self.token);
        if let Some(epoch) = self.epoch {
            document.append(cstr!("epoch"), epoch.cast_signed());
        }
        if let Some(session) = &self.session {
            document.append(cstr!("session"), session.clone());
        }
    }

    /// Ends the transaction that it may have left open.
    pub(super) async fn end_session(&self, store: &Store) {
        let Some(session) = &self.session else { return };
        let mut list = RawArrayBuf::new();
        list.push(rawdoc! { "id": session.clone() });
        let mut command = RawDocumentBuf::new();
        command.append(cstr!("killSessions"), list);
        // Somebody else's session takes a right that we may not have. Then there is a minute to wait.
        if let Err(error) = store.run(None, command).await {
            tracing::debug!("the last writer's session was not ended: {error}");
        }
    }

    /// Why this writer has to stop, if `found` is the epoch in the store.
    pub(super) fn fenced(&self, store: &Store, found: Option<u64>) -> MongoError {
        match (self.epoch, found) {
            (Some(own), Some(found)) if found > own => MongoError::Fenced { place: store.place.clone(), found, own },
            _ => MongoError::TakenOver(store.place.clone()),
        }
    }
}

fn stored(time: Time) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

fn time(stored: i64) -> Time {
    if stored == i64::MAX { Time::MAX } else { stored.cast_unsigned() }
}
