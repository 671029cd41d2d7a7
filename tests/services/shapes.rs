//! Runs that go on with other numbers of workers and processes, and topics that grow partitions.

use crate::cluster::{add_partitions, delete_records};
use crate::pipeline::{Pipeline, SETTINGS, assert_same, content, eddyline, succeed, tomorrow, wait_until};
use crate::services::variable;
use crate::stores::Stores;
use crate::table::{Random, effort, passed};
use crate::world::{Running, Target, World, events, stderr, unused_name, was_killed};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
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

fn lines(file: &std::path::Path) -> u64 {
    fs::read(file).unwrap().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u64
}

/// Appends `parts` to `files`, and to the partitions of their places; a part that is empty needs no partition.
fn produce(world: &World, files: &[PathBuf; 3], parts: [&[u8]; 3], options: &[&str]) {
    let new = ["part-0", "part-1", "part-2"].map(|name| world.path(name));
    for (file, part) in new.iter().zip(parts) {
        fs::write(file, part).unwrap();
    }
    for (file, part) in files.iter().zip(parts) {
        fs::OpenOptions::new().create(true).append(true).open(file).unwrap().write_all(part).unwrap();
    }
    let new = &new[..if parts[2].is_empty() { 2 } else { 3 }];
    let mut command = eddyline();
    command.arg("produce").args(new).args(["--partition-by", "file", "-q"]).args(options);
    succeed(command.args(["--brokers", &world.brokers, "--topic", &world.topic]));
}

/// What a replay of `files` with the journal of `target` puts into an embedded store.
fn replay(target: &Target<'_>, files: &[PathBuf; 3], settings: &[&str]) -> PathBuf {
    let replayed = target.world.path("grown.db");
    let mut replay = eddyline();
    replay.arg("replay").args(files).args(["--log-name", "test", "--journal"]);
    replay.arg(target.state().join("generation-1").join("journal.jsonl"));
    for setting in SETTINGS.iter().chain(settings) {
        replay.args(["--set", setting]);
    }
    succeed(replay.arg("--store").arg(&replayed));
    replayed
}

/// A batch that MongoDB takes in several transactions is there in part after a run that died over it: what it has stays true.
#[test]
fn a_partition_that_comes_after_half_a_batch_changes_nothing_of_it() {
    let (Some(brokers), Some(mongodb)) = (variable("EDDYLINE_TEST_KAFKA"), variable("EDDYLINE_TEST_MONGODB")) else {
        return;
    };
    let world = World::of(&brokers, Pipeline::empty(2));
    let target = world.target(Stores { mongodb: Some((mongodb, unused_name())), ..Stores::default() });
    let files = ["log-0.csv", "log-1.csv", "third.csv"].map(|name| world.path(name));
    // Items become popular; then 4,500 users come in one tick; then time goes on.
    let start = 1_511_600_000;
    let rows = |rows: &mut dyn Iterator<Item = (u64, u64, u64)>| {
        rows.map(|(user, item, time)| format!("{user},{item},pv,{time}\n")).collect::<String>().into_bytes()
    };
    let popular = (0..60).map(|at| (1 + at, 1 + at % 20, start + at));
    let crowd = (0..4_500).map(|at| (1_000 + at, 1 + at % 20, start + 100));
    let first = rows(&mut popular.chain(crowd).chain([(1, 1, start + 200)]));
    let second = rows(&mut [(2, 2, start), (2, 2, start + 200)].into_iter());
    produce(&world, &files, [&first, &second, b""], &[]);
    let recommendations = || target.stores.content().get("mongodb recommendResults").map_or(0, Vec::len);
    // Records may have come in a batch of their own before.
    for ordinal in 1..=3 {
        let place = format!("mongodb.pieces:{ordinal}");
        let mut run = Running::spawn(target.run_on().env("EDDYLINE_FAULT", &place));
        wait_until(&place, || run.ended().is_some());
        let output = run.output();
        assert!(was_killed(&output), "{}", stderr(&output));
        if recommendations() >= 2_000 {
            break;
        }
    }
    assert!(recommendations() >= 2_000, "no run died over the crowd's batch");
    assert!(recommendations() < 4_500, "the batch is whole");
    add_partitions(&world.brokers, &world.topic, 3);
    // What would have been popular just before the crowd came.
    let third = rows(&mut (0..500).map(|at| (9_000 + at, 99, start + 99)));
    produce(&world, &files, [b"", b"", &third], &[]);
    succeed(&mut target.run());
    let expected = target.stores.expected(&replay(&target, &files, &[]));
    assert_same(&target.stores.content(), &expected, "half a batch");
    passed("kill -9 at `mongodb.pieces`, then a partition added", 1, "MongoDB has a part of a batch");
}

/// The journal knows which watermark a partition began with that came while the run was on, and time, which goes on meanwhile,
/// waits for that decision, however long it takes.
#[test]
fn a_partition_that_is_added_while_a_run_is_on_is_repeated_by_a_replay() {
    let Some(brokers) = variable("EDDYLINE_TEST_KAFKA") else { return };
    let source = Pipeline::generated_with(events(), 2, &[]);
    let texts: Vec<Vec<u8>> = source.files().iter().map(|file| fs::read(file).unwrap()).collect();
    let world = World::of(&brokers, Pipeline::empty(2));
    let files = ["log-0.csv", "log-1.csv", "third.csv"].map(|name| world.path(name));
    let [first, second, third] = &files;
    let produce = |parts: [&[u8]; 3], options: &[&str]| produce(&world, &files, parts, options);
    let half =
        |text: &[u8]| text.len() / 2 + text[text.len() / 2..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let (a, b) = (texts[0].split_at(half(&texts[0])), texts[1].split_at(half(&texts[1])));
    produce([a.0, b.0, b""], &[]);
    let target = world.target(world.embedded());
    let refresh = r#"kafka.properties={"topic.metadata.refresh.interval.ms"="500"}"#;
    let settings = ["--set", "time.idle=400ms", "--set", "time.late=admit", "--set", refresh];
    let mut command = target.run_on();
    let command = command.args(["-w", "2"]).args(settings).env("EDDYLINE_FAULT", "journal.append:2000ms");
    let mut run = Running::spawn(command);
    let seen = || target.stores.records() + target.stores.rejected();
    wait_until("the first halves", || seen() >= lines(first) + lines(second));
    add_partitions(&world.brokers, &world.topic, 3);
    produce([b"", b"", &texts[0]], &[]);
    produce([a.1, b.1, b""], &["--rate", &(events() / 8).to_string()]);
    let all = lines(first) + lines(second) + lines(third);
    wait_until("the new partition", || {
        run.goes_on();
        seen() >= all
    });
    run.terminate();
    run.succeed();
    let output = target.run().args(settings).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let replayed = replay(&target, &files, &["time.late=admit"]);
    let mut expected = content(&replayed);
    // The clock has moved time on, and the window has become empty. Which list a log's end then keeps as the newest is known to
    // a replay, but not to a run that went on from a snapshot after that (docs/live.md).
    expected.remove("popular_latest");
    assert_same(&content(target.stores.embedded.as_ref().unwrap()), &expected, "a new partition");
    passed("partition added while the run is on", 1, "its first watermark is repeated from the journal");
}

/// Records that the broker deletes before a run has read them, while it is on.
#[test]
fn records_that_are_lost_while_a_run_is_on_are_passed_over_if_that_is_accepted() {
    let Some(brokers) = variable("EDDYLINE_TEST_KAFKA") else { return };
    let world = World::of(&brokers, Pipeline::generated_with(events(), 1, &["--start", &tomorrow()]));
    let target = world.target(world.embedded());
    let mut run = Running::spawn(target.run_on().arg("--accept-loss"));
    let read = lines(&world.path("log.csv"));
    wait_until("the log", || target.stores.records() >= read);
    run.signal("STOP");
    let more = Pipeline::generated_with(1_000, 1, &["--start", &tomorrow(), "--seed", "9"]);
    let mut produce = eddyline();
    produce.arg("produce").arg(&more.files()[0]).args(["--partition-by", "file", "-q"]);
    succeed(produce.args(["--brokers", &world.brokers, "--topic", &world.topic]));
    delete_records(&world.brokers, &world.topic, 0, i64::try_from(read + 400).unwrap());
    run.signal("CONT");
    wait_until("what is left", || {
        run.goes_on();
        target.stores.records() >= read + 600
    });
    run.terminate();
    run.succeed();
    let journal = fs::read_to_string(target.state().join("generation-1").join("journal.jsonl")).unwrap();
    assert!(journal.contains(&format!("\"from\":{read},\"to\":{}", read + 400)), "{journal}");
    assert_eq!(target.stores.records(), read + 600);
    passed("records deleted before they were read, with `--accept-loss`", 1, "the journal says which");
}
