//! How long a run takes to go on.

use crate::services::{Services, filled, median, run};
use rdkafka::producer::{BaseRecord, Producer};
use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// From the start of a run to its first new output, with the state of `users` users: median of three, after kill -9.
pub(crate) fn recovery(services: &Services, users: u64) {
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
