//! kill -9, at labelled places and at any moment.

use crate::table::{Random, effort, passed};
use crate::world::{Running, Target, World, events, stderr, was_killed};
use std::time::{Duration, Instant};

/// Places that every run over a log comes to, and what is going on there.
const PLACES: [(&str, &str); 18] = [
    ("start.told", "recovery: the workers know where to begin"),
    ("worker.handed_over", "a record has entered the dataflow"),
    ("worker.advanced", "the frontier has moved"),
    ("sink.write", "a batch is about to be written"),
    ("sink.written", "a batch has been written"),
    ("sink.flushed", "a batch is durable"),
    ("embedded.commit", "before SQLite commits"),
    ("mongodb.consumed", "between two collections of MongoDB"),
    ("mongodb.commit", "before MongoDB commits"),
    ("mysql.commit", "before MySQL commits"),
    ("mysql.committed", "MySQL has committed, and nobody knows yet"),
    ("redis.chunks", "pieces are on their way to Redis"),
    ("snapshot.asked", "a snapshot has been asked for"),
    ("snapshot.durable", "all stores hold what is before a snapshot"),
    ("snapshot.chunks", "a snapshot's rows are written, its manifest is not"),
    ("snapshot.manifest", "a manifest is written, and has no name yet"),
    ("snapshot.published", "a snapshot counts"),
    ("sinks.finish", "the stores are being finished"),
];

/// A place that a run comes to only if it goes on from a snapshot.
const RESTORING: (&str, &str) = ("restore.rows", "recovery: a snapshot's rows are being restored");

/// What the slice of `cargo test` tries.
const SLICE: [&str; 5] = ["worker.advanced", "embedded.commit", "mongodb.consumed", "mysql.committed", "redis.chunks"];

/// How often a run may end before it comes to a place.
const MISSES_MAX: usize = 5;

/// Kills runs at `place` until `wanted` were killed between the first and the last write; every time that a run gets to the end
/// of the log in spite of it, and in the end, all stores are checked.
fn kill_at(world: &World, place: &str, wanted: usize, random: &mut Random) -> Option<usize> {
    let (mut killed, mut misses) = (0, 0);
    while killed < wanted {
        let target = world.target(world.all_stores()?);
        // Something must be there before the first kill that counts, and a snapshot for those that need one.
        let first = if place == RESTORING.0 { "snapshot.published" } else { "sink.written" };
        let mut ordinal = 1;
        while !target.is_between_first_and_last_write() {
            let fault = format!("{first}:{ordinal}");
            assert!(was_killed(&target.run().env("EDDYLINE_FAULT", fault).output().unwrap()), "{first}");
            ordinal += 2;
        }
        let before = killed;
        while killed < wanted {
            let ordinal = if killed == before { 1 } else { 1 + random.below(6) };
            let workers = 1 + random.below(3);
            let mut command = target.run();
            command.args(["-w", &workers.to_string()]).env("EDDYLINE_FAULT", format!("{place}:{ordinal}"));
            let output = command.output().unwrap();
            if !was_killed(&output) {
                break;
            }
            assert!(stderr(&output).contains(&format!("fault: {place}")), "{}", stderr(&output));
            assert!(target.is_between_first_and_last_write(), "killed at {place}");
            killed += 1;
        }
        misses = if killed > before { 0 } else { misses + 1 };
        assert!(misses < MISSES_MAX, "no run came to {place}");
        complete(&target, place);
    }
    Some(killed)
}

/// Whether `EDDYLINE_FAULTS_PLACES`, the beginnings of labels with commas between them, names a place; without it, all are.
fn is_wanted(place: &str) -> bool {
    std::env::var("EDDYLINE_FAULTS_PLACES").map_or(true, |names| names.split(',').any(|name| place.starts_with(name)))
}

fn complete(target: &Target<'_>, what: &str) {
    let output = target.run().args(["-w", "2"]).output().unwrap();
    assert!(output.status.success(), "{what}: {}", stderr(&output));
    target.check(what);
}

#[test]
fn whatever_place_a_run_dies_at_all_stores_end_as_a_replay() {
    let (Some(world), Some(long)) = (World::new(events(), 4), World::new(4 * events(), 4)) else { return };
    let mut random = Random(1);
    for (place, what) in PLACES.into_iter().chain([RESTORING]) {
        if effort() == 1 && !SLICE.contains(&place) || !is_wanted(place) {
            continue;
        }
        // A short log may end before a snapshot counts.
        let world = if place.starts_with("snapshot.") || place == RESTORING.0 { &long } else { &world };
        let Some(kills) = kill_at(world, place, effort(), &mut random) else { return };
        passed(&format!("kill -9 at `{place}`"), kills, what);
    }
}

#[test]
fn whatever_moment_a_run_dies_at_all_stores_end_as_a_replay() {
    let Some(world) = World::new(events(), 4) else { return };
    let wanted = if effort() == 1 { 3 } else { 8 * effort() };
    let (mut random, mut killed, mut chains) = (Random(2), 0, 0);
    // The first run is left alone: it tells how long one takes.
    let mut length = Duration::ZERO;
    while killed < wanted {
        let Some(stores) = world.all_stores() else { return };
        let target = world.target(stores);
        if length.is_zero() {
            let started = Instant::now();
            complete(&target, "an undisturbed run");
            length = started.elapsed();
            continue;
        }
        chains += 1;
        while killed < wanted {
            let workers = 1 + random.below(3);
            let mut run = Running::spawn(target.run().args(["-w", &workers.to_string()]));
            std::thread::sleep(length.mul_f64(random.below(1000) as f64 / 1000.0));
            run.kill();
            if !was_killed(&run.output()) {
                break;
            }
            killed += usize::from(target.is_between_first_and_last_write());
        }
        complete(&target, "killed at any moment");
    }
    passed("kill -9 at any moment", killed, &format!("between the first and the last write; {chains} logs"));
}
