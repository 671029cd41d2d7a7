//! The common suite, and what is special about a sink that changes documents in place: records that come again.

use super::super::replay::{Replay, TICK, replays};
use super::super::{
    a_run_after_a_finished_one_changes_nothing, an_abort_leaves_nothing_whole_and_a_restart_completes_it,
    holds_what_was_written,
};
use super::{Mongo, Scratch, content, expected, open, options, run, shared, wait, write_all};
use dataflows::event::Event;
use eddyline::sinks::mongodb::{MongoSink, Transactions};
use eddyline::sinks::{Batch, Sink};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Servers are slow: few cases of each.
const CASES: u32 = 8;

const BOTH: [Transactions; 2] = [Transactions::Auto, Transactions::Never];

fn subjects() -> Vec<Mongo> {
    let subject = |transactions| shared().map(|uri| Mongo { uri, transactions });
    BOTH.into_iter().filter_map(subject).collect()
}

fn check<S: Strategy>(strategy: S, test: impl Fn(S::Value)) {
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let test = |value| {
        test(value);
        Ok(())
    };
    runner.run(&strategy, test).unwrap();
}

#[test]
fn mongodb_holds_what_was_written() {
    for subject in subjects() {
        check((replays(), any::<u64>()), |(replay, cut)| holds_what_was_written(&subject, &replay, cut));
    }
}

#[test]
fn mongodb_restarts() {
    for subject in subjects() {
        let cuts = proptest::collection::vec(0u64..1000, 1..4);
        check((replays(), cuts), |(replay, cuts)| {
            an_abort_leaves_nothing_whole_and_a_restart_completes_it(&subject, &replay, &cuts);
        });
    }
}

#[test]
fn mongodb_runs_again() {
    for subject in subjects() {
        check((replays(), any::<[u64; 3]>()), |(replay, cuts)| {
            a_run_after_a_finished_one_changes_nothing(&subject, &replay, cuts);
        });
    }
}

/// The events of a replay in batches of any size and order, some of them twice.
fn records(replay: &Replay, seed: u64) -> Vec<Batch> {
    let mut events: Vec<Event> = replay.records.values().copied().collect();
    events.extend(events.clone().iter().filter(|event| event.position.offset() % 3 == seed % 3));
    let key = |event: &Event| (event.position.offset().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed).rotate_left(17);
    events.sort_by_key(key);
    let size = 50 * (seed % 7) as usize + 40;
    events.chunks(size).map(|part| Batch { frontier: 1, records: part.to_vec(), ..Batch::default() }).collect()
}

/// Much older ones too, when a log is read again from its start: what a document has lost to its length stays lost.
#[test]
fn records_that_come_again_in_any_order_change_nothing() {
    for transactions in BOTH {
        let Some(scratch) = Scratch::new() else { return };
        let replay = Replay::large(3);
        let options = options(&scratch, transactions);
        for seed in [1, 40, 97] {
            let mut sink = open(&options, &run());
            for batch in records(&replay, seed) {
                sink.write(&batch).unwrap();
                if seed == 40 {
                    sink.write(&batch).unwrap();
                }
            }
            let mut expected = expected(&replay, 7);
            expected.get_mut("recommendResults").unwrap().clear();
            assert!(content(&scratch) == expected, "{transactions:?}, {seed}");
        }
    }
}

/// Where the behaviour log is thinned out by its owner, it does not say any more what users' documents have.
#[test]
fn records_that_were_deleted_are_not_consumed_twice() {
    for transactions in BOTH {
        let Some(scratch) = Scratch::new() else { return };
        let replay = Replay::large(4);
        let options = options(&scratch, transactions);
        write_all(&mut open(&options, &run()), &replay, 1);
        wait(async {
            let records = scratch.database.collection::<mongodb::bson::Document>("records");
            records.delete_many(mongodb::bson::doc! { "user": { "$lt": 25 } }).await.unwrap();
            let meta = scratch.database.collection::<mongodb::bson::Document>("eddyline");
            let change = mongodb::bson::doc! { "$set": { "status": "unfinished", "frontier": 0_i64 } };
            meta.update_one(mongodb::bson::doc! {}, change).await.unwrap();
        });
        write_all(&mut open(&options, &run()), &replay, 2);
        assert!(content(&scratch) == expected(&replay, 7));
    }
}

#[test]
fn a_new_users_first_event_is_there_and_the_newest_stay() {
    for transactions in BOTH {
        let Some(scratch) = Scratch::new() else { return };
        let replay = Replay::large(5);
        let mut options = options(&scratch, transactions);
        options.consumed_max = 1;
        let mut sink = open(&options, &run());
        let first = replay.records.values().next().unwrap();
        sink.write(&Batch { frontier: 1, records: vec![*first], ..Batch::default() }).unwrap();
        let documents = scratch.documents("userConsumed");
        assert_eq!(documents.len(), 1);
        assert_eq!(documents[0].get_array("consumed").unwrap().len(), 1);
        write_all(&mut sink, &replay, 2);
        assert!(content(&scratch) == expected(&replay, 1));
    }
}

#[test]
fn the_frontier_is_kept_and_rows_below_it_are_skipped() {
    for transactions in BOTH {
        let Some(scratch) = Scratch::new() else { return };
        let replay = Replay::large(6);
        let options = options(&scratch, transactions);
        let mut sink = open(&options, &run());
        assert_eq!(sink.durable(), 0);
        let before = replay.before(5 * TICK);
        // One whose last frontier lies just behind a tick: then there is no row before the next millisecond.
        let cuts = (0..).map(|cut| {
            let mut batches = before.batches(cut);
            batches.retain(|batch| batch.frontier < 5 * TICK);
            batches
        });
        let mut fitting = cuts.filter(|batches| batches.last().is_some_and(|last| last.frontier % TICK == 1));
        let batches = fitting.next().unwrap();
        let last = batches.last().unwrap().frontier;
        for batch in &batches {
            sink.write(batch).unwrap();
        }
        sink.write(&Batch { frontier: last + 1, ..Batch::default() }).unwrap();
        // Without rows it waits.
        assert_eq!(sink.durable(), last);
        sink.flush().unwrap();
        assert_eq!(sink.durable(), last + 1);
        drop(sink);

        let mut sink = open(&options, &run());
        assert_eq!(sink.durable(), last + 1);
        write_all(&mut sink, &replay, 9);
        assert!(content(&scratch) == expected(&replay, 7));
        assert_eq!(scratch.meta().get_i64("frontier").unwrap(), i64::MAX);
        assert_eq!(sink.durable(), u64::MAX);
    }
}

#[test]
fn a_run_that_ends_before_an_unfinished_one_cannot_finish_it() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = Replay::large(1);
    let options = options(&scratch, Transactions::Auto);
    let mut sink: MongoSink = open(&options, &run());
    for batch in replay.batches(1) {
        sink.write(&batch).unwrap();
    }
    drop(sink);
    let mut sink = open(&options, &run());
    let error = sink.finish(&eddyline::sinks::End { frontier: 20, popular: None }).unwrap_err();
    assert!(error.to_string().contains("stays unfinished"), "{error}");
    assert!(!error.is_retryable());
    assert_eq!(scratch.meta().get_str("status").unwrap(), "unfinished");
}
