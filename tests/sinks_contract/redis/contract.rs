//! The common suite, and what keys promise beyond it.

use super::super::replay::{Replay, SLIDE, TICK, replays};
use super::super::services::variable;
use super::super::subjects::check;
use super::super::{
    a_run_after_a_finished_one_changes_nothing, an_abort_leaves_nothing_whole_and_a_restart_completes_it,
    holds_what_was_written,
};
use super::{Redis, Scratch, VARIABLE, content, content_of, expected, live, write_all};
use dataflows::event::{ItemId, Time, UserId};
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use eddyline::sinks::redis::{RedisError, RedisSink};
use eddyline::sinks::stop::Stop;
use eddyline::sinks::{Batch, Sink, SinkError};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::spawn;

fn subject() -> Option<Redis> {
    variable(VARIABLE).map(|address| Redis { address })
}

#[test]
fn redis_holds_what_was_written() {
    let Some(subject) = subject() else { return };
    check((replays(), any::<u64>()), |(replay, cut)| holds_what_was_written(&subject, &replay, cut));
}

#[test]
fn redis_restarts() {
    let Some(subject) = subject() else { return };
    check((replays(), proptest::collection::vec(0u64..1000, 1..4)), |(replay, cuts)| {
        an_abort_leaves_nothing_whole_and_a_restart_completes_it(&subject, &replay, &cuts);
    });
}

#[test]
fn redis_runs_again() {
    let Some(subject) = subject() else { return };
    check((replays(), any::<[u64; 3]>()), |(replay, cuts)| {
        a_run_after_a_finished_one_changes_nothing(&subject, &replay, cuts);
    });
}

#[test]
fn every_flush_shows_the_state_of_its_frontier() {
    let Some(_) = subject() else { return };
    check((replays(), any::<u64>()), |(replay, cut)| {
        let scratch = Scratch::new().unwrap();
        let mut sink = scratch.open(&live(1));
        for batch in replay.batches(cut) {
            sink.write(&batch).unwrap();
            sink.flush().unwrap();
            assert_eq!(content(&scratch), expected(&replay.before(batch.frontier)));
            assert_eq!(scratch.meta("frontier"), batch.frontier.to_string());
            assert_eq!(sink.durable(), batch.frontier);
            assert_eq!(scratch.meta("status"), "unfinished");
        }
    });
}

#[test]
fn a_batch_written_twice_or_cut_otherwise_changes_nothing() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = Replay::large(1);
    let mut sink = scratch.open(&live(1));
    for batch in replay.batches(1) {
        sink.write(&batch).unwrap();
        sink.write(&batch).unwrap();
        sink.flush().unwrap();
        sink.write(&batch).unwrap();
        sink.flush().unwrap();
    }
    write_all(&mut scratch.open(&live(2)), &replay, 2);
    assert_eq!(content(&scratch), expected(&replay));
}

fn popular(window_end: Time, items: &[u64]) -> Batch {
    let items = items.iter().map(|&item| (ItemId(item), 1)).collect();
    Batch { frontier: window_end + 1, popular: vec![PopularList { window_end, items }], ..Batch::default() }
}

#[test]
fn ranks_beyond_the_end_of_a_list_go_and_an_empty_window_clears_all() {
    let Some(scratch) = Scratch::new() else { return };
    let mut sink = scratch.open(&live(1));
    let keys = |scratch: &Scratch| content(scratch).into_keys().collect::<Vec<_>>();
    for (window_end, items, expected) in [
        (20, &[7, 8, 9][..], &["1", "2", "3", "popular"][..]),
        (40, &[5], &["1", "popular"]),
        (60, &[5, 6], &["1", "2", "popular"]),
    ] {
        sink.write(&popular(window_end, items)).unwrap();
        sink.flush().unwrap();
        assert_eq!(keys(&scratch), expected);
    }
    // After a restart too.
    drop(sink);
    let mut sink = scratch.open(&live(2));
    sink.write(&popular(80, &[4])).unwrap();
    sink.flush().unwrap();
    assert_eq!(keys(&scratch), ["1", "popular"]);
    sink.write(&Batch { frontier: 80 + SLIDE + 1, ..Batch::default() }).unwrap();
    sink.flush().unwrap();
    assert_eq!(keys(&scratch), Vec::<String>::new());
    // Without legacy keys, those of a run before go.
    sink.write(&popular(120, &[4, 3])).unwrap();
    sink.flush().unwrap();
    drop(sink);
    let mut options = scratch.options();
    options.legacy_keys = false;
    let mut sink = RedisSink::open(&options, &live(3), &Stop::default()).unwrap();
    sink.write(&popular(140, &[4, 3])).unwrap();
    sink.flush().unwrap();
    assert_eq!(keys(&scratch), ["popular"]);
}

#[test]
fn readers_never_see_ranks_of_two_lists() {
    let Some(scratch) = Scratch::new() else { return };
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (done, scratch) = (done.clone(), Scratch { url: scratch.url.clone(), prefix: scratch.prefix.clone() });
        spawn(move || {
            let commands = vec!["MGET shop:1 shop:2 shop:3 shop:4 shop:5".to_owned(); 200];
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                for answer in scratch.json(&commands) {
                    let ranks: Vec<&str> = answer.as_array().unwrap().iter().map_while(|rank| rank.as_str()).collect();
                    seen += usize::from(!ranks.is_empty());
                    let lengths_fit =
                        ranks.first().is_none_or(|first| ranks.len() == first.parse::<usize>().unwrap() % 5 + 1);
                    assert!(ranks.windows(2).all(|pair| pair[0] == pair[1]) && lengths_fit, "{answer}");
                }
            }
            assert!(seen > 0);
            std::mem::forget(scratch);
        })
    };
    let mut sink = scratch.open(&live(1));
    let mut n = 1;
    while n < 500 || !reader.is_finished() && n < 3000 {
        // All of one list are alike, and as many as that item says.
        sink.write(&popular(n * SLIDE, &vec![n; n as usize % 5 + 1])).unwrap();
        sink.flush().unwrap();
        n += 1;
    }
    done.store(true, Ordering::Relaxed);
    reader.join().unwrap();
}

/// Far more than one chunk, and more chunks than are sent at a time.
fn many_users(users: u64) -> Replay {
    let mut replay = Replay::default();
    for user in 0..users {
        for time in [TICK, 2 * TICK, 3 * TICK] {
            replay.recent.insert((time, user), vec![user + time; 10]);
            replay.recommendations.insert((time, user), (vec![user * time; 8], 1, 0));
        }
    }
    replay
}

#[test]
fn many_chunks_end_up_whole() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = many_users(10_000);
    write_all(&mut scratch.open(&live(1)), &replay, 1);
    assert_eq!(content(&scratch), expected(&replay));
    assert!(scratch.meta("number").parse::<u64>().unwrap() > 64);
}

fn batch_of(replay: &Replay, from: Time, frontier: Time) -> Batch {
    let mut batch = Batch { frontier, ..Batch::default() };
    for (&(time, user), items) in replay.recent.range((from, 0)..(frontier, 0)) {
        let items: Vec<ItemId> = items.iter().map(|&item| ItemId(item)).collect();
        batch.recent.push(SequenceKey { time, user: UserId(user) }, &items);
    }
    for (&(time, user), (items, from_model, last_reward)) in replay.recommendations.range((from, 0)..(frontier, 0)) {
        let items: Vec<ItemId> = items.iter().map(|&item| ItemId(item)).collect();
        let key = RecommendationKey { time, user: UserId(user), from_model: *from_model, last_reward: *last_reward };
        batch.recommendations.push(key, &items);
    }
    batch
}

fn times(scratch: &Scratch) -> BTreeMap<String, u64> {
    let time =
        |lines: &Vec<String>| serde_json::from_str::<serde_json::Value>(&lines[1]).unwrap()["time"].as_u64().unwrap();
    let content = content(scratch);
    content.iter().filter(|(key, _)| key.starts_with("rec_")).map(|(key, lines)| (key.clone(), time(lines))).collect()
}

/// A flush that ends in the middle, and a run that goes on from before it in smaller steps.
#[test]
fn a_users_rows_never_go_back_in_time() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = many_users(2_000);
    let mut sink = scratch.open(&live(1));
    sink.write(&batch_of(&replay, 0, TICK + 1)).unwrap();
    sink.flush().unwrap();
    // A stranger's key stops the flush after the recommendations have been written.
    scratch.cli(&["DEL", "shop:hist_1999"]);
    scratch.cli(&["SET", "shop:hist_1999", "mine"]);
    sink.write(&batch_of(&replay, TICK + 1, 3 * TICK + 1)).unwrap();
    let error = sink.flush().unwrap_err();
    assert!(
        matches!(&error, SinkError::Redis(RedisError::WrongType { key, .. }) if key == "shop:hist_1999"),
        "{error}"
    );
    assert_eq!(scratch.cli(&["GET", "shop:hist_1999"]), "mine");
    drop(sink);
    let mut reached = times(&scratch);
    assert!(reached.values().any(|time| *time == 3 * TICK));
    assert_eq!((scratch.meta("frontier"), scratch.meta("pending")), ("11".into(), "31".into()));
    scratch.cli(&["DEL", "shop:hist_1999"]);
    let mut sink = scratch.open(&live(2));
    assert_eq!(sink.durable(), TICK + 1);
    for (from, frontier) in [(0, TICK), (TICK, 2 * TICK), (2 * TICK, 2 * TICK + 1), (2 * TICK + 1, 3 * TICK + 1)] {
        sink.write(&batch_of(&replay, from, frontier)).unwrap();
        sink.flush().unwrap();
        let now = times(&scratch);
        assert!(reached.iter().all(|(key, time)| now[key] >= *time), "at {frontier}");
        assert_eq!(sink.durable(), if frontier > 3 * TICK { frontier } else { TICK + 1 });
        reached = now;
    }
    assert_eq!(content(&scratch), expected(&replay));
    assert_eq!(scratch.meta("pending"), "");
}

/// The preset of the old deployment: an empty prefix, in a database with keys of others.
#[test]
fn an_empty_prefix_has_the_names_of_the_old_deployment_and_leaves_others_alone() {
    let Some(mut scratch) = Scratch::new() else { return };
    scratch.prefix = String::new();
    for (key, value) in [("rec_ord", "a"), ("hist_", "b"), ("session", "c"), ("12a", "d")] {
        scratch.cli(&["SET", key, value]);
    }
    let others = content(&scratch);
    let replay = Replay::large(1);
    write_all(&mut scratch.open(&live(1)), &replay, 1);
    let mut all = expected(&replay);
    assert!(
        all.contains_key("hist_1") && all.contains_key("rec_1") && all.contains_key("1") && all.contains_key("popular")
    );
    all.extend(others);
    assert_eq!(content(&scratch), all);
    assert_eq!(content_of(&scratch, "shop:"), BTreeMap::new());
}
