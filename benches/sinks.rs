//! What a row costs in each sink and in the digests: CPU time and wall time, on rows as a replay makes them.
//!
//! `cargo bench --bench sinks [-- EVENTS [DIRECTORY]]` (1,000,000 events by default). Users follow a power law; every event
//! makes one row of *recent* and one recommendation, as in a log whose users rarely act twice in a tick.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use dataflows::event::{Behavior, Event, ItemId, Position, Time, UserId};
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use dataflows::time::Steps;
use eddyline::digest::{Digest, RowHasher};
use eddyline::sinks::canonical::CanonicalFiles;
use eddyline::sinks::embedded::{EmbeddedStore, StoreOptions};
use eddyline::sinks::identity::{OtherPipeline, Pipeline, RunIdentity};
use eddyline::sinks::ids::OutputIds;
use eddyline::sinks::{Batch, End, Sink};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

const USERS: u64 = 500_000;
const ITEMS: u64 = 200_000;
const TICK: Time = 20_000;
const SLIDE: Time = 80_000;
const EVENTS_A_TICK: u64 = 1157;
const START: Time = 1_700_000_000_000 / SLIDE * SLIDE;

/// Which rows the batches hold.
#[derive(Clone, Copy)]
struct Rows {
    records: bool,
    recent: bool,
    recommendations: bool,
    popular: bool,
}

const NONE: Rows = Rows { records: false, recent: false, recommendations: false, popular: false };
const ALL: Rows = Rows { records: true, recent: true, recommendations: true, popular: true };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let events = arguments.first().map_or(1_000_000, |text| text.parse().expect("EVENTS is a number"));
    let directory = match arguments.get(1) {
        Some(path) => tempfile::tempdir_in(path),
        None => tempfile::tempdir(),
    }
    .expect("a temporary directory");
    let directory = directory.path();
    println!("{:<28} {:>12} {:>10} {:>10} {:>10} {:>10}", "", "rows", "CPU ns/row", "wall s", "CPU s", "MB");
    let cases = [
        ("nothing but making rows", ALL),
        ("record", Rows { records: true, ..NONE }),
        ("recent", Rows { recent: true, ..NONE }),
        ("recommendation", Rows { recommendations: true, ..NONE }),
        ("all", ALL),
    ];
    for (i, (name, rows)) in cases.into_iter().enumerate() {
        if i == 0 {
            measure(name, || produce(events, rows, |batch| drop(black_box(batch))), directory);
            measure("digests", || digest(events, rows), directory);
            continue;
        }
        measure(&format!("canonical: {name}"), || canonical(events, rows, &directory.join("out")), directory);
        measure(&format!("store: {name}"), || store(events, rows, &directory.join("store.db")), directory);
    }
}

fn measure(name: &str, run: impl FnOnce() -> u64, directory: &Path) {
    let (cpu, wall) = (cpu_time(), Instant::now());
    let rows = run();
    let (cpu, wall) = (cpu_time() - cpu, wall.elapsed());
    let per_row = cpu.as_nanos() as f64 / rows.max(1) as f64;
    let megabytes = size(directory) >> 20;
    let (wall, cpu) = (wall.as_secs_f64(), cpu.as_secs_f64());
    println!("{name:<28} {rows:>12} {per_row:>10.0} {wall:>10.2} {cpu:>10.2} {megabytes:>10}");
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let _ = std::fs::remove_file(entry.path()).or_else(|_| std::fs::remove_dir_all(entry.path()));
    }
}

fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries.map(|entry| if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() }).sum()
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    // Fields 14 and 15 count from after the command, which stands in brackets; in ticks of 10 ms.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn behaviors() -> Vec<String> {
    ["pv", "cart", "fav", "buy"].map(String::from).to_vec()
}

const END: End = End { frontier: Time::MAX, popular: None };

fn canonical(events: u64, rows: Rows, directory: &Path) -> u64 {
    let mut sink = CanonicalFiles::create(directory, &behaviors()).unwrap();
    let written = produce(events, rows, |batch| sink.write(&batch).unwrap());
    sink.finish(&END).unwrap();
    written
}

fn store(events: u64, rows: Rows, path: &Path) -> u64 {
    let mut sink = EmbeddedStore::open(StoreOptions {
        path: path.to_owned(),
        run: RunIdentity {
            pipeline: Pipeline { fingerprint: "bench".into(), parts: serde_json::Map::new() },
            epoch: None,
            log: (1 << 63) - 1,
            behaviors: behaviors(),
            model: None,
            tick: Steps::new(TICK).unwrap(),
            slide: SLIDE,
            ids: OutputIds::Raw,
            other_pipeline: OtherPipeline::Refuse,
        },
        commit_rows: StoreOptions::REPLAY_COMMIT_ROWS,
        lock_wait: StoreOptions::LOCK_WAIT,
    })
    .unwrap();
    let written = produce(events, rows, |batch| sink.write(&batch).unwrap());
    sink.finish(&END).unwrap();
    written
}

fn digest(events: u64, rows: Rows) -> u64 {
    let mut hasher = RowHasher::default();
    let mut digest = Digest::default();
    produce(events, rows, |batch| {
        batch.records.iter().for_each(|event| digest.add_row(hasher.record_row(event)));
        batch.recent.iter().for_each(|(key, items)| digest.add_row(hasher.sequence_row(key, items)));
        batch.recommendations.iter().for_each(|(key, items)| digest.add_row(hasher.recommendation_row(key, items)));
        batch.popular.iter().for_each(|list| digest.add_row(hasher.popular_row(list)));
    });
    black_box(digest).rows
}

/// Makes the batches of a replay, tick by tick, and counts their rows.
fn produce(events: u64, rows: Rows, mut emit: impl FnMut(Batch)) -> u64 {
    let mut random = 88_172_645_463_325_252u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let (mut made, mut tick, mut count) = (0, START, 0);
    while made < events {
        let mut batch = Batch { frontier: tick + TICK + 1, ..Batch::default() };
        let mut users = BTreeMap::new();
        for _ in 0..EVENTS_A_TICK.min(events - made) {
            let share = (next() >> 11) as f64 / (1u64 << 53) as f64;
            let user = UserId((share * share * share * USERS as f64) as u64);
            let item = ItemId(next() % ITEMS);
            let (time, late) = (tick + next() % TICK, made % 100 == 0);
            let position = Position::new(0, made).unwrap();
            users.insert(user, item);
            if rows.records {
                batch.records.push(Event { user, item, time, logical: time, position, behavior: Behavior(0), late });
            }
            made += 1;
        }
        tick += TICK;
        for (user, item) in users {
            let mut items = [item; 10];
            items[..9].iter_mut().for_each(|item| *item = ItemId(next() % ITEMS));
            if rows.recent {
                batch.recent.push(SequenceKey { time: tick, user }, &items);
            }
            if rows.recommendations {
                let key = RecommendationKey { time: tick, user, from_model: 0, last_reward: -1 };
                batch.recommendations.push(key, &items[..8]);
            }
        }
        if rows.popular && tick.is_multiple_of(SLIDE) {
            batch
                .popular
                .push(PopularList { window_end: tick, items: (0..10).map(|i| (ItemId(i), 1000 - i)).collect() });
        }
        count += batch.records.len() + batch.recent.len() + batch.recommendations.len() + batch.popular.len();
        emit(batch);
    }
    count as u64
}
