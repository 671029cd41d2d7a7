//! Who may write: fingerprints, epochs, and what stands in the way.

use super::super::replay::Replay;
use super::{Scratch, content, documents, expected, open, options, run, wait, write_all};
use eddyline::sinks::Sink;
use eddyline::sinks::identity::{OtherPipeline, RunIdentity};
use eddyline::sinks::mongodb::{MongoError, MongoOptions, MongoSink, Transactions};
use eddyline::sinks::stop::Stop;
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};

const BOTH: [Transactions; 2] = [Transactions::Auto, Transactions::Never];

fn refusal(options: &MongoOptions, run: &RunIdentity) -> MongoError {
    MongoSink::open(options, run, &Stop::default()).err().expect("the database is refused")
}

fn epoch(epoch: u64) -> RunIdentity {
    RunIdentity { epoch: Some(epoch), ..run() }
}

fn other(choice: OtherPipeline) -> RunIdentity {
    let mut run = run();
    run.pipeline.fingerprint = "two".into();
    run.pipeline.parts.insert("time.tick".into(), "10s".into());
    run.other_pipeline = choice;
    run
}

#[test]
fn a_writer_of_an_older_epoch_is_refused_and_stopped() {
    for transactions in BOTH {
        let Some(scratch) = Scratch::new() else { return };
        let (options, replay) = (options(&scratch, transactions), Replay::large(1));
        let batches = replay.batches(1);
        let mut old = open(&options, &epoch(3));
        old.write(&batches[0]).unwrap();
        let mut new = open(&options, &epoch(4));
        let before = content(&scratch);
        let error = old.write(&batches[1]).unwrap_err();
        assert!(!error.is_retryable());
        assert!(error.to_string().contains("a later run has taken it over (epoch 4, this one is 3)"), "{error}");
        assert!(old.finish(&replay.end()).is_err());
        assert!(content(&scratch) == before);
        let error = refusal(&options, &epoch(3));
        assert!(matches!(error, MongoError::Fenced { found: 4, own: 3, .. }), "{error}");
        write_all(&mut new, &replay, 2);
        assert!(content(&scratch) == expected(&replay, 7));
        // Also when everything is there.
        assert!(matches!(refusal(&options, &epoch(3)), MongoError::Fenced { .. }));
        drop(open(&options, &epoch(5)));
        assert_eq!(scratch.meta().get_i64("epoch").unwrap(), 5);
        assert_eq!(scratch.meta().get_str("status").unwrap(), "finished");
    }
}

#[test]
fn a_run_whose_database_was_opened_or_purged_stops() {
    for transactions in BOTH {
        for choice in [OtherPipeline::Refuse, OtherPipeline::Purge] {
            let Some(scratch) = Scratch::new() else { return };
            let (options, replay) = (options(&scratch, transactions), Replay::large(1));
            let batches = replay.batches(1);
            let mut first = open(&options, &run());
            first.write(&batches[0]).unwrap();
            let second = open(&options, &RunIdentity { other_pipeline: choice, ..run() });
            let error = first.write(&batches[1]).unwrap_err();
            assert!(error.to_string().ends_with("another run has taken it over"), "{error}");
            drop(second);
        }
    }
}

#[test]
fn another_pipeline_is_refused_and_told_why() {
    let Some(scratch) = Scratch::new() else { return };
    let (options, replay) = (options(&scratch, Transactions::Auto), Replay::large(1));
    write_all(&mut open(&options, &run()), &replay, 1);
    let place = format!(
        "{}/{}",
        scratch.uri.trim_start_matches("mongodb://").split('/').next().unwrap(),
        scratch.database.name()
    );
    assert_eq!(
        refusal(&options, &other(OtherPipeline::Refuse)).to_string(),
        format!(
            "the MongoDB database {place} holds the results of another pipeline (time.tick is \"20s\" there and \"10s\" \
             here); run with --purge to delete them first, or name another database"
        )
    );
    let error = refusal(&options, &other(OtherPipeline::NewGeneration));
    assert!(matches!(error, MongoError::NewGeneration { .. }), "{error}");
    assert!(
        error.to_string().contains("--new-generation cannot replace them: MongoDB renames one collection at a time")
    );
    assert!(!error.is_retryable());
    assert!(content(&scratch) == expected(&replay, 7));
}

#[test]
fn purge_leaves_no_row_of_the_pipeline_before_also_after_a_kill() {
    let Some(scratch) = Scratch::new() else { return };
    let options = options(&scratch, Transactions::Auto);
    write_all(&mut open(&options, &epoch(9)), &Replay::large(1), 1);
    let purge = RunIdentity { epoch: Some(1), ..other(OtherPipeline::Purge) };
    drop(open(&options, &purge));
    assert!(content(&scratch).values().all(|lines| lines.is_empty()));
    write_all(
        &mut open(&options, &RunIdentity { epoch: Some(2), ..other(OtherPipeline::Refuse) }),
        &Replay::large(2),
        1,
    );
    assert!(content(&scratch) == expected(&Replay::large(2), 7));
    // A purge of its own that was killed before it had dropped anything.
    wait(async {
        let meta = scratch.database.collection::<Document>("eddyline");
        meta.update_one(doc! {}, doc! { "$set": { "status": "purging" } }).await.unwrap();
    });
    assert!(matches!(refusal(&options, &run()), MongoError::OtherPipeline { .. }));
    let again = RunIdentity { epoch: Some(3), ..other(OtherPipeline::Refuse) };
    write_all(&mut open(&options, &again), &Replay::large(3), 1);
    assert!(content(&scratch) == expected(&Replay::large(3), 7));
}

#[test]
fn documents_of_somebody_else_are_left_alone() {
    let Some(scratch) = Scratch::new() else { return };
    let options = options(&scratch, Transactions::Auto);
    wait(async {
        scratch.database.collection("userConsumed").insert_one(doc! { "user": 1, "consumed": [2] }).await.unwrap();
    });
    let error = refusal(&options, &run());
    assert!(matches!(error, MongoError::NotOurs { collection: "userConsumed", .. }), "{error}");
    assert_eq!(documents(&scratch.database, "userConsumed", doc! {}, doc! {}).len(), 1);
    let replay = Replay::large(1);
    write_all(&mut open(&options, &RunIdentity { other_pipeline: OtherPipeline::Purge, ..run() }), &replay, 1);
    assert!(content(&scratch) == expected(&replay, 7));
}

#[test]
fn indexes_of_another_definition_are_refused() {
    let unique = mongodb::options::IndexOptions::builder().unique(true).build();
    let named = mongodb::options::IndexOptions::builder().name("user_1_time_1".to_owned()).build();
    let expiring = mongodb::options::IndexOptions::builder().expire_after(std::time::Duration::from_secs(3600)).build();
    let other = "has an index user_1_time_1 that is not the one needed, {user: 1, time: 1} without options; drop it";
    let cases = [
        (
            IndexModel::builder().keys(doc! { "item": 1 }).options(unique).build(),
            Some("has an index item_1 that allows every value only once; drop it"),
        ),
        (IndexModel::builder().keys(doc! { "item": 1 }).options(named).build(), Some(other)),
        // The one needed, and one that is none of our business.
        (IndexModel::builder().keys(doc! { "user": 1, "time": 1 }).build(), None),
        (IndexModel::builder().keys(doc! { "time": 1 }).options(expiring).build(), None),
    ];
    for (index, refused) in cases {
        let Some(scratch) = Scratch::new() else { return };
        let options = options(&scratch, Transactions::Auto);
        wait(async { scratch.database.collection::<Document>("records").create_index(index).await.unwrap() });
        if let Some(told) = refused {
            let error = refusal(&options, &run());
            assert!(matches!(error, MongoError::Index { collection: "records", .. }), "{error}");
            assert!(error.to_string().ends_with(told), "{error}");
        } else {
            drop(open(&options, &run()));
        }
    }
}

#[test]
fn a_newer_schema_is_refused() {
    let Some(scratch) = Scratch::new() else { return };
    let options = options(&scratch, Transactions::Auto);
    drop(open(&options, &run()));
    wait(async {
        let meta = scratch.database.collection::<Document>("eddyline");
        meta.update_one(doc! {}, doc! { "$set": { "schema": 7_i64 } }).await.unwrap();
    });
    let error = refusal(&options, &run());
    assert!(matches!(error, MongoError::NewerSchema { found: 7, known: 1, .. }), "{error}");
}

#[test]
fn a_damaged_document_is_named() {
    let Some(scratch) = Scratch::new() else { return };
    let (options, replay) = (options(&scratch, Transactions::Auto), Replay::large(1));
    let batches = replay.batches(1);
    let mut sink = open(&options, &run());
    let (first, rest) = batches.split_first().unwrap();
    sink.write(first).unwrap();
    wait(async {
        let consumed = scratch.database.collection::<Document>("userConsumed");
        consumed.update_many(doc! {}, doc! { "$unset": { "last": 1 } }).await.unwrap();
    });
    let error = rest.iter().find_map(|batch| sink.write(batch).err()).unwrap();
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("userConsumed, is damaged: it has no field last"), "{error}");
}
