//! Opening a database: whose is it, and which tables are to be written.

use super::connection::Server;
use super::error::MySqlError;
use super::schema::{self, Generation, META, SCHEMA_VERSION, Shape, TABLES, Table};
use crate::sinks::identity::{Holding, OtherPipeline, Pipeline, Plan, RunIdentity, plan, writer_token};
use dataflows::event::Time;
use serde_json::Value;
use std::collections::BTreeMap;

/// Tables that are ours to write.
pub(super) struct Opened {
    pub(super) generation: Generation,
    /// Our token in `eddyline_meta`.
    pub(super) writer: String,
    pub(super) frontier: Time,
    pub(super) finished: bool,
}

/// What a generation's `eddyline_meta` says.
struct Found {
    pipeline: Pipeline,
    epoch: u64,
    frontier: Time,
    finished: bool,
}

/// Makes the tables ours; those of others are left alone, or the run is refused before anything is written.
pub(super) fn open(server: &mut Server, run: &RunIdentity) -> Result<Opened, MySqlError> {
    server.connect()?;
    lock(server)?;
    let opened = open_locked(server, run);
    if opened.is_err() {
        server.disconnect();
        return opened;
    }
    unlock(server)?;
    opened
}

/// Keeps other runs from opening or replacing tables meanwhile: statements that define tables commit each by itself.
pub(super) fn lock(server: &mut Server) -> Result<(), MySqlError> {
    let answer = server.query("tables", "SELECT GET_LOCK(CONCAT('eddyline:', MD5(DATABASE())), 20)")?;
    match answer.first().and_then(|row| row.first()) {
        Some(Some(granted)) if granted == "1" => Ok(()),
        _ => Err(MySqlError::Busy { database: server.place() }),
    }
}

pub(super) fn unlock(server: &mut Server) -> Result<(), MySqlError> {
    server.query("tables", "SELECT RELEASE_LOCK(CONCAT('eddyline:', MD5(DATABASE())))").map(drop)
}

/// Looks at the tables and changes nothing. `pipeline`: the one that is to write them, if that is known.
pub(super) fn inspect(server: &mut Server, pipeline: Option<&Pipeline>) -> Result<Holding, MySqlError> {
    server.connect()?;
    let shapes = schema::read(server)?;
    check_shapes(server, &shapes)?;
    check_rights(server, &shapes)?;
    let Some(found) = read(server, &shapes, Generation::Current)? else {
        return check_empty(server, &shapes).map(|()| Holding::Nothing);
    };
    match pipeline.filter(|pipeline| pipeline.fingerprint != found.pipeline.fingerprint) {
        Some(pipeline) => {
            let difference = pipeline.difference(&found.pipeline);
            Err(MySqlError::OtherPipeline { database: server.place(), difference })
        }
        None => Ok(Holding::Results(found.frontier)),
    }
}

fn open_locked(server: &mut Server, run: &RunIdentity) -> Result<Opened, MySqlError> {
    let shapes = schema::read(server)?;
    check_shapes(server, &shapes)?;
    let current = read(server, &shapes, Generation::Current)?;
    let next = read(server, &shapes, Generation::Next)?;
    let fingerprint = |found: &Option<Found>| found.as_ref().map(|found| found.pipeline.fingerprint.clone());
    let plan = plan(
        fingerprint(&current).as_deref(),
        fingerprint(&next).as_deref(),
        &run.pipeline.fingerprint,
        run.other_pipeline,
    );
    drop_tables(server, &shapes, Generation::Old)?;
    let (generation, found) = match plan {
        Plan::Refuse => {
            let difference = current.map_or(String::new(), |found| run.pipeline.difference(&found.pipeline));
            return Err(MySqlError::OtherPipeline { database: server.place(), difference });
        }
        Plan::Continue { next: false } => (Generation::Current, current),
        Plan::Continue { next: true } => (Generation::Next, next),
        Plan::Create if run.other_pipeline != OtherPipeline::Purge => {
            check_empty(server, &shapes)?;
            make(server, Generation::Current, run)?;
            (Generation::Current, None)
        }
        Plan::Create | Plan::Purge => {
            purge(server, &shapes)?;
            make(server, Generation::Current, run)?;
            (Generation::Current, None)
        }
        Plan::Build => {
            drop_tables(server, &shapes, Generation::Next)?;
            make(server, Generation::Next, run)?;
            (Generation::Next, None)
        }
    };
    check_writes(server, TABLES.into_iter().map(|table| (table, generation)))?;
    take(server, generation, found.as_ref(), run)
}

/// Marks a generation as written by this run, which whoever wrote it before finds out with his next transaction.
fn take(
    server: &mut Server,
    generation: Generation,
    found: Option<&Found>,
    run: &RunIdentity,
) -> Result<Opened, MySqlError> {
    let ours = run.epoch.unwrap_or(0);
    if let Some(theirs) = found.map(|found| found.epoch).filter(|theirs| *theirs > ours) {
        return Err(MySqlError::Fenced { database: server.place(), theirs, ours });
    }
    let writer = writer_token();
    let (frontier, finished) = found.map_or((0, false), |found| (found.frontier, found.finished));
    let mut changes = format!("`epoch` = {ours}, `writer` = {}", quote(&writer));
    if !(finished && frontier == Time::MAX) {
        changes.push_str(", `status` = 'unfinished'");
    }
    let meta = generation.quoted(&META);
    server.execute(META.name, format!("UPDATE {meta} SET {changes} WHERE `id` = 1 AND `epoch` <= {ours}"))?;
    // Another run's transaction may have been in the way until now, and have moved the frontier.
    let found = read_meta(server, generation)?;
    let frontier = found.map_or(frontier, |found| found.frontier);
    Ok(Opened { generation, writer, frontier, finished })
}

fn check_shapes(server: &Server, shapes: &BTreeMap<String, Shape>) -> Result<(), MySqlError> {
    for table in TABLES {
        if let Some((difference, statements)) = shapes.get(table.name).and_then(|shape| table.compare(shape)) {
            let (database, table) = (server.place(), table.name.to_owned());
            return Err(MySqlError::Shape { database, table, difference, statements });
        }
    }
    Ok(())
}

/// Whether the tables that are there can be written, and those that are not can be made.
fn check_rights(server: &mut Server, shapes: &BTreeMap<String, Shape>) -> Result<(), MySqlError> {
    let (there, missing): (Vec<&Table>, Vec<&Table>) =
        TABLES.into_iter().partition(|table| shapes.contains_key(table.name));
    check_writes(server, there.into_iter().map(|table| (table, Generation::Current)))?;
    let Some(table) = missing.first() else { return Ok(()) };
    // A user sees his own rights here, and those of his roles.
    let query = format!(
        "SELECT privilege_type FROM information_schema.user_privileges UNION ALL \
         SELECT privilege_type FROM information_schema.schema_privileges WHERE DATABASE() LIKE table_schema UNION ALL \
         SELECT privilege_type FROM information_schema.table_privileges WHERE table_schema = DATABASE() AND \
         table_name = '{}'",
        table.name
    );
    let granted = server.query(table.name, query)?;
    let has = |right: &str| granted.iter().flatten().flatten().any(|granted| granted == right);
    match ["CREATE", "SELECT", "INSERT", "UPDATE", "DELETE"].into_iter().find(|right| !has(right)) {
        None => Ok(()),
        Some(right) => {
            Err(server.lacks(format!("{right} command denied for table '{}', which is to be made", table.name)))
        }
    }
}

/// Writes no rows in every way that a run writes some, so that a right that is missing is told before any event is taken.
fn check_writes(
    server: &mut Server,
    tables: impl Iterator<Item = (&'static Table, Generation)>,
) -> Result<(), MySqlError> {
    for (table, generation) in tables {
        let (name, column) = (generation.quoted(table), table.key_column());
        // Not from the table itself: that takes a temporary table, over which MariaDB 10.11 has been seen to die.
        let columns: Vec<String> = table.column_names().map(|column| format!("`{column}`")).collect();
        let (nulls, columns) = (vec!["NULL"; columns.len()].join(", "), columns.join(", "));
        for statement in [
            format!("INSERT INTO {name} ({columns}) SELECT {nulls} FROM DUAL WHERE FALSE"),
            format!("UPDATE {name} SET `{column}` = `{column}` WHERE FALSE"),
            format!("DELETE FROM {name} WHERE FALSE"),
        ] {
            server.execute(table.name, statement)?;
        }
    }
    Ok(())
}

/// Without our meta, rows in tables of our names are of others.
fn check_empty(server: &mut Server, shapes: &BTreeMap<String, Shape>) -> Result<(), MySqlError> {
    for table in TABLES.into_iter().filter(|table| shapes.contains_key(table.name)) {
        let row = server.query(table.name, format!("SELECT 1 FROM `{}` LIMIT 1", table.name))?;
        if !row.is_empty() {
            return Err(MySqlError::ForeignRows { database: server.place(), table: table.name.to_owned() });
        }
    }
    Ok(())
}

/// Reads what a generation says of itself; `None` if there is no such generation.
fn read(
    server: &mut Server,
    shapes: &BTreeMap<String, Shape>,
    generation: Generation,
) -> Result<Option<Found>, MySqlError> {
    let is_whole = TABLES
        .iter()
        .all(|table| shapes.get(&generation.name(table)).is_some_and(|shape| table.compare(shape).is_none()));
    if is_whole { read_meta(server, generation) } else { Ok(None) }
}

fn read_meta(server: &mut Server, generation: Generation) -> Result<Option<Found>, MySqlError> {
    let columns = "`schema_version`, `fingerprint`, `pipeline`, `epoch`, `frontier`, `status`";
    let query = format!("SELECT {columns} FROM {} WHERE `id` = 1", generation.quoted(&META));
    let rows = server.query(META.name, query)?;
    let [Some(version), Some(fingerprint), Some(pipeline), Some(epoch), Some(frontier), Some(status)] =
        rows.first().map(Vec::as_slice).unwrap_or_default()
    else {
        return Ok(None);
    };
    let damaged = || MySqlError::Lost { database: server.place(), detail: format!("its {} makes no sense", META.name) };
    let schema_version: u32 = version.parse().map_err(|_| damaged())?;
    if schema_version > SCHEMA_VERSION {
        return Err(MySqlError::NewerSchema { database: server.place(), found: schema_version, known: SCHEMA_VERSION });
    }
    Ok(Some(Found {
        pipeline: Pipeline {
            fingerprint: fingerprint.clone(),
            parts: serde_json::from_str(pipeline).map_err(|_| damaged())?,
        },
        epoch: epoch.parse().map_err(|_| damaged())?,
        frontier: frontier.parse().map_err(|_| damaged())?,
        finished: status == "finished",
    }))
}

/// Makes a generation's tables that are not there, and says whose they are.
fn make(server: &mut Server, generation: Generation, run: &RunIdentity) -> Result<(), MySqlError> {
    for table in TABLES {
        server.execute(table.name, table.create(generation))?;
    }
    let parts = Value::Object(run.pipeline.parts.clone()).to_string();
    let insert = format!(
        "INSERT INTO {} (`id`, `schema_version`, `fingerprint`, `pipeline`, `log`, `epoch`, `writer`, `frontier`, `status`) \
         VALUES (1, {SCHEMA_VERSION}, {}, {}, {}, 0, '', 0, 'unfinished')",
        generation.quoted(&META),
        quote(&run.pipeline.fingerprint),
        quote(&parts),
        run.log
    );
    server.execute(META.name, insert)
}

/// Deletes all rows; that of `eddyline_meta` first, so that nothing passes for whole, and nobody goes on writing.
fn purge(server: &mut Server, shapes: &BTreeMap<String, Shape>) -> Result<(), MySqlError> {
    drop_tables(server, shapes, Generation::Next)?;
    let mut there: Vec<&Table> = TABLES.into_iter().filter(|table| shapes.contains_key(table.name)).collect();
    there.sort_by_key(|table| table.name != META.name);
    for table in there {
        let statement = if table.name == META.name { "DELETE FROM" } else { "TRUNCATE TABLE" };
        server.execute(table.name, format!("{statement} `{}`", table.name))?;
    }
    Ok(())
}

fn drop_tables(
    server: &mut Server,
    shapes: &BTreeMap<String, Shape>,
    generation: Generation,
) -> Result<(), MySqlError> {
    for table in TABLES.into_iter().filter(|table| shapes.contains_key(&generation.name(table))) {
        server.execute(table.name, format!("DROP TABLE IF EXISTS {}", generation.quoted(table)))?;
    }
    Ok(())
}

/// Puts the next generation in the place of the current one, in one step. To be called under [`lock`].
pub(super) fn replace_current(server: &mut Server) -> Result<(), MySqlError> {
    let shapes = schema::read(server)?;
    drop_tables(server, &shapes, Generation::Old)?;
    let rename =
        |table: &Table, from: Generation, to: Generation| format!("{} TO {}", from.quoted(table), to.quoted(table));
    let there = |table: &&&Table| shapes.contains_key(table.name);
    let away = TABLES.iter().filter(there).map(|table| rename(table, Generation::Current, Generation::Old));
    let renames: Vec<String> =
        away.chain(TABLES.iter().map(|table| rename(table, Generation::Next, Generation::Current))).collect();
    server.execute("tables", format!("RENAME TABLE {}", renames.join(", ")))?;
    let shapes = schema::read(server)?;
    drop_tables(server, &shapes, Generation::Old)
}

/// A string literal, under the mode that every session sets.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
