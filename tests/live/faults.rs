//! kill -9 at labelled places, and what comes of it.

use crate::pipeline::{Pipeline, assert_same};
use std::os::unix::process::ExitStatusExt;

/// Every place at which a run can be told to die, in the order in which a run comes to them first.
pub(crate) const PLACES: [&str; 14] = [
    "journal.append",
    "journal.durable",
    "start.told",
    "restore.rows",
    "worker.handed_over",
    "worker.advanced",
    "decision.heard",
    "sink.write",
    "sink.written",
    "sink.flushed",
    "snapshot.asked",
    "snapshot.durable",
    "snapshot.published",
    "sinks.finish",
];

const SIGKILL: i32 = 9;

/// Kills runs at `place` for the first, second, fourth … time until one comes to its end. Returns how many were killed.
fn kill_at(pipeline: &Pipeline, place: &str, workers: &[usize], kills_max: usize) -> usize {
    let store = format!("{place}.db");
    for kill in 0..kills_max {
        let mut command = pipeline.run(&store);
        command.args(["--until-end", "-w", &workers[kill % workers.len()].to_string()]);
        command.env("EDDYLINE_FAULT", format!("{place}:{}", 1 << kill.min(20)));
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        match output.status.signal() {
            Some(SIGKILL) => assert!(told.contains(&format!("fault: {place}")), "{told}"),
            _ => {
                assert!(output.status.success(), "{place}: {told}");
                return kill;
            }
        }
    }
    let mut command = pipeline.run(&store);
    command.args(["--until-end", "-w", "2"]);
    crate::pipeline::succeed(&mut command);
    kills_max
}

#[test]
fn whatever_place_a_run_dies_at_the_store_ends_as_a_replay() {
    let kills_max = std::env::var("EDDYLINE_TEST_KILLS").map_or(3, |text| text.parse().unwrap());
    let pipeline = Pipeline::generated(20_000, 3);
    let expected = pipeline.replayed(None);
    let mut table = Vec::new();
    for place in PLACES {
        let kills = kill_at(&pipeline, place, &[1, 2, 3], kills_max);
        assert_same(&pipeline.content(&format!("{place}.db")), &expected, place);
        table.push((place, kills));
    }
    for (place, kills) in &table {
        eprintln!("| `{place}` | {kills} |");
    }
}
