//! State with a copy in an object store, on machines that are lost: only the object store keeps what a run needs to go on.

use crate::services::{Server, variable};
use crate::table::{Random, effort, passed};
use crate::world::{Running, Target, World, events, stderr, unused_name, was_killed};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Places that a run with a copy comes to, and what is going on there.
const PLACES: [(&str, &str); 4] = [
    ("remote.put", "a step is on its way to the object store"),
    ("remote.taken", "the object store has a step, and the run does not know yet"),
    ("snapshot.manifest", "the object store has a snapshot's rows, and not its manifest"),
    ("worker.advanced", "the frontier has moved"),
];

/// A run whose state has a copy below a prefix of its own.
fn run(target: &Target<'_>, address: &str, prefix: &str) -> Command {
    with_copy(target.run(), address, prefix)
}

fn with_copy(mut command: Command, address: &str, prefix: &str) -> Command {
    let options = format!(
        "state.remote_options={{ endpoint = \"{address}\", access_key_id = \"eddyline\", secret_access_key = \"eddyline\" }}"
    );
    command.args(["--set", &format!("state.remote=s3://state/{prefix}"), "--set", &options]);
    command
}

/// The machine is gone, and all that was on it.
fn lose_machine(target: &Target<'_>) {
    let _ = fs::remove_dir_all(target.state());
}

#[test]
fn a_run_goes_on_where_its_machine_is_lost() {
    let (Some(address), Some(_)) = (variable("EDDYLINE_TEST_S3"), variable("EDDYLINE_TEST_KAFKA")) else { return };
    let Some(world) = World::new(4 * events(), 4) else { return };
    let mut random = Random(3);
    for (place, what) in PLACES {
        let (mut killed, mut chains) = (0, 0);
        while killed < effort() {
            let (target, prefix) = (world.target(world.embedded()), unused_name());
            chains += 1;
            assert!(chains <= 5 * effort(), "no run came to {place}");
            let mut ordinal = 0;
            while !target.is_between_first_and_last_write() {
                ordinal += 1;
                let fault = format!("snapshot.published:{ordinal}");
                assert!(was_killed(&run(&target, &address, &prefix).env("EDDYLINE_FAULT", fault).output().unwrap()));
                lose_machine(&target);
            }
            let before = killed;
            while killed < effort() {
                let ordinal = if killed == before { 1 } else { 1 + random.below(6) };
                let workers = (1 + random.below(3)).to_string();
                let fault = format!("{place}:{ordinal}");
                let output = run(&target, &address, &prefix)
                    .args(["-w", &workers])
                    .env("EDDYLINE_FAULT", fault)
                    .output()
                    .unwrap();
                if !was_killed(&output) {
                    break;
                }
                lose_machine(&target);
                if !target.is_between_first_and_last_write() {
                    break;
                }
                killed += 1;
            }
            let output = run(&target, &address, &prefix).args(["-w", "2"]).output().unwrap();
            assert!(output.status.success(), "{place}: {}", stderr(&output));
            target.check(place);
        }
        passed(&format!("kill -9 at `{place}`, and the machine lost with its state directory"), killed, what);
    }
}

#[test]
fn an_object_store_goes_away_and_comes_back() {
    let Some(server) = Server::start("s3.sh", "EDDYLINE_TEST_S3") else { return };
    if variable("EDDYLINE_TEST_KAFKA").is_none() {
        return;
    }
    let Some(world) = World::new(5 * events(), 2) else { return };
    let lengths: &[u64] = if effort() == 1 { &[1] } else { &[1, 20] };
    for &seconds in lengths {
        let (target, prefix) = (world.target(world.embedded()), unused_name());
        // One that does not end by itself, and is asked for a snapshot all the time.
        let mut running = Running::spawn(&mut with_copy(target.run_on(), server.address(), &prefix));
        while !target.stores.has_records() {
            running.goes_on();
            std::thread::sleep(Duration::from_millis(2));
        }
        server.kill();
        std::thread::sleep(Duration::from_secs(seconds));
        running.goes_on();
        server.restart();
        running.terminate();
        let told = stderr(&running.succeed());
        // A call is tried again for a while before anything is said.
        assert!(seconds < 20 || told.contains("trying again until it works"), "{told}");
        lose_machine(&target);
        let output = run(&target, server.address(), &prefix).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        target.check("an object store away, then the machine lost");
        passed(&format!("object store killed, away for {seconds} s"), 1, "the run went on by itself");
    }
}

#[test]
fn a_later_run_takes_over_and_the_earlier_one_ends() {
    let (Some(address), Some(_)) = (variable("EDDYLINE_TEST_S3"), variable("EDDYLINE_TEST_KAFKA")) else { return };
    let Some(world) = World::new(events(), 1) else { return };
    let (mut target, prefix) = (world.target(world.embedded()), unused_name());
    // The first has read all, and takes long over its first snapshot.
    let mut first = with_copy(target.run_on(), &address, &prefix);
    let mut first = Running::spawn(first.env("EDDYLINE_FAULT", "snapshot.durable:5000ms"));
    let read = || target.stores.records() + target.stores.rejected();
    let text = fs::read(world.path("log.csv")).unwrap();
    let all = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u64;
    while read() < all {
        first.goes_on();
        std::thread::sleep(Duration::from_millis(2));
    }
    // The second is on another machine, with the same store of results.
    target.set_state(world.path(&unused_name()));
    let second = run(&target, &address, &prefix).output().unwrap();
    assert!(second.status.success(), "{}", stderr(&second));
    let first = first.output();
    let told = stderr(&first);
    assert_eq!(first.status.code(), Some(1), "{told}");
    assert!(told.contains("another run has taken over the state in s3://state/"), "{told}");
    assert!(!told.contains("panicked"), "{told}");
    target.check("a run taken over");
}

#[test]
fn wrong_settings_are_told_in_a_line() {
    let (Some(address), Some(_)) = (variable("EDDYLINE_TEST_S3"), variable("EDDYLINE_TEST_KAFKA")) else { return };
    let Some(world) = World::new(100, 1) else { return };
    let target = world.target(world.embedded());
    let told = |remote: &str, options: &str| {
        let mut command = target.run();
        let options = format!("state.remote_options={{ {options} }}");
        command.args(["--set", &format!("state.remote={remote}"), "--set", &options]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let told = stderr(&output);
        told.lines().last().unwrap_or_default().to_owned()
    };
    let keys = "access_key_id = \"eddyline\", secret_access_key = \"eddyline\"";
    let here = format!("endpoint = \"{address}\", {keys}");
    for (remote, options, expected) in [
        ("s3://nowhere/a", here.clone(), "cannot list s3://nowhere/a/base: The specified bucket does not exist"),
        (
            "s3://state/a",
            format!("endpoint = \"{address}\", access_key_id = \"eddyline\", secret_access_key = \"hunter2\""),
            "Check your key",
        ),
        ("s3://state/a", format!("endpoint = \"http://127.0.0.1:1\", {keys}"), "onnection refused"),
        ("s3://state/a", format!("{here}, retries = 3"), "state.remote_options has no setting \"retries\""),
        (
            "s3://state/a",
            format!("endpoint = \"{address}\", access_key_id = \"x\", secret_access_key = \"file:/none\""),
            "/none",
        ),
    ] {
        let told = told(remote, &options);
        assert!(told.contains(expected) && told.contains(remote) && !told.contains("hunter"), "{told}");
    }
}
