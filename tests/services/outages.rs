//! Servers that are killed in the middle of a run, stay away, and come back with their data.

use crate::cluster::Own;
use crate::services::{Server, variable};
use crate::stores::Stores;
use crate::table::{effort, passed};
use crate::world::{Running, Target, World, events, mysql_database, stderr};
use std::time::{Duration, Instant};
use url::Url;

/// How long a server is away, in seconds.
fn lengths() -> &'static [u64] {
    if effort() == 1 { &[1] } else { &[1, 5, 20, 60] }
}

/// Waits until the run has written something, which must be before it ends.
fn wait_for_first_write(target: &Target<'_>, run: &mut Running) {
    let started = Instant::now();
    while !target.stores.has_records() {
        assert!(run.ended().is_none(), "the run ended before anything was seen of it");
        assert!(started.elapsed() < Duration::from_secs(120), "nothing is written");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A run of `target`, in the middle of which `server` is killed, to come back after `away`. The run must have noticed, and have
/// gone on by itself.
fn outage(target: &Target<'_>, server: &Server, sink: &str, away: Duration) {
    let mut run = Running::spawn(target.run().args(["-w", "2"]));
    wait_for_first_write(target, &mut run);
    server.kill();
    std::thread::sleep(away);
    assert!(run.ended().is_none(), "{sink}: the run ended without its store");
    server.restart();
    let told = stderr(&run.succeed());
    assert!(told.contains("trying again until it works"), "{sink}: the outage was not noticed: {told}");
    assert!(told.contains(&format!("{sink}: results are written again")), "{sink}: {told}");
    target.check(sink);
}

fn outages(sink: &'static str, script: &'static str, name: &'static str, stores: fn(&Server, Stores) -> Stores) {
    if variable("EDDYLINE_TEST_KAFKA").is_none() {
        return;
    }
    let Some(server) = Server::start(script, name) else { return };
    let Some(world) = World::new(5 * events(), 2) else { return };
    for &seconds in lengths() {
        let target = world.target(stores(&server, world.embedded()));
        outage(&target, &server, sink, Duration::from_secs(seconds));
        passed(&format!("{sink} killed, away for {seconds} s"), 1, "the run waited, and went on by itself");
    }
}

#[test]
fn mongodb_goes_away_and_comes_back() {
    outages("mongodb", "mongodb.sh", "EDDYLINE_TEST_MONGODB", |server, stores| {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Stores { mongodb: Some((server.address().to_owned(), format!("outage{number}"))), ..stores }
    });
}

#[test]
fn mysql_goes_away_and_comes_back() {
    outages("mysql", "mariadb.sh", "EDDYLINE_TEST_MYSQL", |server, stores| Stores {
        mysql: Some(mysql_database(server.address())),
        ..stores
    });
}

#[test]
fn redis_goes_away_and_comes_back() {
    outages("redis", "redis.sh", "EDDYLINE_TEST_REDIS", |server, stores| {
        let url = Url::parse(server.address()).unwrap();
        // What it acknowledges, it keeps.
        crate::stores::redis(&url, "CONFIG SET appendfsync always");
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Stores { redis: Some((url, format!("outage{number}:"))), ..stores }
    });
}

#[test]
fn the_broker_goes_away_and_comes_back() {
    let Some(mut own) = Own::start() else { return };
    for &seconds in lengths() {
        let world = World::on(&own.brokers, 60 * events(), 3);
        let target = world.target(world.embedded());
        // Small fetches, so that most of the log is still at the broker.
        let fetches = r#"kafka.properties={"fetch.message.max.bytes"="4096", "queued.max.messages.kbytes"="16"}"#;
        let mut run = Running::spawn(target.run().args(["-w", "2", "--set", fetches]));
        wait_for_first_write(&target, &mut run);
        own.kill();
        std::thread::sleep(Duration::from_secs(seconds));
        let written = target.stores.records();
        assert!(run.ended().is_none(), "the run ended without its broker");
        own.revive();
        run.succeed();
        assert!(target.stores.records() > written, "the broker had no part in it");
        target.check("broker");
        passed(&format!("Kafka killed, away for {seconds} s"), 1, "the run waited, and went on by itself");
    }
}
