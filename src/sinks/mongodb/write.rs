//! A batch → pieces → the store.
//!
//! ```text
//!   batch ─▶ piece ─▶ is it still ours? ─▶ userConsumed ─▶ records ─▶ recommendResults ─▶ commit
//!        └─▶ piece ─▶ …                                                          (the frontier with the last)
//! ```
//!
//! - A batch that takes more than one step to write says first how far it reaches, so that a run that finds half of it lets nothing
//!   new change what is there.
//! - *With transactions* a piece is one: all of it is there or nothing, a writer that has been fenced changes nothing, and a
//!   record is there if and only if its user's document has it. Pieces keep transactions short, since the server gives up
//!   those that take a minute; after one was given up, they are halved.
//! - *Without*, each statement stands alone. Documents keyed by a place in the log or by (user, T) are only ever inserted, and
//!   two writers of one pipeline insert the same; `userConsumed` goes before `records`, so that a record that is there is in
//!   its user's document too; and its statements name the state that they were made for. The store is checked to be ours
//!   before each piece and after the last. What a writer that is fenced in between still gets in is what the next one would
//!   write; readers can see the records of a tick before its recommendations.
//! - *Careful* pieces first ask which rows are there: after an opening, where a log is likely read again, and after a
//!   failure. Otherwise nothing is asked, and a row that is there after all is an error of a transaction, which is then
//!   begun again with care. So is a piece that fails within the server, whether or not it was committed.

use super::command::{ANSWER_WAIT, Session, Store, again};
use super::consumed::{self, Outcome};
use super::error::MongoError;
use super::meta::{self, Moves, Status, Writer};
use super::rows::{Key, Shape, key};
use super::schema::{RECOMMENDATIONS, RECORDS};
use crate::fault;
use crate::sinks::Batch;
use dataflows::event::{Event, Time};
use dataflows::lists::Lists;
use dataflows::rows::RecommendationKey;
use mongodb::ClientSession;
use mongodb::bson::raw::RawDocumentBuf;
use mongodb::options::{Acknowledgment, ReadConcern, WriteConcern};
use std::collections::HashSet;
use std::ops::Range;

/// Rows of each kind in a piece: enough that a commit costs little beside them, few enough for a second.
const PIECE_ROWS_MAX: usize = 2000;
/// The least that they are halved to.
const PIECE_ROWS_MIN: usize = 50;
/// How many pieces without a row that was there end the care.
const CAREFUL_PIECES: usize = 16;
/// How often a piece is begun, if other writers or faults within the server are in its way.
const ATTEMPTS: usize = 5;
/// The code of a server that does not know what went wrong.
const INTERNAL_ERROR: i32 = 1;

/// How a batch is written.
pub(super) struct Pieces {
    pub(super) shape: Shape,
    pub(super) consumed_max: usize,
    pub(super) writer: Writer,
    /// One for all transactions: to begin one gives up the one before, whatever became of that. `None` without transactions.
    pub(super) session: Option<ClientSession>,
    /// Rows with T below it are in the store.
    pub(super) durable: Time,
    careful: usize,
    rows: usize,
}

/// Some rows of a batch.
struct Piece<'a> {
    /// By place in the log.
    events: Vec<&'a Event>,
    recommendations: &'a Lists<RecommendationKey>,
    range: Range<usize>,
    /// With the last piece of a batch.
    frontier: Option<Time>,
    /// The batch's frontier, if the piece may come to be there without the rest of the batch.
    reached: Option<Time>,
}

impl Pieces {
    pub(super) fn new(
        shape: Shape,
        consumed_max: usize,
        writer: Writer,
        session: Option<ClientSession>,
        durable: Time,
        is_new: bool,
    ) -> Pieces {
        let careful = if is_new { 0 } else { CAREFUL_PIECES };
        Pieces { shape, consumed_max, writer, session, durable, careful, rows: PIECE_ROWS_MAX }
    }

    /// Writes a batch. After an error it can be written again.
    pub(super) async fn write(&mut self, store: &Store, batch: &Batch) -> Result<(), MongoError> {
        let result = self.write_pieces(store, batch).await;
        match &result {
            Ok(()) => {
                self.durable = self.durable.max(batch.frontier);
                self.rows = (self.rows * 2).min(PIECE_ROWS_MAX);
            }
            Err(_) => {
                self.careful = CAREFUL_PIECES;
                self.rows = (self.rows / 2).max(PIECE_ROWS_MIN);
            }
        }
        result
    }

    async fn write_pieces(&mut self, store: &Store, batch: &Batch) -> Result<(), MongoError> {
        let mut events: Vec<&Event> = batch.records.iter().collect();
        // All of a user's in one piece, as far as they fit: then a user's document changes once.
        events.sort_unstable_by_key(|event| (event.user, event.position));
        events.dedup_by_key(|event| event.position);
        let recommendations = &batch.recommendations;
        let first = recommendations.keys().partition_point(|key| key.time < self.durable);
        let mut events = events.chunks(self.rows);
        let mut start = first;
        loop {
            let mut some: Vec<&Event> = events.next().unwrap_or_default().to_vec();
            some.sort_unstable_by_key(|event| event.position);
            let end = (start + self.rows).min(recommendations.len());
            let is_last = events.len() == 0 && end == recommendations.len();
            let frontier = is_last.then_some(batch.frontier);
            let is_atomic = is_last && start == first && self.session.is_some();
            let reached = (!is_atomic).then_some(batch.frontier);
            let piece = Piece { events: some, recommendations, range: start..end, frontier, reached };
            self.write_piece(store, &piece).await?;
            start = end;
            if is_last {
                return Ok(());
            }
            fault::point("mongodb.pieces");
        }
    }

    /// Moves the frontier, if that is further than it was.
    pub(super) async fn advance(
        &mut self,
        store: &Store,
        frontier: Time,
        status: Option<Status>,
    ) -> Result<(), MongoError> {
        if frontier > self.durable || status.is_some() {
            let moves = Moves { frontier: Some(frontier), status, ..Moves::default() };
            meta::check(store, None, &self.writer, moves).await?;
            self.durable = self.durable.max(frontier);
        }
        Ok(())
    }

    async fn write_piece(&mut self, store: &Store, piece: &Piece<'_>) -> Result<(), MongoError> {
        let mut hindrance = MongoError::Contended(store.place.clone());
        for _ in 0..ATTEMPTS {
            let outcome = match self.session.take() {
                Some(mut session) => {
                    let outcome = self.in_transaction(store, &mut session, piece).await;
                    self.session = Some(session);
                    outcome
                }
                None => self.steps(store, None, piece).await,
            };
            match outcome {
                Ok(Outcome::Done) => return Ok(()),
                Ok(Outcome::Clash) => {}
                Err(error @ MongoError::Server { code: INTERNAL_ERROR, .. }) => {
                    tracing::warn!("{error}; trying again");
                    hindrance = error;
                }
                Err(error) => return Err(error),
            }
            self.careful = CAREFUL_PIECES;
        }
        Err(hindrance)
    }

    async fn in_transaction(
        &mut self,
        store: &Store,
        session: &mut ClientSession,
        piece: &Piece<'_>,
    ) -> Result<Outcome, MongoError> {
        let begin = session.start_transaction().read_concern(ReadConcern::snapshot()).write_concern(write_concern());
        store.answer(begin.into_future()).await?;
        let mut outcome = self.steps(store, Some(session), piece).await;
        if let Ok(Outcome::Done) = outcome {
            fault::point("mongodb.commit");
            let commit = store.answer(session.commit_transaction().into_future()).await;
            outcome = commit.map(|()| Outcome::Done);
        }
        if !matches!(outcome, Ok(Outcome::Done)) {
            abort(store, session).await;
        }
        outcome
    }

    async fn steps(
        &mut self,
        store: &Store,
        mut session: Session<'_>,
        piece: &Piece<'_>,
    ) -> Result<Outcome, MongoError> {
        let in_transaction = session.is_some();
        let frontier = piece.frontier.filter(|_| in_transaction);
        let moves = Moves { frontier, reached: piece.reached, ..Moves::default() };
        meta::check(store, again(&mut session), &self.writer, moves).await?;
        let (events, recommendations) = self.missing(store, again(&mut session), piece).await?;
        let consumed = consumed::add(store, again(&mut session), &self.shape, self.consumed_max, &events).await?;
        if consumed == Outcome::Clash {
            return Ok(Outcome::Clash);
        }
        let records: Vec<RawDocumentBuf> = events.iter().map(|event| self.shape.record(event)).collect();
        fault::point("mongodb.consumed");
        let mut there = store.insert(again(&mut session), RECORDS, &records).await?;
        if there == 0 || !in_transaction {
            there += store.insert(again(&mut session), RECOMMENDATIONS, &recommendations).await?;
        }
        if there > 0 {
            self.careful = CAREFUL_PIECES;
            if in_transaction {
                return Ok(Outcome::Clash);
            }
        }
        if piece.frontier.is_some() && !in_transaction {
            meta::check(store, None, &self.writer, Moves { frontier: piece.frontier, ..Moves::default() }).await?;
        }
        Ok(Outcome::Done)
    }

    /// What of a piece is not in the store, as far as that is asked.
    async fn missing<'a>(
        &mut self,
        store: &Store,
        mut session: Session<'_>,
        piece: &Piece<'a>,
    ) -> Result<(Vec<&'a Event>, Vec<RawDocumentBuf>), MongoError> {
        let rows = piece.range.clone().map(|i| piece.recommendations.row(i));
        let rows: Vec<_> = rows.filter_map(|(row, items)| Some((self.shape.user(row.user)?, row, items))).collect();
        let mut events = piece.events.clone();
        let mut there = HashSet::new();
        if self.careful > 0 {
            let keys: Vec<Key> = events.iter().map(|event| self.shape.record_key(event)).collect();
            let records = store.existing(again(&mut session), RECORDS, &keys).await?;
            events.retain(|event| !records.contains(&self.shape.record_key(event)));
            let keys: Vec<Key> = rows.iter().map(|(user, row, _)| key(*user, row.time)).collect();
            there = store.existing(again(&mut session), RECOMMENDATIONS, &keys).await?;
            let found = records.len() + there.len();
            self.careful = if found > 0 { CAREFUL_PIECES } else { self.careful - 1 };
        }
        let missing = rows.into_iter().filter(|(user, row, _)| !there.contains(&key(*user, row.time)));
        let documents = missing.map(|(user, row, items)| self.shape.recommendation(user, row, items)).collect();
        Ok((events, documents))
    }
}

/// Gives a transaction up, if it is not known to be committed. It would end by itself, only later.
async fn abort(store: &Store, session: &mut ClientSession) {
    if let Err(error) = store.answer(session.abort_transaction().into_future()).await {
        tracing::debug!("a transaction was not given up properly: {error}");
    }
}

fn write_concern() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(ANSWER_WAIT / 2).build()
}
