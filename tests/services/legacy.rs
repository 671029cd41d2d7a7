//! `config/flinkrl.toml`: what the old deployment's web server and trainer read, as they read it, in the same types and
//! orders. Its queries are written out here; those of MySQL and Redis are put to the servers' own clients.

use crate::cluster;
use crate::pipeline::{eddyline, succeed};
use crate::services::variable;
use crate::stores::{documents, drop_mongodb, redis_json, sql};
use crate::world::{mysql_database, unused_name};
use mongodb::bson::{Bson, Document, doc};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use url::Url;

/// A database number that nothing else here uses: the preset has no prefix.
const REDIS_DATABASE: &str = "991";

fn data(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The preset, with the model of the repository.
fn preset(verb: &str) -> std::process::Command {
    let mut command = eddyline();
    command.args([verb, "-c", &data("config/flinkrl.toml"), "--model-dir", &data("data/sample-model")]);
    command
}

/// A part of the sample as the old deployment's messages were: user, item, seconds.
fn messages(path: &Path) {
    let text = String::from_utf8_lossy(&std::fs::read(data("data/sample.csv")).unwrap()).into_owned();
    let message = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let [user, item, _, time] = fields[..] else { return None };
        let is_number = |field: &str| field.parse::<u32>().is_ok();
        [user, item, time].into_iter().all(is_number).then(|| format!("{user},{item},{time}\n"))
    };
    std::fs::write(path, text.lines().filter_map(message).take(15_000).collect::<String>()).unwrap();
}

#[test]
fn the_old_deployments_readers_find_what_they_look_for() {
    let (Some(brokers), Some(uri)) = (variable("EDDYLINE_TEST_KAFKA"), variable("EDDYLINE_TEST_MONGODB")) else {
        return;
    };
    let (Some(mysql), Some(redis)) = (variable("EDDYLINE_TEST_MYSQL"), variable("EDDYLINE_TEST_REDIS")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log.csv");
    messages(&log);
    let topic = cluster::topic(&brokers, 1);
    let mut produce = preset("produce");
    succeed(produce.arg(&log).args(["--brokers", &brokers, "--topic", &topic, "--partition-by", "file", "-q"]));

    let (mysql, database) = (mysql_database(&mysql), unused_name());
    let mut redis = Url::parse(&redis).unwrap();
    redis.set_path(REDIS_DATABASE);
    let mut run = preset("run");
    for setting in [
        format!("kafka.brokers={brokers}"),
        format!("kafka.topic={topic}"),
        format!("mongodb.uri={uri}"),
        format!("mongodb.database={database}"),
        format!("mysql.url={mysql}"),
        format!("redis.url={redis}"),
    ] {
        run.args(["--set", &setting]);
    }
    let state = directory.path().join("state");
    succeed(run.arg("--state").arg(state).args(["--log-name", "old", "--until-end", "-w", "2", "--purge"]));
    let replayed = directory.path().join("replayed.db");
    let mut replay = preset("replay");
    succeed(replay.arg(&log).args(["--log-name", "old", "-q", "--store"]).arg(&replayed));
    let replayed = Connection::open_with_flags(replayed, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let numbers = |query: &str| -> Vec<i64> {
        replayed.prepare(query).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let top = numbers("SELECT item FROM popular_latest ORDER BY \"rank\"");
    assert!(top.len() > 1, "the last window has items");

    // The web server in Java: the newest list, rank by rank, `jedis.get("1")` … `jedis.get("17")`, and at once.
    let texts = |answer: &serde_json::Value| -> Vec<i64> {
        let found = answer.as_array().unwrap().iter().filter_map(|item| item.as_str());
        found.map(|item| item.parse().unwrap()).collect()
    };
    let ranks: Vec<String> = (1..=17).map(|rank| rank.to_string()).collect();
    let read = |commands: &[String]| redis_json(&redis, commands);
    assert_eq!(texts(&read(&[format!("MGET {}", ranks.join(" "))])[0]), top);
    assert_eq!(texts(&read(&["LRANGE popular 0 -1".to_owned()])[0]), top);
    let one_by_one = read(&ranks.iter().map(|rank| format!("GET {rank}")).collect::<Vec<_>>());
    assert_eq!(one_by_one[0].as_str().unwrap().parse::<i64>().unwrap(), top[0]);
    assert!(one_by_one[top.len()..].iter().all(serde_json::Value::is_null), "no rank is left over");

    // The scoring job in Python: a user's sequence, `r.lrange("hist_%d" % user, 0, -1)`.
    let user = numbers("SELECT user FROM recommendation_latest ORDER BY user LIMIT 1")[0];
    let recent: String =
        replayed.query_row("SELECT items FROM recent WHERE user = ?", [user], |row| row.get(0)).unwrap();
    let sequence: Vec<i64> = serde_json::from_str(&recent).unwrap();
    assert_eq!(texts(&read(&[format!("LRANGE hist_{user} 0 -1")])[0]), sequence);
    assert_eq!(sequence.len(), 10, "only users with a full sequence are scored");

    // The web server's other way to the list, and the trainer's to the log.
    let name = mysql.path().trim_start_matches('/');
    let rows = sql(&mysql, &format!("SELECT item FROM `{name}`.`top` ORDER BY `rank`"));
    assert_eq!(rows.iter().map(|item| item.parse::<i64>().unwrap()).collect::<Vec<_>>(), top);
    let records = numbers("SELECT count(*) FROM record")[0];
    let counted = sql(&mysql, &format!("SELECT COUNT(*), COUNT(DISTINCT `behavior`) FROM `{name}`.`record`"));
    assert_eq!(counted, [format!("{records}|1")]);

    // The web server: `db.recommendResults.find({"user": user}).sort("time", -1).limit(1)`, ids as ints, times as text.
    let user_int = i32::try_from(user).unwrap();
    let found = documents(&uri, &database, "recommendResults", doc! { "user": user_int }, doc! { "time": -1 });
    let newest = found.first().unwrap();
    let (time, items): (i64, String) = replayed
        .query_row("SELECT time, items FROM recommendation_latest WHERE user = ?", [user], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let text = jiff::Timestamp::from_millisecond(time).unwrap().strftime("%Y-%m-%d %H:%M:%S").to_string();
    assert_eq!(newest.get_str("time").unwrap(), text);
    assert_eq!(ints(newest, "itemRec"), serde_json::from_str::<Vec<i32>>(&items).unwrap());
    assert_eq!(found.len() as i64, numbers(&format!("SELECT count(*) FROM recommendation WHERE user = {user}"))[0]);

    // What was consumed, so that it is not shown again: `find_one({"user": user})["consumed"]`.
    let consumed = documents(&uri, &database, "userConsumed", doc! { "user": user_int }, doc! {});
    let [consumed] = &consumed[..] else { panic!("{consumed:?}") };
    let in_order = "SELECT item FROM record WHERE user = ? ORDER BY time, \"partition\", \"offset\"";
    let mut statement = replayed.prepare(in_order).unwrap();
    let count = numbers("SELECT count(*) FROM record")[0];
    let unknown = serde_json::from_str::<serde_json::Value>(
        &std::fs::read_to_string(data("data/sample-model/item_map.json")).unwrap(),
    );
    let unknown = i32::try_from(unknown.unwrap().as_object().unwrap().len()).unwrap();
    let expected: Vec<i32> = statement.query_map([user], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let expected: Vec<i32> = expected.into_iter().filter(|item| *item != unknown).collect();
    assert_eq!(ints(consumed, "consumed"), expected);
    let times = consumed.get_array("time").unwrap();
    assert!(times.len() == expected.len() && times.iter().all(|time| time.as_str().is_some()));
    assert_eq!(documents(&uri, &database, "records", doc! {}, doc! {}).len() as i64, count);

    redis_json(&redis, &["FLUSHDB".to_owned()]);
    drop_mongodb(&uri, &database);
    sql(&mysql, &format!("DROP DATABASE `{name}`"));
}

fn ints(document: &Document, field: &str) -> Vec<i32> {
    let int = |item: &Bson| item.as_i32().unwrap_or_else(|| panic!("{field} holds {item}, not an int"));
    document.get_array(field).unwrap().iter().map(int).collect()
}
