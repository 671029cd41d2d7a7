//! Several processes: what is process 0's alone, and what all must have in common.

use super::tables::tables;
use super::{Log, checked, digests, eddyline, outputs, unruly};
use eddyline::config::Config;
use eddyline::progress::Progress;
use eddyline::replay::{self, Dataflows, OtherPipeline, Processes, ReplayPlan};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A command for each process of a cluster on this machine, without inputs, and the processes' addresses.
pub fn commands(directory: &Path, processes: usize) -> (Vec<Command>, Vec<String>) {
    let hosts = directory.join("hosts");
    let free: Vec<TcpListener> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<String> = free.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
    fs::write(&hosts, addresses.join("\n")).unwrap();
    let command = |index: usize| {
        let (count, index) = (processes.to_string(), index.to_string());
        let mut command = eddyline(&["replay", "--json", "-n", &count, "-p", &index]);
        command.args(["--hostfile", hosts.to_str().unwrap()]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    ((0..processes).map(command).collect(), addresses)
}

/// What a process says; a hundred seconds are for ever.
pub fn end(mut child: Child) -> Output {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(100) {
            child.kill().unwrap();
            panic!("a process hangs: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

#[cfg(unix)]
pub fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn process_0_alone_says_where_results_go() {
    let log = unruly("4");
    let (files, digests_alone) = log.replay("alone", &[]);
    let [store_alone, store, out, stray] =
        ["alone.db", "store.db", "out", "stray"].map(|name| log.directory.path().join(name));
    let mut alone = eddyline(&["replay", "--store", store_alone.to_str().unwrap()]);
    checked(alone.args(&log.files).output().unwrap());
    let (mut commands, _) = commands(log.directory.path(), 3);
    commands[0].args(["--out", out.to_str().unwrap(), "--store", store.to_str().unwrap()]);
    commands[2].args(["--out", stray.to_str().unwrap()]);
    let children: Vec<Child> = commands.iter_mut().map(|c| c.args(&log.files).spawn().unwrap()).collect();
    let stdouts: Vec<String> = children.into_iter().map(|child| checked(end(child))).collect();
    assert_eq!(digests(&stdouts[0]), digests_alone);
    assert!(outputs(&out) == files);
    assert!(tables(&store) == tables(&store_alone));
    assert!(!stray.exists());
}

#[test]
fn standard_input_is_process_0s() {
    let log = unruly("5");
    let (_, digests_alone) = log.replay("alone", &[]);
    let (mut commands, _) = commands(log.directory.path(), 2);
    let last = log.files.len() - 1;
    commands[0].stdin(fs::File::open(&log.files[last]).unwrap());
    // As a terminal where nobody types.
    commands[1].stdin(Stdio::piped());
    let mut children: Vec<Child> =
        commands.iter_mut().map(|c| c.args(&log.files[..last]).arg("-").spawn().unwrap()).collect();
    let _open = children[1].stdin.take();
    let stdouts: Vec<String> = children.into_iter().map(|child| checked(end(child))).collect();
    assert_eq!(digests(&stdouts[0]), digests_alone);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_process_0s() {
    let log = unruly("6");
    let (_, digests_alone) = log.replay("alone", &[]);
    let mut inputs: Vec<PathBuf> = log.files.clone();
    inputs[1] = log.directory.path().join("pipe");
    make_pipe(&inputs[1]);
    let (mut commands, _) = commands(log.directory.path(), 2);
    let children: Vec<Child> = commands.iter_mut().map(|c| c.args(&inputs).spawn().unwrap()).collect();
    let (pipe, text) = (inputs[1].clone(), log.texts()[1].clone());
    let writer = std::thread::spawn(move || {
        let mut pipe = fs::OpenOptions::new().write(true).open(pipe).unwrap();
        // In small pieces, so that a second reader would get some of them.
        text.chunks(1_000).try_for_each(|piece| pipe.write_all(piece)).unwrap();
    });
    let stdouts: Vec<String> = children.into_iter().map(|child| checked(end(child))).collect();
    writer.join().unwrap();
    assert_eq!(digests(&stdouts[0]), digests_alone);
}

#[test]
fn a_file_that_grew_between_the_starts_is_named() {
    let log = Log::of(&[b"1,2,pv,3\n"]);
    let (mut commands, addresses) = commands(log.directory.path(), 2);
    let first = commands[0].args(&log.files).spawn().unwrap();
    // It listens once it has read the file.
    while TcpListener::bind(&addresses[0]).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::write(&log.files[0], b"1,2,pv,3\n4,5,pv,6\n").unwrap();
    let second = commands[1].args(&log.files).spawn().unwrap();
    for child in [first, second] {
        let output = end(child);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        let expected = format!("processes 0 and 1 disagree on the input {}, file 0 (9 bytes, ", log.files[0].display());
        assert!(told.contains(&expected) && told.contains(" and 18 bytes, "), "{told}");
    }
}

/// Two processes, played by two threads of this one.
#[test]
fn process_0_counts_the_work_of_all() {
    let log = unruly("8");
    let (_, addresses) = commands(log.directory.path(), 2);
    let plan = |index: usize| ReplayPlan {
        config: Config::default(),
        files: log.files.clone(),
        workers: 1,
        processes: Some(Processes { index, addresses: addresses.clone() }),
        dataflows: Dataflows::default(),
        store: None,
        other_pipeline: OtherPipeline::Refuse,
        out: None,
        evaluate: false,
        strict: false,
        until: None,
        journal: None,
        log_name: None,
        progress: Progress::hidden(),
        stop: Arc::default(),
    };
    let [first, second] = [plan(0), plan(1)];
    let other = std::thread::spawn(move || replay::run(&second).unwrap().is_none());
    let outcome = replay::run(&first).unwrap().unwrap();
    assert!(other.join().unwrap());
    assert!(outcome.summary.events > 10_000);
    assert_eq!(outcome.throughput.last().map(|moment| moment.1), Some(outcome.summary.events));
}
