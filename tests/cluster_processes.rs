//! Clusters of real processes on this machine: this test binary starts itself again, in a role given by the environment.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use eddyline::cluster::{Agreement, Cluster, ExecuteError, execute};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Exchange, Inspect, Probe};
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::worker::Worker;

const ROUNDS: u64 = 100;

/// What a started process does once it works.
#[derive(Clone, Copy, Debug)]
enum Role {
    /// Exchanges some data and prints what this process received.
    Sum,
    /// Exchanges data until it is killed; prints `running` when it has exchanged some.
    Endless,
    /// Exchanges data, but its worker fails.
    Fail,
    /// Exchanges data, but its worker panics.
    Panic,
}

const ROLES: [Role; 4] = [Role::Sum, Role::Endless, Role::Fail, Role::Panic];

/// Not a test of its own: the `main` of the processes that the tests start.
#[test]
fn child() {
    let Ok(arguments) = std::env::var("CLUSTER_TEST_CHILD") else { return };
    let fields: Vec<&str> = arguments.split(' ').collect();
    let [role, digest, index, workers, timeout_ms, ref addresses @ ..] = fields[..] else { panic!("arguments") };
    let role = ROLES.into_iter().find(|known| format!("{known:?}") == role).unwrap();
    let cluster = Cluster {
        workers: workers.parse().unwrap(),
        processes: addresses.len(),
        index: index.parse().unwrap(),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        connect_timeout: Duration::from_millis(timeout_ms.parse().unwrap()),
    };
    let parts = vec![("configuration".to_owned(), digest.to_owned())];
    let agreement = Agreement { parts, wishes: Vec::new() };
    match execute(&cluster, &agreement, move |worker, _| work(worker, role)) {
        Ok(sums) => {
            println!("\nsum {}", sums.iter().sum::<u64>());
            std::process::exit(0);
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(if matches!(error, ExecuteError::Work(_)) { 3 } else { 1 });
        }
    }
}

/// Sends 0, 1, 2, … to everybody by value, from all workers alike, and sums up what comes here.
fn work(worker: &mut Worker, role: Role) -> Result<u64, String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut input: InputHandle<u64, CapacityContainerBuilder<Vec<u64>>> = InputHandle::new();
    let probe = ProbeHandle::new();
    worker.dataflow::<u64, _, _>(|scope| {
        input
            .to_stream(scope)
            .map(|value: u64| value)
            .exchange(|value| *value)
            .inspect(move |value| sender.send(*value).unwrap())
            .probe_with(&probe);
    });
    for round in 0.. {
        match role {
            Role::Sum if round == ROUNDS => break,
            Role::Endless if round == 10 && worker.index() == 0 => println!("\nrunning"),
            Role::Fail if round == 10 => return Err("the disk is full".to_owned()),
            Role::Panic if round == 10 => panic!("never two without three"),
            _ => {}
        }
        input.send(round);
        input.advance_to(round + 1);
        while probe.less_than(&(round + 1)) {
            worker.step_or_park(None);
        }
    }
    drop(input);
    while worker.step_or_park(None) {}
    Ok(receiver.try_iter().sum())
}

struct Process(Child);

impl Process {
    fn start(role: Role, digest: &str, index: usize, timeout_ms: u64, addresses: &[String]) -> Process {
        let arguments = format!("{role:?} {digest} {index} 2 {timeout_ms} {}", addresses.join(" "));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env("CLUSTER_TEST_CHILD", arguments)
            .env_remove("RUST_BACKTRACE")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Process(child)
    }

    fn wait_for_line(&mut self, wanted: &str) {
        let mut lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == wanted), "no line {wanted}");
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Its exit code and everything that it said on stderr.
    fn end(mut self) -> (i32, String) {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().code().unwrap(), said)
    }

    fn sum(mut self) -> u64 {
        let mut said = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let (code, errors) = self.end();
        assert_eq!((code, errors.as_str()), (0, ""));
        said.lines().find_map(|line| line.strip_prefix("sum ")).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    /// No process outlives a failed test.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Addresses that nobody listens on, outside of the ports that outgoing connections are given.
fn addresses(processes: usize) -> Vec<String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let base = 20_000 + std::process::id() as usize * 37 % 12_000;
    let free = |port: &usize| TcpListener::bind(("127.0.0.1", *port as u16)).is_ok();
    let ports = std::iter::repeat_with(|| base + NEXT.fetch_add(1, Ordering::Relaxed)).filter(free);
    ports.take(processes).map(|port| format!("127.0.0.1:{port}")).collect()
}

fn start_all(roles: &[Role], addresses: &[String]) -> Vec<Process> {
    roles.iter().enumerate().map(|(index, role)| Process::start(*role, "same", index, 60_000, addresses)).collect()
}

#[test]
fn processes_exchange_data() {
    for processes in [2, 3] {
        let started = start_all(&vec![Role::Sum; processes], &addresses(processes));
        let sums: Vec<u64> = started.into_iter().map(Process::sum).collect();
        let workers = 2 * processes as u64;
        let expected: Vec<u64> = (0..processes as u64)
            .map(|process| (0..ROUNDS).filter(|value| value % workers / 2 == process).sum::<u64>() * workers)
            .collect();
        assert_eq!(sums, expected);
    }
}

#[test]
fn a_killed_peer_is_named_in_one_line() {
    let addresses = addresses(2);
    for killed in [0, 1] {
        let mut processes = start_all(&[Role::Endless; 2], &addresses);
        // Said by the first worker of all.
        processes[0].wait_for_line("running");
        processes[killed].kill();
        let survivor = processes.remove(1 - killed);
        let told = format!(
            "lost the connection to process {killed} ({}): it stopped; its own output says why\n",
            addresses[killed]
        );
        assert_eq!(survivor.end(), (1, told));
    }
}

#[test]
fn a_failing_worker_ends_every_process() {
    for (role, code, said) in [
        (Role::Fail, 3, "the disk is full\n"),
        (Role::Panic, 1, "which is a bug in eddyline: never two without three (tests/cluster_processes.rs:"),
    ] {
        let addresses = addresses(3);
        let mut processes = start_all(&[Role::Sum, role, Role::Sum], &addresses);
        let lost = |(code, said): (i32, String)| {
            assert!(code == 1 && said.starts_with("lost the connection to process "), "{code} {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        };
        lost(processes.remove(2).end());
        let (failed_code, failed_said) = processes.remove(1).end();
        assert!(failed_code == code && failed_said.contains(said), "{failed_code} {failed_said}");
        assert_eq!(failed_said.lines().count(), 1, "{failed_said}");
        lost(processes.remove(0).end());
    }
}

#[test]
fn a_missing_peer_is_named() {
    let addresses = addresses(2);
    let (code, said) = Process::start(Role::Sum, "same", 0, 300, &addresses).end();
    let told = format!(
        "process 1 at {} did not answer within 0.3 s (it has not connected); is it running with -p 1?\n",
        addresses[1]
    );
    assert_eq!((code, said), (1, told));
}

#[test]
fn both_sides_of_a_disagreement_say_so() {
    let addresses = addresses(2);
    let ends = [("one", 0), ("two", 1)]
        .map(|(digest, index)| Process::start(Role::Sum, digest, index, 60_000, &addresses))
        .map(Process::end);
    let told =
        "processes 0 and 1 disagree on the configuration (one and two); start all with the same flags and files\n";
    assert_eq!(ends, [(1, told.to_owned()), (1, told.to_owned())]);
}

#[test]
fn a_busy_port_and_an_unknown_host_are_named() {
    // Somebody's connection may have taken the port meanwhile.
    let (mut addresses, _busy) = loop {
        let free = addresses(2);
        if let Ok(listener) = TcpListener::bind(&free[0]) {
            break (free, listener);
        }
    };
    let (code, said) = Process::start(Role::Sum, "same", 0, 60_000, &addresses).end();
    let told =
        format!("process 0 cannot listen on {}: the port is in use; is this process running already?\n", addresses[0]);
    assert_eq!((code, said), (1, told));
    addresses[0] = "nowhere.invalid:2101".to_owned();
    let (code, said) = Process::start(Role::Sum, "same", 0, 60_000, &addresses).end();
    assert!(code == 1 && said.starts_with("process 0 cannot listen on nowhere.invalid:2101: "), "{said}");
    let (code, said) = Process::start(Role::Sum, "same", 1, 300, &addresses).end();
    assert!(code == 1 && said.starts_with("process 0 at nowhere.invalid:2101 did not answer within 0.3 s ("), "{said}");
}
