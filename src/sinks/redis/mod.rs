//! Redis (contract, section 5): of every user the newest recommendation and sequence, and the newest trending list, under keys
//! that `docs/sinks.md` shows to users.
//!
//! ```text
//!   Batch ── newest per user ── flush ──▶ chunk, chunk, …, chunk with list and frontier ──▶ one script call each
//!      └──── newest list ── kept ───────────────────────────────┘
//! ```
//!
//! - *Chunks.* Rows wait in memory until [`Sink::flush`], or until there are [`FLUSH_BYTES`] of them. Then they are cut into
//!   chunks, each the call of a script that checks whose turn it is and writes all of it or nothing. Other clients wait for
//!   one chunk and not for all. Chunks are numbered; the number of the last one written is in the meta hash, so that one
//!   whose answer was lost is not written twice, and it shows when the server has forgotten one.
//! - *Frontier.* Rows with T < F are all there, or newer ones of the same users; the last chunk of a flush moves F. If a flush
//!   ends in the middle, some users' rows are newer than F. So that they never go back, `pending` says up to where, and
//!   the next run keeps its rows until it has got there.
//! - *Fencing.* Opening puts the run's epoch and a fresh token into the meta hash, unless a greater epoch is there; every chunk
//!   checks the token.
//! - *Durability* is the server's matter: what it has acknowledged it keeps as `appendonly` and `appendfsync` say. A server that
//!   has lost what a snapshot relies on is found out, and the run refused.

mod connection;
mod error;
mod open;
mod rows;
mod schema;

pub use super::runtime::TimeLimits;
pub use error::RedisError;

use super::identity::{self, Holding, RunIdentity};
use super::stop::Stop;
use super::{Batch, End, Sink, SinkError, is_newest};
use crate::fault;
use crate::secret::Secret;
use connection::{Scripts, Server, texts};
use dataflows::event::Time;
use dataflows::rows::PopularList;
use redis::Pipeline;
use rows::{Chunk, RowWriter};
use schema::Keys;
use std::collections::VecDeque;

/// How many bytes of rows wait at most, if nobody asks for less.
const FLUSH_BYTES: usize = 8 << 20;

/// How many chunks are sent before the first answer is waited for.
const CHUNKS_IN_FLIGHT: usize = 32;

/// How to open a database.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// `redis://user:password@host:6379/0`, or `rediss://…` for TLS, with `?ca=FILE` if the server's CA is not a public one.
    pub url: Secret,
    /// What every key begins with (`output.redis_prefix`).
    pub prefix: String,
    /// Whether trending items also stand under the keys `1`, `2`, ….
    pub legacy_keys: bool,
    /// How long to wait for the server.
    pub limits: TimeLimits,
}

/// A database, being written.
pub struct RedisSink {
    server: Server,
    keys: Keys,
    rows: RowWriter,
    scripts: Scripts,
    writer: String,
    epoch: u64,
    slide: Time,
    legacy_keys: bool,
    was_finished: bool,
    /// The frontier when the database was opened.
    opened_at: Time,
    /// Rows wait at least until the frontier has got there.
    pending: Time,
    /// The frontier of the last flush.
    durable: Time,
    /// The last batch's.
    frontier: Time,
    /// The last list that came.
    popular: Option<PopularList>,
    /// The window end of the list there, if a flush of ours has set it.
    shown: Option<Option<Time>>,
    /// How many legacy keys there may be.
    ranks: usize,
    /// What is being written.
    flush: Option<Flush>,
    /// Of the last chunk whose answer came.
    number: u64,
}

/// Chunks on their way, and what holds when they have arrived.
struct Flush {
    chunks: VecDeque<Chunk>,
    frontier: Time,
    shown: Option<Option<Time>>,
    ranks: usize,
}

impl RedisSink {
    /// Opens a database to write to it. Raising `stop` ends every call that waits for the server.
    ///
    /// # Errors
    /// If it can't be reached or used, if keys of our names are not ours or hold something else, or if a run of a greater epoch
    /// holds them.
    pub fn open(options: &RedisOptions, run: &RunIdentity, stop: &Stop) -> Result<RedisSink, RedisError> {
        let keys = Keys::new(&options.prefix);
        let mut server = Server::new(options, &keys, stop)?;
        let opened = open::open(&mut server, &keys, run)?;
        Ok(RedisSink {
            rows: RowWriter::new(keys.clone(), run),
            server,
            keys,
            scripts: opened.scripts,
            writer: opened.writer,
            epoch: run.epoch.unwrap_or(0),
            slide: run.slide,
            legacy_keys: options.legacy_keys,
            was_finished: opened.finished,
            opened_at: opened.frontier,
            pending: opened.pending.unwrap_or(0),
            durable: opened.frontier,
            frontier: 0,
            popular: None,
            shown: None,
            ranks: opened.ranks,
            flush: None,
            number: opened.number,
        })
    }

    /// Says whether a run could open the database, and changes nothing. `pipeline`: whose results a run would write, if known.
    ///
    /// # Errors
    /// As [`RedisSink::open`].
    pub fn inspect(
        options: &RedisOptions,
        pipeline: Option<&identity::Pipeline>,
        stop: &Stop,
    ) -> Result<Holding, RedisError> {
        let keys = Keys::new(&options.prefix);
        open::inspect(&mut Server::new(options, &keys, stop)?, &keys, pipeline)
    }

    /// Whether the whole log's results are there already.
    fn is_whole(&self) -> bool {
        self.was_finished && self.opened_at == Time::MAX
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<(), RedisError> {
        if self.is_whole() {
            return Ok(());
        }
        // First, so that a call that fails and is made again has not taken the batch yet.
        if self.flush.is_some() || self.rows.bytes() >= FLUSH_BYTES {
            self.flush_rows()?;
        }
        self.rows.write(batch, self.durable);
        self.frontier = batch.frontier;
        if let Some(list) = batch.popular.last() {
            self.popular = Some(list.clone());
        }
        Ok(())
    }

    /// Writes what waits.
    fn flush_rows(&mut self) -> Result<(), RedisError> {
        self.send()?;
        if self.frontier <= self.durable || self.frontier < self.pending {
            return Ok(());
        }
        let popular = self.popular.clone().filter(|list| is_newest(list, self.slide, self.frontier));
        self.prepare(&End { frontier: self.frontier, popular }, false);
        self.send()
    }

    /// Cuts what waits into chunks, of which the last one makes `state` hold.
    fn prepare(&mut self, state: &End, finishes: bool) {
        let mut chunks = VecDeque::from(self.rows.chunks());
        let window_end = state.popular.as_ref().map(|list| list.window_end);
        let shows = self.shown != Some(window_end);
        let (several, mut ranks) = (chunks.len() > 1, self.ranks);
        let frontier = state.frontier.to_string();
        if let Some(first) = chunks.front_mut().filter(|_| several) {
            first.note("pending", &frontier);
        }
        if let Some(last) = chunks.back_mut() {
            if shows {
                ranks = self.rows.show(last, state.popular.as_ref(), self.legacy_keys, self.ranks);
                last.note("ranks", &ranks.to_string());
                last.note("window_end", &window_end.map(|end| end.to_string()).unwrap_or_default());
            }
            last.note("frontier", &frontier);
            last.note("pending", "");
            if finishes {
                last.note("status", "finished");
            }
        }
        self.flush = Some(Flush { chunks, frontier: state.frontier, shown: Some(window_end), ranks });
    }

    /// Sends the chunks that are on their way, until all have arrived.
    fn send(&mut self) -> Result<(), RedisError> {
        while let Some(flush) = &self.flush {
            if flush.chunks.is_empty() {
                (self.durable, self.shown, self.ranks) = (flush.frontier, flush.shown, flush.ranks);
                self.pending = 0;
                self.flush = None;
                break;
            }
            self.send_some().inspect_err(|_| self.server.disconnect())?;
        }
        Ok(())
    }

    fn send_some(&mut self) -> Result<(), RedisError> {
        if self.server.connect()? {
            self.scripts = self.server.load()?;
        }
        let Some(flush) = &mut self.flush else { return Ok(()) };
        let (meta, script) = (self.keys.meta(), &self.scripts.write);
        let mut commands = Pipeline::with_capacity(CHUNKS_IN_FLIGHT);
        for (number, chunk) in (self.number + 1..).zip(flush.chunks.iter().take(CHUNKS_IN_FLIGHT)) {
            commands.add_command(chunk.command(script, &meta, &self.writer, number));
        }
        fault::point("redis.chunks");
        for answer in self.server.call_all(&commands)? {
            let answer = texts(&answer?);
            let word = |i: usize| answer.get(i).and_then(Option::as_deref).unwrap_or_default();
            if word(0) != "ok" {
                return Err(self.complaint(word(0), word(1), word(2)));
            }
            flush.chunks.pop_front();
            self.number += 1;
        }
        Ok(())
    }

    /// Why the script did not write a chunk.
    fn complaint(&self, what: &str, first: &str, second: &str) -> RedisError {
        let place = self.server.place();
        match what {
            "taken" => match first.parse() {
                Ok(theirs) if theirs > self.epoch => RedisError::Fenced { place, theirs, ours: self.epoch },
                _ => RedisError::TakenOver { place },
            },
            "type" => {
                let name = first.strip_prefix(self.keys.prefix()).unwrap_or(first);
                let wanted = if name.starts_with("hist_") || name == "popular" { "list" } else { "string" };
                RedisError::WrongType { place, key: first.into(), found: second.into(), wanted }
            }
            "lost" => {
                let detail = format!("its last piece was number {}, and is {first}", self.number);
                RedisError::Lost { place, detail }
            }
            _ => RedisError::Lost { place, detail: format!("{} has gone", self.keys.meta()) },
        }
    }

    /// A run that ended before an earlier, finished one changes nothing.
    fn finish_keys(&mut self, end: &End) -> Result<(), RedisError> {
        if self.is_whole() {
            return Ok(());
        }
        self.send()?;
        if end.frontier < self.durable.max(self.pending) {
            if !self.was_finished {
                return Err(RedisError::EndedEarlier { place: self.server.place() });
            }
            let mut chunk = Chunk::default();
            chunk.note("status", "finished");
            let (frontier, shown, ranks) = (self.durable, self.shown, self.ranks);
            self.flush = Some(Flush { chunks: VecDeque::from([chunk]), frontier, shown, ranks });
        } else {
            self.prepare(end, true);
        }
        self.send()
    }
}

impl Sink for RedisSink {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        Ok(self.write_batch(batch)?)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(self.flush_rows()?)
    }

    fn durable(&self) -> Time {
        self.durable
    }

    fn reached(&self) -> Time {
        self.durable.max(self.pending)
    }

    fn finish(&mut self, end: &End) -> Result<(), SinkError> {
        Ok(self.finish_keys(end)?)
    }
}
