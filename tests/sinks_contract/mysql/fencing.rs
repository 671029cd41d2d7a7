//! Who may write: fingerprints, epochs, generations.

use super::super::replay::Replay;
use super::{Scratch, content, expected, live, run, write_all};
use eddyline::sinks::Sink;
use eddyline::sinks::identity::{OtherPipeline, RunIdentity};
use eddyline::sinks::mysql::{MySqlError, MySqlSink};
use eddyline::sinks::stop::Stop;

fn refusal(scratch: &Scratch, run: &RunIdentity) -> MySqlError {
    MySqlSink::open(&scratch.options(), run, &Stop::default()).err().expect("the database is refused")
}

fn other(choice: OtherPipeline, epoch: u64) -> RunIdentity {
    let mut run = live(epoch);
    run.pipeline.fingerprint = "two".into();
    run.pipeline.parts.insert("time.tick".into(), "10s".into());
    run.other_pipeline = choice;
    run
}

fn tables(scratch: &Scratch) -> Vec<String> {
    scratch.sql("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY 1")
}

const TABLES: [&str; 4] = ["eddyline_meta", "recommendation", "record", "top"];

#[test]
fn a_writer_of_an_older_epoch_is_refused_and_stopped() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = Replay::large(1);
    let batches = replay.batches(1);
    let mut old = scratch.open(&live(3));
    old.write(&batches[0]).unwrap();
    old.flush().unwrap();
    let mut new = scratch.open(&live(4));
    assert_eq!(new.durable(), batches[0].frontier);
    let before = content(&scratch);
    let fenced = format!(
        "cannot write {}: a later start of the pipeline has taken it over (epoch 4; this one's is 3); if the state directory \
         was made anew, run with --purge",
        scratch.place()
    );
    old.write(&batches[1]).unwrap();
    let error = old.flush().unwrap_err();
    assert_eq!(error.to_string(), fenced);
    assert!(!error.is_retryable());
    assert!(old.finish(&replay.end()).is_err());
    assert_eq!(content(&scratch), before);
    assert_eq!(refusal(&scratch, &live(3)).to_string(), fenced);
    for batch in &batches {
        new.write(batch).unwrap();
    }
    new.finish(&replay.end()).unwrap();
    assert_eq!(content(&scratch), expected(&replay));
    assert_eq!(scratch.meta("epoch"), "4");
}

#[test]
fn a_run_whose_database_was_opened_or_purged_stops() {
    for choice in [OtherPipeline::Refuse, OtherPipeline::Purge] {
        let Some(scratch) = Scratch::new() else { return };
        let replay = Replay::large(1);
        let mut first = scratch.open(&live(7));
        first.write(&replay.batches(1)[0]).unwrap();
        let second = scratch.open(&RunIdentity { other_pipeline: choice, ..live(7) });
        let error = first.flush().unwrap_err();
        assert_eq!(error.to_string(), format!("stopped writing {}: another run has taken it over", scratch.place()));
        drop(second);
        assert!(content(&scratch).values().all(Vec::is_empty));
    }
}

#[test]
fn another_pipeline_is_refused_and_told_why() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = Replay::large(1);
    write_all(&mut scratch.open(&live(1)), &replay, 1);
    let error = refusal(&scratch, &other(OtherPipeline::Refuse, 2));
    assert_eq!(
        error.to_string(),
        format!(
            "{} holds the results of another pipeline (time.tick is \"20s\" there and \"10s\" here); run with \
             --new-generation to replace them once the new ones are whole, or with --purge to delete them first, or name \
             another database",
            scratch.place()
        )
    );
    assert!(!error.is_retryable());
    assert_eq!(content(&scratch), expected(&replay));
}

#[test]
fn purge_leaves_no_row_also_for_a_state_directory_made_anew() {
    let Some(scratch) = Scratch::new() else { return };
    write_all(&mut scratch.open(&live(9)), &Replay::large(1), 1);
    drop(scratch.open(&other(OtherPipeline::Purge, 1)));
    assert!(content(&scratch).values().all(Vec::is_empty));
    write_all(&mut scratch.open(&other(OtherPipeline::Refuse, 2)), &Replay::large(2), 1);
    assert_eq!(content(&scratch), expected(&Replay::large(2)));
}

#[test]
fn a_new_generation_takes_over_at_its_end_also_after_an_abort() {
    let Some(scratch) = Scratch::new() else { return };
    let (old, new) = (Replay::large(1), Replay::large(2));
    write_all(&mut scratch.open(&live(9)), &old, 1);
    let mut first = scratch.open(&other(OtherPipeline::NewGeneration, 1));
    for batch in &new.batches(1)[..3] {
        first.write(batch).unwrap();
        first.flush().unwrap();
    }
    let reached = first.durable();
    drop(first);
    assert_eq!(content(&scratch), expected(&old));
    let mut second = scratch.open(&other(OtherPipeline::NewGeneration, 2));
    assert_eq!(second.durable(), reached);
    for batch in new.batches(2) {
        second.write(&batch).unwrap();
        assert_eq!(content(&scratch), expected(&old));
    }
    second.finish(&new.end()).unwrap();
    assert_eq!(content(&scratch), expected(&new));
    assert_eq!(tables(&scratch), TABLES);
    assert_eq!(scratch.meta("status"), "finished");
    drop(scratch.open(&other(OtherPipeline::Refuse, 3)));
}

#[test]
fn a_live_run_promotes_its_generation_and_goes_on() {
    let Some(scratch) = Scratch::new() else { return };
    let (old, new) = (Replay::large(1), Replay::large(2));
    let mut left = scratch.open(&live(9));
    write_all(&mut left, &old, 1);
    let batches = new.batches(2);
    let mut sink = scratch.open(&other(OtherPipeline::NewGeneration, 1));
    sink.write(&batches[0]).unwrap();
    sink.promote().unwrap();
    // A second time, as after an answer that got lost.
    sink.promote().unwrap();
    assert_eq!(tables(&scratch), TABLES);
    for batch in &batches[1..] {
        sink.write(batch).unwrap();
    }
    sink.finish(&new.end()).unwrap();
    assert_eq!(content(&scratch), expected(&new));
}

#[test]
fn what_a_killed_switch_left_is_cleared_away() {
    let Some(scratch) = Scratch::new() else { return };
    write_all(&mut scratch.open(&run()), &Replay::large(1), 1);
    scratch.sql("CREATE TABLE `record__old` LIKE `record`; CREATE TABLE `top__next` LIKE `top`");
    write_all(&mut scratch.open(&other(OtherPipeline::NewGeneration, 1)), &Replay::large(2), 1);
    assert_eq!(tables(&scratch), TABLES);
    assert_eq!(content(&scratch), expected(&Replay::large(2)));
}
