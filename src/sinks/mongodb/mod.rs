//! MongoDB: the behaviour log, what users have consumed, and recommendations (contract, section 5). `docs/sinks-mongodb.md`
//! shows the collections to users.
//!
//! ```text
//!   Batch ── records ────────┬──▶ records          _id (log, partition, offset)
//!      │                     └──▶ userConsumed     _id user; changed in place: `consumed.rs`
//!      ├──── recommendations ───▶ recommendResults _id (user, T)
//!      └──── frontier ──────────▶ eddyline         whose, by whom, how far: `meta.rs`
//! ```
//!
//! - *Durable at once.* A batch with rows is in the journals of a majority when [`Sink::write`] returns. One without rows only
//!   moves the frontier, which waits for [`Sink::flush`] or the next rows.
//! - *Atomic* where the server has transactions: `write.rs` says how, and what holds where it has none.
//! - *Reconnects.* Calls fail while no server can be written to, with errors that may be tried again; the driver finds the
//!   new primary by itself.
//! - *Threads.* The driver is asynchronous and watches the servers between calls; it has two threads of its own here, which
//!   end with the sink.
//! - The driver needs MongoDB 4.4 or newer.

mod command;
mod connect;
mod consumed;
mod error;
mod meta;
mod open;
mod rows;
mod schema;
mod write;

pub use error::{MongoError, Place};
pub use rows::Times;

use super::identity::{Holding, Pipeline, RunIdentity};
use super::stop::Stop;
use super::{Batch, End, Sink, SinkError};
use crate::secret::Secret;
use command::Store;
use dataflows::event::Time;
use meta::Status;
use rows::Shape;
use tokio::runtime::{Builder, Runtime};
use write::Pieces;

/// A document of `userConsumed` with more pairs might not fit 16 MB, with times as text.
pub const CONSUMED_MAX: usize = 100_000;

/// Whether to use transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transactions {
    /// Where the server has them.
    #[default]
    Auto,
    /// Never: for servers that say they have them and don't.
    Never,
}

/// Where documents go, and what they look like.
#[derive(Clone, Debug)]
pub struct MongoOptions {
    /// `mongodb://…`, as MongoDB's drivers read it; but TLS is on unless it says `tls=false` or its hosts are this machine.
    pub uri: Secret,
    /// The database.
    pub database: String,
    /// `output.consumed_max`: at most [`CONSUMED_MAX`].
    pub consumed_max: usize,
    /// `output.time_format` and `output.time_zone`.
    pub times: Times,
    /// `output.int32`.
    pub int32: bool,
    /// Whether to use transactions.
    pub transactions: Transactions,
}

/// A MongoDB database, being written.
pub struct MongoSink {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    /// `None` only while it is dropped.
    store: Option<Store>,
    pieces: Pieces,
    /// Of batches without rows.
    pending: Time,
    /// How the store was when it was opened.
    had: Time,
    /// Rows with T below it may have been there.
    reached: Time,
    was_finished: bool,
    is_whole: bool,
}

impl MongoSink {
    /// Opens a database to write to it. Raising `stop` ends every call that waits for the server.
    ///
    /// # Errors
    /// If it can't be reached or the login is refused; if it holds the results of another pipeline, or documents of somebody
    /// else; or if a run with a greater epoch writes to it. [`MongoError::is_retryable`] tells what may pass.
    pub fn open(options: &MongoOptions, run: &RunIdentity, stop: &Stop) -> Result<MongoSink, MongoError> {
        let runtime = runtime(options)?;
        let opening = async {
            let store = connect::connect(options, stop).await?;
            let session = match options.transactions {
                Transactions::Auto => connect::session(&store).await?,
                Transactions::Never => None,
            };
            let id = session.as_ref().and_then(connect::session_id);
            let opened = open::open(&store, run, id.as_ref()).await?;
            Ok::<_, MongoError>((store, session, opened))
        };
        let (store, session, opened) = runtime.block_on(opening)?;
        let shape = Shape {
            ids: run.ids.clone(),
            behaviors: run.behaviors.clone(),
            times: options.times.clone(),
            int32: options.int32,
            log: run.log,
            model: run.model.clone(),
        };
        let (frontier, is_new) = (opened.frontier, opened.is_new);
        let pieces = Pieces::new(shape, options.consumed_max, opened.writer, session, frontier, is_new);
        Ok(MongoSink {
            runtime: Some(runtime),
            store: Some(store),
            pieces,
            pending: 0,
            had: frontier,
            reached: opened.reached,
            was_finished: opened.finished,
            is_whole: opened.finished && frontier == Time::MAX,
        })
    }

    /// Says whether a run could open the database, and changes nothing. `pipeline`: whose results a run would write, if known.
    ///
    /// # Errors
    /// As [`MongoSink::open`].
    pub fn inspect(options: &MongoOptions, pipeline: Option<&Pipeline>, stop: &Stop) -> Result<Holding, MongoError> {
        let runtime = runtime(options)?;
        let outcome = runtime.block_on(async {
            let store = connect::connect(options, stop).await?;
            open::inspect(&store, pipeline).await
        });
        runtime.shutdown_background();
        outcome
    }

    /// Whether batches are written in transactions.
    pub fn has_transactions(&self) -> bool {
        self.pieces.session.is_some()
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<(), MongoError> {
        let (Some(runtime), Some(store)) = (&self.runtime, &self.store) else { return Ok(()) };
        if self.is_whole {
            return Ok(());
        }
        if batch.records.is_empty() && batch.recommendations.is_empty() {
            self.pending = self.pending.max(batch.frontier);
            return Ok(());
        }
        runtime.block_on(self.pieces.write(store, batch))
    }

    fn flush_pending(&mut self) -> Result<(), MongoError> {
        let (Some(runtime), Some(store)) = (&self.runtime, &self.store) else { return Ok(()) };
        runtime.block_on(self.pieces.advance(store, self.pending, None))
    }

    /// A run that ended before an earlier, finished one changes nothing but the records that it may add.
    fn finish_store(&mut self, end: &End) -> Result<(), MongoError> {
        let (Some(runtime), Some(store)) = (&self.runtime, &self.store) else { return Ok(()) };
        if self.is_whole {
            return Ok(());
        }
        if end.frontier < self.had && !self.was_finished {
            return Err(MongoError::EndedEarlier(store.place.clone()));
        }
        runtime.block_on(self.pieces.advance(store, end.frontier, Some(Status::Finished)))
    }
}

/// What the driver runs on.
fn runtime(options: &MongoOptions) -> Result<Runtime, MongoError> {
    if options.consumed_max > CONSUMED_MAX {
        return Err(MongoError::ConsumedMax(options.consumed_max));
    }
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(1).thread_name("mongodb").enable_all();
    builder.build().map_err(MongoError::Thread)
}

impl Sink for MongoSink {
    fn name(&self) -> &'static str {
        "mongodb"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        Ok(self.write_batch(batch)?)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(self.flush_pending()?)
    }

    fn durable(&self) -> Time {
        self.pieces.durable
    }

    fn reached(&self) -> Time {
        self.reached.max(self.pieces.durable)
    }

    fn finish(&mut self, end: &End) -> Result<(), SinkError> {
        Ok(self.finish_store(end)?)
    }
}

impl Drop for MongoSink {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        {
            // The driver tells its connections to close, on the runtime that it is in.
            let _inside = runtime.enter();
            self.pieces.session = None;
            self.store = None;
        }
        // A name that is being resolved can't be interrupted.
        runtime.shutdown_background();
    }
}
