//! MySQL and MariaDB (contract, section 5): the behaviour log, recommendations, and the newest trending list, in tables that
//! `docs/sinks.md` shows to users.
//!
//! ```text
//!   Batch ── records, recommendations ──▶ statements of thousands of rows ── flush ──▶ one transaction:
//!      └──── newest list ── kept ─────────────────────────────────────────────────────▶ lock meta, rows, top, frontier
//! ```
//!
//! - *Transactions.* Rows wait in memory until [`Sink::flush`], or until there are [`FLUSH_BYTES`] of them; then they are written
//!   in one transaction, which begins by locking the one row of `eddyline_meta` and ends by moving the frontier there. A
//!   transaction that fails is begun again with the same statements, on a new connection.
//! - *Frontier.* The rows with T or E < F are all there. A run that starts again skips them. Records come unaligned with F;
//!   writing one again changes nothing, since its key is its place in the log.
//! - *Fencing.* Opening puts the run's epoch and a fresh token into `eddyline_meta`, unless a greater epoch is there; every
//!   transaction checks the token.
//! - *Generations.* A new generation is built in tables named `…__next`, which take the old ones' names in one `RENAME TABLE`.

mod connection;
mod error;
mod open;
mod rows;
mod schema;

pub use super::runtime::TimeLimits;
pub use error::MySqlError;

use super::identity::{Holding, Pipeline, RunIdentity};
use super::stop::Stop;
use super::{Batch, End, Sink, SinkError, is_newest};
use crate::fault;
use crate::secret::Secret;
use connection::Server;
use dataflows::event::Time;
use dataflows::rows::PopularList;
use rows::RowWriter;
use schema::{Generation, META, TOP};

/// How many bytes of statements wait at most: what a transaction holds if nobody asks for less.
const FLUSH_BYTES: usize = 8 << 20;

/// The longest behaviour that `record` has room for, in characters.
pub const BEHAVIOR_LENGTH_MAX: usize = 16;

/// How to open a database.
#[derive(Clone, Debug)]
pub struct MySqlOptions {
    /// `mysql://user:password@host:3306/database`; further `?ssl-mode=` and `ssl-ca=`, as MySQL's own programs have them.
    /// TLS is on, and verified, unless the host is this machine.
    pub url: Secret,
    /// How long to wait for the server.
    pub limits: TimeLimits,
}

/// A database, being written.
pub struct MySqlSink {
    server: Server,
    rows: RowWriter,
    generation: Generation,
    writer: String,
    epoch: u64,
    slide: Time,
    was_finished: bool,
    /// The frontier when the database was opened.
    opened_at: Time,
    /// The frontier of the last transaction.
    durable: Time,
    /// The last batch's.
    frontier: Time,
    /// The last list that came.
    popular: Option<PopularList>,
    /// The window end in `top`, if a transaction of ours has set it.
    shown: Option<Option<Time>>,
}

impl MySqlSink {
    /// Opens a database to write to it; makes its tables if need be. Raising `stop` ends every call that waits for the server.
    ///
    /// # Errors
    /// If it can't be reached or used, if its tables have another shape or hold what is not ours, or if a run of a greater epoch
    /// holds them.
    pub fn open(options: &MySqlOptions, run: &RunIdentity, stop: &Stop) -> Result<MySqlSink, MySqlError> {
        if let Some(long) = run.behaviors.iter().find(|name| name.chars().count() > BEHAVIOR_LENGTH_MAX) {
            return Err(MySqlError::LongBehavior(long.clone()));
        }
        let mut server = Server::new(options, stop)?;
        let opened = open::open(&mut server, run)?;
        let answer = server.query("tables", "SELECT @@max_allowed_packet")?;
        let packet = answer.first().and_then(|row| row.first()?.as_deref()?.parse().ok()).unwrap_or(1 << 20);
        Ok(MySqlSink {
            rows: RowWriter::new(opened.generation, run, packet),
            server,
            generation: opened.generation,
            writer: opened.writer,
            epoch: run.epoch.unwrap_or(0),
            slide: run.slide,
            was_finished: opened.finished,
            opened_at: opened.frontier,
            durable: opened.frontier,
            frontier: 0,
            popular: None,
            shown: None,
        })
    }

    /// Says whether a run could open the database, and changes nothing. `pipeline`: whose results a run would write, if known.
    ///
    /// # Errors
    /// As [`MySqlSink::open`], but for the rights to drop and alter tables, which only doing so shows.
    pub fn inspect(options: &MySqlOptions, pipeline: Option<&Pipeline>, stop: &Stop) -> Result<Holding, MySqlError> {
        open::inspect(&mut Server::new(options, stop)?, pipeline)
    }

    /// Whether the whole log's results are there already.
    fn is_whole(&self) -> bool {
        self.was_finished && self.opened_at == Time::MAX
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<(), MySqlError> {
        if self.is_whole() {
            return Ok(());
        }
        // First, so that a call that fails and is made again has not taken the batch yet.
        if self.rows.bytes() >= FLUSH_BYTES {
            self.commit()?;
        }
        self.rows.write(batch, self.durable);
        self.frontier = batch.frontier;
        if let Some(list) = batch.popular.last() {
            self.popular = Some(list.clone());
        }
        Ok(())
    }

    /// Writes what waits.
    fn commit(&mut self) -> Result<(), MySqlError> {
        if self.rows.bytes() == 0 && self.frontier <= self.durable {
            return Ok(());
        }
        let popular = self.popular.clone().filter(|list| is_newest(list, self.slide, self.frontier));
        self.transact(&End { frontier: self.frontier, popular }, false)
    }

    /// One transaction: the rows that wait; and if the frontier is further than the one there, that and the newest list. After
    /// an error nothing of it has happened, or all, and the same rows wait.
    fn transact(&mut self, state: &End, finishes: bool) -> Result<(), MySqlError> {
        match self.try_transact(state, finishes) {
            Ok(stored) => {
                if state.frontier > stored {
                    self.shown = Some(window_end(state));
                }
                // Also where it is what is stored: that is ours, by a commit whose answer was lost.
                self.durable = self.durable.max(state.frontier);
                self.rows.clear();
                Ok(())
            }
            Err(error) => {
                self.server.disconnect();
                self.shown = None;
                Err(error)
            }
        }
    }

    /// Returns the frontier that was there.
    fn try_transact(&mut self, state: &End, finishes: bool) -> Result<Time, MySqlError> {
        self.server.connect()?;
        self.server.execute(META.name, "START TRANSACTION")?;
        let stored = self.fence()?;
        for (table, statement) in self.rows.statements() {
            self.server.execute(table, statement)?;
        }
        let meta = self.generation.quoted(&META);
        let is_new = state.frontier > stored || finishes && state.frontier == stored;
        if is_new && self.shown != Some(window_end(state)) {
            for statement in self.rows.top(self.generation, state.popular.as_ref()).into_iter().flatten() {
                self.server.execute(TOP.name, statement)?;
            }
        }
        if is_new {
            let frontier = state.frontier;
            self.server.execute(META.name, format!("UPDATE {meta} SET `frontier` = {frontier} WHERE `id` = 1"))?;
        }
        if finishes {
            self.server.execute(META.name, format!("UPDATE {meta} SET `status` = 'finished' WHERE `id` = 1"))?;
        }
        fault::point("mysql.commit");
        self.server.execute(META.name, "COMMIT")?;
        fault::point("mysql.committed");
        Ok(stored)
    }

    /// Locks the row that says whose the tables are, checks that they are ours, and returns the frontier there.
    fn fence(&mut self) -> Result<Time, MySqlError> {
        let meta = self.generation.quoted(&META);
        let query = format!("SELECT `epoch`, `writer`, `frontier` FROM {meta} WHERE `id` = 1 FOR UPDATE");
        let rows = self.server.query(META.name, query)?;
        let database = self.server.place();
        let [Some(epoch), Some(writer), Some(frontier)] = rows.first().map(Vec::as_slice).unwrap_or_default() else {
            return Err(MySqlError::Lost { database, detail: format!("{} is empty", META.name) });
        };
        if *writer != self.writer {
            let theirs = epoch.parse().unwrap_or(0);
            return Err(match theirs > self.epoch {
                true => MySqlError::Fenced { database, theirs, ours: self.epoch },
                false => MySqlError::TakenOver { database },
            });
        }
        match frontier.parse() {
            Ok(stored) if stored >= self.durable => Ok(stored),
            _ => Err(MySqlError::Lost {
                database,
                detail: format!("its frontier was {}, and is {frontier}", self.durable),
            }),
        }
    }

    /// Puts the generation that is being built in the place of the old one.
    fn promote_tables(&mut self) -> Result<(), MySqlError> {
        if self.generation == Generation::Current {
            return Ok(());
        }
        let outcome = self.try_promote();
        if outcome.is_err() {
            // With the connection, the lock goes.
            self.server.disconnect();
        }
        outcome
    }

    fn try_promote(&mut self) -> Result<(), MySqlError> {
        self.server.connect()?;
        open::lock(&mut self.server)?;
        // An earlier call may have got that far, and its answer been lost.
        if schema::read(&mut self.server)?.contains_key(&Generation::Next.name(&META)) {
            self.fence()?;
            open::replace_current(&mut self.server)?;
        }
        self.generation = Generation::Current;
        self.rows.set_generation(Generation::Current);
        self.fence()?;
        open::unlock(&mut self.server)
    }

    /// A run that ended before an earlier, finished one changes nothing but the records that it may add.
    fn finish_tables(&mut self, end: &End) -> Result<(), MySqlError> {
        if !self.is_whole() {
            if end.frontier < self.durable && !self.was_finished {
                return Err(MySqlError::EndedEarlier { database: self.server.place() });
            }
            self.transact(end, true)?;
        }
        self.promote_tables()
    }
}

fn window_end(state: &End) -> Option<Time> {
    state.popular.as_ref().map(|list| list.window_end)
}

impl Sink for MySqlSink {
    fn name(&self) -> &'static str {
        "mysql"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        Ok(self.write_batch(batch)?)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(self.commit()?)
    }

    fn durable(&self) -> Time {
        self.durable
    }

    fn is_building(&self) -> bool {
        self.generation == Generation::Next
    }

    fn promote(&mut self) -> Result<(), SinkError> {
        self.commit()?;
        Ok(self.promote_tables()?)
    }

    fn finish(&mut self, end: &End) -> Result<(), SinkError> {
        Ok(self.finish_tables(end)?)
    }
}
