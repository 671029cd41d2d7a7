//! What the stores themselves take at most: the rows of a replay, loaded by each store's own quickest way.

use crate::services::{Services, eddyline, median, now_ms, succeed};
use mongodb::bson::{Document, doc};
use rusqlite::Connection;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Loads what a replay of `events` events puts into stores, beside [`crate::throughput`]: into SQLite in one transaction, from a
/// file that has the rows, and indexes after them; into MariaDB by `LOAD DATA LOCAL INFILE`, a file for each table; into Redis by
/// `redis-cli --pipe`, one command for each recommendation and two for each sequence; into MongoDB by `insert_many`, 1,000
/// documents at a time, in no order. Events a second, median of three.
pub(crate) fn bulk(services: &Services, events: u64) {
    let directory = tempfile::tempdir().unwrap();
    let (log, store) = (directory.path().join("log.csv"), directory.path().join("rows.db"));
    let mut generate = eddyline("generate");
    generate.arg(&log).args(["--events", &events.to_string(), "--users", "50000", "--items", "20000", "-q"]);
    succeed(&mut generate);
    succeed(eddyline("replay").arg(&log).args(["-q", "--store"]).arg(&store));
    let rows = Connection::open(&store).unwrap();
    let report = |name: &str, load: &mut dyn FnMut() -> f64| {
        let (middle, least, most) = median((0..3).map(|_| load()).collect());
        println!("{name:<28} {:>9.0} events/s  ({middle:.2} s, {least:.2}–{most:.2})", events as f64 / middle);
    };
    report("SQLite, one transaction", &mut || sqlite(&rows, directory.path()));
    report("MariaDB, LOAD DATA", &mut || mariadb(services, &rows, directory.path()));
    report("Redis, redis-cli --pipe", &mut || redis(services, &rows, directory.path()));
    report("MongoDB, insert_many", &mut || mongodb(services, &rows));
}

fn sqlite(rows: &Connection, directory: &Path) -> f64 {
    let file = directory.join(format!("bulk{}.db", now_ms()));
    let schema = |kind: &str| -> Vec<(String, String)> {
        let query = "SELECT name, sql FROM sqlite_schema WHERE type = ?1 AND sql IS NOT NULL";
        let mut statement = rows.prepare(query).unwrap();
        let found = statement.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        found.map(Result::unwrap).collect()
    };
    let (tables, indexes) = (schema("table"), schema("index"));
    let target = Connection::open(file).unwrap();
    target.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").unwrap();
    target.execute("ATTACH ?1 AS source", [rows.path().unwrap()]).unwrap();
    let started = Instant::now();
    target.execute_batch("BEGIN").unwrap();
    for (name, sql) in &tables {
        target.execute_batch(sql).unwrap();
        target.execute_batch(&format!("INSERT INTO main.\"{name}\" SELECT * FROM source.\"{name}\"")).unwrap();
    }
    indexes.iter().for_each(|(_, sql)| target.execute_batch(sql).unwrap());
    target.execute_batch("COMMIT").unwrap();
    started.elapsed().as_secs_f64()
}

/// The columns of the contract, section 5.
const RECORD: &str = "SELECT user, item, behavior, strftime('%Y-%m-%d %H:%M:%f', time / 1000.0, 'unixepoch'), late, log, \
                      partition, offset FROM record";
const RECOMMENDATION: &str = "SELECT user, strftime('%Y-%m-%d %H:%M:%f', time / 1000.0, 'unixepoch'), items, last_reward, \
                              from_model, coalesce(model, '') FROM recommendation";

fn mariadb(services: &Services, rows: &Connection, directory: &Path) -> f64 {
    let name = format!("bulk_{}", now_ms());
    let tables = [("record", RECORD), ("recommendation", RECOMMENDATION)];
    let mut statements = format!(
        "CREATE DATABASE {name}; USE {name}; \
         CREATE TABLE record (`user` BIGINT, `item` BIGINT, `behavior` VARCHAR(16), `time` DATETIME(3), `late` BOOL, `log` BIGINT, \
         `partition` INT, `offset` BIGINT, PRIMARY KEY (`log`, `partition`, `offset`), INDEX (`user`, `time`)); \
         CREATE TABLE recommendation (`user` BIGINT, `time` DATETIME(3), `items` JSON, `last_reward` BIGINT, `from_model` BOOL, \
         `model` VARCHAR(64), PRIMARY KEY (`user`, `time`));"
    );
    services.sql(&statements);
    statements.clear();
    for (table, query) in tables {
        let file = directory.join(format!("{table}.tsv"));
        fs::write(&file, separated(rows, query)).unwrap();
        let _ = write!(statements, "LOAD DATA LOCAL INFILE '{}' INTO TABLE {name}.{table};", file.display());
    }
    let started = Instant::now();
    services.sql(&statements);
    started.elapsed().as_secs_f64()
}

/// Rows with tabs between their columns.
fn separated(rows: &Connection, query: &str) -> String {
    let mut statement = rows.prepare(query).unwrap();
    let columns = statement.column_count();
    let mut found = statement.query([]).unwrap();
    let mut text = String::new();
    while let Some(row) = found.next().unwrap() {
        for column in 0..columns {
            let between = if column == 0 { "" } else { "\t" };
            let _ = match row.get_ref(column).unwrap() {
                rusqlite::types::ValueRef::Integer(number) => write!(text, "{between}{number}"),
                rusqlite::types::ValueRef::Text(bytes) => write!(text, "{between}{}", String::from_utf8_lossy(bytes)),
                other => panic!("no text: {other:?}"),
            };
        }
        text.push('\n');
    }
    text
}

fn redis(services: &Services, rows: &Connection, directory: &Path) -> f64 {
    let mut commands = String::new();
    let mut add = |words: &[&str]| {
        let _ = write!(commands, "*{}\r\n", words.len());
        words.iter().for_each(|word| {
            let _ = write!(commands, "${}\r\n{word}\r\n", word.len());
        });
    };
    let prefix = format!("bulk{}:", now_ms());
    let mut statement = rows.prepare("SELECT user, items FROM recommendation").unwrap();
    let mut found = statement.query([]).unwrap();
    while let Some(row) = found.next().unwrap() {
        let (user, items) = (row.get::<_, i64>(0).unwrap(), row.get::<_, String>(1).unwrap());
        add(&["SET", &format!("{prefix}rec_{user}"), &items]);
    }
    // Every recommendation comes with a sequence of that user, of which the store keeps the newest.
    let mut statement =
        rows.prepare("SELECT user, items FROM recent JOIN (SELECT user FROM recommendation) USING (user)").unwrap();
    let mut found = statement.query([]).unwrap();
    while let Some(row) = found.next().unwrap() {
        let (user, items) = (row.get::<_, i64>(0).unwrap(), row.get::<_, String>(1).unwrap());
        let key = format!("{prefix}hist_{user}");
        add(&["DEL", &key]);
        let items: Vec<&str> = items.trim_matches(['[', ']']).split(',').collect();
        add(&[&["RPUSH", &key], items.as_slice()].concat());
    }
    let file = directory.join("commands");
    fs::write(&file, &commands).unwrap();
    let url = url::Url::parse(&services.redis).unwrap();
    let mut command = Command::new("redis-cli");
    command.args(["-h", url.host_str().unwrap(), "-p", &url.port().unwrap().to_string(), "--pipe"]);
    if let Some(password) = url.password() {
        command.env("REDISCLI_AUTH", password);
    }
    let started = Instant::now();
    succeed(command.stdin(fs::File::open(&file).unwrap()).stdout(Stdio::null()));
    started.elapsed().as_secs_f64()
}

fn mongodb(services: &Services, rows: &Connection) -> f64 {
    let mut statement = rows.prepare("SELECT user, item, behavior, time, partition, offset FROM record").unwrap();
    let record = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Document> {
        let key = doc! { "partition": row.get::<_, i64>(4)?, "offset": row.get::<_, i64>(5)? };
        let (user, item) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
        Ok(
            doc! { "_id": key, "user": user, "item": item, "behavior": row.get::<_, String>(2)?, "time": row.get::<_, i64>(3)? },
        )
    };
    let records: Vec<Document> = statement.query_map([], record).unwrap().map(Result::unwrap).collect();
    let mut statement = rows.prepare("SELECT user, time, items, last_reward FROM recommendation").unwrap();
    let recommendation = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Document> {
        let (user, time, items) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?);
        let items: Vec<i64> = items.trim_matches(['[', ']']).split(',').filter_map(|item| item.parse().ok()).collect();
        let key = doc! { "user": user, "time": time };
        Ok(doc! { "_id": key, "user": user, "itemRec": items, "time": time, "lastReward": row.get::<_, i64>(3)? })
    };
    let lists: Vec<Document> = statement.query_map([], recommendation).unwrap().map(Result::unwrap).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = mongodb::Client::with_uri_str(&services.mongodb).await.unwrap();
        let database = client.database(&format!("bulk_{}", now_ms()));
        let started = Instant::now();
        for (name, documents) in [("records", &records), ("recommendResults", &lists)] {
            let collection = database.collection::<Document>(name);
            for chunk in documents.chunks(1_000) {
                collection.insert_many(chunk).ordered(false).await.unwrap();
            }
        }
        started.elapsed().as_secs_f64()
    })
}
