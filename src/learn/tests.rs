//! Small logs against definitions read literally, from lists of events, with no code in common.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::interactions::{Interactions, training_len};
use super::rows::{Features, LogFormat};
use super::sessions::{Batch, SessionRule, Sessions};
use super::{LearnError, skew};
use crate::config::{Config, Layers};

const REWARDS: [i64; 4] = [1, 2, 2, 3];
const WORDS: [&str; 4] = ["pv", "cart", "fav", "buy"];

/// One event of a made-up log, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    user: u64,
    item: u64,
    behavior: usize,
    time: u64,
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let event = (0..8_u64, 0..12_u64, 0..4_usize, 0..20_000_u64);
    prop::collection::vec(
        event.prop_map(|(user, item, behavior, time)| Made { user: user * 7 + 1, item: item * 3, behavior, time }),
        1..120,
    )
}

fn written(events: &[Made]) -> String {
    events.iter().fold(String::new(), |mut text, event| {
        let Made { user, item, behavior, time } = event;
        let _ = writeln!(text, "{user},{item},{},{time}", WORDS[*behavior]);
        text
    })
}

fn file(directory: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = directory.path().join("log.csv");
    fs::write(&path, text).unwrap();
    path
}

fn read(text: &str, format: &LogFormat) -> Result<Interactions, LearnError> {
    let directory = tempfile::tempdir().unwrap();
    Interactions::read(&file(&directory, text), format)
}

fn config(sets: &[(&str, &str)]) -> Config {
    let sets = sets.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Config::load(&Layers { sets, ..Layers::default() }).unwrap().config
}

/// The events of each user by (time, place in the file).
fn by_user(events: &[Made]) -> BTreeMap<u64, Vec<Made>> {
    let mut users: BTreeMap<u64, Vec<Made>> = BTreeMap::new();
    events.iter().for_each(|event| users.entry(event.user).or_default().push(*event));
    users.values_mut().for_each(|events| events.sort_by_key(|event| event.time));
    users
}

/// round(0.8 n) in floating point, and all of up to three.
fn slow_training_len(n: usize) -> usize {
    if n <= 3 { n } else { (0.8 * n as f64).round() as usize }
}

#[test]
fn four_fifths_train() {
    for n in 0..100_000 {
        assert_eq!(training_len(n), slow_training_len(n), "{n}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn columns_hold_the_log(events in made()) {
        let log = read(&written(&events), &LogFormat::default()).unwrap();
        let users = by_user(&events);

        let mut order: Vec<u64> = users.keys().copied().collect();
        order.sort_by_key(|user| (usize::MAX - users[user].len(), *user));
        prop_assert_eq!(&log.users, &order);

        let mut trained: BTreeMap<u64, usize> = BTreeMap::new();
        for events in users.values() {
            for event in &events[..slow_training_len(events.len())] {
                *trained.entry(event.item).or_default() += 1;
            }
        }
        let mut known: Vec<u64> = trained.keys().copied().collect();
        known.sort_by_key(|item| (usize::MAX - trained[item], *item));
        let all: BTreeSet<u64> = events.iter().map(|event| event.item).collect();
        let others: Vec<u64> = all.into_iter().filter(|item| !trained.contains_key(item)).collect();
        prop_assert_eq!(log.catalogue, known.len());
        prop_assert_eq!(&log.items, &[known, others].concat());

        for (user, id) in log.users.iter().enumerate() {
            let rows: Vec<Made> = log.rows(user).map(|row| Made {
                user: *id,
                item: log.items[log.item[row] as usize],
                behavior: usize::from(log.behavior[row]),
                time: log.time[row] as u64 / 1000,
            }).collect();
            prop_assert_eq!(&rows, &users[id]);
            prop_assert_eq!(log.train(user).len(), slow_training_len(rows.len()));
            prop_assert_eq!(log.train(user).end, log.test(user).start);
            prop_assert_eq!(log.test(user).end, log.rows(user).end);
        }
        prop_assert_eq!(log.counts.events as usize, events.len());
        prop_assert_eq!(log.len(), events.len());
    }

    #[test]
    fn samples_are_what_the_definition_says(
        events in made(), history in 1..12_usize, gap in prop::option::of(0..5_000_000_i64),
    ) {
        let log = read(&written(&events), &LogFormat::default()).unwrap();
        let rule = gap.map_or(SessionRule::User, SessionRule::Gap);
        let sessions = Sessions::new(&log, history, rule, &REWARDS);
        let padding = log.catalogue as u32;
        let index = |item: u64| {
            let at = log.items.iter().position(|id| *id == item).unwrap();
            (at as u32).min(padding)
        };
        let users = by_user(&events);
        let count = sessions.len();
        let (mut of_users, mut actions) = (vec![0; count], vec![0; count]);
        let (mut rewards, mut done) = (vec![0.0; count], vec![0.0; count]);
        let (mut before, mut after) = (vec![0; count * history], vec![0; count * history]);
        let samples: Vec<usize> = (0..count).collect();
        sessions.fill(&samples, &mut Batch {
            users: &mut of_users, histories: &mut before, actions: &mut actions, rewards: &mut rewards,
            next_histories: &mut after, done: &mut done,
        });
        let padded = |items: &[u64]| {
            let kept = &items[items.len() - history.min(items.len())..];
            let mut padded = vec![padding; history - kept.len()];
            padded.extend(kept.iter().map(|item| index(*item)));
            padded
        };

        let mut sample = 0;
        let mut expected_sessions = Vec::new();
        let mut expected_returns = Vec::new();
        for (user, id) in log.users.iter().enumerate() {
            let train = &users[id][..slow_training_len(users[id].len())];
            let items: Vec<u64> = train.iter().map(|event| event.item).collect();
            let mut session = Vec::new();
            for (at, event) in train.iter().enumerate() {
                let last = match train.get(at + 1) {
                    None => true,
                    Some(next) => gap.is_some_and(|gap| (next.time as i64 - event.time as i64) * 1000 > gap),
                };
                prop_assert_eq!(of_users[sample] as usize, user);
                prop_assert_eq!(&before[sample * history..(sample + 1) * history], padded(&items[..at]));
                prop_assert_eq!(actions[sample], index(event.item));
                prop_assert_eq!(rewards[sample], REWARDS[event.behavior] as f32);
                prop_assert_eq!(&after[sample * history..(sample + 1) * history], padded(&items[..=at]));
                prop_assert_eq!(done[sample], if last { 1.0 } else { 0.0 });
                prop_assert_eq!(sessions.is_last(sample), last);
                session.push(REWARDS[event.behavior] as f32);
                sample += 1;
                if last {
                    expected_sessions.push(sample - session.len()..sample);
                    for from in 0..session.len() {
                        let earned = session[from..].iter().enumerate();
                        expected_returns.push(earned.map(|(steps, reward)| reward * 0.5_f32.powi(steps as i32)).sum::<f32>());
                    }
                    session.clear();
                }
            }
        }
        prop_assert_eq!(sample, count);
        prop_assert_eq!(sessions.sessions().collect::<Vec<_>>(), expected_sessions);
        for (given, expected) in sessions.returns(0.5).iter().zip(&expected_returns) {
            prop_assert!((given - expected).abs() < 1e-4, "{} for {}", given, expected);
        }
    }

    #[test]
    fn the_pipeline_forms_the_sequences_that_training_sees(mut events in made(), tick in 1..5_u64) {
        // A prepared log is in the order of time.
        events.sort_by_key(|event| event.time);
        let directory = tempfile::tempdir().unwrap();
        let path = file(&directory, &written(&events));
        let slide = format!("{}s", tick * 40);
        let config = config(&[
            ("time.tick", &format!("{tick}s")), ("popular.slide", &slide), ("popular.window", &slide),
        ]);
        let log = Arc::new(Interactions::read(&path, &LogFormat::of(&config).unwrap()).unwrap());
        let found = skew::check(&path, &config, &log, 4).unwrap();
        let ticks: BTreeSet<(u64, u64)> = events.iter().map(|event| (event.user, event.time / tick)).collect();
        prop_assert_eq!(found.sequences as usize, ticks.len());
        prop_assert_eq!((found.different, found.first_different), (0, None));
        prop_assert_eq!(found.late, 0);
    }
}

#[test]
fn late_events_are_found_by_the_skew_check() {
    // The second event is late by 90 s, so that the pipeline leaves it out, and training does not.
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "1,5,pv,100\n1,6,pv,0\n1,7,pv,200\n");
    let log = Arc::new(Interactions::read(&path, &LogFormat::default()).unwrap());
    let found = skew::check(&path, &config(&[]), &log, 3).unwrap();
    assert_eq!((found.late, found.sequences, found.different), (1, 2, 2));
    assert!(found.first_different.unwrap().starts_with("user 1 as of 120000 ms: the pipeline gives "));
}

#[test]
fn the_fingerprint_is_of_the_events() {
    let plain = read("1,5,pv,100\n2,6,buy,200\n", &LogFormat::default()).unwrap();
    let other = read("user,item,behavior,time\r\n 2,6,buy,200\r\n\r\n1,5,pv,100,x\r\n", &LogFormat::default()).unwrap();
    assert_eq!(plain.fingerprint, other.fingerprint);
    let changed = read("1,5,pv,100\n2,6,fav,200\n", &LogFormat::default()).unwrap();
    assert_ne!(plain.fingerprint, changed.fingerprint);
}

#[test]
fn rows_that_are_no_events_are_counted() {
    let log = read("1,5,pv,100\n1,x,pv,100\n1,5,look,100\nnonsense\n2,5,buy,3\n", &LogFormat::default()).unwrap();
    assert_eq!((log.counts.lines, log.counts.events), (5, 2));
    assert_eq!(log.counts.rejected_text(), "3 (1 behavior, 1 columns, 1 item)");
    assert!(log.counts.first_rejected.as_ref().unwrap().contains("log.csv"), "{:?}", log.counts.first_rejected);
    assert_eq!(log.counts.times, Some((3_000, 100_000)));

    let none = read("a,b,c\nd,e,f\n", &LogFormat::default()).unwrap_err();
    assert!(matches!(none, LearnError::Empty { lines: 2, .. }), "{none}");
    let empty = read("", &LogFormat::default()).unwrap_err().to_string();
    assert!(empty.contains("none of its 0 lines is an event;"), "{empty}");
}

#[test]
fn jumps_are_left_out_as_a_replay_does() {
    let format = LogFormat { jump_max: Some(50_000), ..LogFormat::default() };
    let log = read("1,5,pv,100\n1,6,pv,900\n1,7,pv,120\n", &format).unwrap();
    assert_eq!(log.counts.rejected_text(), "1 (1 jump)");
    assert_eq!(log.items, [5, 7]);
}

#[test]
fn features_have_dense_indices_in_the_order_of_their_values() {
    let text = "1,50,pv,1,1,3,0,900,7,\n2,50,pv,2,0,4,2,1,1,1\n1,60,buy,3,9,9,9,800,7,x\n";
    let log = read(text, &LogFormat { features: Features::Present, ..LogFormat::default() }).unwrap();
    let shown = |features: &[super::Feature]| {
        features.iter().map(|f| (f.name, f.values.clone(), f.index.clone())).collect::<Vec<_>>()
    };
    // User 1 has two events. Its first row counts, and so does the first row of item 50.
    assert_eq!(log.users, [1, 2]);
    assert_eq!(
        shown(&log.user_features),
        [("sex", vec![0, 1], vec![1, 0]), ("age", vec![3, 4], vec![0, 1]), ("pur_power", vec![0, 2], vec![0, 1])]
    );
    assert_eq!(log.items, [50, 60]);
    assert_eq!(
        shown(&log.item_features),
        [("category", vec![800, 900], vec![1, 0]), ("shop", vec![7], vec![0, 0]), ("brand", vec![], vec![0, 0])]
    );
}

#[test]
fn features_are_recognised_by_ten_columns_of_numbers() {
    let auto = LogFormat { features: Features::Auto, ..LogFormat::default() };
    let has = |text: &str| !read(text, &auto).unwrap().user_features.is_empty();
    assert!(has("1,50,pv,1,1,3,0,900,7,8\n"));
    assert!(has("1,50,pv,1,,,,900,7,8\n"));
    assert!(!has("1,50,pv,1\n"));
    assert!(!has("1,50,pv,1,1,3,0,900,7,8,9\n"));
    assert!(!has("1,50,pv,1,1,3,0,900,7,red\n"));
    assert!(!has("1,50,pv,1,,,,,,\n"));
    assert!(LogFormat::of(&config(&[("source.columns", "tianchi")])).unwrap().features == Features::Present);
    assert!(LogFormat::of(&config(&[("source.columns", "flinkrl")])).unwrap().features == Features::Absent);
}

#[test]
fn pipes_and_missing_files_are_refused() {
    let message = |path: &str| Interactions::read(Path::new(path), &LogFormat::default()).unwrap_err().to_string();
    assert_eq!(message("nowhere.csv"), "nowhere.csv: no such file; check the path");
    assert!(message("src").contains("is a directory"));
}

#[test]
fn packed_files_read_alike() {
    let text =
        written(&[Made { user: 1, item: 2, behavior: 0, time: 3 }, Made { user: 2, item: 2, behavior: 3, time: 4 }]);
    let directory = tempfile::tempdir().unwrap();
    let packed = directory.path().join("log.csv.zst");
    fs::write(&packed, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    let packed = Interactions::read(&packed, &LogFormat::default()).unwrap();
    assert_eq!(packed, read(&text, &LogFormat::default()).unwrap());
}
