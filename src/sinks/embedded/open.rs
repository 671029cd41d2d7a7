//! Opening a store: whose is it, and which tables are to be written.

use super::error::StoreError;
use super::ledger::LogDigest;
use super::schema::{APPLICATION_ID, Generation, SCHEMA_VERSION};
use super::{Pipeline, StoreOptions};
use crate::sinks::identity::{Plan, plan, writer_token};
use dataflows::event::Time;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde_json::{Map, Value};
use std::fs;
use std::io;
use std::path::Path;

/// Memory for pages, KiB.
const CACHE_KIB: u32 = 64 << 10;

/// The same while indexes are made. SQLite sorts as much at a time as its cache would hold; 1 MiB stays in a processor's
/// cache, and makes an index of 4 million rows in 0.7 µs a row, where 64 MiB take 1.7 µs.
const INDEX_CACHE_KIB: u32 = 1 << 10;

/// A store that is ours to write.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) generation: Generation,
    pub(super) number: u64,
    pub(super) writer: String,
    pub(super) frontier: Option<Time>,
    pub(super) finished: bool,
    /// Of the log that the store was made of, if this run can be compared with it.
    pub(super) log_digest: Option<LogDigest>,
}

/// What a generation's `meta` says.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    schema_version: u32,
    number: u64,
    pipeline: Pipeline,
    frontier: Option<Time>,
    finished: bool,
    log_digest: Option<LogDigest>,
}

pub(super) fn open(options: &StoreOptions) -> Result<Opened, StoreError> {
    let connection = connect(options)?;
    let error = |source| StoreError::new(&options.path, source);
    connection.execute_batch("BEGIN IMMEDIATE").map_err(error)?;
    let current = read(&connection, Generation::Current, &options.path)?;
    let next = read(&connection, Generation::Next, &options.path)?;
    let fingerprint = |found: &Option<Found>| found.as_ref().map(|found| found.pipeline.fingerprint.clone());
    let ours = &options.run.pipeline.fingerprint;
    let choice = options.run.other_pipeline;
    let plan = plan(fingerprint(&current).as_deref(), fingerprint(&next).as_deref(), ours, choice);
    let number = current.as_ref().map_or(0, |found| found.number) + 1;
    let prepared = match plan {
        Plan::Refuse => {
            let theirs = current.as_ref().map(|found| &found.pipeline);
            let difference = theirs.map_or(String::new(), |theirs| options.run.pipeline.difference(theirs));
            return Err(StoreError::OtherPipeline { path: options.path.clone(), difference });
        }
        Plan::Create => make(&connection, Generation::Current, number, options).map_err(error)?,
        Plan::Purge => {
            Generation::Next.drop(&connection).map_err(error)?;
            Generation::Current.drop(&connection).map_err(error)?;
            make(&connection, Generation::Current, number, options).map_err(error)?
        }
        Plan::Build => {
            Generation::Next.drop(&connection).map_err(error)?;
            make(&connection, Generation::Next, number, options).map_err(error)?
        }
        Plan::Continue { next: goes_on_with_next } => {
            let generation = if goes_on_with_next { Generation::Next } else { Generation::Current };
            check_epoch(&connection, generation, options.run.epoch, &options.path)?;
            let found = if goes_on_with_next { next } else { current };
            (generation, found.expect("the plan is to continue what was found"))
        }
    };
    let (generation, found) = prepared;
    let mut writer = String::new();
    if !(found.finished && found.frontier == Some(Time::MAX)) {
        writer = writer_token();
        generation.set_meta(&connection, "writer", &writer).map_err(error)?;
        generation.set_meta(&connection, "status", "unfinished").map_err(error)?;
    }
    if let Some(epoch) = options.run.epoch {
        generation.set_meta(&connection, "epoch", &epoch.to_string()).map_err(error)?;
        generation.create_indexes(&connection, found.number).map_err(error)?;
    }
    connection.execute_batch("COMMIT").map_err(error)?;
    Ok(Opened {
        connection,
        generation,
        number: found.number,
        writer,
        frontier: found.frontier,
        finished: found.finished,
        log_digest: found.log_digest.filter(|_| options.run.epoch.is_none()),
    })
}

/// Opens the file, makes sure that it is a store or empty, and sets it up.
fn connect(options: &StoreOptions) -> Result<Connection, StoreError> {
    let error = |source| StoreError::new(&options.path, source);
    // SQLite gives a meaning of its own to names such as ":memory:"; to absolute ones it doesn't.
    let path =
        std::path::absolute(&options.path).map_err(|source| StoreError::Open { path: options.path.clone(), source })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(|source| explain(&options.path, source))?;
    connection.busy_timeout(options.lock_wait).map_err(error)?;
    connection.set_prepared_statement_cache_capacity(32);
    let integer = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i32>(0)).map_err(error);
    let tables = integer("SELECT count(*) FROM sqlite_schema")?;
    if tables > 0 && integer("PRAGMA application_id")? != APPLICATION_ID {
        return Err(StoreError::NotAStore(options.path.clone()));
    }
    if connection.is_readonly("main").map_err(error)? {
        return Err(StoreError::ReadOnly(options.path.clone()));
    }
    // A replay can be run again; what a live run calls durable must outlast the machine.
    let synchronous = if options.run.epoch.is_some() { "FULL" } else { "NORMAL" };
    let setup = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
         PRAGMA cache_size = -{CACHE_KIB};"
    );
    connection.execute_batch(&setup).map_err(error)?;
    Ok(connection)
}

/// Why SQLite can't open a file; by itself it says no more than that.
fn explain(path: &Path, source: rusqlite::Error) -> StoreError {
    if source.sqlite_error_code() != Some(ErrorCode::CannotOpen) {
        return StoreError::new(path, source);
    }
    let found = fs::metadata(path).and_then(|found| {
        let writable = || fs::OpenOptions::new().read(true).write(true).open(path).map(drop);
        if found.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { writable() }
    });
    match found {
        Err(found) if found.kind() != io::ErrorKind::NotFound => StoreError::Open { path: path.into(), source: found },
        // The file isn't there and can't be made.
        Err(_) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            match fs::metadata(parent) {
                Err(source) if source.kind() == io::ErrorKind::NotFound => {
                    StoreError::NoDirectory { path: path.into(), directory: parent.into() }
                }
                Err(source) => StoreError::Open { path: path.into(), source },
                Ok(_) => StoreError::ReadOnly(path.into()),
            }
        }
        Ok(()) => StoreError::new(path, source),
    }
}

/// Reads what a generation says of itself; `None` if there is no such generation.
fn read(connection: &Connection, generation: Generation, path: &Path) -> Result<Option<Found>, StoreError> {
    let meta = |key| generation.meta(connection, key).map_err(|source| StoreError::new(path, source));
    let damaged = |detail: &str| StoreError::Damaged { path: path.to_owned(), detail: detail.to_owned() };
    let Some(version) = meta("schema_version")? else { return Ok(None) };
    let schema_version: u32 = version.parse().map_err(|_| damaged("its schema has no version"))?;
    if schema_version > SCHEMA_VERSION {
        let path = path.to_owned();
        return Err(StoreError::NewerSchema { path, found: schema_version, known: SCHEMA_VERSION });
    }
    let number = meta("generation")?.and_then(|text| text.parse().ok());
    let parts = meta("pipeline")?.and_then(|text| serde_json::from_str::<Map<String, Value>>(&text).ok());
    let frontier = match meta("frontier")?.as_deref() {
        None => None,
        Some("end") => Some(Time::MAX),
        Some(text) => Some(text.parse().map_err(|_| damaged("its frontier is not a time"))?),
    };
    let log_digest = meta("log_digest")?.map(|text| serde_json::from_str::<LogDigest>(&text));
    let log_digest = log_digest.transpose().map_err(|_| damaged("its log's digest cannot be read"))?;
    Ok(Some(Found {
        schema_version,
        number: number.ok_or_else(|| damaged("its generation has no number"))?,
        pipeline: Pipeline {
            fingerprint: meta("fingerprint")?.ok_or_else(|| damaged("it has no fingerprint"))?,
            parts: parts.ok_or_else(|| damaged("it does not describe its pipeline"))?,
        },
        frontier,
        finished: meta("status")?.as_deref() == Some("finished"),
        log_digest: log_digest.filter(|digest| digest.below == frontier.unwrap_or(0)),
    }))
}

/// Makes a generation's tables, with nothing in them but what they are for.
fn make(
    connection: &Connection,
    generation: Generation,
    number: u64,
    options: &StoreOptions,
) -> rusqlite::Result<(Generation, Found)> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    generation.create(connection)?;
    let pipeline = &options.run.pipeline;
    let set = |key, value: &str| generation.set_meta(connection, key, value);
    set("schema_version", &SCHEMA_VERSION.to_string())?;
    set("generation", &number.to_string())?;
    set("fingerprint", &pipeline.fingerprint)?;
    set("pipeline", &Value::Object(pipeline.parts.clone()).to_string())?;
    set("log", &options.run.log.to_string())?;
    let log_digest = options.run.epoch.is_none().then(LogDigest::default);
    if let Some(digest) = log_digest {
        set_log_digest(connection, generation, digest)?;
    }
    let pipeline = pipeline.clone();
    let found = Found { schema_version: SCHEMA_VERSION, number, pipeline, frontier: None, finished: false, log_digest };
    Ok((generation, found))
}

/// Refuses a writer of an older epoch than the store's.
pub(super) fn check_epoch(
    connection: &Connection,
    generation: Generation,
    epoch: Option<u64>,
    path: &Path,
) -> Result<(), StoreError> {
    let Some(ours) = epoch else { return Ok(()) };
    let stored = generation.meta(connection, "epoch").map_err(|source| StoreError::new(path, source))?;
    match stored.and_then(|text| text.parse().ok()) {
        Some(theirs) if theirs > ours => Err(StoreError::Fenced { path: path.to_owned(), theirs, ours }),
        _ => Ok(()),
    }
}

pub(super) fn set_frontier(connection: &Connection, generation: Generation, frontier: Time) -> rusqlite::Result<()> {
    let text = if frontier == Time::MAX { "end".to_owned() } else { frontier.to_string() };
    generation.set_meta(connection, "frontier", &text)
}

pub(super) fn set_log_digest(
    connection: &Connection,
    generation: Generation,
    digest: LogDigest,
) -> rusqlite::Result<()> {
    let text = serde_json::to_string(&digest).expect("numbers and text can be written");
    generation.set_meta(connection, "log_digest", &text)
}

pub(super) fn set_finished(connection: &Connection, generation: Generation) -> rusqlite::Result<()> {
    generation.set_meta(connection, "status", "finished")
}

/// To be called before the transaction that makes indexes and ends the run. From then on a commit waits for the disk.
pub(super) fn prepare_finish(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("PRAGMA synchronous = FULL; PRAGMA cache_size = -{INDEX_CACHE_KIB}"))
}

/// Moves everything from the write-ahead log to the database. A reader may be in the way, which does no harm: then a later
/// checkpoint does it.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
