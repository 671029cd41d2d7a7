//! Whether a generated log is what it claims to be: statistics of small logs, read back from their bytes.

use super::*;
use std::collections::{HashMap, HashSet};

/// A row that reads as an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Read {
    pub(super) user: u64,
    pub(super) item: u64,
    pub(super) behavior: &'static str,
    pub(super) time: u64,
}

pub(super) fn bytes(options: &Options) -> (Vec<u8>, Summary) {
    let mut log = Vec::new();
    let summary = run(options, Target::Stream(&mut log), &mut |_| ()).expect("valid options, and memory to write to");
    (log, summary)
}

fn read_row(row: &[u8]) -> Option<Read> {
    let row = std::str::from_utf8(row).ok()?;
    let fields: Vec<&str> = row.split(',').collect();
    let [user, item, behavior, time] = fields[..] else { return None };
    let behavior = ["pv", "cart", "fav", "buy"].into_iter().find(|&name| name == behavior)?;
    let number = |field: &str, most: u64| field.parse().ok().filter(|&number| number <= most);
    let (user, item) = (number(user, i64::MAX as u64)?, number(item, i64::MAX as u64)?);
    Some(Read { user, item, behavior, time: number(time, 253_402_300_799_999)? })
}

pub(super) fn events(log: &[u8]) -> Vec<Read> {
    log.split(|&byte| byte == b'\n').filter_map(read_row).collect()
}

fn milliseconds(events: u64) -> Options {
    Options { events, users: 2_000, items: 1_000, time_unit: TimeUnit::Milliseconds, ..Options::default() }
}

fn counts(keys: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut counts = HashMap::new();
    keys.for_each(|key| *counts.entry(key).or_insert(0_u64) += 1);
    let mut counts: Vec<u64> = counts.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    counts
}

/// The slope of log count over log rank, from rank `from` to rank `to`.
fn slope(counts: &[u64], from: usize, to: usize) -> f64 {
    let points: Vec<(f64, f64)> =
        (from..=to).map(|rank| ((rank as f64).ln(), (counts[rank - 1] as f64).ln())).collect();
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    covariance / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}

#[test]
fn equal_options_give_equal_bytes_and_another_seed_others() {
    let options = Options { rubbish: 0.01, late: 0.01, ..milliseconds(5_000) };
    assert!(bytes(&options) == bytes(&options));
    assert!(bytes(&options).0 != bytes(&Options { seed: 2, ..options.clone() }).0);
}

/// If this fails, logs that others made with equal options are no longer reproducible: that takes a major version.
#[test]
fn the_bytes_are_pinned() {
    let (log, summary) = bytes(&Options { rubbish: 0.01, late: 0.01, ..milliseconds(5_000) });
    let digest = blake3::hash(&log).to_hex();
    assert_eq!((&digest[..16], summary.sessions), ("92ab79f5021b5169", 488));
}

#[test]
fn what_happened_does_not_depend_on_how_it_is_told() {
    let sorted = |options: &Options| {
        let mut events = events(&bytes(options).0);
        events.sort_by_key(|event| (event.time, event.user, event.item, event.behavior));
        events
    };
    let plain = Options { disorder_ms: 0, ..milliseconds(3_000) };
    let told = Options { late: 0.1, rubbish: 0.2, header: true, disorder_ms: 9_000, ..plain.clone() };
    assert!(sorted(&plain) == sorted(&told));
}

#[test]
fn popularity_and_activity_are_zipf() {
    let still = Options { drift_half_life_ms: None, users: 20_000, ..milliseconds(100_000) };
    let options = Options { loyalty: 0.0, successor: 0.0, ..still.clone() };
    let log = events(&bytes(&options).0);
    let items = slope(&counts(log.iter().map(|event| event.item)), 1, 200);
    assert!((-0.95..-0.85).contains(&items), "items: {items}");
    let raw = catalogue::RawIds::users(options.users);
    let by_rank: HashMap<u64, u32> = (0..options.users).map(|user| (raw.raw(user), user)).collect();
    let between = |from, to| log.iter().filter(|event| (from..to).contains(&by_rank[&event.user])).count() as f64;
    let expected = |from, to| (from..to).map(|rank| (f64::from(rank) + 1.0).powf(-0.7)).sum::<f64>();
    // The very busiest users fall short, as no one is in two sessions at once.
    let users = between(20, 200) / between(2_000, 20_000) * expected(2_000, 20_000) / expected(20, 200);
    assert!((0.85..1.15).contains(&users), "users: {users}");
    // With successors the head keeps its shape.
    let log = events(&bytes(&still).0);
    let items = slope(&counts(log.iter().map(|event| event.item)), 1, 100);
    assert!((-1.0..-0.6).contains(&items), "items, with successors: {items}");
}

#[test]
fn popularity_drifts() {
    let overlap = |drift_half_life_ms| {
        let log = events(&bytes(&Options { drift_half_life_ms, ..milliseconds(40_000) }).0);
        let top = |part: &[Read]| {
            let mut counts = HashMap::new();
            part.iter().for_each(|event| *counts.entry(event.item).or_insert(0) += 1);
            let mut items: Vec<(i32, u64)> = counts.into_iter().map(|(item, count)| (-count, item)).collect();
            items.sort_unstable();
            items.into_iter().take(20).map(|(_, item)| item).collect::<HashSet<u64>>()
        };
        top(&log[..10_000]).intersection(&top(&log[30_000..])).count()
    };
    let (still, moving) = (overlap(None), overlap(Some(12 * 3_600_000)));
    assert!(still >= 15 && moving <= 8, "of 20: {still} without drift, {moving} with");
}

#[test]
fn disorder_is_there_and_bounded_in_every_partition() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for time_unit in [TimeUnit::Seconds, TimeUnit::Milliseconds] {
        let options = Options { partitions: 3, time_unit, duration_ms: 3_600_000, ..milliseconds(20_000) };
        let path = directory.path().join("log.csv");
        let summary = run(&options, Target::File(path), &mut |_| ()).expect("writes");
        assert_eq!(summary.files.len(), 3);
        let unit_ms = if time_unit == TimeUnit::Seconds { 1000 } else { 1 };
        let mut users = HashMap::new();
        let mut total = 0;
        for (partition, file) in summary.files.iter().enumerate() {
            let log = events(&std::fs::read(file).expect("was written"));
            let mut newest = 0;
            let behind = log.iter().map(|event| (newest = event.time.max(newest), newest - event.time).1).max();
            let behind_ms = behind.expect("events") * unit_ms;
            assert!((3_000..=5_000).contains(&behind_ms), "{behind_ms}");
            assert!(log.iter().all(|event| *users.entry(event.user).or_insert(partition) == partition));
            total += log.len() as u64;
        }
        assert_eq!(total, options.events);
    }
}

#[test]
fn as_much_is_late_and_rubbish_as_asked_for() {
    let options = Options {
        late: 0.02,
        rubbish: 0.03,
        rubbish_kinds: Rubbish::ALL.to_vec(),
        duration_ms: 3_600_000,
        ..milliseconds(30_000)
    };
    let (log, summary) = bytes(&options);
    let log_events = events(&log);
    assert_eq!((log_events.len() as u64, summary.events, summary.bytes), (30_000, 30_000, log.len() as u64));
    let mut newest = 0;
    let lateness_ms = 10_000;
    let late = log_events.iter().filter(|event| {
        newest = event.time.max(newest);
        event.time + lateness_ms < newest
    });
    let late = late.count() as u64;
    assert!((540..660).contains(&late) && late.abs_diff(summary.late) < 20, "{late}, {}", summary.late);
    let rows = log.iter().filter(|&&byte| byte == b'\n').count() as u64;
    let rubbish: u64 = summary.rubbish.iter().sum();
    assert_eq!(rows, 30_000 + rubbish);
    assert!((840..1020).contains(&rubbish), "3 % of 30,928: {rubbish}");
    assert!(summary.rubbish.iter().enumerate().all(|(kind, &n)| n > 90 || kind == Rubbish::TooLong as usize));
    assert_eq!(summary.last_ms, log_events.iter().map(|event| event.time).max().expect("events"));
    assert_eq!(summary.first_ms, log_events.iter().map(|event| event.time).min().expect("events"));
}

#[test]
fn funnels_go_from_view_to_purchase() {
    let mut log = events(&bytes(&Options { disorder_ms: 0, ..milliseconds(50_000) }).0);
    log.sort_by_key(|event| event.time);
    let mut reached: HashMap<(u64, u64), HashSet<&str>> = HashMap::new();
    let mut shares: HashMap<&str, u32> = HashMap::new();
    for event in &log {
        let before = reached.entry((event.user, event.item)).or_default();
        let prerequisite = match event.behavior {
            "pv" => true,
            "buy" => before.contains("pv") && (before.contains("cart") || before.contains("fav")),
            _ => before.contains("pv"),
        };
        assert!(prerequisite, "{event:?} after {before:?}");
        before.insert(event.behavior);
        *shares.entry(event.behavior).or_default() += 1;
    }
    let per_view = |behavior| f64::from(shares[behavior]) / f64::from(shares["pv"]);
    // A session's end cuts one step in ten off.
    assert!((0.048..0.06).contains(&per_view("cart")), "{shares:?}");
    assert!((0.022..0.031).contains(&per_view("fav")), "{shares:?}");
    assert!((0.2..0.26).contains(&(per_view("buy") / (per_view("cart") + per_view("fav")) / 0.9)), "{shares:?}");
}

#[test]
fn the_night_is_quiet() {
    let by_hour = |rhythm| {
        let log = events(&bytes(&Options { rhythm, ..milliseconds(50_000) }).0);
        let mut hours = [0_u32; 24];
        log.iter().for_each(|event| hours[(event.time / 3_600_000 % 24) as usize] += 1);
        hours
    };
    let (strong, even) = (by_hour(0.8), by_hour(0.0));
    assert!(strong[21] > 3 * strong[4], "{strong:?}");
    assert!(even.iter().all(|&n| (1_700..2_500).contains(&n)), "{even:?}");
}

#[test]
fn what_follows_is_learnable() {
    // The commonest follower of an item among all its followers, for the items seen most.
    let predictability = |successor| {
        let mut log = events(&bytes(&Options { successor, ..milliseconds(60_000) }).0);
        log.retain(|event| event.behavior == "pv");
        log.sort_by_key(|event| (event.user, event.time));
        let mut followers: HashMap<u64, Vec<u64>> = HashMap::new();
        for pair in log.windows(2).filter(|pair| pair[0].user == pair[1].user && pair[0].item != pair[1].item) {
            followers.entry(pair[0].item).or_default().push(pair[1].item);
        }
        let (all, best) = followers.values().filter(|list| list.len() >= 50).fold((0, 0), |(all, best), list| {
            (all + list.len(), best + counts(list.iter().copied())[..3].iter().sum::<u64>())
        });
        best as f64 / all as f64
    };
    let (structured, loose) = (predictability(0.4), predictability(0.0));
    assert!(structured > 0.3 && structured > 1.5 * loose, "{structured} against {loose}");
}

#[test]
fn the_tianchi_tables_know_everyone_and_everything() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = Options { header: true, ..milliseconds(2_000) };
    let target = Target::Tianchi(directory.path().join("raw"));
    let summary = run(&options, target, &mut |_| ()).expect("writes");
    let table = |index: usize| {
        let text = std::fs::read_to_string(&summary.files[index]).expect("was written");
        let rows = text.lines().map(|row| row.split(',').map(str::to_owned).collect::<Vec<_>>());
        rows.collect::<Vec<_>>()
    };
    let (users, items, log) = (table(0), table(1), table(2));
    assert_eq!((users.len(), items.len(), log.len()), (2_000, 1_000, 2_000));
    let ids = |table: &[Vec<String>]| table.iter().map(|row| row[0].clone()).collect::<HashSet<_>>();
    let (user_ids, item_ids) = (ids(&users), ids(&items));
    assert_eq!((user_ids.len(), item_ids.len()), (2_000, 1_000));
    assert!(log.iter().all(|row| row.len() == 4 && user_ids.contains(&row[0]) && item_ids.contains(&row[1])));
    let names: Vec<_> = summary.files.iter().map(|path| path.file_name().expect("a name").to_owned()).collect();
    assert_eq!(names, ["user.csv", "item.csv", "user_behavior.csv"]);
}

#[test]
fn progress_and_refusals() {
    let mut reports = Vec::new();
    let mut log = Vec::new();
    let options = Options { duration_ms: 60_000, ..milliseconds(200_000) };
    run(&options, Target::Stream(&mut log), &mut |events| reports.push(events)).expect("writes");
    assert!(reports.len() > 2 && reports.is_sorted() && reports.last() == Some(&200_000), "{reports:?}");
    let refused = run(&Options { partitions: 2, ..options }, Target::Stream(&mut log), &mut |_| ());
    assert_eq!(refused.expect_err("refused").to_string(), "several partitions need a file name to be numbered");
}

/// Processor seconds of this thread so far, as Linux counts them.
fn processor_seconds() -> f64 {
    let status = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    let after_name = status.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// `cargo test --release generate::statistics -- --ignored --nocapture` prints the figures of `docs/generate.md`.
#[test]
#[ignore = "takes a minute in a release build; prints figures"]
fn figures() {
    let large = Options { events: 10_000_000, users: 500_000, items: 200_000, ..Options::default() };
    let in_order = Options { disorder_ms: 0, ..large.clone() };
    let huge = Options { events: 100_000_000, users: 10_000_000, items: 1_000_000, ..Options::default() };
    for (name, options) in [("10 M, in order", &in_order), ("10 M", &large), ("100 M", &huge)] {
        let before = processor_seconds();
        let summary = run(options, Target::Stream(&mut std::io::sink()), &mut |_| ()).expect("valid options");
        let seconds = processor_seconds() - before;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        let rate = options.events as f64 / seconds / 1e6;
        eprintln!("{name}: {rate:.2} M events a processor second, {} MB, peak {peak}", summary.bytes >> 20);
    }
}
