//! Opening a store: whose is it, and which tables are to be written.

use super::error::StoreError;
use super::schema::{APPLICATION_ID, Generation, SCHEMA_VERSION};
use super::{OtherPipeline, Pipeline, StoreOptions};
use dataflows::event::Time;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde_json::{Map, Value};
use std::fs;
use std::hash::{BuildHasher, RandomState};
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
}

/// What a generation's `meta` says.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    schema_version: u32,
    number: u64,
    pipeline: Pipeline,
    frontier: Option<Time>,
    finished: bool,
}

/// What is to be done with the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Make the current generation, in an empty file.
    Create,
    /// Go on with what is there.
    Continue(Generation),
    /// Delete everything, then make the current generation.
    Purge,
    /// Make the next generation; delete the one that another pipeline may have left half built.
    Build,
    Refuse,
}

fn plan(current: Option<&Found>, next: Option<&Found>, ours: &Pipeline, choice: OtherPipeline) -> Plan {
    let is_ours = |found: &Found| found.pipeline.fingerprint == ours.fingerprint;
    match (current, choice) {
        (None, _) => Plan::Create,
        (Some(_), OtherPipeline::Purge) => Plan::Purge,
        (Some(found), _) if is_ours(found) => Plan::Continue(Generation::Current),
        (Some(_), OtherPipeline::Refuse) => Plan::Refuse,
        (Some(_), OtherPipeline::NewGeneration) if next.is_some_and(is_ours) => Plan::Continue(Generation::Next),
        (Some(_), OtherPipeline::NewGeneration) => Plan::Build,
    }
}

pub(super) fn open(options: &StoreOptions) -> Result<Opened, StoreError> {
    let connection = connect(options)?;
    let error = |source| StoreError::new(&options.path, source);
    connection.execute_batch("BEGIN IMMEDIATE").map_err(error)?;
    let current = read(&connection, Generation::Current, &options.path)?;
    let next = read(&connection, Generation::Next, &options.path)?;
    let plan = plan(current.as_ref(), next.as_ref(), &options.pipeline, options.other_pipeline);
    let number = current.as_ref().map_or(0, |found| found.number) + 1;
    let prepared = match plan {
        Plan::Refuse => {
            let theirs = current.as_ref().map(|found| &found.pipeline);
            let difference = theirs.map_or(String::new(), |theirs| options.pipeline.difference(theirs));
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
        Plan::Continue(generation) => {
            let found = if generation == Generation::Current { current } else { next };
            (generation, found.expect("the plan is to continue what was found"))
        }
    };
    let (generation, found) = prepared;
    let mut writer = String::new();
    if !(found.finished && found.frontier == Some(Time::MAX)) {
        // Any number that no other run has: a map's random keys are fresh from the operating system.
        writer = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        generation.set_meta(&connection, "writer", &writer).map_err(error)?;
        generation.set_meta(&connection, "status", "unfinished").map_err(error)?;
    }
    connection.execute_batch("COMMIT").map_err(error)?;
    Ok(Opened {
        connection,
        generation,
        number: found.number,
        writer,
        frontier: found.frontier,
        finished: found.finished,
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
    let setup = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
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
    Ok(Some(Found {
        schema_version,
        number: number.ok_or_else(|| damaged("its generation has no number"))?,
        pipeline: Pipeline {
            fingerprint: meta("fingerprint")?.ok_or_else(|| damaged("it has no fingerprint"))?,
            parts: parts.ok_or_else(|| damaged("it does not describe its pipeline"))?,
        },
        frontier,
        finished: meta("status")?.as_deref() == Some("finished"),
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
    let pipeline = &options.pipeline;
    let set = |key, value: &str| generation.set_meta(connection, key, value);
    set("schema_version", &SCHEMA_VERSION.to_string())?;
    set("generation", &number.to_string())?;
    set("fingerprint", &pipeline.fingerprint)?;
    set("pipeline", &Value::Object(pipeline.parts.clone()).to_string())?;
    set("log", &options.log.to_string())?;
    let pipeline = pipeline.clone();
    let found = Found { schema_version: SCHEMA_VERSION, number, pipeline, frontier: None, finished: false };
    Ok((generation, found))
}

pub(super) fn set_frontier(connection: &Connection, generation: Generation, frontier: Time) -> rusqlite::Result<()> {
    let text = if frontier == Time::MAX { "end".to_owned() } else { frontier.to_string() };
    generation.set_meta(connection, "frontier", &text)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
