//! A server that goes away, comes back, hangs, or forgets.

use super::super::replay::Replay;
use super::super::services::Server;
use super::{Scratch, VARIABLE, content, expected, live};
use dataflows::event::Time;
use eddyline::secret::Secret;
use eddyline::sinks::mysql::{MySqlError, MySqlOptions, MySqlSink, TimeLimits};
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
    let sink = MySqlSink::open(&scratch.options(), &live(epoch), &stop).unwrap();
    SinkSet::spawn(vec![Box::new(sink)], Pace::Live, bytes_max, &stop).unwrap()
}

#[test]
fn a_killed_server_is_waited_for_and_nothing_is_lost() {
    let Some(server) = Server::start("mariadb.sh", VARIABLE) else { return };
    let scratch = Scratch::at(server.address());
    let replay = Replay::large(1);
    let batches = replay.batches(4);
    let set = spawn_set(&scratch, 1, 1 << 20);
    for (i, batch) in batches.into_iter().enumerate() {
        let frontier = batch.frontier;
        if i % 3 == 2 {
            server.kill();
            set.send(batch).unwrap();
            let gauges = &set.gauges()[0];
            while gauges.is_connected() {
                sleep(Duration::from_millis(5));
            }
            let error = gauges.last_error().unwrap();
            assert!(error.contains(&scratch.server()), "{error}");
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
fn kills_at_any_moment_neither_lose_nor_double() {
    let Some(server) = Server::start("mariadb.sh", VARIABLE) else { return };
    let scratch = Scratch::at(server.address());
    let replay = Replay::large(2);
    for epoch in 1..=4 {
        let set = spawn_set(&scratch, epoch, 1 << 20);
        let killed = Arc::new(AtomicBool::new(false));
        let sender = {
            let (replay, killed) = (replay.clone(), killed.clone());
            spawn(move || {
                // Again and again from the start, cut in other ways, and once more after the kill.
                for cut in 0.. {
                    let last = killed.load(Ordering::Relaxed);
                    replay.batches(cut).into_iter().for_each(|batch| set.send(batch).unwrap());
                    if last {
                        return set;
                    }
                }
                unreachable!("there is no end of numbers")
            })
        };
        sleep(Duration::from_millis(100 + 37 * epoch));
        server.kill();
        killed.store(true, Ordering::Relaxed);
        server.restart();
        let set = sender.join().unwrap();
        let gauges = set.gauges().remove(0);
        if epoch < 4 {
            set.suspend(Instant::now(), Duration::from_secs(60)).unwrap()
        } else {
            set.finish(replay.end()).unwrap()
        }
        assert!(gauges.retries() > 0, "the kill came too late");
        assert_eq!(scratch.meta("frontier"), Time::MAX.to_string());
    }
    assert_eq!(content(&scratch), expected(&replay));
}

#[test]
fn a_connection_that_was_closed_is_made_anew() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = Replay::large(1);
    let batches = replay.batches(1);
    let mut sink = scratch.open(&live(1));
    sink.write(&batches[0]).unwrap();
    sink.flush().unwrap();
    let ours = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{}' AND ID <> CONNECTION_ID()",
        scratch.name()
    );
    for id in scratch.sql(&ours) {
        scratch.sql(&format!("KILL CONNECTION {id}"));
    }
    sink.write(&batches[1]).unwrap();
    let error = sink.flush().unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains(&scratch.place()), "{error}");
    sink.flush().unwrap();
    for batch in &batches[2..] {
        sink.write(batch).unwrap();
    }
    sink.finish(&replay.end()).unwrap();
    assert_eq!(content(&scratch), expected(&replay));
}

#[test]
fn a_database_that_forgets_is_found_out() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = Replay::large(1);
    let batches = replay.batches(1);
    for (forget, detail) in [
        ("UPDATE `eddyline_meta` SET `frontier` = 7", format!("its frontier was {}, and is 7", batches[0].frontier)),
        ("DELETE FROM `eddyline_meta`", "eddyline_meta is empty".to_owned()),
    ] {
        scratch.sql(&format!("DROP DATABASE `{0}`; CREATE DATABASE `{0}`", scratch.name()));
        let mut sink = scratch.open(&live(1));
        sink.write(&batches[0]).unwrap();
        sink.flush().unwrap();
        scratch.sql(forget);
        sink.write(&batches[1]).unwrap();
        let error = sink.flush().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{} has lost results that it held ({detail}): it was emptied, or set back to an older state; run again, and \
                 if that is refused, with --purge",
                scratch.place()
            )
        );
        assert!(!error.is_retryable());
    }
    // The run that is started again has a snapshot at a frontier that the database no longer has.
    scratch.sql(&format!("DROP DATABASE `{0}`; CREATE DATABASE `{0}`", scratch.name()));
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(scratch.open(&live(2)))];
    let error = check_resume(&sinks, batches[0].frontier).unwrap_err();
    assert!(matches!(error, SinkError::Behind { sink: "mysql", durable: 0, .. }), "{error}");
}

#[test]
fn a_server_that_says_nothing_keeps_nobody_from_stopping() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let limits = TimeLimits { connect: Duration::from_millis(300), ..TimeLimits::default() };
    let mut options = MySqlOptions { url: Secret::new(format!("mysql://shop:hunter2@{server}/flink")), limits };
    let error = MySqlSink::open(&options, &live(1), &Stop::default()).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!("cannot reach MySQL at {server}: no answer within 0 s; check that it runs there, and the address")
    );
    assert!(error.is_retryable());
    options.limits.connect = Duration::from_secs(600);
    let stop = Stop::default();
    let opening = {
        let stop = stop.clone();
        spawn(move || MySqlSink::open(&options, &live(1), &stop).err().unwrap())
    };
    sleep(Duration::from_millis(50));
    let raised = Instant::now();
    stop.raise();
    assert!(matches!(opening.join().unwrap(), MySqlError::Stopped));
    assert!(raised.elapsed() < Duration::from_secs(10));
}

/// Somebody holds the row that every transaction begins with, for a while.
#[test]
fn a_slow_server_bounds_the_queue() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = Replay::large(1);
    let batches = replay.batches(4);
    let bytes_max = batches.iter().map(Batch::bytes).max().unwrap();
    let set = spawn_set(&scratch, 1, bytes_max);
    let holder = {
        let scratch = Scratch { url: scratch.url.clone() };
        spawn(move || {
            let scratch = std::mem::ManuallyDrop::new(scratch);
            scratch.sql("START TRANSACTION; SELECT * FROM `eddyline_meta` FOR UPDATE; SELECT SLEEP(2)");
        })
    };
    sleep(Duration::from_millis(500));
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
    holder.join().unwrap();
    set.durable().wait(Time::MAX).unwrap();
    set.finish(replay.end()).unwrap();
    assert_eq!(content(&scratch), expected(&replay));
}
