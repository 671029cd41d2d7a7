//! Every sink in the form in which the suite can handle it: open it, and say what it holds and should hold.

use super::replay::{Replay, SLIDE, TICK};
use dataflows::event::Time;
use dataflows::time::Steps;
use eddyline::sinks::Sink;
use eddyline::sinks::canonical::{CanonicalFiles, FILE_NAMES};
use eddyline::sinks::embedded::{EmbeddedStore, StoreOptions};
use eddyline::sinks::identity::{OtherPipeline, Pipeline, RunIdentity};
use eddyline::sinks::ids::OutputIds;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Lines or rows, by file or table.
pub(crate) type Content = BTreeMap<String, Vec<String>>;

pub(crate) trait Subject {
    fn open(&self, directory: &Path) -> Box<dyn Sink>;

    /// What it holds; `None` if that doesn't look whole.
    fn content(&self, directory: &Path) -> Option<Content>;

    /// What it should hold.
    fn expected(&self, replay: &Replay) -> Content;

    /// Takes away what is not in the directory.
    fn clear(&self, _: &Path) {}
}

/// Runs a test on a few values of `strategy`: servers are slow.
pub(crate) fn check<S: Strategy>(strategy: S, test: impl Fn(S::Value)) {
    let mut runner = TestRunner::new(Config { cases: 8, failure_persistence: None, ..Config::default() });
    let test = |value| {
        test(value);
        Ok(())
    };
    runner.run(&strategy, test).unwrap();
}

pub(crate) const BEHAVIORS: [&str; 4] = ["pv", "cart", "fav", "buy"];

fn behaviors() -> Vec<String> {
    BEHAVIORS.map(String::from).to_vec()
}

pub(crate) struct Canonical;

impl Subject for Canonical {
    fn open(&self, directory: &Path) -> Box<dyn Sink> {
        Box::new(CanonicalFiles::create(&directory.join("out"), &behaviors()).unwrap())
    }

    fn content(&self, directory: &Path) -> Option<Content> {
        let lines = |name: &str| {
            let text = fs::read_to_string(directory.join("out").join(name)).ok()?;
            Some((name.to_owned(), text.lines().map(String::from).collect()))
        };
        FILE_NAMES.into_iter().map(lines).collect()
    }

    fn expected(&self, replay: &Replay) -> Content {
        let items = |items: &[u64]| serde_json::to_string(items).unwrap();
        let popular = replay.popular.iter().map(|(window_end, list)| {
            let (ids, counts): (Vec<u64>, Vec<u64>) = list.iter().copied().unzip();
            format!(r#"{{"window_end":{window_end},"items":{},"counts":{}}}"#, items(&ids), items(&counts))
        });
        let recent = replay
            .recent
            .iter()
            .map(|((time, user), list)| format!(r#"{{"time":{time},"user":{user},"items":{}}}"#, items(list)));
        let recommendations = replay.recommendations.iter().map(|((time, user), (list, from_model, last_reward))| {
            let list = items(list);
            format!(
                r#"{{"time":{time},"user":{user},"items":{list},"from_model":{from_model},"last_reward":{last_reward}}}"#
            )
        });
        let late = replay.records.values().filter(|event| event.late).map(|event| {
            let (partition, offset) = (event.position.partition(), event.position.offset());
            let (user, item, behavior) = (event.user.0, event.item.0, BEHAVIORS[usize::from(event.behavior.0)]);
            let time = event.time;
            format!(
                r#"{{"partition":{partition},"offset":{offset},"user":{user},"item":{item},"behavior":"{behavior}","time":{time}}}"#
            )
        });
        let rejected = replay.rejected.iter().map(|(position, (reason, record))| {
            let (partition, offset) = (position.partition(), position.offset());
            let (reason, record) = (reason.name(), base64(record));
            format!(r#"{{"partition":{partition},"offset":{offset},"reason":"{reason}","record":"{record}"}}"#)
        });
        let lines =
            [popular.collect(), recent.collect(), recommendations.collect(), late.collect(), rejected.collect()];
        FILE_NAMES.map(String::from).into_iter().zip::<[Vec<String>; 5]>(lines).collect()
    }
}

/// Base64, bit by bit.
fn base64(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1)).collect();
    let digit = |bits: &[u8]| {
        let n = (0..6).fold(0, |n, i| n * 2 + bits.get(i).copied().unwrap_or(0));
        ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).nth(usize::from(n)).unwrap()
    };
    let mut text: String = bits.chunks(6).map(digit).collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

pub(crate) struct Embedded {
    pub(crate) commit_rows: usize,
}

pub(crate) const LOG: u64 = (1 << 63) - 5;

pub(crate) fn run_identity(epoch: Option<u64>) -> RunIdentity {
    let serde_json::Value::Object(parts) = json!({"time.tick": "20s", "log": LOG.to_string()}) else {
        unreachable!("the literal is an object")
    };
    RunIdentity {
        pipeline: Pipeline { fingerprint: "one".into(), parts },
        epoch,
        log: LOG,
        behaviors: behaviors(),
        model: Some("0123abcd".into()),
        tick: Steps::new(TICK).unwrap(),
        slide: SLIDE,
        ids: OutputIds::Raw,
        other_pipeline: OtherPipeline::Refuse,
    }
}

pub(crate) fn store_options(directory: &Path, commit_rows: usize) -> StoreOptions {
    StoreOptions {
        path: directory.join("store.db"),
        run: run_identity(None),
        commit_rows,
        lock_wait: Duration::from_millis(50),
    }
}

impl Subject for Embedded {
    fn open(&self, directory: &Path) -> Box<dyn Sink> {
        Box::new(EmbeddedStore::open(store_options(directory, self.commit_rows)).unwrap())
    }

    fn content(&self, directory: &Path) -> Option<Content> {
        let connection = read_only(directory);
        (meta(&connection, "status") == "finished").then(|| tables(&connection))
    }

    fn expected(&self, replay: &Replay) -> Content {
        expected_tables(replay)
    }
}

pub(crate) fn read_only(directory: &Path) -> Connection {
    Connection::open_with_flags(directory.join("store.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

pub(crate) fn meta(connection: &Connection, key: &str) -> String {
    connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).unwrap()
}

/// All rows of all tables but `meta`, with the columns that the documentation promises.
pub(crate) fn tables(connection: &Connection) -> Content {
    let queries = [
        (
            "record",
            r#"user, item, behavior, time, logical_time, late, log, "partition", "offset" FROM record
               ORDER BY log, "partition", "offset""#,
        ),
        ("recommendation", "user, time, items, last_reward, from_model, model FROM recommendation ORDER BY time, user"),
        (
            "recommendation_latest",
            "user, time, items, last_reward, from_model, model FROM recommendation_latest ORDER BY user",
        ),
        ("popular", r#"window_end, "rank", item, count FROM popular ORDER BY window_end, "rank""#),
        ("popular_latest", r#""rank", item, count, window_end FROM popular_latest ORDER BY "rank""#),
        ("recent", "user, time, items FROM recent ORDER BY user"),
        ("rejected", r#"log, "partition", "offset", reason, record FROM rejected ORDER BY log, "partition", "offset""#),
    ];
    queries.into_iter().map(|(table, query)| (table.to_owned(), rows(connection, &format!("SELECT {query}")))).collect()
}

pub(crate) fn rows(connection: &Connection, query: &str) -> Vec<String> {
    let mut statement = connection.prepare(query).unwrap();
    let columns = statement.column_count();
    let text = |value: Value| match value {
        Value::Null => "null".to_owned(),
        Value::Integer(n) => n.to_string(),
        Value::Real(x) => x.to_string(),
        Value::Text(text) => text,
        Value::Blob(bytes) => format!("{bytes:?}"),
    };
    let rows = statement.query_map([], |row| {
        (0..columns).map(|i| row.get(i).map(text)).collect::<Result<Vec<_>, _>>().map(|row| row.join("|"))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

pub(crate) fn expected_tables(replay: &Replay) -> Content {
    let items = |items: &[u64]| serde_json::to_string(items).unwrap();
    let records = replay.records.values().map(|event| {
        let (partition, offset) = (event.position.partition(), event.position.offset());
        let (user, item, behavior) = (event.user.0, event.item.0, BEHAVIORS[usize::from(event.behavior.0)]);
        let (time, logical, late) = (event.time, event.logical, u8::from(event.late));
        format!("{user}|{item}|{behavior}|{time}|{logical}|{late}|{LOG}|{partition}|{offset}")
    });
    let recommendation = |(&(time, user), (list, from_model, last_reward)): (&(Time, u64), &(Vec<u64>, u32, i64))| {
        (user, format!("{user}|{time}|{}|{last_reward}|{from_model}|0123abcd", items(list)))
    };
    // A map keeps the last, which is the newest, of each user.
    let latest: BTreeMap<u64, String> = replay.recommendations.iter().map(recommendation).collect();
    let recent: BTreeMap<u64, String> =
        replay.recent.iter().map(|(&(time, user), list)| (user, format!("{user}|{time}|{}", items(list)))).collect();
    let popular = replay.popular.iter().flat_map(|(window_end, list)| {
        let ranked = (1..).zip(list);
        ranked.map(move |(rank, (item, count))| format!("{window_end}|{rank}|{item}|{count}"))
    });
    let popular_latest = replay.newest.iter().flat_map(|window_end| {
        let ranked = (1..).zip(&replay.popular[window_end]);
        ranked.map(move |(rank, (item, count))| format!("{rank}|{item}|{count}|{window_end}"))
    });
    let rejected = replay.rejected.iter().map(|(position, (reason, record))| {
        let (partition, offset) = (position.partition(), position.offset());
        format!("{LOG}|{partition}|{offset}|{}|{record:?}", reason.name())
    });
    Content::from([
        ("record".to_owned(), records.collect()),
        (
            "recommendation".to_owned(),
            replay.recommendations.iter().map(recommendation).map(|(_, row)| row).collect::<Vec<_>>(),
        ),
        ("recommendation_latest".to_owned(), latest.into_values().collect()),
        ("popular".to_owned(), popular.collect()),
        ("popular_latest".to_owned(), popular_latest.collect()),
        ("recent".to_owned(), recent.into_values().collect()),
        ("rejected".to_owned(), rejected.collect()),
    ])
}
