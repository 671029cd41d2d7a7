//! The queries of the web server and the trainer of the old deployment, as they stand there, on what the sink writes with the
//! values of `config/flinkrl.toml`: they expect int32 and text.

use super::shapes::{batch, legacy};
use super::{Scratch, documents, open, run, wait};
use eddyline::sinks::Sink;
use mongodb::bson::{Document, doc};

fn filled() -> Option<Scratch> {
    let scratch = Scratch::new()?;
    open(&legacy(&scratch), &run()).write(&batch()).unwrap();
    Some(scratch)
}

/// `db.userConsumed.find_one({"user": user})["consumed"]`, in which ids are ints.
#[test]
fn consumed_items_of_a_user() {
    let Some(scratch) = filled() else { return };
    let collection = scratch.database.collection::<Document>("userConsumed");
    let found = wait(async { collection.find_one(doc! { "user": 5_i32 }).await.unwrap().unwrap() });
    let consumed = found.get_array("consumed").unwrap();
    let times = found.get_array("time").unwrap();
    assert_eq!(consumed.len(), times.len());
    assert_eq!(consumed.last().unwrap().as_i32(), Some(100));
    assert_eq!(times.last().unwrap().as_str(), Some("2017-11-25 01:21:10"));
    assert_eq!(found.get_i32("user").unwrap(), 5);
}

/// `db.recommendResults.find({"user": user}).sort("time", -1).limit(1)`: text in this pattern sorts as the times do.
#[test]
fn the_newest_recommendation_of_a_user() {
    let Some(scratch) = filled() else { return };
    let collection = scratch.database.collection::<Document>("recommendResults");
    let found = wait(async {
        let query = collection.find(doc! { "user": 5_i32 }).sort(doc! { "time": -1 }).limit(1);
        let mut cursor = query.await.unwrap();
        assert!(cursor.advance().await.unwrap());
        cursor.deserialize_current().unwrap()
    });
    assert_eq!(found.get_str("time").unwrap(), "2017-11-25 01:21:25");
    let items: Vec<i32> = found.get_array("itemRec").unwrap().iter().map(|item| item.as_i32().unwrap()).collect();
    assert_eq!(items, [7]);
    assert_eq!(found.get_i32("lastReward").unwrap(), 3);
}

/// `db.records.find({"time": {"$gte": from, "$lt": to}})`.
#[test]
fn records_of_a_range_of_time() {
    let Some(scratch) = filled() else { return };
    let range = |from: &str, to: &str| {
        let filter = doc! { "time": { "$gte": from, "$lt": to } };
        documents(&scratch.database, "records", filter, doc! { "time": 1 })
    };
    let found = range("2017-11-25 01:21:10", "2017-11-25 01:21:11");
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|record| record.get_i32("user").is_ok() && record.get_str("behavior").is_ok()));
    assert_eq!(range("2017-11-25 01:21:11", "2018-01-01 00:00:00").len(), 0);
}
