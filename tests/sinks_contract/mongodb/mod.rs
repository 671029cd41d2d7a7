//! MongoDB, on a server of its protocol: one that all tests share, or one that a test starts for itself.

mod contract;
mod faults;
mod fencing;
mod readers;
mod shapes;
mod speed;

use super::replay::{Replay, SLIDE, TICK};
use super::services::{self, Server};
use super::subjects::{BEHAVIORS, Content, LOG, Subject};
use dataflows::time::Steps;
use eddyline::secret::Secret;
use eddyline::sinks::Sink;
use eddyline::sinks::identity::{OtherPipeline, Pipeline, RunIdentity};
use eddyline::sinks::ids::OutputIds;
use eddyline::sinks::mongodb::{MongoOptions, MongoSink, Times, Transactions};
use eddyline::sinks::stop::Stop;
use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Database};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::{Builder, Runtime};

/// What the driver's futures of all tests run on.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

const VARIABLE: &str = "EDDYLINE_TEST_MONGODB";

/// The address of the server that all tests share; `None` where they are skipped.
fn shared() -> Option<String> {
    services::variable(VARIABLE)
}

/// A server of a test's own, and its address.
fn start(options: &str) -> Option<(Server, String)> {
    let server = Server::start_with("mongodb.sh", VARIABLE, options)?;
    let address = server.address().to_owned();
    Some((server, address))
}

/// A database of a test's own, gone when it is dropped.
pub(crate) struct Scratch {
    pub(crate) uri: String,
    pub(crate) database: Database,
}

impl Scratch {
    /// On the server that all tests share; `None` if there is none.
    pub(crate) fn new() -> Option<Scratch> {
        shared().map(Scratch::on)
    }

    pub(crate) fn on(uri: String) -> Scratch {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Scratch::named(uri, &format!("eddyline-test-{}-{number}", std::process::id()))
    }

    fn named(uri: String, name: &str) -> Scratch {
        let database = wait(async { Client::with_uri_str(&uri).await.unwrap().database(name) });
        Scratch { uri, database }
    }

    pub(crate) fn documents(&self, collection: &str) -> Vec<Document> {
        documents(&self.database, collection, doc! {}, doc! { "_id": 1 })
    }

    pub(crate) fn meta(&self) -> Document {
        self.documents("eddyline").pop().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A server that a test has taken away is no fault of the test's.
        let _ = wait(async { self.database.drop().await });
    }
}

pub(crate) fn documents(database: &Database, collection: &str, filter: Document, sort: Document) -> Vec<Document> {
    wait(async {
        let mut cursor = database.collection::<Document>(collection).find(filter).sort(sort).await.unwrap();
        let mut found = Vec::new();
        while cursor.advance().await.unwrap() {
            found.push(cursor.deserialize_current().unwrap());
        }
        found
    })
}

pub(crate) fn options(scratch: &Scratch, transactions: Transactions) -> MongoOptions {
    MongoOptions {
        uri: Secret::new(scratch.uri.clone()),
        database: scratch.database.name().to_owned(),
        consumed_max: 7,
        times: Times::Date,
        int32: false,
        transactions,
    }
}

pub(crate) fn run() -> RunIdentity {
    let serde_json::Value::Object(parts) = json!({"time.tick": "20s", "log": LOG.to_string()}) else {
        unreachable!("the literal is an object")
    };
    RunIdentity {
        pipeline: Pipeline { fingerprint: "one".into(), parts },
        epoch: None,
        log: LOG,
        behaviors: BEHAVIORS.map(String::from).to_vec(),
        model: Some("0123abcd".into()),
        tick: Steps::new(TICK).unwrap(),
        slide: SLIDE,
        ids: OutputIds::Raw,
        other_pipeline: OtherPipeline::Refuse,
    }
}

pub(crate) fn open(options: &MongoOptions, run: &RunIdentity) -> MongoSink {
    MongoSink::open(options, run, &Stop::default()).unwrap()
}

/// Every replay's rows, from the start to the end.
pub(crate) fn write_all(sink: &mut MongoSink, replay: &Replay, cut: u64) {
    for batch in replay.batches(cut) {
        sink.write(&batch).unwrap();
    }
    sink.finish(&replay.end()).unwrap();
}

/// What the collections hold, less what only the sink reads.
pub(crate) fn content(scratch: &Scratch) -> Content {
    let collections = ["records", "userConsumed", "recommendResults"];
    let lines = |name: &str| {
        let documents = scratch.documents(name).into_iter().map(|mut document| {
            for own in ["position", "millis", "last"] {
                document.remove(own);
            }
            line(document)
        });
        documents.collect()
    };
    collections.into_iter().map(|name| (name.to_owned(), lines(name))).collect()
}

/// A document with the types of its values.
pub(crate) fn line(document: Document) -> String {
    format!("{document:?}")
}

pub(crate) fn binary(first: u64, second: u64) -> Bson {
    let bytes = [first.to_be_bytes(), second.to_be_bytes()].concat();
    Bson::Binary(mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes })
}

pub(crate) fn date(time: u64) -> Bson {
    Bson::DateTime(mongodb::bson::DateTime::from_millis(time.cast_signed()))
}

fn int64s(numbers: &[u64]) -> Bson {
    Bson::Array(numbers.iter().map(|&n| Bson::Int64(n.cast_signed())).collect())
}

/// What they should hold, one record after the other.
pub(crate) fn expected(replay: &Replay, consumed_max: usize) -> Content {
    let records = replay.records.values().map(|event| {
        let word = u64::from(event.position.partition()) << 48 | event.position.offset();
        let mut document = doc! {
            "_id": binary(LOG, word),
            "user": event.user.0.cast_signed(),
            "item": event.item.0.cast_signed(),
            "behavior": BEHAVIORS[usize::from(event.behavior.0)],
            "time": date(event.time),
        };
        if event.late {
            document.insert("late", true);
        }
        line(document)
    });
    let mut users: BTreeMap<u64, Vec<(u64, u32, u64, u64)>> = BTreeMap::new();
    for event in replay.records.values() {
        let place = (event.position.partition(), event.position.offset());
        users.entry(event.user.0).or_default().push((event.time, place.0, place.1, event.item.0));
    }
    let consumed = users.into_iter().map(|(user, mut pairs)| {
        pairs.sort();
        let newest = &pairs[pairs.len().saturating_sub(consumed_max)..];
        line(doc! {
            "_id": user.cast_signed(),
            "user": user.cast_signed(),
            "consumed": int64s(&newest.iter().map(|pair| pair.3).collect::<Vec<_>>()),
            "time": newest.iter().map(|pair| date(pair.0)).collect::<Vec<_>>(),
        })
    });
    let by_user: BTreeMap<(u64, u64), _> =
        replay.recommendations.iter().map(|(&(time, user), row)| ((user, time), row)).collect();
    let recommendations = by_user.into_iter().map(|((user, time), (items, from_model, last_reward))| {
        line(doc! {
            "_id": binary(user, time),
            "user": user.cast_signed(),
            "itemRec": int64s(items),
            "time": date(time),
            "lastReward": *last_reward,
            "fromModel": i64::from(*from_model),
            "model": "0123abcd",
        })
    });
    Content::from([
        ("records".to_owned(), records.collect()),
        ("userConsumed".to_owned(), consumed.collect()),
        ("recommendResults".to_owned(), recommendations.collect::<Vec<_>>()),
    ])
}

/// The sink as the common suite wants it: a directory stands for a database.
pub(crate) struct Mongo {
    pub(crate) uri: String,
    pub(crate) transactions: Transactions,
}

impl Mongo {
    fn scratch(&self, directory: &Path) -> Scratch {
        let name = directory.file_name().unwrap().to_str().unwrap();
        Scratch::named(self.uri.clone(), &format!("eddyline-test-{}", name.replace('.', "")))
    }
}

impl Subject for Mongo {
    fn open(&self, directory: &Path) -> Box<dyn Sink> {
        let scratch = std::mem::ManuallyDrop::new(self.scratch(directory));
        Box::new(open(&options(&scratch, self.transactions), &run()))
    }

    fn content(&self, directory: &Path) -> Option<Content> {
        let scratch = std::mem::ManuallyDrop::new(self.scratch(directory));
        (scratch.meta().get_str("status").unwrap() == "finished").then(|| content(&scratch))
    }

    fn expected(&self, replay: &Replay) -> Content {
        expected(replay, 7)
    }
}
