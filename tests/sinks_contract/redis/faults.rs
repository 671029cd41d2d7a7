//! A server that goes away, comes back, hangs, or forgets.

use super::super::replay::Replay;
use super::super::services::Server;
use super::{Scratch, VARIABLE, content, expected, live};
use dataflows::event::Time;
use eddyline::secret::Secret;
use eddyline::sinks::redis::{RedisError, RedisOptions, RedisSink, TimeLimits};
use eddyline::sinks::set::{Pace, SinkSet, check_resume};
use eddyline::sinks::stop::Stop;
use eddyline::sinks::{Batch, Sink, SinkError};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

fn spawn_set(scratch: &Scratch, epoch: u64, bytes_max: usize) -> SinkSet {
    let stop = Stop::default();
    let sink = RedisSink::open(&scratch.options(), &live(epoch), &stop).unwrap();
    SinkSet::spawn(vec![Box::new(sink)], Pace::Live, bytes_max, &stop).unwrap()
}

/// Of the shared one, so that a killed server takes none of it along.
fn forever(scratch: Scratch) -> std::mem::ManuallyDrop<Scratch> {
    std::mem::ManuallyDrop::new(scratch)
}

#[test]
fn a_killed_server_is_waited_for_and_nothing_is_lost() {
    let Some(server) = Server::start("redis.sh", VARIABLE) else { return };
    let scratch = forever(Scratch::at(server.address()));
    // What it acknowledges, it keeps.
    scratch.cli(&["CONFIG", "SET", "appendfsync", "always"]);
    let replay = Replay::large(1);
    let set = spawn_set(&scratch, 1, 1 << 20);
    for (i, batch) in replay.batches(4).into_iter().enumerate() {
        let frontier = batch.frontier;
        if i % 3 == 2 {
            server.kill();
            set.send(batch).unwrap();
            let gauges = &set.gauges()[0];
            while gauges.is_connected() {
                sleep(Duration::from_millis(5));
            }
            let error = gauges.last_error().unwrap();
            assert!(error.contains(&scratch.place()), "{error}");
            assert_ne!(set.durable().frontier(), frontier);
            server.restart();
        } else {
            set.send(batch).unwrap();
        }
        set.durable().wait(frontier).unwrap();
    }
    assert!(set.gauges()[0].retries() > 0);
    set.finish(replay.end()).unwrap();
    assert_eq!(content(&scratch), expected(&replay));
}

#[test]
fn kills_at_any_moment_neither_lose_nor_mix() {
    let Some(server) = Server::start("redis.sh", VARIABLE) else { return };
    let scratch = forever(Scratch::at(server.address()));
    let replay = Replay::large(2);
    for epoch in 1..=6 {
        let purge = eddyline::sinks::identity::OtherPipeline::Purge;
        let stop = Stop::default();
        // Each round from the start again, or else there would be nothing left to write.
        let run = eddyline::sinks::identity::RunIdentity { other_pipeline: purge, ..live(epoch) };
        let sink = RedisSink::open(&scratch.options(), &run, &stop).unwrap();
        scratch.cli(&["CONFIG", "SET", "appendfsync", "always"]);
        let set = SinkSet::spawn(vec![Box::new(sink)], Pace::Live, 1 << 20, &stop).unwrap();
        let killed = Arc::new(AtomicBool::new(false));
        let sender = {
            let (replay, killed) = (replay.clone(), killed.clone());
            spawn(move || {
                for (i, batch) in replay.batches(epoch).into_iter().enumerate() {
                    while i == 3 && !killed.load(Ordering::Relaxed) {
                        // Frontiers without rows, which are written one by one.
                        let frontier = set.durable().frontier();
                        set.send(Batch { frontier, ..Batch::default() }).unwrap();
                        sleep(Duration::from_micros(300));
                    }
                    set.send(batch).unwrap();
                }
                set
            })
        };
        sleep(Duration::from_millis(5 * epoch));
        server.kill();
        killed.store(true, Ordering::Relaxed);
        sleep(Duration::from_millis(100));
        server.restart();
        let set = sender.join().unwrap();
        let gauges = set.gauges().remove(0);
        set.finish(replay.end()).unwrap();
        assert!(gauges.retries() > 0, "the kill came too late");
        assert_eq!(content(&scratch), expected(&replay), "{epoch}");
    }
}

#[test]
fn a_connection_that_was_closed_and_scripts_that_were_forgotten_are_made_anew() {
    let Some(server) = Server::start("redis.sh", VARIABLE) else { return };
    let scratch = forever(Scratch::at(server.address()));
    let replay = Replay::large(1);
    let batches = replay.batches(1);
    let mut sink = scratch.open(&live(1));
    for (i, batch) in batches.iter().enumerate() {
        sink.write(batch).unwrap();
        if i < 2 {
            scratch.cli(if i == 0 { &["CLIENT", "KILL", "TYPE", "normal"] } else { &["SCRIPT", "FLUSH"] });
            let error = sink.flush().unwrap_err();
            assert!(error.is_retryable(), "{error}");
            let expected = if i == 0 { "it closed the connection" } else { "it has restarted" };
            assert_eq!(error.to_string(), format!("lost the connection to {}: {expected}", scratch.place()));
        }
        sink.flush().unwrap();
    }
    sink.finish(&replay.end()).unwrap();
    assert_eq!(content(&scratch), expected(&replay));
}

#[test]
fn a_database_that_forgets_is_found_out() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = Replay::large(1);
    let batches = replay.batches(1);
    let cases: [(&[&str], &str); 2] = [
        (&["FLUSHDB"], "shop:eddyline_meta has gone"),
        (&["HSET", "shop:eddyline_meta", "number", "0"], "its last piece was number 1, and is 0"),
    ];
    for (forget, detail) in cases {
        scratch.cli(&["FLUSHDB"]);
        let mut sink = scratch.open(&live(1));
        sink.write(&batches[0]).unwrap();
        sink.flush().unwrap();
        scratch.cli(forget);
        sink.write(&batches[1]).unwrap();
        let error = sink.flush().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{} has lost results that it held ({detail}): it was emptied, or restarted from an older state; run again, \
                 and if that is refused, with --purge",
                scratch.place()
            )
        );
        assert!(!error.is_retryable());
    }
    // The run that is started again has a snapshot at a frontier that the database no longer has.
    scratch.cli(&["FLUSHDB"]);
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(scratch.open(&live(2)))];
    let error = check_resume(&sinks, batches[0].frontier).unwrap_err();
    assert!(matches!(error, SinkError::Behind { sink: "redis", durable: 0, .. }), "{error}");
}

#[test]
fn a_server_that_keeps_nothing_across_a_restart_is_found_out() {
    let Some(server) = Server::start("redis.sh", VARIABLE) else { return };
    let scratch = forever(Scratch::at(server.address()));
    scratch.cli(&["CONFIG", "SET", "appendonly", "no"]);
    let replay = Replay::large(1);
    let batches = replay.batches(1);
    let set = spawn_set(&scratch, 1, 1 << 20);
    set.send(batches[0].clone()).unwrap();
    set.durable().wait(batches[0].frontier).unwrap();
    server.kill();
    server.restart();
    // The append-only file of before has been left behind; what came after is not in it.
    scratch.cli(&["FLUSHALL"]);
    set.send(batches[1].clone()).unwrap();
    let error = set.suspend(Instant::now(), Duration::from_secs(60)).unwrap_err();
    assert!(matches!(error, SinkError::Redis(RedisError::Lost { .. })), "{error}");
}

#[test]
fn a_server_that_says_nothing_keeps_nobody_from_stopping() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let mut options = RedisOptions {
        url: Secret::new(format!("redis://:hunter2@{server}")),
        prefix: "shop:".into(),
        legacy_keys: false,
        limits: TimeLimits { connect: Duration::from_millis(300), ..TimeLimits::default() },
    };
    let error = RedisSink::open(&options, &live(1), &Stop::default()).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!("cannot reach Redis at {server}/0: no answer within 0 s; check that it runs there, and the address")
    );
    assert!(error.is_retryable());
    options.limits.connect = Duration::from_secs(600);
    let stop = Stop::default();
    let opening = {
        let stop = stop.clone();
        spawn(move || RedisSink::open(&options, &live(1), &stop).err().unwrap())
    };
    sleep(Duration::from_millis(50));
    let raised = Instant::now();
    stop.raise();
    assert!(matches!(opening.join().unwrap(), RedisError::Stopped));
    assert!(raised.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_slow_server_bounds_the_queue() {
    let Some(server) = Server::start("redis.sh", VARIABLE) else { return };
    let scratch = forever(Scratch::at(server.address()));
    let replay = Replay::large(1);
    let batches = replay.batches(4);
    let bytes_max = batches.iter().map(Batch::bytes).max().unwrap();
    let set = spawn_set(&scratch, 1, bytes_max);
    scratch.cli(&["CLIENT", "PAUSE", "2000", "WRITE"]);
    let mut refused = 0;
    for batch in batches {
        let mut next = Some(Arc::new(batch));
        while let Some(batch) = next {
            next = set.try_send(batch).unwrap();
            assert!(set.gauges()[0].queue_bytes() <= bytes_max);
            if next.is_some() {
                refused += 1;
                sleep(Duration::from_millis(10));
            }
        }
    }
    assert!(refused > 10, "{refused}");
    set.durable().wait(Time::MAX).unwrap();
    set.finish(replay.end()).unwrap();
    assert_eq!(content(&scratch), expected(&replay));
}

#[test]
fn a_full_server_is_waited_for() {
    let Some(server) = Server::start("redis.sh", VARIABLE) else { return };
    let scratch = forever(Scratch::at(server.address()));
    let replay = Replay::large(1);
    let set = spawn_set(&scratch, 1, 1 << 20);
    scratch.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let mut batches = replay.batches(4).into_iter();
    set.send(batches.next().unwrap()).unwrap();
    let gauges = set.gauges().remove(0);
    while gauges.retries() < 2 {
        sleep(Duration::from_millis(5));
    }
    let error = gauges.last_error().unwrap();
    assert!(error.starts_with(&format!("cannot write {}: OOM ", scratch.place())), "{error}");
    scratch.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    batches.for_each(|batch| set.send(batch).unwrap());
    set.finish(replay.end()).unwrap();
    assert_eq!(content(&scratch), expected(&replay));
}
