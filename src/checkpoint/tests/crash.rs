//! A run that is cut off after each of its file operations in turn, with all that the disk may hold then.

use super::disk::{Disk, Done, Luck, Random};
use super::model::history;
use super::probe::Probe;
use super::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const SNAPSHOTS: usize = 26;

/// Random outcomes for each point, besides the four that are not.
const RANDOM: usize = 6;

fn rows() -> Vec<SnapshotRows> {
    let mut runner = TestRunner::deterministic();
    history(SNAPSHOTS).new_tree(&mut runner).unwrap().current()
}

fn decision(n: usize) -> Decision {
    Decision::Advance { partition: 9, offset: n as u64, watermark: n as Time }
}

/// Publishes and appends, with merges, and is opened again in between.
fn scenario(path: &Path, probe: &Probe, rows: &[SnapshotRows]) {
    let mut appended = 0;
    let mut published = 0;
    for part in rows.chunks(9) {
        let (mut state, _) = open_probed(path, probe).unwrap();
        for rows in part {
            let decisions: Vec<Decision> = (appended..appended + 2).map(decision).collect();
            probe.mark(Done::Appending(appended + 2));
            state.append(&decisions).unwrap();
            appended += 2;
            probe.mark(Done::Appended(appended));
            probe.mark(Done::Publishing(published + 1));
            state.publish(rows).unwrap();
            published += 1;
            probe.mark(Done::Published(published));
            state.snapshots.wait_for_merge().unwrap();
        }
    }
}

/// What may be there after the operations so far.
#[derive(Clone, Copy, Debug, Default)]
struct Acknowledged {
    decisions: usize,
    decisions_max: usize,
    snapshots: usize,
    snapshots_max: usize,
}

impl Acknowledged {
    fn note(&mut self, done: &Done) {
        match *done {
            Done::Appending(count) => self.decisions_max = count,
            Done::Appended(count) => self.decisions = count,
            Done::Publishing(count) => self.snapshots_max = count,
            Done::Published(count) => self.snapshots = count,
            _ => {}
        }
    }
}

/// Opens what is left of a directory, compares, and goes on with it.
fn check(path: &Path, acknowledged: Acknowledged, models: &[Model], context: &str) {
    let (mut state, recovered) = open(path).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(recovered.skipped.is_empty(), "{context}: {:?}", recovered.skipped);
    let found = loaded(&recovered);
    let may_be = &models[acknowledged.snapshots..=acknowledged.snapshots_max];
    assert!(may_be.iter().any(|model| model.loaded() == found), "{context}: {found:?}");
    let advances = recovered.decisions.iter().filter(|decision| !matches!(decision, Decision::Epoch { .. }));
    let count = advances.clone().count();
    assert!((acknowledged.decisions..=acknowledged.decisions_max).contains(&count), "{context}: {count}");
    assert!(advances.cloned().eq((0..count).map(decision)), "{context}");
    assert_no_leaks(path);

    let frontier = found.map_or(0, |found| found.0) + 80;
    state.append(&[decision(count)]).unwrap();
    state.publish(&SnapshotRows { frontier, users: vec![], panes: vec![], positions: vec![], last: None }).unwrap();
    drop(state);
    let again = open(path).unwrap().1;
    assert_eq!(again.snapshot.as_ref().map(Snapshot::frontier), Some(frontier), "{context}");
    assert_eq!(again.epoch, recovered.epoch + 1, "{context}");
}

#[test]
#[expect(clippy::print_stdout, reason = "how much was tried")]
fn a_crash_at_any_point_leaves_the_old_state_or_the_new_one() {
    let home = directory();
    let (rows, probe) = (rows(), Probe::new());
    let path = home.path().join("state");
    scenario(&path, &probe, &rows);
    let models: Vec<Model> = (0..=SNAPSHOTS)
        .map(|count| {
            let mut model = Model::default();
            rows[..count].iter().for_each(|rows| model.publish(rows));
            model
        })
        .collect();
    let done = probe.done();
    let merges =
        done.iter().filter(|done| matches!(done, Done::Create(path) if path.to_str().unwrap().contains("chunk")));
    assert!(merges.count() > SNAPSHOTS, "there were merges");

    let (mut disk, mut acknowledged, mut tried) = (Disk::new(&path), Acknowledged::default(), 0);
    for point in 0..=done.len() {
        let some = (0..RANDOM).map(|n| Luck::Some(Random::new(((point * RANDOM + n) as u64) << 20)));
        for (at, mut luck) in [Luck::Killed, Luck::Least, Luck::Names, Luck::Bytes].into_iter().chain(some).enumerate()
        {
            let left = home.path().join("left");
            disk.crash(&left, &mut luck);
            check(&left, acknowledged, &models, &format!("after {point} operations, outcome {at}"));
            fs::remove_dir_all(&left).unwrap();
            tried += 1;
        }
        if let Some(next) = done.get(point) {
            disk.apply(next);
            acknowledged.note(next);
        }
    }
    println!("{tried} outcomes of crashes at {} points: always the old state or the new one", done.len() + 1);
}

/// A write that is cut off in the middle, of a run whose process dies: as above, but with the program's own error paths.
#[test]
fn a_process_that_dies_in_any_operation_is_survived() {
    let rows = rows();
    let mut models = vec![Model::default()];
    for rows in &rows {
        let mut model = models[models.len() - 1].clone();
        model.publish(rows);
        models.push(model);
    }
    for after in 0.. {
        let home = directory();
        let probe = Probe::new();
        let failure = probe::Failure { after, forever: true, error: probe::INPUT_OUTPUT, written: after % 50 };
        probe.fail(Some(failure));
        let (mut acknowledged, mut ended) = (Acknowledged::default(), true);
        if let Ok((mut state, _)) = open_probed(home.path(), &probe) {
            for rows in &rows {
                acknowledged.snapshots_max = acknowledged.snapshots + 1;
                if state.publish(rows).and_then(|()| state.snapshots.wait_for_merge()).is_err() {
                    // The merge comes after the snapshot.
                    acknowledged.snapshots = state.snapshots.frontier().map_or(0, |frontier| frontier as usize / 80);
                    ended = false;
                    break;
                }
                acknowledged.snapshots += 1;
            }
        } else {
            ended = false;
        }
        acknowledged.snapshots_max = acknowledged.snapshots_max.min(SNAPSHOTS).max(acknowledged.snapshots);
        check(home.path(), acknowledged, &models, &format!("after {after} operations"));
        if ended {
            assert!(after > 100);
            break;
        }
    }
}
