//! Opening a database: whose are its keys, and how they become ours.

use super::connection::{Scripts, Server, text, texts};
use super::error::RedisError;
use super::schema::{Keys, SCHEMA_VERSION};
use crate::sinks::identity::{Holding, OtherPipeline, Pipeline, Plan, RunIdentity, plan, writer_token};
use dataflows::event::Time;
use redis::{Pipeline as Commands, Value, cmd};
use std::collections::BTreeMap;

/// Keys that are ours to write.
pub(super) struct Opened {
    pub(super) scripts: Scripts,
    /// Our token in the meta hash.
    pub(super) writer: String,
    /// Of the last chunk written.
    pub(super) number: u64,
    pub(super) frontier: Time,
    /// Where a run was on its way to when it ended in the middle.
    pub(super) pending: Option<Time>,
    /// How many legacy keys there are.
    pub(super) ranks: usize,
    pub(super) finished: bool,
}

/// What the meta hash says.
struct Found {
    pipeline: Pipeline,
    number: u64,
    frontier: Time,
    pending: Option<Time>,
    ranks: usize,
    finished: bool,
}

pub(super) fn open(server: &mut Server, keys: &Keys, run: &RunIdentity) -> Result<Opened, RedisError> {
    server.connect()?;
    let scripts = server.load()?;
    warn_of_settings(server)?;
    let found = read(server, keys)?;
    let fingerprint = found.as_ref().map(|found| found.pipeline.fingerprint.as_str());
    let place = server.place();
    let difference = || found.as_ref().map_or(String::new(), |found| run.pipeline.difference(&found.pipeline));
    let found = match plan(fingerprint, None, &run.pipeline.fingerprint, run.other_pipeline) {
        Plan::Refuse => return Err(RedisError::OtherPipeline { place, difference: difference() }),
        Plan::Build => return Err(RedisError::NoGenerations { place, difference: difference() }),
        Plan::Continue { .. } => found,
        Plan::Create if run.other_pipeline != OtherPipeline::Purge => {
            check_empty(server, keys)?;
            None
        }
        Plan::Create | Plan::Purge => {
            purge(server, keys, found.map_or(0, |found| found.ranks))?;
            None
        }
    };
    take(server, keys, scripts, found.as_ref(), run)
}

/// Looks at the keys and changes nothing. `pipeline`: the one that is to write them, if that is known.
pub(super) fn inspect(server: &mut Server, keys: &Keys, pipeline: Option<&Pipeline>) -> Result<Holding, RedisError> {
    server.connect()?;
    warn_of_settings(server)?;
    let found = read(server, keys)?;
    // Changes nothing, and wants the rights that a run wants.
    server.call(cmd("EVAL").arg("return redis.call('HDEL', KEYS[1], '')").arg(1).arg(keys.meta()))?;
    let Some(found) = found else {
        return check_empty(server, keys).map(|()| Holding::Nothing);
    };
    match pipeline.filter(|pipeline| pipeline.fingerprint != found.pipeline.fingerprint) {
        Some(pipeline) => {
            let difference = pipeline.difference(&found.pipeline);
            Err(RedisError::OtherPipeline { place: server.place(), difference })
        }
        None => Ok(Holding::Results(found.frontier)),
    }
}

/// Marks the keys as written by this run, which whoever wrote them before finds out with his next chunk.
fn take(
    server: &mut Server,
    keys: &Keys,
    scripts: Scripts,
    found: Option<&Found>,
    run: &RunIdentity,
) -> Result<Opened, RedisError> {
    let (ours, writer, place) = (run.epoch.unwrap_or(0), writer_token(), server.place());
    let is_whole = found.is_some_and(|found| found.finished && found.frontier == Time::MAX);
    let mut command = cmd("EVALSHA");
    command.arg(&scripts.open).arg(1).arg(keys.meta());
    command.arg(ours).arg(&writer).arg(if is_whole { "finished" } else { "unfinished" });
    if found.is_none() {
        let parts = serde_json::Value::Object(run.pipeline.parts.clone()).to_string();
        command.arg("version").arg(SCHEMA_VERSION).arg("fingerprint").arg(&run.pipeline.fingerprint);
        command.arg("pipeline").arg(parts).arg("log").arg(run.log).arg("epoch").arg(ours);
        command.arg("number").arg(0).arg("frontier").arg(0).arg("pending").arg("").arg("ranks").arg(0);
    }
    let answer = texts(&server.call(&command)?);
    match answer.first().and_then(Option::as_deref) {
        Some("ok") => {}
        Some("fenced") => {
            let theirs = answer.get(1).and_then(|epoch| epoch.as_deref()?.parse().ok()).unwrap_or(u64::MAX);
            return Err(RedisError::Fenced { place, theirs, ours });
        }
        Some("gone") => return Err(RedisError::Lost { place, detail: format!("{} has gone", keys.meta()) }),
        _ => return Err(RedisError::TakenOver { place }),
    }
    // From here on nobody else writes; until now, somebody may have.
    let now = read(server, keys)?;
    let now = now.ok_or_else(|| RedisError::Lost { place, detail: format!("{} has gone", keys.meta()) })?;
    let finished = found.is_some_and(|found| found.finished);
    let (number, frontier, pending, ranks) = (now.number, now.frontier, now.pending, now.ranks);
    Ok(Opened { scripts, writer, number, frontier, pending, ranks, finished })
}

/// Reads the meta hash; `None` if there is none.
fn read(server: &mut Server, keys: &Keys) -> Result<Option<Found>, RedisError> {
    let meta = keys.meta();
    check_kind(server, &meta, "hash")?;
    let answer = texts(&server.call(cmd("HGETALL").arg(&meta))?);
    let mut fields = BTreeMap::new();
    for pair in answer.chunks(2) {
        if let [Some(field), Some(value)] = pair {
            fields.insert(field.as_str(), value.as_str());
        }
    }
    if fields.is_empty() {
        return Ok(None);
    }
    let place = server.place();
    let number = |field: &str| fields.get(field).and_then(|value| value.parse::<u64>().ok());
    let nonsense = |field: &str| RedisError::Lost { place: place.clone(), detail: format!("{meta} has no {field}") };
    let version =
        number("version").and_then(|version| u32::try_from(version).ok()).ok_or_else(|| nonsense("version"))?;
    if version > SCHEMA_VERSION {
        return Err(RedisError::NewerSchema { place, found: version, known: SCHEMA_VERSION });
    }
    let parts = fields.get("pipeline").and_then(|text| serde_json::from_str(text).ok());
    Ok(Some(Found {
        pipeline: Pipeline {
            fingerprint: fields.get("fingerprint").ok_or_else(|| nonsense("fingerprint"))?.to_string(),
            parts: parts.ok_or_else(|| nonsense("pipeline"))?,
        },
        number: number("number").ok_or_else(|| nonsense("number"))?,
        frontier: number("frontier").ok_or_else(|| nonsense("frontier"))?,
        pending: number("pending"),
        ranks: number("ranks").and_then(|ranks| usize::try_from(ranks).ok()).unwrap_or(0),
        finished: fields.get("status") == Some(&"finished"),
    }))
}

fn check_kind(server: &mut Server, key: &str, wanted: &'static str) -> Result<(), RedisError> {
    let found = text(&server.call(cmd("TYPE").arg(key))?).unwrap_or_default();
    match found == "none" || found == wanted {
        true => Ok(()),
        false => Err(RedisError::WrongType { place: server.place(), key: key.to_owned(), found, wanted }),
    }
}

/// Without our meta, keys of our names are of others.
fn check_empty(server: &mut Server, keys: &Keys) -> Result<(), RedisError> {
    for (key, wanted) in [(keys.popular(), "list"), (keys.legacy(1), "string")] {
        check_kind(server, &key, wanted)?;
        if server.call(cmd("EXISTS").arg(&key))? != Value::Int(0) {
            return Err(RedisError::ForeignKey { place: server.place(), key });
        }
    }
    for (pattern, wanted) in keys.patterns() {
        scan(server, keys, &pattern, |server, found| {
            let Some(key) = found.first() else { return Ok(()) };
            check_kind(server, key, wanted)?;
            Err(RedisError::ForeignKey { place: server.place(), key: key.clone() })
        })?;
    }
    Ok(())
}

/// Deletes all keys of our names; the meta hash first, so that nobody goes on writing. One of another kind than ours is not
/// deleted but named.
fn purge(server: &mut Server, keys: &Keys, ranks: usize) -> Result<(), RedisError> {
    server.call(cmd("DEL").arg(keys.meta()))?;
    check_kind(server, &keys.popular(), "list")?;
    server.call(cmd("DEL").arg(keys.popular()))?;
    for rank in 1.. {
        let key = keys.legacy(rank);
        check_kind(server, &key, "string")?;
        // Another program's ranks have no gap either.
        if server.call(cmd("DEL").arg(&key))? == Value::Int(0) && rank >= ranks {
            break;
        }
    }
    for (pattern, wanted) in keys.patterns() {
        scan(server, keys, &pattern, |server, found| {
            // A scan may come by places without keys, and the client sends no empty pipeline.
            if found.is_empty() {
                return Ok(());
            }
            let mut kinds = Commands::new();
            found.iter().for_each(|key| {
                kinds.cmd("TYPE").arg(key);
            });
            for (key, kind) in found.iter().zip(server.call_all(&kinds)?) {
                let found = text(&kind?).unwrap_or_default();
                if found != "none" && found != wanted {
                    return Err(RedisError::WrongType { place: server.place(), key: key.clone(), found, wanted });
                }
            }
            server.call(cmd("UNLINK").arg(found)).map(drop)
        })?;
    }
    Ok(())
}

/// Hands all keys of users that match `pattern` to `visit`, some at a time.
fn scan(
    server: &mut Server,
    keys: &Keys,
    pattern: &str,
    mut visit: impl FnMut(&mut Server, &[String]) -> Result<(), RedisError>,
) -> Result<(), RedisError> {
    let mut cursor = "0".to_owned();
    loop {
        let answer = server.call(cmd("SCAN").arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1000))?;
        let Value::Array(parts) = answer else { return Ok(()) };
        let found: Vec<String> = parts.get(1).map(texts).unwrap_or_default().into_iter().flatten().collect();
        let ours: Vec<String> = found.into_iter().filter(|key| keys.is_of_user(key)).collect();
        visit(server, &ours)?;
        cursor = parts.first().and_then(text).unwrap_or_else(|| "0".into());
        if cursor == "0" {
            return Ok(());
        }
    }
}

/// What the server is set to do with our keys that the contract does not allow for.
fn warn_of_settings(server: &mut Server) -> Result<(), RedisError> {
    let place = server.place();
    // A user who may not ask need not be told.
    let info = server.call(&cmd("INFO")).ok().and_then(|answer| text(&answer)).unwrap_or_default();
    let is = |line: &str| info.lines().any(|found| found.trim_end() == line);
    if info.lines().any(|line| line.starts_with("maxmemory_policy:allkeys-")) && !is("maxmemory:0") {
        tracing::warn!(
            "{place} throws keys away when its memory is full; set its maxmemory-policy to noeviction, or results go missing"
        );
    }
    if is("aof_enabled:0") {
        tracing::warn!(
            "{place} keeps no append-only file: what it took last is lost if it restarts, and then this run can't go on \
             without --purge; set its appendonly to yes"
        );
    }
    if is("cluster_enabled:1") {
        return Err(RedisError::Cluster { place });
    }
    Ok(())
}
