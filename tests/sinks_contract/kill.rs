//! Real processes, killed at any instant (SIGKILL), and run again.
//!
//! The child is this test binary itself, told by an environment variable to run the test [`child`] only.

use super::replay::Replay;
use super::subjects::{Canonical, Embedded, Subject};
use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const DIRECTORY: &str = "EDDYLINE_TEST_KILLED_CHILD";
const CUT: &str = "EDDYLINE_TEST_KILLED_CHILD_CUT";

fn subjects() -> [Box<dyn Subject>; 2] {
    [Box::new(Canonical), Box::new(Embedded { commit_rows: 400 })]
}

/// Writes the whole replay to every sink, and tells of each step.
#[test]
#[expect(clippy::print_stdout, reason = "the way to the parent")]
fn child() {
    let Ok(directory) = env::var(DIRECTORY) else { return };
    let replay = Replay::large(1);
    let mut sinks: Vec<_> = subjects().iter().map(|subject| subject.open(Path::new(&directory))).collect();
    for batch in replay.batches(env::var(CUT).unwrap().parse().unwrap()) {
        for sink in &mut sinks {
            sink.write(&batch).unwrap();
            println!("step");
        }
    }
    for mut sink in sinks {
        println!("step");
        sink.finish(&replay.end()).unwrap();
    }
    println!("done");
}

/// Starts the child and kills it after some steps. Returns whether it had ended by itself.
fn kill_after(directory: &Path, cut: u64, steps: usize) -> bool {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["kill::child", "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(CUT, cut.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut told = lines.filter(|line| line.ends_with("step") || line.ends_with("done"));
    let last = told.by_ref().take(steps + 1).last();
    child.kill().unwrap();
    child.wait().unwrap();
    last.is_some_and(|line| line.ends_with("done")) || told.any(|line| line.ends_with("done"))
}

#[test]
fn killed_runs_look_unfinished_and_complete_when_run_again() {
    let replay = Replay::large(1);
    let expected: Vec<_> = subjects().iter().map(|subject| subject.expected(&replay)).collect();
    for first in [0, 3, 8] {
        let directory = tempfile::tempdir().unwrap();
        let mut steps = first;
        // Later and later, until it ends before it is killed.
        loop {
            let ended = kill_after(directory.path(), first as u64, steps);
            for (subject, expected) in subjects().iter().zip(&expected) {
                match subject.content(directory.path()) {
                    Some(content) => assert_eq!(&content, expected),
                    None => assert!(!ended),
                }
            }
            if ended {
                break;
            }
            steps += 2;
        }
    }
}
