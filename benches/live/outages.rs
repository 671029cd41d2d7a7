//! Memory while stores are away.

use crate::services::{Services, StopAtEnd, free_address, get, now_ms, resident, rows_and_model, run, terminate};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rusqlite::Connection;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Resident memory of runs at 5,000 events a second (MongoDB: 200) while their store is away for so many seconds, each of
/// `stores`, or of all, on a server of its own. The run must have caught up afterwards.
pub(crate) fn outages(services: &Services, seconds: u64, stores: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let (rows, _) = rows_and_model(directory.path());
    thread::scope(|scope| {
        for sink in ["embedded", "mysql", "redis", "mongodb"] {
            if !stores.is_empty() && !stores.contains(&sink) {
                continue;
            }
            let (rows, directory) = (&rows, directory.path());
            // Told at once: one that fails takes none of the others' figures with it.
            scope.spawn(move || println!("{}", outage(services, sink, seconds, rows, directory)));
        }
    });
}

/// One server, to be taken away.
struct Server {
    script: &'static str,
    directory: tempfile::TempDir,
}

impl Server {
    fn script(&self, verb: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services").join(self.script);
        let mut command = Command::new(script);
        command.arg(verb).arg(self.directory.path()).env_remove("EDDYLINE_TEST_MONGODB");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.script("kill");
    }
}

/// What a run that has ended by itself said must show.
fn is_on(run: &mut Child, sink: &str, log: &Path) {
    if let Some(status) = run.try_wait().unwrap() {
        panic!("{sink}: the run has ended, {status}: {}", fs::read_to_string(log).unwrap_or_default());
    }
}

fn outage(services: &Services, sink: &str, seconds: u64, rows: &[[u64; 2]], directory: &Path) -> String {
    let script = match sink {
        "mysql" => "mariadb.sh",
        "redis" => "redis.sh",
        "mongodb" => "mongodb.sh",
        _ => "",
    };
    let rate = if sink == "mongodb" { 200 } else { 5_000 };
    let server = (!script.is_empty()).then(|| Server { script, directory: tempfile::tempdir().unwrap() });
    let own = server.as_ref().map(|server| {
        let told = server.script("start");
        let address = told.lines().next().unwrap().split_once('=').unwrap().1.to_owned();
        Services { kafka: services.kafka.clone(), mongodb: address.clone(), mysql: address.clone(), redis: address }
    });
    let options = own.as_ref().unwrap_or(services).store(sink, directory);
    let (topic, address) = (services.topic(2), free_address());
    let mut command = run(services, &topic, &directory.join(format!("{sink}.state")));
    command.args(["--set", "time.tick=1s", "--set", "popular.slide=10s", "--set", "popular.window=10m"]);
    command.args(["--set", "source.time_unit=ms", "--set", "time.lateness=1s", "--serve", &address]).args(&options);
    let log = directory.join(format!("{sink}.log"));
    let mut run = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut samples = Vec::new();
    let caught_up = thread::scope(|scope| {
        scope.spawn(|| {
            let producer = services.producer("5");
            let started = Instant::now();
            for ([user, item], number) in rows.iter().cycle().zip(0_u64..) {
                while number >= (started.elapsed().as_secs_f64() * rate as f64) as u64 {
                    thread::sleep(Duration::from_millis(2));
                    if stop.load(Ordering::Relaxed) {
                        let _ = producer.flush(Duration::from_secs(30));
                        return;
                    }
                }
                let text = format!("{user},{item},pv,{}", now_ms());
                while let Err((error, _)) = producer.send(BaseRecord::to(&topic).key(&user.to_string()).payload(&text))
                {
                    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{sink}");
                    thread::sleep(Duration::from_millis(10));
                }
                sent.store(number + 1, Ordering::Relaxed);
            }
        });
        let _stop = StopAtEnd(&stop);
        let mut watch = |run: &Child, seconds: u64| {
            for _ in 0..seconds.div_ceil(5) {
                thread::sleep(Duration::from_secs(5));
                samples.push(resident(run));
            }
        };
        watch(&run, 30);
        // One that could not begin is no outage's fault.
        is_on(&mut run, sink, &log);
        let held = match &server {
            Some(server) => {
                server.script("kill");
                None
            }
            None => {
                // A reader of the file that keeps everybody from writing.
                let connection = Connection::open(&options[1]).unwrap();
                connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                Some(connection)
            }
        };
        watch(&run, seconds);
        is_on(&mut run, sink, &log);
        drop(held);
        if let Some(server) = &server {
            server.script("start");
        }
        let back = Instant::now();
        let mut caught_up = None;
        while caught_up.is_none() && back.elapsed() < Duration::from_secs(600) {
            watch(&run, 5);
            let metrics = get(&address, "/metrics");
            let number = |name: &str| {
                let line = metrics.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse::<f64>().ok()
            };
            let frontier = number(&format!("eddyline_sink_frontier_seconds{{sink=\"{sink}\"}}"));
            if frontier.is_some_and(|frontier| now_ms() as f64 / 1000.0 - frontier < 15.0) {
                caught_up = Some(back.elapsed());
            }
        }
        caught_up
    });
    let told = || fs::read_to_string(&log).unwrap_or_default();
    if caught_up.is_none() {
        let lines = get(&address, "/metrics");
        let gauges: Vec<&str> = lines.lines().filter(|line| line.starts_with("eddyline_sink")).collect();
        eprintln!("{sink} has not caught up:\n{}\n{}", gauges.join("\n"), told());
    }
    let status = terminate(&mut run);
    assert!(status.success(), "{sink}: {status}: {}", told());
    let most = samples.iter().copied().fold(0.0, f64::max);
    let during = &samples[6..samples.len().min(6 + (seconds / 5) as usize)];
    let shown: Vec<String> = during.iter().step_by((during.len() / 6).max(1)).map(|mib| format!("{mib:.0}")).collect();
    format!(
        "{sink:<9} {rate} events/s, away {seconds} s: before {:.0} MiB; during {}; largest {most:.0} MiB; caught up after {}",
        samples[5],
        shown.join(" "),
        caught_up.map_or("more than 600 s".into(), |time| format!("{:.0} s", time.as_secs_f64()))
    )
}
