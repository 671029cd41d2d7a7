//! Runs that go on with other numbers of workers and processes, and topics that grow partitions.

use crate::cluster::add_partitions;
use crate::pipeline::{SETTINGS, assert_same, content, eddyline, succeed};
use crate::table::{Random, effort, passed};
use crate::world::{Running, Target, World, events, stderr};
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// The processes of one run.
fn start(world: &World, target: &Target<'_>, processes: usize, workers: u64) -> Vec<Running> {
    let hosts = world.path("hosts");
    let free: Vec<TcpListener> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let lines = free.iter().map(|listener| format!("{}\n", listener.local_addr().unwrap()));
    fs::write(&hosts, lines.collect::<String>()).unwrap();
    drop(free);
    let process = |index: usize| {
        let mut command = target.run();
        command.args(["-w", &workers.to_string(), "-n", &processes.to_string(), "-p", &index.to_string()]);
        Running::spawn(command.arg("--hostfile").arg(&hosts))
    };
    (0..processes).map(process).collect()
}

#[test]
fn runs_go_on_with_other_numbers_of_workers_and_processes() {
    let Some(world) = World::new(3 * events(), 4) else { return };
    let mut random = Random(5);
    let (wanted, mut killed, mut shapes) = (if effort() == 1 { 2 } else { 2 * effort() }, 0, Vec::new());
    // How long two processes take that are left alone.
    let mut length = Duration::ZERO;
    while killed < wanted {
        let Some(stores) = world.all_stores() else { return };
        let target = world.target(stores);
        if length.is_zero() {
            let started = Instant::now();
            start(&world, &target, 2, 1).into_iter().for_each(|process| drop(process.succeed()));
            target.check("two processes");
            length = started.elapsed();
            continue;
        }
        while killed < wanted {
            let (processes, workers) = (1 + random.below(3) as usize, 1 + random.below(2));
            let mut run = start(&world, &target, processes, workers);
            std::thread::sleep(length.mul_f64(0.1 + random.below(800) as f64 / 1000.0));
            let victim = random.below(processes as u64) as usize;
            run[victim].kill();
            // Without one of them the others end too.
            let outcomes: Vec<_> = run.into_iter().map(|process| process.output()).collect();
            if outcomes.iter().all(|output| output.status.success()) {
                break;
            }
            if target.is_between_first_and_last_write() {
                killed += 1;
                shapes.push(format!("{processes}×{workers}"));
            }
        }
        let output = target.run().args(["-w", "3"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        target.check("other numbers of workers and processes");
    }
    passed("one of several processes killed, and restarted with others", killed, &shapes.join(" "));
}

/// Waits until `done` says so, which must be soon.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what} has not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn lines(file: &std::path::Path) -> u64 {
    fs::read(file).unwrap().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u64
}

/// The journal knows which watermark a partition began with that came while the run was on.
#[test]
fn a_partition_that_is_added_while_a_run_is_on_is_repeated_by_a_replay() {
    let Some(world) = World::new(events(), 2) else { return };
    let (first, second) = (world.path("log-0.csv"), world.path("log-1.csv"));
    let target = world.target(world.embedded());
    let refresh = r#"kafka.properties={"topic.metadata.refresh.interval.ms"="500"}"#;
    let mut run = Running::spawn(target.run_on().args(["-w", "2", "--set", "time.idle=1s", "--set", refresh]));
    let seen = || target.stores.records() + target.stores.rejected();
    let before = lines(&first) + lines(&second);
    wait_until("the end of the first partitions", || seen() >= before);
    add_partitions(&world.brokers, &world.topic, 3);
    let nothing = world.path("nothing.csv");
    fs::write(&nothing, "").unwrap();
    // A file for each partition, of which only the new one gets anything.
    let mut produce = eddyline();
    produce.arg("produce").args([&nothing, &nothing, &first]).args(["--partition-by", "file", "-q"]);
    succeed(produce.args(["--brokers", &world.brokers, "--topic", &world.topic]));
    wait_until("the new partition", || seen() >= before + lines(&first));
    run.terminate();
    run.succeed();
    let output = target.run().output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let replayed = world.path("grown.db");
    let mut replay = eddyline();
    replay.arg("replay").args([&first, &second, &first]).args(["--log-name", "test", "--journal"]);
    replay.arg(target.state().join("generation-1").join("journal.jsonl"));
    for setting in SETTINGS {
        replay.args(["--set", setting]);
    }
    succeed(replay.arg("--store").arg(&replayed));
    let mut expected = content(&replayed);
    // The clock has moved time on, and the window has become empty. Which list a log's end then keeps as the newest is known to
    // a replay, but not to a run that went on from a snapshot after that (docs/live.md).
    expected.remove("popular_latest");
    assert_same(&content(target.stores.embedded.as_ref().unwrap()), &expected, "a new partition");
    passed("partition added while the run is on", 1, "its first watermark is repeated from the journal");
}
