//! The documents themselves, with the types of their values, in the modern shape and in that of the old deployment.

use super::{Scratch, binary, date, open, options, run};
use dataflows::event::{Behavior, Event, ItemId, Position, Time, UserId};
use dataflows::rows::RecommendationKey;
use eddyline::config::{TimeText, time_zone};
use eddyline::sinks::identity::RunIdentity;
use eddyline::sinks::ids::{Indices, OutputIds};
use eddyline::sinks::mongodb::{MongoOptions, MongoSink, Times, Transactions};
use eddyline::sinks::{Batch, Sink};
use mongodb::bson::{Bson, Document, doc};

/// 2017-11-25 01:21:10 in Shanghai.
pub(super) const NOON: Time = 1_511_544_070_000;

fn event(user: u64, item: u64, time: Time, offset: u64, late: bool) -> Event {
    let position = Position::new(65_535, offset).unwrap();
    let (user, item, behavior) = (UserId(user), ItemId(item), Behavior(3));
    Event { user, item, time, logical: time, position, behavior, late }
}

pub(super) fn batch() -> Batch {
    let large = (1 << 63) - 1;
    let mut batch = Batch { frontier: NOON + 20_000, ..Batch::default() };
    batch.records =
        vec![event(5, 100, NOON + 999, 1, false), event(5, large, NOON, 0, true), event(6, 7, NOON, 2, false)];
    let key = |time, user, last_reward| RecommendationKey { time, user: UserId(user), from_model: 1, last_reward };
    batch.recommendations.push(key(NOON + 10_000, 5, -1), &[ItemId(100), ItemId(large)]);
    batch.recommendations.push(key(NOON + 10_000, 6, -1), &[ItemId(100)]);
    batch.recommendations.push(key(NOON + 15_000, 5, 3), &[ItemId(7)]);
    batch
}

pub(super) fn legacy(scratch: &Scratch) -> MongoOptions {
    let zone = time_zone("Asia/Shanghai").unwrap();
    let times = Times::Text(TimeText::new("yyyy-MM-dd HH:mm:ss", zone).unwrap());
    MongoOptions { times, int32: true, ..options(scratch, Transactions::Auto) }
}

fn log() -> u64 {
    run().log
}

fn written(sink: &mut MongoSink) {
    sink.write(&batch()).unwrap();
}

#[test]
fn documents_have_the_types_of_the_documentation() {
    let Some(scratch) = Scratch::new() else { return };
    written(&mut open(&options(&scratch, Transactions::Auto), &run()));
    let word = 65_535_u64 << 48;
    let large = i64::MAX;
    assert_eq!(
        scratch.documents("records"),
        [
            doc! { "_id": binary(log(), word), "user": 5_i64, "item": large, "behavior": "buy", "time": date(NOON), "late": true },
            doc! { "_id": binary(log(), word + 1), "user": 5_i64, "item": 100_i64, "behavior": "buy", "time": date(NOON + 999) },
            doc! { "_id": binary(log(), word + 2), "user": 6_i64, "item": 7_i64, "behavior": "buy", "time": date(NOON) },
        ]
    );
    let place = |offset: u64| (word + offset).cast_signed();
    assert_eq!(
        scratch.documents("userConsumed")[0],
        doc! {
            "_id": 5_i64, "user": 5_i64,
            "consumed": [large, 100_i64],
            "time": [date(NOON), date(NOON + 999)],
            "position": [place(0), place(1)],
            "last": { "time": (NOON + 999).cast_signed(), "position": place(1) },
        }
    );
    assert_eq!(
        scratch.documents("recommendResults")[0],
        doc! {
            "_id": binary(5, NOON + 10_000), "user": 5_i64, "itemRec": [100_i64, large], "time": date(NOON + 10_000),
            "lastReward": -1_i64, "fromModel": 1_i64, "model": "0123abcd",
        }
    );
    let meta = scratch.meta();
    assert_eq!(meta.get_str("_id").unwrap(), "pipeline");
    assert_eq!(meta.get_i64("schema").unwrap(), 1);
    assert_eq!(meta.get_i64("frontier").unwrap(), (NOON + 20_000).cast_signed());
    assert_eq!(meta.get_str("parts").unwrap(), format!("{{\"log\":\"{}\",\"time.tick\":\"20s\"}}", log()));
}

#[test]
fn documents_of_the_old_deployment_have_text_and_int32() {
    let Some(scratch) = Scratch::new() else { return };
    written(&mut open(&legacy(&scratch), &run()));
    let word = 65_535_u64 << 48;
    let large = i64::MAX;
    let text = "2017-11-25 01:21:10";
    assert_eq!(
        scratch.documents("records")[0],
        doc! { "_id": binary(log(), word), "user": 5_i32, "item": large, "behavior": "buy", "time": text, "late": true }
    );
    let place = |offset: u64| (word + offset).cast_signed();
    assert_eq!(
        scratch.documents("userConsumed")[0],
        doc! {
            "_id": 5_i64, "user": 5_i32,
            "consumed": [Bson::Int64(large), Bson::Int32(100)],
            "time": [text, text],
            "position": [place(0), place(1)],
            "millis": [NOON.cast_signed(), (NOON + 999).cast_signed()],
            "last": { "time": (NOON + 999).cast_signed(), "position": place(1) },
        }
    );
    assert_eq!(
        scratch.documents("recommendResults")[2],
        doc! {
            "_id": binary(6, NOON + 10_000), "user": 6_i32, "itemRec": [100_i32], "time": "2017-11-25 01:21:20",
            "lastReward": -1_i32, "fromModel": 1_i32, "model": "0123abcd",
        }
    );
}

/// Text may hold less than the time: the order and the identity of pairs come from the fields beside it.
#[test]
fn pairs_of_one_second_stay_apart_where_times_are_text() {
    let Some(scratch) = Scratch::new() else { return };
    let options = legacy(&scratch);
    let events = [(NOON + 700, 4), (NOON + 100, 2), (NOON + 300, 9), (NOON + 300, 3)];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let mut sink = open(&options, &run());
        for i in order {
            let (time, offset) = events[i];
            let records = vec![event(1, offset, time, offset, false)];
            sink.write(&Batch { frontier: 1, records, ..Batch::default() }).unwrap();
        }
        let found = scratch.documents("userConsumed").pop().unwrap();
        let items: Vec<Bson> = [2, 3, 9, 4].map(Bson::Int32).to_vec();
        assert_eq!(found.get_array("consumed").unwrap(), &items);
        assert_eq!(found.get_array("millis").unwrap().len(), 4);
    }
}

#[test]
fn the_indexes_of_the_documentation_are_there() {
    let Some(scratch) = Scratch::new() else { return };
    drop(open(&options(&scratch, Transactions::Auto), &run()));
    for (collection, fields) in [
        ("records", doc! { "user": 1, "time": 1 }),
        ("userConsumed", doc! { "user": 1 }),
        ("recommendResults", doc! { "user": 1, "time": -1 }),
    ] {
        let reply =
            super::wait(async { scratch.database.run_command(doc! { "listIndexes": collection }).await.unwrap() });
        let indexes = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
        let keys: Vec<&Document> =
            indexes.iter().map(|index| index.as_document().unwrap().get_document("key").unwrap()).collect();
        assert_eq!(keys, [&doc! { "_id": 1 }, &fields], "{collection}");
    }
}

/// `output.ids = "model"`: what the model lacks is `count` in the behaviour log, and nowhere else.
#[test]
fn model_indices_stand_for_ids() {
    let Some(scratch) = Scratch::new() else { return };
    let index = |known: &'static [u64]| {
        Indices::new(known.len(), move |id| known.iter().position(|&k| k == id).map(|i| i as u32))
    };
    let ids = OutputIds::Model { users: index(&[6, 5]), items: index(&[7, 100]) };
    let run = RunIdentity { ids, ..run() };
    let mut batch = batch();
    batch.records.push(event(8, 100, NOON, 3, false));
    let key = RecommendationKey { time: NOON + 10_000, user: UserId(8), from_model: 0, last_reward: -1 };
    batch.recommendations = {
        let mut sorted = batch.recommendations.clone();
        sorted.push(key, &[ItemId(7)]);
        sorted.sorted()
    };
    open(&legacy(&scratch), &run).write(&batch).unwrap();
    let fields = |collection: &str, names: [&str; 2]| {
        let documents = scratch.documents(collection);
        documents.iter().map(|document| names.map(|name| document.get(name).unwrap().clone())).collect::<Vec<_>>()
    };
    let int = Bson::Int32;
    assert_eq!(
        fields("records", ["user", "item"]),
        [[int(1), int(2)], [int(1), int(1)], [int(0), int(0)], [int(2), int(1)]]
    );
    let list = |items: &[i32]| Bson::Array(items.iter().map(|&item| int(item)).collect());
    assert_eq!(
        fields("userConsumed", ["_id", "consumed"]),
        [[Bson::Int64(0), list(&[0])], [Bson::Int64(1), list(&[1])],]
    );
    assert_eq!(
        fields("recommendResults", ["user", "itemRec"]),
        [[int(0), list(&[1])], [int(1), list(&[1])], [int(1), list(&[0])],]
    );
}
