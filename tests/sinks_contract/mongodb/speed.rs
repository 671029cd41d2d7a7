//! How fast the sink is beside plain inserts of the same documents, and what a user with 10,000 pairs costs. Not a test:
//! `cargo test --release --test sinks_contract mongodb::speed -- --ignored --nocapture`.

use super::{Scratch, open, options, run, wait};
use dataflows::event::{Behavior, Event, ItemId, Position, UserId};
use dataflows::rows::RecommendationKey;
use eddyline::sinks::mongodb::Transactions;
use eddyline::sinks::{Batch, Sink};
use mongodb::bson::{Document, doc};
use std::time::Instant;

const TICKS: u64 = 6;
const EVENTS: u64 = 2000;
/// So few that most have a document, as after some days.
const USERS: u64 = 4000;

fn batch(tick: u64) -> Batch {
    let mut batch = Batch { frontier: (tick + 1) * 20_000, ..Batch::default() };
    let mut users = Vec::new();
    for i in 0..EVENTS {
        let offset = tick * EVENTS + i;
        let user = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) % USERS;
        let (time, position) = (tick * 20_000 + i * 10, Position::new(0, offset).unwrap());
        let (item, behavior) = (ItemId(offset % 10_000), Behavior(0));
        batch.records.push(Event { user: UserId(user), item, time, logical: time, position, behavior, late: false });
        users.push(user);
    }
    users.sort_unstable();
    users.dedup();
    for user in users {
        let key = RecommendationKey { time: tick * 20_000, user: UserId(user), from_model: 8, last_reward: 0 };
        batch.recommendations.push(key, &[ItemId(7); 8]);
    }
    batch
}

#[test]
#[ignore = "takes a minute and measures"]
#[expect(clippy::print_stdout, reason = "the figures")]
fn beside_plain_inserts() {
    let Some(plain) = Scratch::new() else { return };
    let batches: Vec<Batch> = (0..TICKS).map(batch).collect();
    for transactions in [Transactions::Auto, Transactions::Never] {
        let Some(scratch) = Scratch::new() else { return };
        let mut options = options(&scratch, transactions);
        options.consumed_max = 10_000;
        let mut sink = open(&options, &run());
        let started = Instant::now();
        batches.iter().for_each(|batch| sink.write(batch).unwrap());
        let seconds = started.elapsed().as_secs_f64();
        // A recommendation stands for a user, whose document of consumed items has changed.
        let documents: usize = batches.iter().map(|b| b.records.len() + 2 * b.recommendations.len()).sum();
        println!("sink, {transactions:?}: {:.0} documents/s ({documents})", documents as f64 / seconds);
        let mut sink = open(&options, &run());
        let started = Instant::now();
        sink.write(&batches[0]).unwrap();
        println!("  a batch of {} that is there: {:.2} s", batches[0].rows(), started.elapsed().as_secs_f64());
        if transactions == Transactions::Never {
            insert_plainly(&scratch, &plain);
        }
    }
}

#[expect(clippy::print_stdout, reason = "the figures")]
fn insert_plainly(from: &Scratch, to: &Scratch) {
    let mut all = (0, 0.0);
    for name in ["records", "recommendResults", "userConsumed"] {
        let documents = from.documents(name);
        let index = if name == "records" {
            doc! { "user": 1, "time": 1 }
        } else {
            doc! { "user": 1, "time": -1 }
        };
        let collection = to.database.collection::<Document>(name);
        wait(async { collection.create_index(mongodb::IndexModel::builder().keys(index).build()).await.unwrap() });
        let started = Instant::now();
        for part in documents.chunks(2000) {
            wait(async { collection.insert_many(part).ordered(false).await.unwrap() });
        }
        let seconds = started.elapsed().as_secs_f64();
        all = (all.0 + documents.len(), all.1 + seconds);
        println!("insert_many, {name}: {:.0} documents/s ({})", documents.len() as f64 / seconds, documents.len());
    }
    println!("insert_many, all: {:.0} documents/s", all.0 as f64 / all.1);
}

#[test]
#[ignore = "takes a minute and measures"]
#[expect(clippy::print_stdout, reason = "the figures")]
fn a_heavy_user() {
    for transactions in [Transactions::Auto, Transactions::Never] {
        let Some(scratch) = Scratch::new() else { return };
        let mut options = options(&scratch, transactions);
        options.consumed_max = 10_000;
        let mut sink = open(&options, &run());
        let event = |i: u64, time: u64| Event {
            user: UserId(1),
            item: ItemId(i),
            time,
            logical: time,
            position: Position::new(0, i).unwrap(),
            behavior: Behavior(0),
            late: false,
        };
        let mut write = |name: &str, records: Vec<Event>| {
            let started = Instant::now();
            sink.write(&Batch { frontier: 1, records, ..Batch::default() }).unwrap();
            println!("{transactions:?}, {name}: {:.3} s", started.elapsed().as_secs_f64());
        };
        write("10,000 records of one user", (0..10_000).map(|i| event(i, i)).collect());
        write("one more of it", vec![event(10_000, 10_000)]);
        write("100 more of it", (10_001..10_101).map(|i| event(i, i)).collect());
        write("a late one of it", vec![event(10_101, 5000)]);
        let others = (20_000..20_100).map(|i| Event { user: UserId(i), ..event(i, i) });
        write("100 of other users", others.clone().collect());
        let others = others.map(|e| Event { position: Position::new(1, e.item.0).unwrap(), time: e.time + 1, ..e });
        write("100 of other users and 1 of it", others.chain([event(30_000, 30_000)]).collect());
    }
}
