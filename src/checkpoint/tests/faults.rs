//! Operations that fail once: what is told, what is left, and that the next call works or is refused.

use super::probe::{Failure, INPUT_OUTPUT, NO_SPACE, Probe};
use super::*;

fn once(after: usize, error: i32, written: usize) -> Option<Failure> {
    Some(Failure { after, forever: false, error, written })
}

fn rows(frontier: Time) -> SnapshotRows {
    let entry = |n| Entry { time: n, position: Position::new(0, n).unwrap(), item: ItemId(n) };
    let user =
        |user| UserState { user: UserId(user), entries: (0..frontier % 7 + 1).map(entry).collect(), standing: None };
    let pane = PaneState { item: ItemId(frontier), enters: frontier, leaves: frontier + 1000, count: 1 };
    SnapshotRows {
        frontier,
        users: (0..frontier % 5 + 1).map(user).collect(),
        panes: vec![pane],
        positions: vec![],
        last: None,
    }
}

/// A full disk at each operation of a snapshot in turn.
#[test]
fn a_full_disk_leaves_the_old_snapshot_and_a_retry_brings_the_new_one() {
    let mut retried = 0;
    for after in 0.. {
        let directory = directory();
        let probe = Probe::new();
        let (mut state, _) = open_probed(directory.path(), &probe).unwrap();
        let mut model = Model::default();
        for frontier in 1..=4 {
            state.publish(&rows(frontier)).unwrap();
            model.publish(&rows(frontier));
        }
        probe.fail(once(after, NO_SPACE, after * 7 % 60));
        let published = state.publish(&rows(5));
        let (failed, _) = probe.failed();
        probe.fail(None);
        match published {
            Ok(()) if failed == 0 => break,
            // Sweeping failed, which is told in the log only.
            Ok(()) => {}
            Err(error) if error.is_retryable() => {
                retried += 1;
                assert!(error.to_string().ends_with("the disk is full"), "{error}");
                let copied = directory.path().join("copied");
                copy(&generation(directory.path()), &copied.join("generation-1"));
                fs::write(copied.join(names::LOCK), "").unwrap();
                assert_eq!(loaded(&open(&copied).unwrap().1), model.loaded());
                state.publish(&rows(5)).unwrap();
            }
            Err(error) => {
                assert!(matches!(error, CheckpointError::Sync { .. }), "{error}");
                let again = state.publish(&rows(5)).unwrap_err();
                assert!(!again.is_retryable() && matches!(again, CheckpointError::Stopped(_)), "{again}");
                continue;
            }
        }
        model.publish(&rows(5));
        state.publish(&rows(6)).unwrap();
        model.publish(&rows(6));
        drop(state);
        assert_no_leaks(directory.path());
        assert_eq!(loaded(&open(directory.path()).unwrap().1), model.loaded());
    }
    assert!(retried > 5, "{retried}");
}

#[test]
fn a_full_disk_leaves_no_part_of_a_decision() {
    let directory = directory();
    let probe = Probe::new();
    let (mut state, _) = open_probed(directory.path(), &probe).unwrap();
    let decision = |offset| Decision::Advance { partition: 0, offset, watermark: 5 };
    for written in 0..200 {
        probe.fail(once(0, NO_SPACE, written));
        let error = state.append(&[decision(written as u64), decision(1000)]).unwrap_err();
        assert!(error.is_retryable(), "{error}");
        probe.fail(None);
        state.append(&[decision(written as u64)]).unwrap();
    }
    drop(state);
    let decisions = open(directory.path()).unwrap().1.decisions;
    let offsets = decisions.iter().filter_map(|decision| match decision {
        Decision::Advance { offset, .. } => Some(*offset),
        _ => None,
    });
    assert!(offsets.eq(0..200));
}

#[test]
fn a_journal_that_did_not_reach_the_disk_is_not_written_again() {
    for after in [0, 1] {
        let directory = directory();
        let probe = Probe::new();
        let (mut state, _) = open_probed(directory.path(), &probe).unwrap();
        probe.fail(once(after, INPUT_OUTPUT, 3));
        let decision = Decision::Epoch { epoch: 99 };
        let error = state.append(std::slice::from_ref(&decision)).unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        let again = state.append(&[decision]).unwrap_err();
        assert!(matches!(again, CheckpointError::Stopped(_)), "{again}");
    }
}

#[test]
fn a_merge_that_fails_is_tried_again_later() {
    let directory = directory();
    let probe = Probe::new();
    let (mut state, _) = open_probed(directory.path(), &probe).unwrap();
    let mut model = Model::default();
    let mut merges = 0;
    for frontier in 1..=60 {
        state.publish(&rows(frontier)).unwrap();
        model.publish(&rows(frontier));
        if state.snapshots.merging_number().is_some() {
            merges += 1;
            // Its first operation may have been done by now.
            probe.fail(once(0, NO_SPACE, 0));
            state.snapshots.wait_for_merge().unwrap();
            probe.fail(None);
        }
    }
    assert!(merges >= 2, "{merges}");
    drop(state);
    assert_eq!(loaded(&open(directory.path()).unwrap().1), model.loaded());
    assert_no_leaks(directory.path());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let directory = directory();
    let (mut state, _) = open(directory.path()).unwrap();
    let late = Decision::Partition { partition: 0, watermark: dataflows::time::TIME_MAX + 1 };
    let error = state.append(&[late]).unwrap_err();
    assert_eq!(error.to_string(), "cannot journal a decision: the watermark 253402300800000 lies after 9999-12-31");
    state.append(&[Decision::Loss { partition: 0, from: 1, to: 2 }]).unwrap();
    state.publish(&rows(5)).unwrap();
    state.publish(&rows(5)).unwrap();
    let error = state.publish(&rows(4)).unwrap_err();
    assert_eq!(error.to_string(), "cannot publish a snapshot at 4, since there is one at 5");
}
