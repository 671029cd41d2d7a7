//! Who may write: fingerprints and epochs.

use super::super::replay::Replay;
use super::{Scratch, content, expected, live, write_all};
use eddyline::sinks::Sink;
use eddyline::sinks::identity::{OtherPipeline, RunIdentity};
use eddyline::sinks::redis::{RedisError, RedisSink};
use eddyline::sinks::stop::Stop;

fn refusal(scratch: &Scratch, run: &RunIdentity) -> RedisError {
    RedisSink::open(&scratch.options(), run, &Stop::default()).err().expect("the database is refused")
}

fn other(choice: OtherPipeline, epoch: u64) -> RunIdentity {
    let mut run = live(epoch);
    run.pipeline.fingerprint = "two".into();
    run.pipeline.parts.insert("time.tick".into(), "10s".into());
    run.other_pipeline = choice;
    run
}

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
fn a_run_whose_keys_were_taken_over_or_purged_stops() {
    for choice in [OtherPipeline::Refuse, OtherPipeline::Purge] {
        let Some(scratch) = Scratch::new() else { return };
        let mut first = scratch.open(&live(7));
        first.write(&Replay::large(1).batches(1)[0]).unwrap();
        let second = scratch.open(&RunIdentity { other_pipeline: choice, ..live(7) });
        let error = first.flush().unwrap_err();
        assert_eq!(error.to_string(), format!("stopped writing {}: another run has taken it over", scratch.place()));
        drop(second);
        assert!(content(&scratch).is_empty());
    }
}

#[test]
fn another_pipeline_is_refused_and_told_why() {
    let Some(scratch) = Scratch::new() else { return };
    let (replay, place) = (Replay::large(1), scratch.place());
    write_all(&mut scratch.open(&live(1)), &replay, 1);
    let error = refusal(&scratch, &other(OtherPipeline::Refuse, 2));
    assert_eq!(
        error.to_string(),
        format!(
            "{place} holds the results of another pipeline (time.tick is \"20s\" there and \"10s\" here); run with --purge to \
             delete them first, or use another output.redis_prefix"
        )
    );
    assert!(!error.is_retryable());
    assert_eq!(
        refusal(&scratch, &other(OtherPipeline::NewGeneration, 2)).to_string(),
        format!(
            "{place} holds the results of another pipeline (time.tick is \"20s\" there and \"10s\" here), and \
             --new-generation cannot replace them: Redis has no way to rename all keys at once; run with --purge to delete \
             them first, or use another output.redis_prefix"
        )
    );
    assert_eq!(content(&scratch), expected(&replay));
}

#[test]
fn purge_leaves_no_key_also_for_a_state_directory_made_anew() {
    let Some(scratch) = Scratch::new() else { return };
    write_all(&mut scratch.open(&live(9)), &Replay::large(1), 1);
    scratch.cli(&["SET", "shop:rec_ord", "a stranger's"]);
    drop(scratch.open(&other(OtherPipeline::Purge, 1)));
    assert_eq!(content(&scratch).into_keys().collect::<Vec<_>>(), ["rec_ord"]);
    scratch.cli(&["DEL", "shop:rec_ord"]);
    write_all(&mut scratch.open(&other(OtherPipeline::Refuse, 2)), &Replay::large(2), 1);
    assert_eq!(content(&scratch), expected(&Replay::large(2)));
}

/// What the program before left: ranks beyond the list's end (contract, section 9).
#[test]
fn purge_takes_all_ranks_of_the_old_deployment() {
    let Some(scratch) = Scratch::new() else { return };
    for rank in 1..=40 {
        scratch.cli(&["SET", &format!("shop:{rank}"), "5"]);
    }
    scratch.cli(&["RPUSH", "shop:hist_77", "1"]);
    assert_eq!(
        refusal(&scratch, &live(1)).to_string(),
        format!(
            "the key shop:1 of {} is there, and is not Eddyline's; run with --purge to delete all keys of such names, or use \
             another output.redis_prefix",
            scratch.place()
        )
    );
    assert_eq!(content(&scratch).len(), 41);
    let purge = RunIdentity { other_pipeline: OtherPipeline::Purge, ..live(1) };
    write_all(&mut scratch.open(&purge), &Replay::large(1), 1);
    assert_eq!(content(&scratch), expected(&Replay::large(1)));
}
