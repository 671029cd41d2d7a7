//! The embedded store (`--store PATH`; contract, section 5): one SQLite file that holds all outputs, indexed for the queries of
//! a web server. `docs/embedded-store.md` shows its tables to users.
//!
//! ```text
//!   Batch ── records, rejected, popular, recommendations ──▶ tables ─────────┐
//!      └──── newest per user, newest list ── kept until ── commit ──▶ tables ┴▶ meta.frontier ─▶ COMMIT
//! ```
//!
//! SQLite, because the store has to be read by other processes and other languages while it is written, must survive any
//! kill, and needs no server; its file format outlives programs.
//!
//! - *Batches.* Batches are gathered into transactions of [`StoreOptions::commit_rows`] rows or more. A row of a table
//!   keyed by user is written once a transaction, however often it changes within, and in the order of users.
//! - *Frontier.* Every commit carries the frontier F of its last batch: the rows with T or E < F are all there. A run that
//!   starts again skips them. Records come unaligned with F; writing one again changes nothing, since its key is its place
//!   in the log.
//! - *One log.* A replay that goes on with a store first has to find that its log is the one that the store was made of
//!   (`ledger`). Until then it commits nothing; in the same transaction it replaces what the store had beyond F.
//! - *Status.* A store is `unfinished` from the moment it is opened until [`Sink::finish`]: a killed process can't mark
//!   anything. A finished store of a whole log takes no rows and isn't touched.
//! - *Generations.* Rows of two pipelines never mix: see [`OtherPipeline`]. A new generation is built in tables of its own
//!   in the same file; at the end it takes the old one's place in one transaction. Until then readers see the old one.
//! - *Fencing.* Opening writes a fresh token to `meta`; every transaction checks it, so that a run whose store was opened,
//!   purged or replaced by another one stops ([`StoreError::TakenOver`]). A live run also keeps its epoch there: one of an
//!   older epoch is refused ([`StoreError::Fenced`]), whoever comes first.
//! - *Live runs* commit every batch and wait for the disk, and have indexes from the start, since they have no end.

mod error;
mod ledger;
mod open;
mod rows;
mod schema;

pub use super::identity::{OtherPipeline, Pipeline};
pub use error::StoreError;

use super::identity::RunIdentity;
use super::{Batch, End, Sink, SinkError, is_newest};
use crate::fault;
use dataflows::event::Time;
use dataflows::rows::PopularList;
use ledger::{Ledger, LogDigest};
use rows::RowWriter;
use rusqlite::Connection;
use schema::Generation;
use std::path::PathBuf;
use std::time::Duration;

/// How to open a store, and what its rows need to know.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The file.
    pub path: PathBuf,
    /// Whose results it will hold.
    pub run: RunIdentity,
    /// How many rows a transaction should have: fewer are seen sooner, more are written faster. A batch is never divided, and a
    /// live run commits each one: it makes a call that failed again, and not those before it.
    pub commit_rows: usize,
    /// How long to wait for another process that is writing.
    pub lock_wait: Duration,
}

impl StoreOptions {
    /// [`StoreOptions::commit_rows`] for a replay.
    pub const REPLAY_COMMIT_ROWS: usize = 1_000_000;
    /// [`StoreOptions::lock_wait`] unless there is a reason for another.
    pub const LOCK_WAIT: Duration = Duration::from_secs(5);
}

/// An embedded store, being written.
pub struct EmbeddedStore {
    connection: Connection,
    rows: RowWriter,
    path: PathBuf,
    generation: Generation,
    /// Counts the generations that the file has held.
    number: u64,
    /// Our token in `meta`.
    writer: String,
    /// The frontier when the store was opened: rows with T or E below it are there.
    opened_at: Time,
    /// The frontier of the last commit.
    durable: Time,
    was_finished: bool,
    /// `None` if the store says nothing of its log: it is that of a live run, or was made by an older program.
    ledger: Option<Ledger>,
    /// Whether rows beyond `opened_at` are still those of the run before this one.
    has_leftovers: bool,
    epoch: Option<u64>,
    slide: Time,
    commit_rows: usize,
    /// The last batch's.
    frontier: Time,
    /// The last list that came.
    popular: Option<PopularList>,
    /// Rows written since the transaction began; `None` outside of transactions.
    open_rows: Option<usize>,
}

impl EmbeddedStore {
    /// Opens a store to write to it, or makes one.
    ///
    /// # Errors
    /// If the file can't be opened or is no store, if it is that of another pipeline, or another process is writing to it.
    pub fn open(options: StoreOptions) -> Result<EmbeddedStore, StoreError> {
        let opened = open::open(&options)?;
        Ok(EmbeddedStore {
            rows: RowWriter::new(opened.generation, &options),
            connection: opened.connection,
            path: options.path,
            generation: opened.generation,
            number: opened.number,
            writer: opened.writer,
            opened_at: opened.frontier.unwrap_or(0),
            durable: opened.frontier.unwrap_or(0),
            was_finished: opened.finished,
            has_leftovers: opened.log_digest.is_some(),
            ledger: opened.log_digest.map(|digest| Ledger::new(options.run.tick, digest)),
            epoch: options.run.epoch,
            slide: options.run.slide,
            commit_rows: if options.run.epoch.is_some() { 1 } else { options.commit_rows },
            frontier: 0,
            popular: None,
            open_rows: None,
        })
    }

    /// Whether the whole log's results are there already.
    fn is_whole(&self) -> bool {
        self.was_finished && self.opened_at == Time::MAX
    }

    fn error(&self) -> impl Fn(rusqlite::Error) -> StoreError {
        |source| StoreError::new(&self.path, source)
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if self.is_whole() {
            return self.take(|ledger| ledger.take(batch));
        }
        if self.open_rows.is_none() {
            self.begin_rows()?;
        }
        let is_stored = |event: &_| self.ledger.as_ref().is_some_and(|ledger| ledger.is_stored(event));
        let written = self.rows.write(&self.connection, batch, self.opened_at, is_stored).map_err(self.error())?;
        self.take(|ledger| ledger.take(batch))?;
        self.frontier = batch.frontier;
        if let Some(list) = batch.popular.last() {
            self.popular = Some(list.clone());
        }
        let rows = self.open_rows.unwrap_or(0) + written;
        self.open_rows = Some(rows);
        if rows >= self.commit_rows { self.commit() } else { Ok(()) }
    }

    /// Notes what has come, and refuses a log that is not the store's.
    fn take(&mut self, note: impl FnOnce(&mut Ledger) -> Result<(), (LogDigest, LogDigest)>) -> Result<(), StoreError> {
        let Some(ledger) = &mut self.ledger else { return Ok(()) };
        note(ledger).map_err(|(there, here)| {
            if !self.is_whole() {
                self.roll_back();
                // If that fails, the store stays unfinished, and the refusal is what there is to tell.
                let _ = self.finish_again();
            }
            StoreError::OtherLog {
                path: self.path.clone(),
                frontier: there.below,
                there: there.digest.rows,
                here: here.digest.rows,
            }
        })
    }

    fn is_checking(&self) -> bool {
        self.ledger.as_ref().is_some_and(Ledger::is_checking)
    }

    /// Begins a transaction. The first one takes away what the run before this one had read beyond its frontier: nothing says
    /// that it is of this log, and if it is, it comes again.
    fn begin_rows(&mut self) -> Result<(), StoreError> {
        self.begin()?;
        let first = self.ledger.as_ref().and_then(Ledger::first_unstored).filter(|_| self.has_leftovers);
        first.map_or(Ok(()), |first| self.rows.clear_beyond(&self.connection, first)).map_err(self.error())
    }

    /// A store that was finished is as it was.
    fn finish_again(&mut self) -> Result<(), StoreError> {
        if !self.was_finished {
            return Ok(());
        }
        self.begin()?;
        open::set_finished(&self.connection, self.generation).map_err(self.error())?;
        self.connection.execute_batch("COMMIT").map_err(self.error())?;
        self.open_rows = None;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(self.error())?;
        open::check_epoch(&self.connection, self.generation, self.epoch, &self.path)?;
        let writer = self.generation.meta(&self.connection, "writer").map_err(self.error())?;
        if writer.as_deref() != Some(&self.writer) {
            return Err(StoreError::TakenOver(self.path.clone()));
        }
        self.open_rows = Some(0);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        if self.is_checking() || self.open_rows.take().is_none() {
            return Ok(());
        }
        self.rows.write_newest(&self.connection).map_err(self.error())?;
        if self.frontier > self.opened_at {
            let newest = self.popular.as_ref().filter(|list| is_newest(list, self.slide, self.frontier));
            self.rows.write_popular_latest(&self.connection, newest).map_err(self.error())?;
            open::set_frontier(&self.connection, self.generation, self.frontier).map_err(self.error())?;
        }
        self.write_log_digest()?;
        fault::point("embedded.commit");
        self.connection.execute_batch("COMMIT").map_err(self.error())?;
        self.has_leftovers = false;
        self.durable = self.durable.max(self.frontier);
        Ok(())
    }

    /// Commits; also what a failed commit of a batch without rows has left undone: the frontier, and the newest list.
    fn flush_frontier(&mut self) -> Result<(), StoreError> {
        if self.open_rows.is_none() && self.frontier > self.durable {
            self.begin()?;
        }
        self.commit()
    }

    fn write_log_digest(&self) -> Result<(), StoreError> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        open::set_log_digest(&self.connection, self.generation, ledger.found()).map_err(self.error())
    }

    /// After an error: as if the transaction had not begun, so that the call can be made again.
    fn roll_back(&mut self) {
        self.open_rows = None;
        self.rows.forget_newest();
        // SQLite has rolled back by itself after some errors, and says so.
        let _ = self.connection.execute_batch("ROLLBACK");
    }

    /// Puts the generation that is being built in the place of the old one, before any end.
    fn promote_store(&mut self) -> Result<(), StoreError> {
        self.commit()?;
        if self.generation == Generation::Current {
            return Ok(());
        }
        self.begin()?;
        schema::replace_current(&self.connection).map_err(self.error())?;
        self.connection.execute_batch("COMMIT").map_err(self.error())?;
        self.open_rows = None;
        self.generation = Generation::Current;
        self.rows.set_generation(Generation::Current);
        Ok(())
    }

    /// A run that ended before an earlier, finished one changes nothing but the records that it may add.
    fn finish_store(&mut self, end: &End) -> Result<(), StoreError> {
        self.take(|ledger| ledger.reach(end.frontier))?;
        if self.is_whole() {
            return Ok(());
        }
        if self.is_checking() {
            self.roll_back();
            self.finish_again()?;
            return if self.was_finished { Ok(()) } else { Err(StoreError::EndedEarlier(self.path.clone())) };
        }
        self.commit()?;
        open::prepare_finish(&self.connection).map_err(self.error())?;
        self.begin_rows()?;
        self.generation.create_indexes(&self.connection, self.number).map_err(self.error())?;
        if end.frontier >= self.opened_at {
            self.rows.write_popular_latest(&self.connection, end.popular.as_ref()).map_err(self.error())?;
            open::set_frontier(&self.connection, self.generation, end.frontier).map_err(self.error())?;
            self.write_log_digest()?;
        } else if !self.was_finished {
            return Err(StoreError::EndedEarlier(self.path.clone()));
        }
        open::set_finished(&self.connection, self.generation).map_err(self.error())?;
        if self.generation == Generation::Next {
            schema::replace_current(&self.connection).map_err(self.error())?;
        }
        self.connection.execute_batch("COMMIT").map_err(self.error())?;
        self.open_rows = None;
        self.durable = end.frontier.max(self.opened_at);
        open::checkpoint(&self.connection).map_err(self.error())
    }
}

impl Sink for EmbeddedStore {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        Ok(self.write_batch(batch).inspect_err(|_| self.roll_back())?)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let flushed = self.flush_frontier().inspect_err(|_| self.roll_back());
        Ok(flushed?)
    }

    fn durable(&self) -> Time {
        self.durable
    }

    fn is_building(&self) -> bool {
        self.generation == Generation::Next
    }

    fn promote(&mut self) -> Result<(), SinkError> {
        Ok(self.promote_store().inspect_err(|_| self.roll_back())?)
    }

    fn finish(&mut self, end: &End) -> Result<(), SinkError> {
        Ok(self.finish_store(end).inspect_err(|_| self.roll_back())?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
