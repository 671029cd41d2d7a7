//! Servers that die, writers that die, and what the server refuses.

use super::super::replay::Replay;
use super::{Scratch, content, expected, open, options, run, shared, start, wait, write_all};
use eddyline::secret::Secret;
use eddyline::sinks::mongodb::{MongoError, MongoOptions, MongoSink, Transactions};
use eddyline::sinks::stop::Stop;
use eddyline::sinks::{Sink, SinkError};
use mongodb::bson::{Bson, Document, doc};
use std::env;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Calls until it succeeds, as a sink's thread does; returns how often it failed.
fn insist(mut call: impl FnMut() -> Result<(), SinkError>) -> usize {
    for failures in 0..200 {
        match call() {
            Ok(()) => return failures,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                assert!(!error.to_string().contains('\n'), "{error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
    panic!("it does not succeed");
}

/// An internal error of the server says nothing about the transaction: by a fail point (MongoDB's own means of testing) the
/// commit is refused, or carried out and then said to have failed.
#[test]
fn a_commit_that_fails_within_the_server_is_tried_again() {
    let Some((_server, uri)) = start("--enable-test-commands") else { return };
    let refused = doc! { "failCommands": ["commitTransaction"], "errorCode": 1 };
    let carried_out =
        doc! { "failCommands": ["commitTransaction"], "writeConcernError": { "code": 1, "errmsg": "lost" } };
    for fault in [refused, carried_out] {
        let scratch = Scratch::on(uri.clone());
        let fail = |mode: Bson| {
            let point = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": fault.clone() };
            wait(async { scratch.database.client().database("admin").run_command(point).await.unwrap() });
        };
        let replay = Replay::large(7);
        let mut sink = open(&options(&scratch, Transactions::Auto), &run());
        let batches = replay.batches(5);
        fail("alwaysOn".into());
        let error = sink.write(&batches[0]).unwrap_err();
        assert!(matches!(error, SinkError::Mongo(MongoError::Server { code: 1, .. })), "{error}");
        fail(doc! { "times": 3 }.into());
        for batch in &batches {
            sink.write(batch).unwrap();
        }
        sink.flush().unwrap();
        sink.finish(&replay.end()).unwrap();
        fail("off".into());
        assert!(content(&scratch) == expected(&replay, 7));
    }
}

#[test]
fn a_server_that_is_killed_and_started_again_loses_nothing() {
    for (flags, has_transactions) in [("", true), ("--standalone", false)] {
        let Some((server, uri)) = start(flags) else { return };
        let scratch = Scratch::on(uri);
        let replay = Replay::large(7);
        let mut sink = open(&options(&scratch, Transactions::Auto), &run());
        assert_eq!(sink.has_transactions(), has_transactions);
        let batches = replay.batches(5);
        let mut failures = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..3 {
                    thread::sleep(Duration::from_millis(300));
                    server.kill();
                    thread::sleep(Duration::from_millis(300));
                    server.restart();
                }
            });
            // Over and over, so that kills meet all steps.
            let until = Instant::now() + Duration::from_secs(4);
            while Instant::now() < until {
                for batch in &batches {
                    failures += insist(|| sink.write(batch));
                }
            }
        });
        assert!(failures > 0, "no kill came between");
        insist(|| sink.flush());
        insist(|| sink.finish(&replay.end()));
        assert!(content(&scratch) == expected(&replay, 7), "{flags}");
    }
}

const CHILD: &str = "EDDYLINE_TEST_MONGODB_CHILD";

/// Writes the whole replay to the database that it is told of.
#[test]
fn child() {
    let Ok(told) = env::var(CHILD) else { return };
    let (name, mode) = told.split_once(' ').unwrap();
    let scratch = std::mem::ManuallyDrop::new(Scratch::named(shared().unwrap(), name));
    let transactions = if mode == "Auto" { Transactions::Auto } else { Transactions::Never };
    write_all(&mut open(&options(&scratch, transactions), &run()), &Replay::large(8), 3);
}

#[test]
fn a_writer_that_is_killed_and_started_again_loses_nothing() {
    for mode in ["Auto", "Never"] {
        let Some(scratch) = Scratch::new() else { return };
        let mut killed = 0;
        for life in [60, 100, 150, 220, 300, 60_000] {
            let mut child = Command::new(env::current_exe().unwrap())
                .args(["mongodb::faults::child", "--exact"])
                .env(CHILD, format!("{} {mode}", scratch.database.name()))
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let until = Instant::now() + Duration::from_millis(life);
            while Instant::now() < until && child.try_wait().unwrap().is_none() {
                thread::sleep(Duration::from_millis(5));
            }
            child.kill().unwrap();
            killed += usize::from(!child.wait().unwrap().success());
        }
        assert!(killed > 0, "no kill came between");
        assert_eq!(scratch.meta().get_str("status").unwrap(), "finished");
        assert!(content(&scratch) == expected(&Replay::large(8), 7), "{mode}");
    }
}

fn refusal(options: &MongoOptions) -> MongoError {
    MongoSink::open(options, &run(), &Stop::default()).err().expect("the database is refused")
}

fn with_login(uri: &str, login: &str) -> Secret {
    Secret::new(uri.replace("mongodb://", &format!("mongodb://{login}@")))
}

#[test]
fn a_wrong_password_and_missing_rights_are_told_apart() {
    let Some((server, uri)) = start("") else { return };
    wait(async {
        let admin = mongodb::Client::with_uri_str(&uri).await.unwrap().database("admin");
        for (name, role, database) in [("shop", "readWrite", "shop-db"), ("guest", "read", "shop-db")] {
            let roles = vec![doc! { "role": role, "db": database }];
            admin.run_command(doc! { "createUser": name, "pwd": "hunter2", "roles": roles }).await.unwrap();
        }
    });
    server.stop();
    server.set_options("--auth");
    server.restart();

    let scratch = Scratch { database: Scratch::on(uri.clone()).database.clone(), uri: uri.clone() };
    let mut options = options(&scratch, Transactions::Auto);
    options.database = "shop-db".into();
    options.uri = with_login(&uri, "shop:hunter2");
    write_all(&mut open(&options, &run()), &Replay::large(1), 1);

    options.uri = with_login(&uri, "shop:hunter3");
    let error = refusal(&options);
    assert!(matches!(error, MongoError::Login(_)), "{error}");
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("refuses the login; check user, password and authSource"), "{error}");
    assert!(!format!("{error} {error:?} {options:?}").contains("hunter"), "{error} {error:?} {options:?}");

    options.uri = with_login(&uri, "guest:hunter2");
    let error = refusal(&options);
    assert!(matches!(error, MongoError::Forbidden { .. }), "{error}");
    assert!(error.to_string().contains("grant it the role readWrite"), "{error}");

    options.uri = Secret::new(uri);
    let error = refusal(&options);
    assert!(matches!(error, MongoError::Forbidden { .. } | MongoError::Login(_)), "{error}");
    assert!(!error.is_retryable());
}

#[test]
fn a_certificate_is_verified() {
    let Some((server, uri)) = start("tls") else { return };
    let secure = |options: &str| format!("{uri}/?tls=true&serverSelectionTimeoutMS=1000{options}");
    let scratch = Scratch::on(secure(&format!("&tlsCAFile={}", server.directory().join("ca.pem").display())));
    let mut options = options(&scratch, Transactions::Auto);
    let replay = Replay::large(1);
    write_all(&mut open(&options, &run()), &replay, 1);
    assert!(content(&scratch) == expected(&replay, 7));
    options.uri = Secret::new(secure(""));
    let error = refusal(&options);
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let Some(scratch) = Scratch::new() else { return };
    let mut options = options(&scratch, Transactions::Auto);
    options.uri = Secret::new("mongodb://shop:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=300");
    let error = refusal(&options);
    assert_eq!(error.to_string(), "cannot reach MongoDB at 127.0.0.1:1: Connection refused (os error 111)",);
    assert!(error.is_retryable());
}

#[test]
fn a_stop_ends_a_call_that_waits() {
    let Some(scratch) = Scratch::new() else { return };
    // It accepts, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = options(&scratch, Transactions::Auto);
    options.uri = Secret::new(format!("mongodb://{}/", listener.local_addr().unwrap()));
    let stop = Stop::default();
    let started = Instant::now();
    let raiser = {
        let stop = stop.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            stop.raise();
        })
    };
    let error = MongoSink::open(&options, &run(), &stop).err().unwrap();
    assert!(matches!(error, MongoError::Stopped(_)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    raiser.join().unwrap();
}

#[test]
fn a_document_that_the_server_refuses_is_named() {
    for transactions in [Transactions::Auto, Transactions::Never] {
        let Some(scratch) = Scratch::new() else { return };
        wait(async {
            let validator = doc! { "item": { "$lt": 19 } };
            let create = doc! { "create": "records", "validator": validator };
            scratch.database.run_command(create).await.unwrap();
        });
        let mut sink = open(&options(&scratch, transactions), &run());
        let error = Replay::large(1).batches(1).iter().find_map(|batch| sink.write(batch).err()).unwrap();
        assert!(!error.is_retryable());
        assert!(error.to_string().starts_with("MongoDB refuses the document HexData(0, \"7ffffffffffffffb"), "{error}");
        assert!(error.to_string().contains(", collection records: "), "{error}");
    }
}

#[test]
fn names_that_no_database_can_have_are_refused() {
    let Some(scratch) = Scratch::new() else { return };
    let mut options = options(&scratch, Transactions::Auto);
    for name in ["", "a.b", "a b", "a/b", "$a", &"x".repeat(64)] {
        options.database = name.into();
        assert!(matches!(refusal(&options), MongoError::DatabaseName(_)), "{name}");
    }
    options.database = "shop".into();
    options.consumed_max = 200_000;
    assert!(matches!(refusal(&options), MongoError::ConsumedMax(200_000)));
}

/// Nothing of a transaction is there if the server dies before its end; and a piece of a batch that is too large for one
/// transaction is not taken for the whole.
#[test]
fn a_batch_of_many_pieces_is_whole() {
    for transactions in [Transactions::Auto, Transactions::Never] {
        let Some(scratch) = Scratch::new() else { return };
        let replay = Replay::large(9);
        let mut sink = open(&options(&scratch, transactions), &run());
        let mut all = eddyline::sinks::Batch { frontier: u64::MAX, ..Default::default() };
        for batch in replay.batches(1) {
            all.records.extend(batch.records);
            all.recommendations.append(batch.recommendations);
        }
        assert!(all.records.len() > 2500);
        sink.write(&all).unwrap();
        sink.write(&all).unwrap();
        assert!(content(&scratch) == expected(&replay, 7));
        let pieces = scratch.documents("eddyline")[0].get_i64("commits").unwrap();
        assert!(pieces >= 2, "{pieces}");
        let _: Vec<Document> = scratch.documents("records");
    }
}
