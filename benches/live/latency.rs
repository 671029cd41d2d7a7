//! From an event to what readers see of it.

use crate::services::{
    Services, StopAtEnd, cpu_seconds, eddyline, free_address, get, now_ms, resident, rows_and_model,
};
use rdkafka::producer::{BaseRecord, Producer};
use rusqlite::{Connection, OpenFlags};
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// From an event produced to its user's recommendation readable, with `config/low-latency.toml`, two workers, a model of 5,000
/// items, into Redis, the embedded store, or both, at `rate` other events a second: by a client that asks the stores
/// again and again, and by the run's own histogram (from a tick's end to its results in all stores).
pub(crate) fn latency(services: &Services, rate: u64, stores: &str) {
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
