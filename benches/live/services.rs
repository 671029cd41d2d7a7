//! The servers, and runs over them.

use crate::cluster;
use rdkafka::ClientConfig;
use rdkafka::producer::{DefaultProducerContext, ThreadedProducer};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the servers are.
pub(crate) struct Services {
    pub(crate) kafka: String,
    pub(crate) mongodb: String,
    pub(crate) mysql: String,
    pub(crate) redis: String,
}

impl Services {
    pub(crate) fn find() -> Option<Services> {
        let variable = |name: &str| std::env::var(format!("EDDYLINE_TEST_{name}")).ok();
        let found = || {
            let (kafka, mongodb) = (variable("KAFKA")?, variable("MONGODB")?);
            Some(Services { kafka, mongodb, mysql: variable("MYSQL")?, redis: variable("REDIS")? })
        };
        let found = found();
        if found.is_none() {
            println!("SKIP: no servers: run scripts/with-services all -- cargo bench --bench live -- …");
        }
        found
    }

    pub(crate) fn topic(&self, partitions: i32) -> String {
        cluster::topic(&self.kafka, partitions)
    }

    /// Its own thread sees to deliveries: polling with short timeouts would take a core from what is measured.
    pub(crate) fn producer(&self, linger: &str) -> ThreadedProducer<DefaultProducerContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka).set("linger.ms", linger).set("enable.idempotence", "true");
        // None is given up, however long a machine stalls: after a gap an idempotent producer sends nothing any more.
        config.set("queue.buffering.max.messages", "2000000").set("message.timeout.ms", "0").create().unwrap()
    }

    /// Options for a store, with tables or keys of its own.
    pub(crate) fn store(&self, sink: &str, directory: &Path) -> Vec<String> {
        let name = format!("bench_{}_{}", std::process::id(), now_ms());
        let set = |key: &str, value: String| vec!["--set".to_owned(), format!("{key}={value}")];
        let none = vec!["--store".to_owned(), "none".to_owned()];
        match sink {
            "embedded" => vec!["--store".to_owned(), directory.join(format!("{name}.db")).display().to_string()],
            "mongodb" => [none, set("mongodb.uri", self.mongodb.clone()), set("mongodb.database", name)].concat(),
            "mysql" => {
                let base = self.mysql.rsplit_once('/').unwrap().0;
                self.sql(&format!("CREATE DATABASE {name}"));
                [none, set("mysql.url", format!("{base}/{name}"))].concat()
            }
            "redis" => {
                [none, set("redis.url", self.redis.clone()), set("output.redis_prefix", format!("{name}:"))].concat()
            }
            other => panic!("no store {other}"),
        }
    }

    pub(crate) fn sql(&self, statements: &str) {
        let url = url::Url::parse(&self.mysql).unwrap();
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-h", url.host_str().unwrap(), "-P", &url.port().unwrap().to_string()]);
        command.args(["-u", url.username(), "-e", statements]).env("MYSQL_PWD", url.password().unwrap_or_default());
        assert!(command.status().unwrap().success());
    }
}

pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

pub(crate) fn eddyline(verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eddyline"));
    command.arg(verb).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

pub(crate) fn succeed(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// Seconds of wall time, and of CPU time of the child alone.
pub(crate) fn timed(command: &mut Command) -> (f64, f64) {
    let started = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut cpu = 0.0;
    loop {
        cpu = cpu_seconds(&child).unwrap_or(cpu);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{command:?}");
            return (started.elapsed().as_secs_f64(), cpu);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn proc_file(child: &Child, name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{}/{name}", child.id())).ok()
}

/// CPU time so far, as Linux counts it, in hundredths of a second.
pub(crate) fn cpu_seconds(child: &Child) -> Option<f64> {
    let stat = proc_file(child, "stat")?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    (ticks > 0.0).then_some(ticks / 100.0)
}

/// Resident memory, MiB.
pub(crate) fn resident(child: &Child) -> f64 {
    let status = proc_file(child, "status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

pub(crate) fn terminate(child: &mut Child) -> ExitStatus {
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    child.wait().unwrap()
}

/// Stops a producer in the background, also where what it produces for has failed.
pub(crate) struct StopAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The body of a page, or nothing.
pub(crate) fn get(address: &str, path: &str) -> String {
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut text);
    }
    text
}

/// Rows of a generated log, and a model that knows its users: what latency is measured with.
pub(crate) fn rows_and_model(directory: &Path) -> (Vec<[u64; 2]>, PathBuf) {
    let (log, model) = (directory.join("log.csv"), directory.join("model"));
    let mut command = eddyline("generate");
    command.arg(&log).args(["--events", "200000", "--users", "20000", "--items", "5000", "--model-dir"]).arg(&model);
    succeed(command.arg("-q"));
    let text = fs::read_to_string(&log).unwrap();
    let row = |line: &str| {
        let mut fields = line.split(',');
        Some([fields.next()?.parse().ok()?, fields.next()?.parse().ok()?])
    };
    (text.lines().filter_map(row).collect(), model)
}

/// The log of `events` events in a topic of four partitions, and as files.
pub(crate) fn produced(services: &Services, directory: &Path, events: u64, options: &[&str]) -> (String, Vec<PathBuf>) {
    let log = directory.join("log.csv");
    let mut command = eddyline("generate");
    command.arg(&log).args(["--events", &events.to_string(), "--partitions", "4", "-q"]).args(options);
    succeed(&mut command);
    let files: Vec<PathBuf> = (0..4).map(|partition| directory.join(format!("log-{partition}.csv"))).collect();
    (filled(services, &files), files)
}

/// A topic with a partition of each file.
pub(crate) fn filled(services: &Services, files: &[PathBuf]) -> String {
    let topic = services.topic(4);
    let mut command = eddyline("produce");
    command.args(files).args(["--brokers", &services.kafka, "--topic", &topic, "--partition-by", "file", "-q"]);
    succeed(&mut command);
    topic
}

pub(crate) fn run(services: &Services, topic: &str, state: &Path) -> Command {
    let mut command = eddyline("run");
    command.args(["--set", &format!("kafka.brokers={}", services.kafka), "--set", &format!("kafka.topic={topic}")]);
    command.args(["-w", "2", "-q", "--state"]).arg(state);
    command
}

pub(crate) fn median(mut numbers: Vec<f64>) -> (f64, f64, f64) {
    numbers.sort_by(f64::total_cmp);
    (numbers[numbers.len() / 2], numbers[0], numbers[numbers.len() - 1])
}
