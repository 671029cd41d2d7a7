//! What snapshots cost: publishing, merging, loading, and appending to the journal; prints its own table.
//!
//! `cargo bench --bench checkpoint [-- USERS [DIRECTORY]]` (1,000,000 users of 10 items and a standing list of 8 by default).
//! Times include every wait for the disk that the directory is on.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use dataflows::event::{ItemId, Position, Time, UserId};
use dataflows::recent::Entry;
use dataflows::state::{PaneState, StandingState, UserState};
use eddyline::checkpoint::{PartitionPosition, SnapshotRows, SnapshotWriter, StateDirectory, StatePlace};
use eddyline::journal::Decision;
use eddyline::sinks::identity::{OtherPipeline, Pipeline};
use std::path::Path;
use std::time::{Duration, Instant};

const ITEMS: u64 = 200_000;
const LENGTH: u64 = 10;
const N: u64 = 8;
const SLIDE: Time = 80_000;
const WINDOW: Time = 3_600_000;
const PANES_A_SLIDE: u64 = 20_000;
const START: Time = 1_700_000_000_000 / SLIDE * SLIDE;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let users = arguments.first().map_or(1_000_000, |text| text.parse().expect("USERS is a number"));
    let directory = match arguments.get(1) {
        Some(path) => tempfile::tempdir_in(path),
        None => tempfile::tempdir(),
    }
    .expect("a temporary directory");
    let path = directory.path().join("state");
    println!("{:<44} {:>9} {:>9} {:>9} {:>10}", "", "wall ms", "CPU ms", "MB", "ns/user");

    let (mut state, _) = open(&path);
    append(&mut state, 1);
    append(&mut state, 1000);
    let (_, mut snapshots) = state.into_writers();
    let all = rows(users, users, 0);
    publish(&mut snapshots, "publish all users", &all);
    forms(&path, &all);
    drop(all);
    for changed in [10_000, 100_000] {
        for round in 1..=3 {
            let rows = rows(changed, users, changed / 1000 + round);
            publish(&mut snapshots, &format!("publish {changed} changed users"), &rows);
        }
    }
    snapshots.wait_for_merge().unwrap();
    drop(snapshots);
    load(&path, users);
    merge(&path, users);
    load(&path, users);
}

fn pipeline() -> Pipeline {
    Pipeline { fingerprint: "bench".into(), parts: serde_json::Map::new() }
}

fn open(path: &Path) -> (StateDirectory, eddyline::checkpoint::Recovered) {
    StateDirectory::open(&StatePlace::local(path), &pipeline(), OtherPipeline::Refuse).unwrap()
}

/// Equal in every run, and without pattern.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Popular ones are frequent: a power law.
fn item(random: u64) -> ItemId {
    let uniform = (random >> 11) as f64 / (1_u64 << 53) as f64;
    ItemId((ITEMS as f64).powf(uniform) as u64)
}

/// `changed` of `users` users, as of the snapshot of that number. A user acts about once an hour, in one of 8 partitions.
fn rows(changed: u64, users: u64, number: u64) -> SnapshotRows {
    let frontier = START + number * SLIDE;
    let user = |n: u64| {
        let id = if changed == users { n } else { mix(n + number * 1_000_003) % users };
        let back = |at: u64| (LENGTH - at) * 3_600_000 - mix(id ^ at << 40) % 3_600_000;
        let entry = |at: u64| {
            let time = frontier - back(at);
            let position = Position::new((id % 8) as u32, time / 10 + mix(at) % 100).unwrap();
            Entry { time, position, item: item(mix(id * 31 + at + number)) }
        };
        let items = (0..N).map(|at| item(mix(id * 77 + at + number))).collect();
        let standing = Some(StandingState { items, reward: (id % 3) as i64 });
        UserState { user: UserId(id * 7), entries: (0..LENGTH).map(entry).collect(), standing }
    };
    let mut rows: Vec<UserState> = (0..changed).map(user).collect();
    rows.sort_unstable_by_key(|user| mix(user.user.0));
    rows.dedup_by_key(|user| user.user.0);
    let pane = |n: u64| PaneState {
        item: ItemId(mix(n ^ number << 20) % ITEMS),
        enters: frontier,
        leaves: frontier + WINDOW,
        count: n % 5 + 1,
    };
    let position =
        |partition| PartitionPosition { partition, offset: number, largest: Some(frontier), advanced: frontier };
    SnapshotRows {
        frontier,
        users: rows,
        panes: (0..PANES_A_SLIDE).map(pane).collect(),
        positions: (0..8).map(position).collect(),
        last: None,
    }
}

struct Clock {
    wall: Instant,
    cpu: Duration,
}

impl Clock {
    fn start() -> Clock {
        Clock { cpu: cpu_time(), wall: Instant::now() }
    }

    fn tell(&self, what: &str, bytes: u64, users: u64) {
        let (wall, cpu) = (self.wall.elapsed(), cpu_time() - self.cpu);
        let (wall_ms, cpu_ms) = (wall.as_secs_f64() * 1e3, cpu.as_secs_f64() * 1e3);
        let megabytes = bytes as f64 / 1e6;
        let per_user = wall.as_nanos() as f64 / users.max(1) as f64;
        println!("{what:<44} {wall_ms:>9.1} {cpu_ms:>9.0} {megabytes:>9.1} {per_user:>10.0}");
    }
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    // Fields 14 and 15 count from after the command, which stands in brackets; in ticks of 10 ms.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn size(path: &Path) -> u64 {
    let generation = std::fs::read_dir(path.join("generation-1")).unwrap().flatten();
    generation.map(|entry| entry.metadata().unwrap().len()).sum()
}

/// Appends often, and tells the mean.
fn append(state: &mut StateDirectory, decisions: u64) {
    const TIMES: u64 = 50;
    let decision = |offset| Decision::Advance { partition: 0, offset, watermark: START };
    let decisions: Vec<Decision> = (0..decisions).map(decision).collect();
    let clock = Clock::start();
    (0..TIMES).for_each(|_| state.append(&decisions).unwrap());
    clock.tell(&format!("append {} decision(s), {TIMES} times", decisions.len()), 0, TIMES * decisions.len() as u64);
}

fn publish(snapshots: &mut SnapshotWriter, what: &str, rows: &SnapshotRows) {
    let clock = Clock::start();
    snapshots.publish(rows).unwrap();
    clock.tell(what, 0, rows.users.len() as u64);
}

/// What the same rows would take in other forms.
fn forms(path: &Path, rows: &SnapshotRows) {
    let fixed = |user: &UserState| {
        let standing = user.standing.as_ref().map_or(0, |standing| 8 + 8 * standing.items.len());
        8 + 4 + 24 * user.entries.len() + 4 + standing
    };
    let bytes: usize = rows.users.iter().map(fixed).sum::<usize>() + rows.panes.len() * 32;
    println!("{:<44} {:>9} {:>9} {:>9.1}", "  these rows, all numbers in full", "", "", bytes as f64 / 1e6);
    println!("{:<44} {:>9} {:>9} {:>9.1}", "  these rows, as written", "", "", size(path) as f64 / 1e6);
    let chunk = std::fs::read_dir(path.join("generation-1")).unwrap().flatten();
    let chunk = chunk.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap();
    let written = std::fs::read(chunk.path()).unwrap();
    let clock = Clock::start();
    let packed: usize = written.chunks(64 << 10).map(|block| zstd::bulk::compress(block, 1).unwrap().len()).sum();
    clock.tell("  these, each block packed by zstd -1", packed as u64, rows.users.len() as u64);
    let clock = Clock::start();
    let mut full = Vec::with_capacity(bytes);
    for user in &rows.users {
        full.extend_from_slice(&user.user.0.to_le_bytes());
        for entry in &user.entries {
            full.extend_from_slice(&entry.time.to_le_bytes());
            full.extend_from_slice(&entry.position.offset().to_le_bytes());
            full.extend_from_slice(&entry.item.0.to_le_bytes());
        }
        for item in user.standing.iter().flat_map(|standing| &standing.items) {
            full.extend_from_slice(&item.0.to_le_bytes());
        }
    }
    let file = path.with_extension("full");
    std::fs::write(&file, &full).unwrap();
    std::fs::File::open(&file).unwrap().sync_data().unwrap();
    clock.tell("  these in full, unsorted, without checksums", full.len() as u64, rows.users.len() as u64);
    std::fs::remove_file(&file).unwrap();
}

fn load(path: &Path, users: u64) {
    let clock = Clock::start();
    let (state, recovered) = open(path);
    let snapshot = recovered.snapshot.unwrap();
    clock.tell("open, with every byte verified", snapshot.bytes(), users);
    let clock = Clock::start();
    let found = snapshot.users().map(Result::unwrap).count() as u64;
    clock.tell("read all users", snapshot.bytes(), found);
    assert_eq!(found, users);
    let clock = Clock::start();
    let panes = snapshot.panes().map(Result::unwrap).count() as u64;
    clock.tell("read all panes (ns a pane)", 0, panes);
    drop(state);
}

/// Publishes until a merge of everything is due, and waits for it.
fn merge(path: &Path, users: u64) {
    let (mut snapshots, first) = (open(path).0.into_writers().1, 200);
    for number in first.. {
        let rows = rows(users / 4, users, number);
        let clock = Clock::start();
        snapshots.publish(&rows).unwrap();
        clock.tell(&format!("publish {} changed users", rows.users.len()), size(path), rows.users.len() as u64);
        let clock = Clock::start();
        snapshots.wait_for_merge().unwrap();
        if clock.wall.elapsed() > Duration::from_millis(50) {
            clock.tell("merge all chunks, in the background", 0, users);
            let rows = self::rows(1000, users, number + 1);
            publish(&mut snapshots, "publish 1000 changed users, on the merged", &rows);
            return;
        }
    }
}
