//! What the embedded store promises beyond the common suite: its state at every commit, generations, and plain errors.

use super::replay::{Replay, TICK, replays};
use super::subjects::{Content, expected_tables, meta, read_only, rows, store_options, tables};
use dataflows::event::{Event, Position, Time};
use eddyline::sinks::embedded::{EmbeddedStore, StoreError, StoreOptions};
use eddyline::sinks::identity::OtherPipeline;
use eddyline::sinks::{Batch, End, Sink, SinkError};
use proptest::prelude::*;
use rusqlite::Connection;
use std::fs;
use std::path::Path;

fn run(options: StoreOptions, replay: &Replay, cut: u64) -> Result<(), SinkError> {
    let mut store = EmbeddedStore::open(options)?;
    for batch in replay.batches(cut) {
        store.write(&batch)?;
    }
    store.finish(&replay.end())
}

/// Those tables that follow the frontier. The others are those of the records.
fn aligned(mut content: Content) -> Content {
    content.retain(|table, _| !["record", "rejected"].contains(&&**table));
    content
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_commit_shows_the_state_of_its_frontier(replay in replays(), cut: u64) {
        let directory = tempfile::tempdir().unwrap();
        let mut store = EmbeddedStore::open(store_options(directory.path(), 1)).unwrap();
        let connection = read_only(directory.path());
        for batch in replay.batches(cut) {
            store.write(&batch).unwrap();
            if batch.bytes() == Batch::default().bytes() {
                continue; // Nothing to commit.
            }
            prop_assert_eq!(aligned(tables(&connection)), aligned(expected_tables(&replay.before(batch.frontier))));
            prop_assert_eq!(meta(&connection, "status"), "unfinished");
            let frontier = meta(&connection, "frontier");
            prop_assert_eq!(frontier, if batch.frontier == Time::MAX { "end".into() } else { batch.frontier.to_string() });
        }
    }

    #[test]
    fn a_stopped_run_can_be_taken_further_and_not_back(replay in replays(), cut: u64, stops in [1u64..16, 1u64..16]) {
        let directory = tempfile::tempdir().unwrap();
        for stop in stops {
            stop_at(directory.path(), &replay, cut, stop * TICK + 1);
        }
        let furthest = stops[0].max(stops[1]) * TICK + 1;
        let connection = read_only(directory.path());
        prop_assert_eq!(tables(&connection), expected_tables(&replay.before(furthest)));
        prop_assert_eq!(meta(&connection, "frontier"), furthest.to_string());
        prop_assert_eq!(meta(&connection, "status"), "finished");
        run(store_options(directory.path(), 10), &replay, cut).unwrap();
        prop_assert_eq!(tables(&connection), expected_tables(&replay));
    }
}

fn stop_at(directory: &Path, replay: &Replay, cut: u64, frontier: Time) {
    let before = replay.before(frontier);
    let mut store = EmbeddedStore::open(store_options(directory, 10)).unwrap();
    for mut batch in before.batches(cut) {
        batch.frontier = batch.frontier.min(frontier);
        store.write(&batch).unwrap();
    }
    store.finish(&End { frontier, ..before.end() }).unwrap();
}

#[test]
fn a_run_that_ends_before_an_unfinished_one_cannot_finish_it() {
    let directory = tempfile::tempdir().unwrap();
    let replay = Replay::large(1);
    let mut store = EmbeddedStore::open(store_options(directory.path(), 1)).unwrap();
    for batch in replay.batches(1) {
        store.write(&batch).unwrap();
    }
    drop(store);
    let mut store = EmbeddedStore::open(store_options(directory.path(), 1)).unwrap();
    let error = store.finish(&End { frontier: 20, popular: None }).unwrap_err();
    assert!(matches!(error, SinkError::Store(StoreError::EndedEarlier(_))), "{error}");
    assert_eq!(meta(&read_only(directory.path()), "status"), "unfinished");
}

/// `replay`, but for one record of a time at or beyond `from`: another item, gone, or one more.
fn altered(replay: &Replay, from: Time) -> [Replay; 3] {
    let mut altered = [replay.clone(), replay.clone(), replay.clone()];
    let found = replay.records.values().find(|event| event.logical >= from).unwrap().position;
    altered[0].records.get_mut(&found).unwrap().item.0 += 1;
    let event = altered[1].records.remove(&found).unwrap();
    let position = Position::new(found.partition(), 1 << 20).unwrap();
    altered[2].records.insert(position, Event { position, ..event });
    altered
}

/// What the store says of itself and holds, but for who may write.
fn everything(directory: &Path) -> (Content, Vec<String>) {
    let connection = read_only(directory);
    (tables(&connection), rows(&connection, "SELECT key, value FROM meta WHERE key <> 'writer' ORDER BY key"))
}

#[test]
fn another_log_is_refused_before_anything_of_it_is_written() {
    let replay = Replay::large(1);
    for stop in [Some(70), None] {
        let directory = tempfile::tempdir().unwrap();
        match stop {
            Some(stop) => stop_at(directory.path(), &replay, 1, stop + 1),
            None => run(store_options(directory.path(), 1), &replay, 1).unwrap(),
        }
        let before = everything(directory.path());
        for (case, other) in altered(&replay, 45).iter().enumerate() {
            for commit_rows in [1, 5_000] {
                let error = run(store_options(directory.path(), commit_rows), other, 2).unwrap_err();
                assert!(matches!(error, SinkError::Store(StoreError::OtherLog { .. })), "{stop:?}, {case}: {error}");
                assert!(!error.is_retryable());
                assert_eq!(everything(directory.path()), before, "{stop:?}, {case}");
            }
        }
        run(store_options(directory.path(), 1), &replay, 3).unwrap();
        assert_eq!(tables(&read_only(directory.path())), expected_tables(&replay));
    }
}

#[test]
fn a_refused_log_is_told_by_its_records() {
    let directory = tempfile::tempdir().unwrap();
    let replay = Replay::large(1);
    run(store_options(directory.path(), 50), &replay, 1).unwrap();
    let name = directory.path().join("store.db");
    let mut grown = replay.clone();
    grown.rejected.insert(Position::new(0, 1 << 20).unwrap(), (eddyline::sinks::RejectReason::User, b"x".to_vec()));
    let records = replay.records.len() + replay.rejected.len();
    let [changed, ..] = altered(&replay, 0);
    let cases = [
        (grown, format!("{records} records there, {} here", records + 1)),
        (changed, format!("{records} records there and as many here, but not the same ones")),
    ];
    for (other, difference) in cases {
        assert_eq!(
            run(store_options(directory.path(), 50), &other, 1).unwrap_err().to_string(),
            format!(
                "the store {} holds the results of another log under this name, or of this log before it changed or grew \
                 ({difference}); run with --purge to replace them, or name another store, and for another log another \
                 --log-name",
                name.display()
            )
        );
    }
}

/// Also by a run that was killed: what it had read beyond its frontier is not mixed with what stands there now.
#[test]
fn a_log_that_changed_beyond_the_frontier_is_gone_on_with() {
    let replay = Replay::large(1);
    for other in altered(&replay, 75) {
        for finishes in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            stop_at(directory.path(), &replay, 1, 71);
            let connection = Connection::open(directory.path().join("store.db")).unwrap();
            if !finishes {
                connection.execute("UPDATE meta SET value = 'unfinished' WHERE key = 'status'", []).unwrap();
            }
            run(store_options(directory.path(), 1), &other, 2).unwrap();
            assert_eq!(tables(&connection), expected_tables(&other));
        }
    }
}

/// Nothing is known of the log of a store that an older program made, or moved on.
#[test]
fn a_store_without_a_current_digest_is_not_compared() {
    let replay = Replay::large(1);
    let [other, ..] = altered(&replay, 0);
    let older = [
        "DELETE FROM meta WHERE key = 'log_digest'",
        r#"UPDATE meta SET value = replace(value, '18446744073709551615', '50') WHERE key = 'log_digest'"#,
    ];
    for older in older {
        let directory = tempfile::tempdir().unwrap();
        run(store_options(directory.path(), 50), &replay, 1).unwrap();
        let connection = Connection::open(directory.path().join("store.db")).unwrap();
        assert_eq!(connection.execute(older, []).unwrap(), 1);
        run(store_options(directory.path(), 50), &other, 1).unwrap();
        assert_eq!(tables(&connection), expected_tables(&replay));
    }
}

#[test]
fn a_half_built_generation_is_not_gone_on_with_by_another_log() {
    let directory = tempfile::tempdir().unwrap();
    run(store_options(directory.path(), 50), &Replay::large(1), 1).unwrap();
    let replay = Replay::large(2);
    let options = || StoreOptions { commit_rows: 1, ..other(directory.path(), OtherPipeline::NewGeneration) };
    let mut store = EmbeddedStore::open(options()).unwrap();
    let batches = replay.batches(3);
    batches[..batches.len() - 1].iter().for_each(|batch| store.write(batch).unwrap());
    drop(store);
    let [other, ..] = altered(&replay, 0);
    let error = run(options(), &other, 3).unwrap_err();
    assert!(matches!(error, SinkError::Store(StoreError::OtherLog { .. })), "{error}");
    assert_eq!(tables(&read_only(directory.path())), expected_tables(&Replay::large(1)));
    run(options(), &replay, 4).unwrap();
    assert_eq!(tables(&read_only(directory.path())), expected_tables(&replay));
}

fn other(directory: &Path, choice: OtherPipeline) -> StoreOptions {
    let mut options = store_options(directory, 50);
    options.run.pipeline.fingerprint = "two".into();
    options.run.pipeline.parts.insert("time.tick".into(), "10s".into());
    options.run.other_pipeline = choice;
    options
}

fn refusal(options: StoreOptions) -> StoreError {
    EmbeddedStore::open(options).err().expect("the store is refused")
}

#[test]
fn another_pipeline_is_refused_and_told_why() {
    let directory = tempfile::tempdir().unwrap();
    run(store_options(directory.path(), 50), &Replay::large(1), 1).unwrap();
    let error = refusal(other(directory.path(), OtherPipeline::Refuse));
    assert_eq!(
        error.to_string(),
        format!(
            "the store {} holds the results of another pipeline (time.tick is \"20s\" there and \"10s\" here); run with \
             --new-generation to replace them once the new ones are whole, or with --purge to delete them first, or name \
             another store",
            directory.path().join("store.db").display()
        )
    );
    assert!(!error.is_retryable());
    assert_eq!(tables(&read_only(directory.path())), expected_tables(&Replay::large(1)));
}

#[test]
fn purge_leaves_no_row_of_the_pipeline_before() {
    let directory = tempfile::tempdir().unwrap();
    run(store_options(directory.path(), 50), &Replay::large(1), 1).unwrap();
    let store = EmbeddedStore::open(other(directory.path(), OtherPipeline::Purge)).unwrap();
    assert!(tables(&read_only(directory.path())).values().all(|rows| rows.is_empty()));
    drop(store);
    run(other(directory.path(), OtherPipeline::Refuse), &Replay::large(2), 1).unwrap();
    assert_eq!(tables(&read_only(directory.path())), expected_tables(&Replay::large(2)));
}

#[test]
fn a_new_generation_takes_over_at_its_end_also_after_an_abort() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Replay::large(1), Replay::large(2));
    run(store_options(directory.path(), 50), &old, 1).unwrap();
    let reader = read_only(directory.path());
    // What a third pipeline left half built goes away.
    let mut third = other(directory.path(), OtherPipeline::NewGeneration);
    third.run.pipeline.fingerprint = "three".into();
    let mut store = EmbeddedStore::open(third).unwrap();
    store.write(&old.batches(2)[0]).unwrap();
    drop(store);
    for aborted in [true, false] {
        let mut store = EmbeddedStore::open(other(directory.path(), OtherPipeline::NewGeneration)).unwrap();
        for batch in new.batches(3) {
            store.write(&batch).unwrap();
            assert_eq!(tables(&reader), expected_tables(&old));
            assert_eq!(meta(&reader, "fingerprint"), "one");
        }
        if !aborted {
            store.finish(&new.end()).unwrap();
        }
    }
    assert_eq!(tables(&reader), expected_tables(&new));
    assert_eq!(meta(&reader, "fingerprint"), "two");
    assert_eq!(meta(&reader, "status"), "finished");
    let names = rows(&reader, "SELECT name FROM sqlite_schema WHERE name LIKE 'next%'");
    assert_eq!(names, Vec::<String>::new());
    // And once more, back: names of indexes don't collide, and rows don't linger.
    let mut back = store_options(directory.path(), 50);
    back.run.other_pipeline = OtherPipeline::NewGeneration;
    run(back, &old, 4).unwrap();
    assert_eq!(tables(&reader), expected_tables(&old));
    let indexes = rows(&reader, "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL");
    assert_eq!(indexes, ["record_user_item_3|record", "recommendation_user_3|recommendation"]);
}

#[test]
fn a_run_whose_store_was_taken_over_stops() {
    let directory = tempfile::tempdir().unwrap();
    let replay = Replay::large(1);
    let choices = [OtherPipeline::Refuse, OtherPipeline::Purge];
    for choice in choices {
        let mut first = EmbeddedStore::open(store_options(directory.path(), 1)).unwrap();
        let batches = replay.batches(1);
        first.write(&batches[0]).unwrap();
        let mut second = store_options(directory.path(), 1);
        second.run.other_pipeline = choice;
        let second = EmbeddedStore::open(second).unwrap();
        let error = first.write(&batches[1]).unwrap_err();
        assert!(matches!(error, SinkError::Store(StoreError::TakenOver(_))), "{error}");
        drop(second);
    }
}

fn live(directory: &Path, epoch: u64) -> StoreOptions {
    let mut options = store_options(directory, 1);
    options.run.epoch = Some(epoch);
    options
}

#[test]
fn a_writer_of_an_older_epoch_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let replay = Replay::large(1);
    let batches = replay.batches(1);
    let mut first = EmbeddedStore::open(live(directory.path(), 1)).unwrap();
    first.write(&batches[0]).unwrap();
    let mut second = EmbeddedStore::open(live(directory.path(), 2)).unwrap();
    let fenced = format!(
        "cannot write the store {}: a later start of the pipeline has taken it over (epoch 2; this one's is 1); if the \
         state directory was made anew, run with --purge",
        directory.path().join("store.db").display()
    );
    let error = first.write(&batches[1]).unwrap_err();
    assert_eq!(error.to_string(), fenced);
    assert!(!error.is_retryable());
    assert_eq!(refusal(live(directory.path(), 1)).to_string(), fenced);
    // From where the first one was.
    assert_eq!(second.durable(), batches[0].frontier);
    for batch in &batches[1..] {
        second.write(batch).unwrap();
    }
    second.finish(&replay.end()).unwrap();
    assert_eq!(tables(&read_only(directory.path())), expected_tables(&replay));
}

#[test]
fn a_live_run_can_promote_its_generation_before_any_end() {
    let directory = tempfile::tempdir().unwrap();
    run(store_options(directory.path(), 50), &Replay::large(1), 1).unwrap();
    let mut options = other(directory.path(), OtherPipeline::NewGeneration);
    options.run.epoch = Some(1);
    let mut store = EmbeddedStore::open(options).unwrap();
    let replay = Replay::large(2);
    let batches = replay.batches(2);
    store.write(&batches[0]).unwrap();
    assert_eq!(tables(&read_only(directory.path())), expected_tables(&Replay::large(1)));
    store.promote().unwrap();
    for batch in &batches[1..] {
        store.write(batch).unwrap();
    }
    store.finish(&replay.end()).unwrap();
    assert_eq!(tables(&read_only(directory.path())), expected_tables(&replay));
}

#[test]
fn a_finished_store_is_not_even_opened_for_writing() {
    let directory = tempfile::tempdir().unwrap();
    let replay = Replay::large(1);
    run(store_options(directory.path(), 50), &replay, 1).unwrap();
    let before = fs::read(directory.path().join("store.db")).unwrap();
    run(store_options(directory.path(), 50), &replay, 2).unwrap();
    assert!(fs::read(directory.path().join("store.db")).unwrap() == before);
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let name = path.display();

    fs::write(&path, "user,item,behavior,time\n".repeat(100)).unwrap();
    let error = refusal(store_options(directory.path(), 1));
    assert_eq!(
        error.to_string(),
        format!("cannot open the store {name}: it is not a SQLite database; name another file")
    );
    assert!(fs::read(&path).unwrap().starts_with(b"user,item"));
    fs::remove_file(&path).unwrap();

    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs(x)").unwrap();
    let before = fs::read(&path).unwrap();
    let error = refusal(store_options(directory.path(), 1));
    assert_eq!(
        error.to_string(),
        format!("cannot open the store {name}: it is the database of another program; name another file")
    );
    assert_eq!(fs::read(&path).unwrap(), before);
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    let error = refusal(store_options(directory.path(), 1));
    assert_eq!(error.to_string(), format!("cannot open the store {name}: a directory of that name is in the way"));

    let error = refusal(store_options(&directory.path().join("nowhere"), 1));
    let nowhere = directory.path().join("nowhere");
    assert_eq!(
        error.to_string(),
        format!(
            "cannot open the store {0}/store.db: the directory {0} does not exist; make it, or name another place",
            nowhere.display()
        )
    );
}

#[test]
fn a_newer_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    run(store_options(directory.path(), 50), &Replay::default(), 1).unwrap();
    let path = directory.path().join("store.db");
    let newer = "UPDATE meta SET value = '7' WHERE key = 'schema_version'";
    Connection::open(&path).unwrap().execute_batch(newer).unwrap();
    assert_eq!(
        refusal(store_options(directory.path(), 1)).to_string(),
        format!(
            "cannot open the store {}: its schema has version 7, and this program knows versions up to 1; use the program \
             that wrote it, or name another store",
            path.display()
        )
    );
}

#[test]
fn a_damaged_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    run(store_options(directory.path(), 50), &Replay::large(1), 1).unwrap();
    let path = directory.path().join("store.db");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0xaa);
    fs::write(&path, bytes).unwrap();
    let error = refusal(store_options(directory.path(), 50));
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().ends_with("; delete it and run again"), "{error}");
}

#[test]
fn a_store_that_another_process_writes_to_is_waited_for_and_then_refused() {
    let directory = tempfile::tempdir().unwrap();
    run(store_options(directory.path(), 50), &Replay::default(), 1).unwrap();
    let path = directory.path().join("store.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = refusal(store_options(directory.path(), 1));
    let name = path.display();
    assert_eq!(
        error.to_string(),
        format!("cannot write the store {name}: another process is writing to it; wait for that, then run again")
    );
    assert!(error.is_retryable());
}
