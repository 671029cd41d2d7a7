//! What the stores hold, read by the databases' own clients where there are any, and what they must hold: worked out from the
//! embedded store of a replay.

use crate::pipeline::{Content, content};
use crate::services::stdout;
use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};
use rusqlite::{Connection, OpenFlags, Row};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};
use url::Url;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

/// Where a run writes. A store that is not named is not written.
#[derive(Clone, Default)]
pub(crate) struct Stores {
    pub(crate) embedded: Option<PathBuf>,
    /// Address, and name of the database.
    pub(crate) mongodb: Option<(String, String)>,
    /// Address with the name of the database.
    pub(crate) mysql: Option<Url>,
    /// Address, and prefix of the keys.
    pub(crate) redis: Option<(Url, String)>,
}

impl Stores {
    /// A run's options.
    pub(crate) fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        let mut set = |key: &str, value: &str| options.extend(["--set".to_owned(), format!("{key}={value}")]);
        if let Some((uri, database)) = &self.mongodb {
            set("mongodb.uri", uri);
            set("mongodb.database", database);
        }
        if let Some(url) = &self.mysql {
            set("mysql.url", url.as_str());
        }
        if let Some((url, prefix)) = &self.redis {
            set("redis.url", url.as_str());
            set("output.redis_prefix", prefix);
        }
        let embedded = self.embedded.as_ref().map_or("none".into(), |path| path.display().to_string());
        options.extend(["--store".to_owned(), embedded]);
        options
    }

    /// All that they hold.
    pub(crate) fn content(&self) -> Content {
        let mut all = Content::new();
        if let Some(path) = &self.embedded {
            all.extend(content(path).into_iter().map(|(table, rows)| (format!("embedded {table}"), rows)));
        }
        if let Some((uri, database)) = &self.mongodb {
            all.extend(RUNTIME.block_on(mongodb_content(uri, database)));
        }
        if let Some(url) = &self.mysql {
            all.extend(mysql_content(url));
        }
        if let Some((url, prefix)) = &self.redis {
            all.extend(redis_content(url, prefix));
        }
        all.values_mut().for_each(|rows| rows.sort());
        all
    }

    /// What they must hold after all of the log, whose replay wrote `replayed`.
    pub(crate) fn expected(&self, replayed: &Path) -> Content {
        let replay = Replayed(Connection::open_with_flags(replayed, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap());
        let mut all = Content::new();
        if self.embedded.is_some() {
            all.extend(content(replayed).into_iter().map(|(table, rows)| (format!("embedded {table}"), rows)));
        }
        if self.mongodb.is_some() {
            all.extend(replay.mongodb());
        }
        if self.mysql.is_some() {
            all.extend(replay.mysql());
        }
        if self.redis.is_some() {
            all.extend(replay.redis());
        }
        all.values_mut().for_each(|rows| rows.sort());
        all
    }

    /// How many events the behaviour log of the embedded store has; 0 while there is none.
    pub(crate) fn records(&self) -> u64 {
        self.embedded_text("SELECT count(*) FROM record").map_or(0, |count| count.parse().unwrap())
    }

    /// How many records were rejected.
    pub(crate) fn rejected(&self) -> u64 {
        self.embedded_text("SELECT count(*) FROM rejected").map_or(0, |count| count.parse().unwrap())
    }

    /// Whether the embedded store has a part of the behaviour log.
    pub(crate) fn has_records(&self) -> bool {
        self.records() > 0
    }

    /// Whether the store that is finished last is finished.
    pub(crate) fn is_last_finished(&self) -> bool {
        if let Some((url, prefix)) = &self.redis {
            let status = redis_json(url, &[format!("HGET {prefix}eddyline_meta status")]).remove(0);
            return status == "finished";
        }
        if let Some(url) = &self.mysql {
            return sql(url, &format!("SELECT status FROM `{}`.eddyline_meta", name(url))) == ["finished"];
        }
        self.embedded_text("SELECT value FROM meta WHERE key = 'status'") == Some("finished".into())
    }

    fn embedded_text(&self, query: &str) -> Option<String> {
        let path = self.embedded.as_ref()?;
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        connection.query_row(query, [], |row| row.get::<_, rusqlite::types::Value>(0)).ok().map(|value| match value {
            rusqlite::types::Value::Text(text) => text,
            rusqlite::types::Value::Integer(number) => number.to_string(),
            other => format!("{other:?}"),
        })
    }

    /// Takes away what is on shared servers.
    pub(crate) fn clear(&self) {
        if let Some((uri, database)) = &self.mongodb {
            drop_mongodb(uri, database);
        }
        if let Some(url) = &self.mysql {
            sql(url, &format!("DROP DATABASE IF EXISTS `{}`", name(url)));
        }
        if let Some((url, prefix)) = &self.redis {
            let keys = redis_json(url, &[format!("KEYS {prefix}*")]).remove(0);
            let commands: Vec<String> =
                keys.as_array().unwrap().iter().map(|key| format!("DEL {}", key.as_str().unwrap())).collect();
            redis_json(url, &commands);
        }
    }
}

fn name(url: &Url) -> &str {
    url.path().trim_start_matches('/')
}

/// The store of a replay.
struct Replayed(Connection);

impl Replayed {
    fn rows<T>(&self, query: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
        self.0.prepare(query).unwrap().query_map([], read).unwrap().map(Result::unwrap).collect()
    }

    fn mongodb(&self) -> Content {
        let records =
            self.rows("SELECT \"partition\", \"offset\", user, item, behavior, time, late FROM record", |row| {
                Ok(format!(
                    "{}/{} {} {} {} {} {}",
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, i64>(3)?,
                    row.get::<_, String>(4)?,
                    row.get::<_, i64>(5)?,
                    row.get::<_, bool>(6)?
                ))
            });
        let mut consumed: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        let in_order = "SELECT user, item, time FROM record ORDER BY time, \"partition\", \"offset\"";
        for (user, item, time) in
            self.rows(in_order, |row| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        {
            consumed.entry(user).or_default().push(format!("{item}@{time}"));
        }
        let consumed = consumed.into_iter().map(|(user, items)| format!("{user} {}", items.join(" "))).collect();
        let recommendations = self.rows(RECOMMENDATIONS, |row| {
            let model: Option<String> = row.get(5)?;
            Ok(format!(
                "{} {} {} {} {} {}",
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, i64>(4)?,
                model.as_deref().unwrap_or("-")
            ))
        });
        Content::from([
            ("mongodb records".into(), records),
            ("mongodb userConsumed".into(), consumed),
            ("mongodb recommendResults".into(), recommendations),
        ])
    }

    fn mysql(&self) -> Content {
        let record = "SELECT user, item, behavior, time, late, log, \"partition\", \"offset\" FROM record";
        let records = self.rows(record, |row| {
            Ok(format!(
                "{}|{}|{}|{}|{}|{}|{}|{}",
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, String>(2)?,
                moment(row.get(3)?),
                row.get::<_, i64>(4)?,
                row.get::<_, i64>(5)?,
                row.get::<_, i64>(6)?,
                row.get::<_, i64>(7)?
            ))
        });
        let recommendations = self.rows(RECOMMENDATIONS, |row| {
            let model: Option<String> = row.get(5)?;
            Ok(format!(
                "{}|{}|{}|{}|{}|{}",
                row.get::<_, i64>(0)?,
                moment(row.get(1)?),
                row.get::<_, String>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, i64>(4)?,
                model.as_deref().unwrap_or("NULL")
            ))
        });
        let top = self.rows("SELECT \"rank\", item, count, window_end FROM popular_latest", |row| {
            Ok(format!(
                "{}|{}|{}|{}",
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, i64>(2)?,
                moment(row.get(3)?)
            ))
        });
        Content::from([
            ("mysql record".into(), records),
            ("mysql recommendation".into(), recommendations),
            ("mysql top".into(), top),
        ])
    }

    fn redis(&self) -> Content {
        let list = |items: &str| items.trim_matches(['[', ']']).replace(',', " ");
        let mut keys = self.rows("SELECT user, items FROM recent", |row| {
            Ok(format!("hist_{} list {}", row.get::<_, i64>(0)?, list(&row.get::<_, String>(1)?)))
        });
        let latest = "SELECT user, time, items, last_reward, from_model, model FROM recommendation_latest";
        keys.extend(self.rows(latest, |row| {
            let model: Option<String> = row.get(5)?;
            Ok(format!(
                "rec_{} string {{\"time\":{},\"items\":{},\"from_model\":{},\"last_reward\":{},\"model\":{}}}",
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, i64>(4)?,
                row.get::<_, i64>(3)?,
                serde_json::Value::from(model)
            ))
        }));
        let top = self.rows("SELECT item FROM popular_latest ORDER BY \"rank\"", |row| row.get::<_, i64>(0));
        if !top.is_empty() {
            let items: Vec<String> = top.iter().map(i64::to_string).collect();
            keys.push(format!("popular list {}", items.join(" ")));
        }
        Content::from([("redis keys".into(), keys)])
    }
}

const RECOMMENDATIONS: &str = "SELECT user, time, items, last_reward, from_model, model FROM recommendation";

/// As MySQL's client shows it.
fn moment(time: i64) -> String {
    jiff::Timestamp::from_millisecond(time).unwrap().strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
}

async fn mongodb_content(uri: &str, database: &str) -> Content {
    let database = Client::with_uri_str(uri).await.unwrap().database(database);
    let mut all = Content::new();
    for (collection, show) in [
        ("records", show_record as fn(&Document) -> String),
        ("userConsumed", show_consumed),
        ("recommendResults", show_recommendation),
    ] {
        let mut rows = Vec::new();
        let mut cursor = database.collection::<Document>(collection).find(doc! {}).await.unwrap();
        while cursor.advance().await.unwrap() {
            rows.push(show(&cursor.deserialize_current().unwrap()));
        }
        all.insert(format!("mongodb {collection}"), rows);
    }
    all
}

fn show_record(record: &Document) -> String {
    let Some(Bson::Binary(id)) = record.get("_id") else { panic!("{record}") };
    let number = |range: std::ops::Range<usize>| id.bytes[range].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    format!(
        "{}/{} {} {} {} {} {}",
        number(8..10),
        number(10..16),
        record.get_i64("user").unwrap(),
        record.get_i64("item").unwrap(),
        record.get_str("behavior").unwrap(),
        record.get_datetime("time").unwrap().timestamp_millis(),
        record.get_bool("late").unwrap_or(false)
    )
}

fn show_consumed(consumed: &Document) -> String {
    let items = consumed.get_array("consumed").unwrap();
    let times = consumed.get_array("time").unwrap();
    assert_eq!(items.len(), times.len());
    let pairs = items.iter().zip(times);
    let pairs = pairs
        .map(|(item, time)| format!("{}@{}", item.as_i64().unwrap(), time.as_datetime().unwrap().timestamp_millis()));
    format!("{} {}", consumed.get_i64("user").unwrap(), pairs.collect::<Vec<_>>().join(" "))
}

fn show_recommendation(row: &Document) -> String {
    let items: Vec<String> =
        row.get_array("itemRec").unwrap().iter().map(|item| item.as_i64().unwrap().to_string()).collect();
    format!(
        "{} {} [{}] {} {} {}",
        row.get_i64("user").unwrap(),
        row.get_datetime("time").unwrap().timestamp_millis(),
        items.join(","),
        row.get_i64("lastReward").unwrap(),
        row.get_i64("fromModel").unwrap(),
        row.get_str("model").unwrap_or("-")
    )
}

/// The documents that a filter finds, in this order.
pub(crate) fn documents(
    uri: &str,
    database: &str,
    collection: &str,
    filter: Document,
    sort: Document,
) -> Vec<Document> {
    RUNTIME.block_on(async {
        let database = Client::with_uri_str(uri).await.unwrap().database(database);
        let mut cursor = database.collection::<Document>(collection).find(filter).sort(sort).await.unwrap();
        let mut found = Vec::new();
        while cursor.advance().await.unwrap() {
            found.push(cursor.deserialize_current().unwrap());
        }
        found
    })
}

pub(crate) fn drop_mongodb(uri: &str, database: &str) {
    RUNTIME.block_on(async { Client::with_uri_str(uri).await.unwrap().database(database).drop().await.unwrap() });
}

/// What the server's own client prints: a line a row, fields divided by `|`.
pub(crate) fn sql(url: &Url, statements: &str) -> Vec<String> {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "--batch", "--skip-column-names", "--raw", "--default-character-set=utf8mb4"]);
    command.args(["-h", url.host_str().unwrap(), "-P", &url.port().unwrap().to_string(), "-u", url.username()]);
    command.args(["--init-command=SET time_zone = '+00:00'", "-e", statements]);
    command.env("MYSQL_PWD", url.password().unwrap_or_default());
    stdout(&mut command).lines().map(|line| line.replace('\t', "|")).collect()
}

fn mysql_content(url: &Url) -> Content {
    let tables = [
        ("record", "`user`, `item`, `behavior`, `time`, `late`, `log`, `partition`, `offset`"),
        ("recommendation", "`user`, `time`, `items`, `last_reward`, `from_model`, `model`"),
        ("top", "`rank`, `item`, `count`, `window_end`"),
    ];
    let read = |(table, columns): (&str, &str)| {
        (format!("mysql {table}"), sql(url, &format!("SELECT {columns} FROM `{}`.`{table}`", name(url))))
    };
    tables.map(read).into()
}

/// Sends one command to Redis.
pub(crate) fn redis(url: &Url, command: &str) {
    redis_json(url, &[command.to_owned()]);
}

/// What the server's own client prints for many commands, each as JSON.
pub(crate) fn redis_json(url: &Url, commands: &[String]) -> Vec<serde_json::Value> {
    let mut command = Command::new("redis-cli");
    command.args(["-h", url.host_str().unwrap(), "-p", &url.port().unwrap().to_string(), "-2", "--json"]);
    command.args(["-n", Some(name(url)).filter(|number| !number.is_empty()).unwrap_or("0")]);
    command.env("REDISCLI_AUTH", url.password().unwrap_or_default());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = commands.iter().map(|command| command.to_owned() + "\n").collect::<String>();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<_> = serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.len(), commands.len(), "{text}");
    answers
}

fn redis_content(url: &Url, prefix: &str) -> Content {
    let found = redis_json(url, &[format!("KEYS {prefix}*")]).remove(0);
    let keys: Vec<&str> = found.as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    let keys: Vec<&str> = keys.into_iter().filter(|key| !key.ends_with("eddyline_meta")).collect();
    let kinds = redis_json(url, &keys.iter().map(|key| format!("TYPE {key}")).collect::<Vec<_>>());
    let read = |(key, kind): (&&str, &serde_json::Value)| match kind.as_str().unwrap() {
        "string" => format!("GET {key}"),
        "list" => format!("LRANGE {key} 0 -1"),
        other => format!("ECHO {other}"),
    };
    let values = redis_json(url, &keys.iter().zip(&kinds).map(read).collect::<Vec<_>>());
    let show = |((key, kind), value): ((&&str, &serde_json::Value), &serde_json::Value)| {
        let value = match value.as_array() {
            Some(items) => items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>().join(" "),
            None => value.as_str().unwrap().to_owned(),
        };
        format!("{} {} {value}", &key[prefix.len()..], kind.as_str().unwrap())
    };
    Content::from([("redis keys".into(), keys.iter().zip(&kinds).zip(&values).map(show).collect())])
}
