//! kill -9 at labelled places, and what comes of it.

use crate::pipeline::{Pipeline, assert_same, succeed};
use std::os::unix::process::ExitStatusExt;

/// Places that every run over a whole log comes to, or, from the second on, every run that goes on from a snapshot.
const PLACES: [&str; 11] = [
    "start.told",
    "worker.handed_over",
    "worker.advanced",
    "sink.write",
    "sink.written",
    "sink.flushed",
    "snapshot.asked",
    "snapshot.durable",
    "snapshot.published",
    "restore.rows",
    "sinks.finish",
];

/// Places that a run comes to when partitions fall silent.
const PLACES_OF_DECISIONS: [&str; 3] = ["journal.append", "journal.durable", "decision.heard"];

const SIGKILL: i32 = 9;

/// Waits for the end of a run that is to die at `place`. Whether it died there.
fn has_died(output: &std::process::Output, place: &str) -> bool {
    let told = String::from_utf8_lossy(&output.stderr);
    match output.status.signal() {
        Some(SIGKILL) => {
            assert!(told.contains(&format!("fault: {place}")), "{told}");
            true
        }
        _ => {
            assert!(output.status.success(), "{place}: {told}");
            false
        }
    }
}

/// Kills runs at `place` for the first, second, fourth … time until one comes to its end. Returns how many were killed.
fn kill_at(pipeline: &Pipeline, place: &str, workers: &[usize], kills_max: usize) -> usize {
    let store = format!("{place}.db");
    if place == "restore.rows" {
        // There must be a snapshot to go on from.
        let mut command = pipeline.run(&store);
        let output = command.args(["--until-end"]).env("EDDYLINE_FAULT", "snapshot.published:1").output().unwrap();
        assert!(has_died(&output, "snapshot.published"));
    }
    for kill in 0..kills_max {
        let mut command = pipeline.run(&store);
        command.args(["--until-end", "-w", &workers[kill % workers.len()].to_string()]);
        let output = command.env("EDDYLINE_FAULT", format!("{place}:{}", 1 << kill.min(20))).output().unwrap();
        if !has_died(&output, place) {
            return kill;
        }
    }
    succeed(pipeline.run(&store).args(["--until-end", "-w", "2"]));
    kills_max
}

fn kills_max() -> usize {
    std::env::var("EDDYLINE_TEST_KILLS").map_or(3, |text| text.parse().unwrap())
}

#[test]
fn whatever_place_a_run_dies_at_the_store_ends_as_a_replay() {
    let pipeline = Pipeline::generated(60_000, 3);
    let expected = pipeline.replayed(None);
    for place in PLACES {
        let kills = kill_at(&pipeline, place, &[1, 2, 3], kills_max());
        eprintln!("| `{place}` | {kills} |");
        assert!(kills > 0, "no run came to {place}");
        assert_same(&pipeline.content(&format!("{place}.db")), &expected, place);
    }
}

#[test]
fn decisions_that_a_run_dies_over_are_repeated_or_never_were() {
    let pipeline = Pipeline::generated(5_000, 2).set("time.idle=50ms");
    for place in PLACES_OF_DECISIONS {
        let store = format!("{place}.db");
        for kill in 0..2 {
            let mut command = pipeline.run(&store);
            command.args(["-w", &(kill + 1).to_string()]).env("EDDYLINE_FAULT", format!("{place}:1"));
            let run = command.spawn().unwrap();
            let id = run.id().to_string();
            // Time passes where all partitions are silent, so a decision comes soon, unless there was nothing left to decide.
            let watch = std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_secs(30));
                let _ = std::process::Command::new("kill").args(["-TERM", &id]).status();
            });
            let died = has_died(&run.wait_with_output().unwrap(), place);
            assert!(died || kill > 0, "no run came to {place}");
            drop(watch);
        }
        succeed(pipeline.run(&store).args(["--until-end"]));
        assert_same(&pipeline.content(&store), &pipeline.replayed(Some(&store)), place);
    }
}
