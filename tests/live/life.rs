//! Starting, stopping, going on; growing files; idle partitions.

use crate::pipeline::{Pipeline, assert_same, stop, succeed};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

fn append(file: &Path, text: &str) {
    OpenOptions::new().append(true).open(file).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Waits until `done` says so, which must be soon.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} has not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_run_to_the_end_of_the_log_holds_what_a_replay_holds() {
    let pipeline = Pipeline::generated(20_000, 3);
    let expected = pipeline.replayed(None, None);
    for workers in ["1", "2", "5"] {
        let store = format!("{workers}.db");
        succeed(pipeline.run(&store).args(["--until-end", "-w", workers]));
        assert_same(&pipeline.content(&store), &expected, workers);
    }
}

#[test]
fn a_run_goes_on_where_it_was_stopped_and_follows_what_is_added() {
    let source = Pipeline::generated(20_000, 2);
    let pipeline = Pipeline::empty(2).set("time.idle=200ms");
    let texts: Vec<String> = source.files().iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let pieces = 4;
    for piece in 0..pieces {
        let run = pipeline.run("store.db").args(["-w", &(piece % 3 + 1).to_string()]).spawn().unwrap();
        for (file, text) in pipeline.files().iter().zip(&texts) {
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let (from, to) = (lines.len() * piece / pieces, lines.len() * (piece + 1) / pieces);
            append(file, &lines[from..to].concat());
        }
        // Idle partitions let the clock complete what there is: event times are years ago.
        wait_until("the last record", || {
            let records = pipeline.path("store.db").exists().then(|| pipeline.content("store.db")["record"].len());
            let rejected = pipeline.path("store.db").exists().then(|| pipeline.content("store.db")["rejected"].len());
            records.unwrap_or(0) + rejected.unwrap_or(0) >= source.lines(piece + 1, pieces)
        });
        std::thread::sleep(Duration::from_millis(500));
        stop(run);
    }
    succeed(pipeline.run("store.db").args(["--until-end"]));
    assert_same(&pipeline.content("store.db"), &pipeline.replayed(Some("store.db"), None), "in pieces");
}
