//! A live run from Kafka into stores: latency, throughput, recovery, the cost of snapshots, memory during outages.
//!
//! `scripts/with-services all -- cargo bench --bench live -- latency|throughput|recovery|snapshots|outages [NUMBER…]`; after
//! `throughput` also groups of stores, such as `mysql embedded,redis`. What each measures stands at its function. Runs are
//! processes of their own, as users have them; what is measured from outside is measured by this process, with clients of its own.

#![expect(clippy::print_stdout, reason = "what a benchmark finds is what it prints")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has nothing to tell")]

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rusqlite::{Connection, OpenFlags};
use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let numbers: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let Some(services) = Services::find() else { return };
    match arguments.first().map(String::as_str) {
        Some("latency") => {
            let rates = if numbers.is_empty() { vec![1_000, 10_000, 50_000] } else { numbers };
            let stores: Vec<&str> =
                arguments[1..].iter().map(String::as_str).filter(|a| a.parse::<u64>().is_err()).collect();
            let stores = if stores.is_empty() { vec!["redis,embedded"] } else { stores };
            for rate in rates {
                stores.iter().for_each(|stores| latency(&services, rate, stores));
            }
        }
        Some("throughput") => {
            let groups: Vec<&str> =
                arguments[1..].iter().map(String::as_str).filter(|a| a.parse::<u64>().is_err()).collect();
            throughput(&services, numbers.first().copied().unwrap_or(200_000), &groups);
        }
        Some("recovery") => recovery(&services, numbers.first().copied().unwrap_or(1_000_000)),
        Some("snapshots") => snapshots(&services, numbers.first().copied().unwrap_or(3_000_000)),
        Some("outages") => outages(&services, numbers.first().copied().unwrap_or(600)),
        _ => println!("name one of: latency, throughput, recovery, snapshots, outages"),
    }
}

/// Where the servers are.
struct Services {
    kafka: String,
    mongodb: String,
    mysql: String,
    redis: String,
}

impl Services {
    fn find() -> Option<Services> {
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

    fn topic(&self, partitions: i32) -> String {
        let topic = format!("bench-{}-{}", std::process::id(), now_ms());
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.kafka).create().unwrap();
        let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap().remove(0).unwrap();
        // Until the broker knows of it itself.
        thread::sleep(Duration::from_secs(1));
        topic
    }

    /// Its own thread sees to deliveries: polling with short timeouts would take a core from what is measured.
    fn producer(&self, linger: &str) -> ThreadedProducer<DefaultProducerContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka).set("linger.ms", linger).set("enable.idempotence", "true");
        config.set("queue.buffering.max.messages", "2000000").create().unwrap()
    }

    /// Options for a store, with tables or keys of its own.
    fn store(&self, sink: &str, directory: &Path) -> Vec<String> {
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

    fn sql(&self, statements: &str) {
        let url = url::Url::parse(&self.mysql).unwrap();
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-h", url.host_str().unwrap(), "-P", &url.port().unwrap().to_string()]);
        command.args(["-u", url.username(), "-e", statements]).env("MYSQL_PWD", url.password().unwrap_or_default());
        assert!(command.status().unwrap().success());
    }
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn eddyline(verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eddyline"));
    command.arg(verb).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn succeed(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// Seconds of wall time, and of CPU time of the child alone.
fn timed(command: &mut Command) -> (f64, f64) {
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

fn proc_file(child: &Child, name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{}/{name}", child.id())).ok()
}

/// CPU time so far, as Linux counts it, in hundredths of a second.
fn cpu_seconds(child: &Child) -> Option<f64> {
    let stat = proc_file(child, "stat")?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    (ticks > 0.0).then_some(ticks / 100.0)
}

/// Resident memory, MiB.
fn resident(child: &Child) -> f64 {
    let status = proc_file(child, "status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn terminate(child: &mut Child) {
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success());
}

/// Stops a producer in the background, also where what it produces for has failed.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The body of a page, or nothing.
fn get(address: &str, path: &str) -> String {
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut text);
    }
    text
}

/// Buckets of the histogram from a tick's end to its results in all stores: upper bound in seconds, cumulative count.
fn tick_latency(address: &str) -> Vec<(f64, u64)> {
    let metrics = get(address, "/metrics");
    let bucket = |line: &str| {
        let rest = line.strip_prefix("eddyline_tick_latency_seconds_bucket{le=\"")?;
        let (bound, count) = rest.split_once("\"} ")?;
        Some((bound.replace("+Inf", "inf").parse().ok()?, count.trim().parse().ok()?))
    };
    metrics.lines().filter_map(bucket).collect()
}

fn quantile(buckets: &[(f64, u64)], before: &[(f64, u64)], q: f64) -> f64 {
    let counts: Vec<(f64, u64)> = buckets
        .iter()
        .map(|&(bound, count)| {
            let earlier = before.iter().find(|(other, _)| *other == bound).map_or(0, |(_, count)| *count);
            (bound, count - earlier)
        })
        .collect();
    let total = counts.last().map_or(0, |(_, count)| *count);
    let wanted = (q * total as f64).ceil() as u64;
    counts.iter().find(|(_, count)| *count >= wanted).map_or(f64::NAN, |(bound, _)| *bound)
}

fn percentiles(mut millis: Vec<f64>) -> String {
    if millis.is_empty() {
        return "nothing".into();
    }
    millis.sort_by(f64::total_cmp);
    let at = |q: f64| millis[((millis.len() - 1) as f64 * q) as usize];
    format!("p50 {:.0}  p99 {:.0}  max {:.0} ms ({} probes)", at(0.5), at(0.99), at(1.0), millis.len())
}

/// Rows of a generated log, and a model that knows its users: what latency is measured with.
fn rows_and_model(directory: &Path) -> (Vec<[u64; 2]>, PathBuf) {
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

/// From an event produced to its user's recommendation readable, with `config/low-latency.toml`, two workers, a model of 5,000
/// items, into Redis, the embedded store, or both, at `rate` other events a second: by a client that asks the stores
/// again and again, and by the run's own histogram (from a tick's end to its results in all stores).
fn latency(services: &Services, rate: u64, stores: &str) {
    const SECONDS: u64 = 40;
    const PROBES: usize = 200;
    let directory = tempfile::tempdir().unwrap();
    let (rows, model) = rows_and_model(directory.path());
    let users: Vec<u64> = rows.iter().map(|row| row[0]).collect::<HashSet<_>>().into_iter().take(PROBES).collect();
    let probed: HashSet<u64> = users.iter().copied().collect();
    let rows: Vec<[u64; 2]> = rows.into_iter().filter(|row| !probed.contains(&row[0])).collect();
    let (topic, address) = (services.topic(4), free_address());
    let store = directory.path().join("latency.db");
    let prefix = format!("latency{}:", now_ms());
    let mut command = eddyline("run");
    command.args(["-c", concat!(env!("CARGO_MANIFEST_DIR"), "/config/low-latency.toml"), "-w", "2", "-q"]);
    for setting in [
        format!("kafka.brokers={}", services.kafka),
        format!("kafka.topic={topic}"),
        "source.time_unit=ms".into(),
        format!("model.dir={}", model.display()),
    ] {
        command.args(["--set", &setting]);
    }
    let (to_redis, to_embedded) = (stores.contains("redis"), stores.contains("embedded"));
    if to_redis {
        command.args(["--set", &format!("redis.url={}", services.redis)]);
        command.args(["--set", &format!("output.redis_prefix={prefix}")]);
    }
    command.arg("--store").arg(if to_embedded { store.as_path() } else { Path::new("none") });
    command.arg("--state").arg(directory.path().join("state")).args(["--serve", &address]);
    let mut run = command.spawn().unwrap();
    let stop = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    let (mut redis_ms, mut store_ms) = (Vec::new(), Vec::new());
    let mut before = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let producer = services.producer("2");
            let started = Instant::now();
            let mut rows = rows.iter().cycle();
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let due = (started.elapsed().as_secs_f64() * rate as f64) as u64;
                let now = now_ms();
                while count < due {
                    let [user, item] = rows.next().unwrap();
                    let text = format!("{user},{item},pv,{now}");
                    if producer.send(BaseRecord::to(&topic).key(&user.to_string()).payload(&text)).is_err() {
                        break;
                    }
                    count += 1;
                }
                sent.store(count, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
            let _ = producer.flush(Duration::from_secs(30));
        });
        let _stop = StopAtEnd(&stop);
        let (client, probe) = (redis::Client::open(services.redis.as_str()).unwrap(), services.producer("0"));
        let mut connection = client.get_connection().unwrap();
        thread::sleep(Duration::from_secs(8));
        before = tick_latency(&address);
        let reader =
            to_embedded.then(|| Connection::open_with_flags(&store, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap());
        let newest = "SELECT time FROM recommendation_latest WHERE user = ?";
        let mut newest = reader.as_ref().map(|reader| reader.prepare(newest).unwrap());
        let until = Instant::now() + Duration::from_secs(SECONDS);
        for (i, user) in users.iter().cycle().enumerate() {
            if Instant::now() > until {
                break;
            }
            // No step with the ticks.
            thread::sleep(Duration::from_millis(37 + (i as u64 * 29) % 61));
            let (event, started) = (now_ms(), Instant::now());
            let text = format!("{user},{},pv,{event}", i % 5000);
            probe
                .send(BaseRecord::to(&topic).key(&user.to_string()).payload(&text))
                .map_err(|(error, _)| error)
                .unwrap();
            let (mut in_redis, mut in_store) = (None, None);
            let waits = |seen: Option<Duration>, wanted: bool| wanted && seen.is_none();
            while (waits(in_redis, to_redis) || waits(in_store, to_embedded))
                && started.elapsed() < Duration::from_secs(10)
            {
                if waits(in_redis, to_redis) {
                    let found: Option<String> =
                        redis::cmd("GET").arg(format!("{prefix}rec_{user}")).query(&mut connection).unwrap();
                    let time =
                        found.and_then(|text| text.strip_prefix("{\"time\":")?.split_once(',')?.0.parse::<u64>().ok());
                    if time.is_some_and(|time| time > event) {
                        in_redis = Some(started.elapsed());
                    }
                }
                if let (Some(newest), None) = (&mut newest, in_store) {
                    let time = newest.query_row([*user as i64], |row| row.get::<_, i64>(0)).unwrap_or(0);
                    if time as u64 > event {
                        in_store = Some(started.elapsed());
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
            let millis = |time: Option<Duration>| time.map_or(10_000.0, |time| time.as_secs_f64() * 1000.0);
            redis_ms.extend(to_redis.then(|| millis(in_redis)));
            store_ms.extend(to_embedded.then(|| millis(in_store)));
        }
    });
    let after = tick_latency(&address);
    println!("{rate} events/s ({} sent), tick 100 ms, {stores}", sent.load(Ordering::Relaxed));
    println!("  event → Redis             {}", percentiles(redis_ms));
    println!("  event → embedded store    {}", percentiles(store_ms));
    let own = |q| quantile(&after, &before, q) * 1000.0;
    println!("  the run's own histogram, tick's end → all stores: p50 ≤ {:.0}  p99 ≤ {:.0} ms", own(0.5), own(0.99));
    println!("  run: {:.0} MiB, {:.1} s CPU", resident(&run), cpu_seconds(&run).unwrap_or(0.0));
    // A store that does not keep up does not catch up within a run's patience.
    Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    if !run.wait().unwrap().success() {
        println!("  the stores were too far behind to be drained when the run was stopped");
    }
}

/// The log of `events` events in a topic of four partitions, and as files.
fn produced(services: &Services, directory: &Path, events: u64, options: &[&str]) -> (String, Vec<PathBuf>) {
    let log = directory.join("log.csv");
    let mut command = eddyline("generate");
    command.arg(&log).args(["--events", &events.to_string(), "--partitions", "4", "-q"]).args(options);
    succeed(&mut command);
    let files: Vec<PathBuf> = (0..4).map(|partition| directory.join(format!("log-{partition}.csv"))).collect();
    (filled(services, &files), files)
}

/// A topic with a partition of each file.
fn filled(services: &Services, files: &[PathBuf]) -> String {
    let topic = services.topic(4);
    let mut command = eddyline("produce");
    command.args(files).args(["--brokers", &services.kafka, "--topic", &topic, "--partition-by", "file", "-q"]);
    succeed(&mut command);
    topic
}

fn run(services: &Services, topic: &str, state: &Path) -> Command {
    let mut command = eddyline("run");
    command.args(["--set", &format!("kafka.brokers={}", services.kafka), "--set", &format!("kafka.topic={topic}")]);
    command.args(["-w", "2", "-q", "--state"]).arg(state);
    command
}

fn median(mut numbers: Vec<f64>) -> (f64, f64, f64) {
    numbers.sort_by(f64::total_cmp);
    (numbers[numbers.len() / 2], numbers[0], numbers[numbers.len() - 1])
}

/// Kafka → stores, each alone and all together, beside a replay of the same files into the embedded store: events a second,
/// median of three.
fn throughput(services: &Services, events: u64, groups: &[&str]) {
    const GROUPS: [&str; 6] =
        ["embedded", "mysql", "redis", "mongodb", "embedded,mysql,redis", "embedded,mysql,redis,mongodb"];
    let groups = if groups.is_empty() { &GROUPS[..] } else { groups };
    let directory = tempfile::tempdir().unwrap();
    let (topic, files) = produced(services, directory.path(), events, &["--users", "50000", "--items", "20000"]);
    let mut fresh = 0;
    let mut measure = |name: &str, command: &mut dyn FnMut(usize) -> Command| {
        let runs: Vec<(f64, f64)> = (0..3)
            .map(|_| {
                fresh += 1;
                timed(&mut command(fresh))
            })
            .collect();
        let (wall, least, most) = median(runs.iter().map(|run| run.0).collect());
        let (cpu, ..) = median(runs.iter().map(|run| run.1).collect());
        println!(
            "{name:<28} {:>9.0} events/s  ({:.2} s, {:.2}–{:.2}; {:.2} µs CPU an event)",
            events as f64 / wall,
            wall,
            least,
            most,
            cpu * 1e6 / events as f64
        );
    };
    for sinks in [&[][..], &["embedded"]] {
        let name = if sinks.is_empty() { "replay, digests" } else { "replay, embedded store" };
        measure(name, &mut |number| {
            let mut command = eddyline("replay");
            command.args(&files).args(["-w", "2", "-q"]);
            if !sinks.is_empty() {
                command.arg("--store").arg(directory.path().join(format!("replay{number}.db")));
            }
            command
        });
    }
    for sinks in groups.iter().map(|group| group.split(',').collect::<Vec<_>>()) {
        measure(&format!("run, {}", sinks.join(" + ")), &mut |number| {
            let mut command = run(services, &topic, &directory.path().join(format!("state{number}")));
            command.arg("--until-end");
            for sink in &sinks {
                let options = services.store(sink, directory.path());
                // `--store none` once is enough, and not beside a store.
                let skip = if sinks.contains(&"embedded") && *sink != "embedded" { 2 } else { 0 };
                let skip = if sink != &sinks[0] { 2 } else { skip };
                command.args(&options[skip.min(options.len())..]);
            }
            command
        });
    }
}

/// From the start of a run to its first new output, with the state of `users` users: median of three, after kill -9.
fn recovery(services: &Services, users: u64) {
    let directory = tempfile::tempdir().unwrap();
    // Two events of every user within six hours, so that all are in the state.
    let events = 2 * users;
    let files: Vec<PathBuf> = (0..4).map(|partition| directory.path().join(format!("log-{partition}.csv"))).collect();
    let mut texts = vec![String::new(); files.len()];
    for event in 0..events {
        let (user, item, time) = (event % users, event * 7_919 % 50_000, 1_700_000_000 + event * 21_600 / events);
        texts[user as usize % 4].push_str(&format!("{user},{item},pv,{time}\n"));
    }
    files.iter().zip(texts).for_each(|(file, text)| fs::write(file, text).unwrap());
    let topic = filled(services, &files);
    let (state, store) = (directory.path().join("state"), directory.path().join("store.db"));
    let command = || {
        let mut command = run(services, &topic, &state);
        // The clock leaves a log of another year alone.
        command.args(["--set", "time.idle=1h", "--set", "state.snapshot_interval=2s", "--store"]).arg(&store);
        command
    };
    let newest = || {
        let reader = Connection::open_with_flags(&store, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        reader.query_row("SELECT max(time) FROM recent", [], |row| row.get::<_, i64>(0)).ok()
    };
    let mut child = command().spawn().unwrap();
    thread::sleep(Duration::from_secs(1));
    // Until the log's end, less what is not complete yet.
    let logged = || {
        let reader = Connection::open_with_flags(&store, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        reader.query_row("SELECT count(*) FROM record", [], |row| row.get::<_, i64>(0)).ok().map(i64::cast_unsigned)
    };
    while logged().is_none_or(|logged| logged < events - events / 100) {
        thread::sleep(Duration::from_secs(2));
        assert!(child.try_wait().unwrap().is_none(), "the run has ended");
    }
    thread::sleep(Duration::from_secs(10));
    let last = newest();
    child.kill().unwrap();
    child.wait().unwrap();
    let count = Connection::open_with_flags(&store, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .unwrap()
        .query_row("SELECT count(*) FROM recent", [], |row| row.get::<_, i64>(0))
        .unwrap();
    let bytes: u64 = du(&state);
    println!("{count} users in the state, {} MB on disk, newest output {last:?}", bytes / 1_000_000);
    let producer = services.producer("0");
    let mut seconds = Vec::new();
    for round in 1..=3_i64 {
        // Something new to put out: an event an hour after the last, and one to close its tick.
        let base = last.unwrap() / 1000 + 3600 * round;
        for partition in 0..4 {
            for time in [base, base + 100] {
                let text = format!("1,1,pv,{time}");
                let record = BaseRecord::<(), str>::to(&topic).partition(partition).payload(&text);
                producer.send(record).map_err(|(error, _)| error).unwrap();
            }
        }
        producer.flush(Duration::from_secs(10)).unwrap();
        let before = newest();
        let started = Instant::now();
        let mut child = command().stderr(Stdio::null()).spawn().unwrap();
        while newest() == before {
            thread::sleep(Duration::from_millis(5));
            assert!(started.elapsed() < Duration::from_secs(120), "nothing new comes");
        }
        seconds.push(started.elapsed().as_secs_f64());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (middle, least, most) = median(seconds);
    println!("start → first new output: {middle:.2} s ({least:.2}–{most:.2})");
}

fn du(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let data = entry.metadata().unwrap();
            if data.is_dir() { du(&entry.path()) } else { data.len() }
        })
        .sum()
}

/// CPU and wall time of a run over `events` events with snapshots as often as they can be, every 10 seconds, and never: five
/// rounds in turn.
fn snapshots(services: &Services, events: u64) {
    let directory = tempfile::tempdir().unwrap();
    let options = ["--users", "200000", "--items", "50000", "--duration", "24h"];
    let (topic, _) = produced(services, directory.path(), events, &options);
    let intervals = ["24h", "10s", "1s", "1ms"];
    let mut results = vec![Vec::new(); intervals.len()];
    for round in 0..5 {
        for (interval, results) in intervals.iter().zip(&mut results) {
            let mut command = run(services, &topic, &directory.path().join(format!("state{round}{interval}")));
            command.arg("--until-end").args(services.store("redis", directory.path()));
            results.push(timed(command.args(["--set", &format!("state.snapshot_interval={interval}")])));
            // A run looks through all keys when it begins.
            let mut redis = redis::Client::open(services.redis.as_str()).unwrap().get_connection().unwrap();
            redis::cmd("FLUSHALL").exec(&mut redis).unwrap();
        }
    }
    let never: Vec<(f64, f64)> = results[0].clone();
    for (interval, results) in intervals.iter().zip(results) {
        let ratios = |of: fn(&(f64, f64)) -> f64| {
            let (middle, least, most) =
                median(results.iter().zip(&never).map(|(with, without)| of(with) / of(without) - 1.0).collect());
            format!("{:+.1} % ({:+.1} to {:+.1})", middle * 100.0, least * 100.0, most * 100.0)
        };
        let (wall, ..) = median(results.iter().map(|result| result.0).collect());
        println!(
            "every {interval:<4} {:>8.0} events/s   wall {}   CPU {}",
            events as f64 / wall,
            ratios(|result| result.0),
            ratios(|result| result.1)
        );
    }
}

/// Resident memory of runs at 5,000 events a second (MongoDB: 1,000) while their store is away for so many seconds, each store
/// on a server of its own. The run must have caught up afterwards.
fn outages(services: &Services, seconds: u64) {
    let directory = tempfile::tempdir().unwrap();
    let (rows, _) = rows_and_model(directory.path());
    thread::scope(|scope| {
        let handles: Vec<_> = ["embedded", "mysql", "redis", "mongodb"]
            .into_iter()
            .map(|sink| {
                let (rows, directory) = (&rows, directory.path());
                scope.spawn(move || outage(services, sink, seconds, rows, directory))
            })
            .collect();
        for handle in handles {
            println!("{}", handle.join().unwrap());
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

fn outage(services: &Services, sink: &str, seconds: u64, rows: &[[u64; 2]], directory: &Path) -> String {
    let script = match sink {
        "mysql" => "mariadb.sh",
        "redis" => "redis.sh",
        "mongodb" => "mongodb.sh",
        _ => "",
    };
    let rate = if sink == "mongodb" { 1_000 } else { 5_000 };
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
    let mut run = command.stderr(Stdio::null()).spawn().unwrap();
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
                while producer.send(BaseRecord::to(&topic).key(&user.to_string()).payload(&text)).is_err() {
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
        assert!(run.try_wait().unwrap().is_none(), "{sink}: the run has ended");
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
    terminate(&mut run);
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
