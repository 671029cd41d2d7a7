//! What every sink promises, checked against a naive model (`replay.rs`) for each of them (`subjects.rs`).

#![allow(clippy::unwrap_used)]

mod documentation;
mod kill;
mod mongodb;
mod mysql;
mod redis;
mod replay;
mod services;
mod store;
mod subjects;

use eddyline::sinks::set::{Pace, SinkSet};
use eddyline::sinks::stop::Stop;
use proptest::prelude::*;
use replay::{Replay, replays};
use subjects::{Canonical, Embedded, Subject};

fn holds_what_was_written(subject: &dyn Subject, replay: &Replay, cut: u64) {
    let directory = tempfile::tempdir().unwrap();
    let mut sink = subject.open(directory.path());
    for batch in replay.batches(cut) {
        sink.write(&batch).unwrap();
    }
    sink.finish(&replay.end()).unwrap();
    assert_eq!(subject.content(directory.path()).unwrap(), subject.expected(replay));
    subject.clear(directory.path());
}

fn an_abort_leaves_nothing_whole_and_a_restart_completes_it(subject: &dyn Subject, replay: &Replay, cuts: &[u64]) {
    let directory = tempfile::tempdir().unwrap();
    for &cut in cuts {
        let mut sink = subject.open(directory.path());
        let batches = replay.batches(cut);
        for batch in &batches[..cut as usize % (batches.len() + 1)] {
            sink.write(batch).unwrap();
        }
        drop(sink);
        assert_eq!(subject.content(directory.path()), None);
    }
    let mut sink = subject.open(directory.path());
    for batch in replay.batches(cuts.iter().sum()) {
        sink.write(&batch).unwrap();
    }
    sink.finish(&replay.end()).unwrap();
    assert_eq!(subject.content(directory.path()).unwrap(), subject.expected(replay));
    subject.clear(directory.path());
}

fn a_run_after_a_finished_one_changes_nothing(subject: &dyn Subject, replay: &Replay, cuts: [u64; 3]) {
    let directory = tempfile::tempdir().unwrap();
    for (cut, finishes) in cuts.into_iter().zip([true, false, true]) {
        let set = SinkSet::spawn(vec![subject.open(directory.path())], Pace::Replay, 1000, &Stop::default()).unwrap();
        for batch in replay.batches(cut) {
            set.send(batch).unwrap();
        }
        if finishes {
            set.finish(replay.end()).unwrap();
        } else {
            drop(set);
        }
        assert_eq!(subject.content(directory.path()).unwrap(), subject.expected(replay));
    }
    subject.clear(directory.path());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn canonical_files_hold_what_was_written(replay in replays(), cut: u64) {
        holds_what_was_written(&Canonical, &replay, cut);
    }

    #[test]
    fn canonical_files_restart(replay in replays(), cuts in proptest::collection::vec(0u64..1000, 1..4)) {
        an_abort_leaves_nothing_whole_and_a_restart_completes_it(&Canonical, &replay, &cuts);
    }

    #[test]
    fn canonical_files_run_again(replay in replays(), cuts: [u64; 3]) {
        a_run_after_a_finished_one_changes_nothing(&Canonical, &replay, cuts);
    }

    #[test]
    fn store_holds_what_was_written(replay in replays(), cut: u64, commit_rows in 1usize..300) {
        holds_what_was_written(&Embedded { commit_rows }, &replay, cut);
    }

    #[test]
    fn store_restarts(
        replay in replays(),
        cuts in proptest::collection::vec(0u64..1000, 1..4),
        commit_rows in 1usize..100,
    ) {
        an_abort_leaves_nothing_whole_and_a_restart_completes_it(&Embedded { commit_rows }, &replay, &cuts);
    }

    #[test]
    fn store_runs_again(replay in replays(), cuts: [u64; 3], commit_rows in 1usize..100) {
        a_run_after_a_finished_one_changes_nothing(&Embedded { commit_rows }, &replay, cuts);
    }
}
