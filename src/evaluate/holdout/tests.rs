//! Random logs against the definitions read literally: sets and sums over raw ids, with no code in common.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use proptest::prelude::*;

use super::rankings::{history, trained};
use super::*;
use crate::generate;
use crate::learn::LogFormat;
use crate::model::algorithm::Algorithm;
use crate::model::directory::ModelDirectory;
use crate::model::maps::IdMap;
use crate::model::philox::Draw;
use crate::model::scorer::{Ranked, Requests, Scorer};

const REWARDS: [i64; 4] = [1, 2, 2, 3];

/// A log of rows user, item, behaviour, time in seconds.
fn log_of(events: &[(u64, u64, usize, u64)]) -> Interactions {
    let text = events.iter().fold(String::new(), |mut text, (user, item, behavior, time)| {
        let _ = writeln!(text, "{user},{item},{},{time}", ["pv", "cart", "fav", "buy"][*behavior]);
        text
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.csv");
    fs::write(&path, text).unwrap();
    Interactions::read(&path, &LogFormat::default()).unwrap()
}

fn made() -> impl Strategy<Value = Interactions> {
    prop::collection::vec((0..9_u64, 0..14_u64, 0..4_usize, 0..3000_u64), 5..150).prop_map(|events| log_of(&events))
}

fn settings(k: usize) -> Settings {
    Settings {
        k,
        history: 3,
        rewards: REWARDS.to_vec(),
        recent_window_ms: 400_000,
        neighbours: 4,
        ..Settings::default()
    }
}

fn train_items(log: &Interactions, user: usize) -> Vec<u32> {
    log.item[log.train(user)].to_vec()
}

/// The k best by (score descending, index), of those with a score, then by popularity.
fn best(scores: &BTreeMap<u32, f64>, catalogue: usize, k: usize) -> Vec<u32> {
    let mut list: Vec<u32> = scores.iter().filter(|(_, score)| **score > 0.0).map(|(item, _)| *item).collect();
    list.sort_by(|a, b| scores[b].total_cmp(&scores[a]).then(a.cmp(b)));
    list.extend((0..catalogue as u32).filter(|item| !scores.get(item).is_some_and(|score| *score > 0.0)));
    list.truncate(k);
    list
}

/// The metrics of one user by the textbook.
fn slow_scores(list: &[u32], test: &[(u32, i64)], k: usize) -> [f64; 8] {
    let rank_of = |wanted: &dyn Fn(u32) -> bool| list.iter().position(|item| wanted(*item)).map(|at| at + 1);
    let gain = |rank: usize| 1.0 / ((rank + 1) as f64).log2();
    let next = rank_of(&|item| item == test[0].0);
    let relevant: BTreeSet<u32> = test.iter().map(|(item, _)| *item).collect();
    let first = rank_of(&|item| relevant.contains(&item));
    let dcg: f64 = (1..=list.len()).filter(|rank| relevant.contains(&list[rank - 1])).map(gain).sum();
    let ideal: f64 = (1..=k.min(relevant.len())).map(gain).sum();
    let found = list.iter().filter(|item| relevant.contains(item)).count();
    let reward: i64 = test.iter().filter(|(item, _)| list.contains(item)).map(|(_, weight)| weight).sum();
    let inverse = |rank: Option<usize>| rank.map_or(0.0, |rank| 1.0 / rank as f64);
    [
        f64::from(u8::from(next.is_some())),
        next.map_or(0.0, gain),
        inverse(next),
        f64::from(u8::from(found > 0)),
        dcg / ideal,
        inverse(first),
        found as f64 / relevant.len() as f64,
        reward as f64,
    ]
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn metrics_are_the_textbooks(log in made(), k in 1..6_usize, seed in 0..9_u64) {
        let settings = Settings { seed, ..settings(k) };
        let cases = cases(&log);
        let rankings = random(&log, &cases, &settings);
        for (case, given) in score(&log, &cases, &rankings, &settings, 2).into_iter().enumerate() {
            let test: Vec<(u32, i64)> = log.test(cases[case].user)
                .map(|row| (log.item[row], REWARDS[usize::from(log.behavior[row])])).collect();
            let expected = slow_scores(rankings.list(case), &test, k);
            prop_assert!(given.iter().zip(expected).all(|(a, b)| close(*a, b)), "{given:?} for {expected:?}");
        }
    }

    #[test]
    fn every_user_with_more_than_three_events_is_a_case(log in made()) {
        let expected: Vec<usize> = (0..log.users.len()).filter(|&user| log.rows(user).len() > 3).collect();
        prop_assert_eq!(cases(&log).iter().map(|case| case.user).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn popularity_counts_training_events(log in made(), k in 1..20_usize) {
        let counts: BTreeMap<u32, f64> = trained(&log).into_iter().enumerate().map(|(i, n)| (i as u32, n as f64)).collect();
        let cases = cases(&log);
        let rankings = popularity(&log, &cases, &settings(k));
        for case in 0..cases.len() {
            prop_assert_eq!(rankings.list(case), best(&counts, log.catalogue, k));
        }
    }

    #[test]
    fn recent_popularity_counts_training_events_of_the_window(log in made(), k in 1..20_usize) {
        let settings = settings(k);
        let cases = cases(&log);
        let rankings = recent_popularity(&log, &cases, &settings);
        for (at, case) in cases.iter().enumerate() {
            let asked = log.time[log.test(case.user).start];
            let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
            for row in (0..log.users.len()).flat_map(|user| log.train(user)) {
                if log.time[row] < asked && log.time[row] >= asked - settings.recent_window_ms {
                    *counts.entry(log.item[row]).or_default() += 1.0;
                }
            }
            prop_assert_eq!(rankings.list(at), best(&counts, log.catalogue, k));
        }
    }

    #[test]
    fn neighbours_are_by_cosine(log in made(), k in 1..20_usize, neighbours in 1..20_usize) {
        let settings = Settings { neighbours, ..settings(k) };
        let cases = cases(&log);
        let users_of = |item: u32| -> BTreeSet<usize> {
            (0..log.users.len()).filter(|&user| train_items(&log, user).contains(&item)).collect()
        };
        let sets: Vec<BTreeSet<usize>> = (0..log.catalogue as u32).map(users_of).collect();
        let cosine = |a: usize, b: usize| {
            let common = sets[a].intersection(&sets[b]).count() as f64;
            common / ((sets[a].len() * sets[b].len()) as f64).sqrt()
        };
        let nearest = |item: usize| {
            let others: BTreeMap<u32, f64> = (0..log.catalogue).filter(|other| *other != item)
                .map(|other| (other as u32, cosine(item, other))).filter(|(_, cosine)| *cosine > 0.0).collect();
            let mut ranked: Vec<(u32, f64)> = others.into_iter().collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            ranked.truncate(neighbours);
            ranked
        };
        let rankings = item_knn(&log, &cases, &settings, 3);
        for (at, case) in cases.iter().enumerate() {
            let mut scores: BTreeMap<u32, f64> = BTreeMap::new();
            for item in train_items(&log, case.user).into_iter().collect::<BTreeSet<_>>() {
                for (other, cosine) in nearest(item as usize) {
                    *scores.entry(other).or_default() += cosine;
                }
            }
            prop_assert_eq!(rankings.list(at), best(&scores, log.catalogue, k));
        }
    }

    #[test]
    fn lists_have_no_repeats_and_leave_out_the_history(log in made(), k in 1..20_usize, exclude in any::<bool>()) {
        let settings = Settings { exclude_history: exclude, ..settings(k) };
        let cases = cases(&log);
        let all = [
            popularity(&log, &cases, &settings), recent_popularity(&log, &cases, &settings),
            item_knn(&log, &cases, &settings, 2), random(&log, &cases, &settings),
        ];
        for (at, case) in cases.iter().enumerate() {
            let left_out: BTreeSet<u32> = if exclude { history(&log, *case, 3).iter().copied().collect() } else { BTreeSet::new() };
            for rankings in &all {
                let list = rankings.list(at);
                let different: BTreeSet<u32> = list.iter().copied().collect();
                prop_assert_eq!(different.len(), list.len());
                prop_assert_eq!(list.len(), k.min(log.catalogue - left_out.len()));
                prop_assert!(list.iter().all(|item| !left_out.contains(item) && (*item as usize) < log.catalogue));
            }
        }
    }

    #[test]
    fn coverage_and_novelty_are_what_they_say(log in made(), k in 1..6_usize) {
        let cases = cases(&log);
        let rankings = random(&log, &cases, &settings(k));
        let holds = rankings.holds(&log);
        let shown: Vec<u32> = (0..cases.len()).flat_map(|case| rankings.list(case).to_vec()).collect();
        prop_assert_eq!(holds.distinct_items as usize, shown.iter().collect::<BTreeSet<_>>().len());
        prop_assert_eq!(holds.items as usize, shown.len());
        prop_assert_eq!(holds.cases_without_list, 0);
        let rows: Vec<u32> = (0..log.users.len()).flat_map(|user| train_items(&log, user)).collect();
        let bits = |item: &u32| -(rows.iter().filter(|other| *other == item).count() as f64 / rows.len() as f64).log2();
        if !shown.is_empty() {
            let expected = shown.iter().map(bits).sum::<f64>() / shown.len() as f64;
            prop_assert!(close(holds.novelty_bits.unwrap(), expected));
        }
    }

    #[test]
    fn threads_change_nothing(log in made()) {
        let alone = evaluate_on(&log, &[], &settings(3), 1).summary;
        for threads in [2, 7] {
            prop_assert_eq!(&evaluate_on(&log, &[], &settings(3), threads).summary, &alone);
        }
    }
}

#[test]
fn items_outside_the_catalogue_stay_relevant() {
    // Of ten events eight train. Item 9 is only in the test part: nobody can recommend it.
    let mut events: Vec<(u64, u64, usize, u64)> = (0..8).map(|time| (1, 1 + time % 2, 0, time)).collect();
    events.extend([(1, 9, 3, 8), (1, 1, 3, 9)]);
    let log = log_of(&events);
    assert_eq!((log.catalogue, log.items.len()), (2, 3));
    let summary = evaluate_on(&log, &[], &Settings { k: 2, ..settings(2) }, 1).summary;
    assert_eq!((summary.test_events, summary.test_events_outside), (2, 1));
    let popularity = summary.methods[0].scores.map_values();
    // The list is [1, 2]; of two relevant items the one at rank 1 is found: 1 / (1 + 1/log2(3)).
    assert_eq!(popularity.next_item, NextItem { hit_rate: 0.0, ndcg: 0.0, mrr: 0.0 });
    assert!(close(popularity.all_items.ndcg, 1.0 / (1.0 + 1.0 / 3_f64.log2())));
    assert_eq!(popularity.all_items.recall, 0.5);
    assert_eq!(popularity.reward, 3.0);
}

#[test]
fn without_test_parts_there_is_nothing_to_measure() {
    let summary = evaluate_on(&log_of(&[(1, 1, 0, 0), (1, 2, 0, 1), (2, 1, 0, 2)]), &[], &settings(3), 2).summary;
    assert_eq!((summary.users, summary.users_without_test, summary.intervals.resamples), (0, 2, 0));
    assert!(summary.methods.is_empty());
    assert!(table(&summary, super::super::Style::Plain).contains("nothing to measure"));
}

#[test]
fn resamples_are_of_users_and_paired() {
    // The second method earns 1 more of every user: the difference does not scatter, though both means do.
    let scores: Vec<[f64; 8]> = (0..300).map(|user| [f64::from(user % 7); 8]).collect();
    let more: Vec<[f64; 8]> = scores.iter().map(|row| row.map(|value| value + 1.0)).collect();
    let (less, more) = (intervals::Means::new(&scores, 5, 1000, 2), intervals::Means::new(&more, 5, 1000, 3));
    let difference = more.less(&less)[0];
    assert!(close(difference.value, 1.0) && close(difference.low, 1.0) && close(difference.high, 1.0));
    // The mean of 300 values with standard deviation 2 scatters by 0.115; 95 % lie within 1.96 of that.
    let estimate = less.estimates()[0];
    let width = estimate.high - estimate.low;
    assert!((0.38..0.53).contains(&width), "{width}");
    assert!(estimate.low < estimate.value && estimate.value < estimate.high);
    assert_ne!(intervals::Means::new(&scores, 6, 1000, 2).resampled, less.resampled);
}

#[test]
fn random_items_are_equally_likely() {
    let events: Vec<(u64, u64, usize, u64)> =
        (0..4000_u64).flat_map(|user| (0..5).map(move |at| (user, (user + at) % 20, 0, at))).collect();
    let log = log_of(&events);
    let cases = cases(&log);
    for k in [3, 15] {
        let rankings = random(&log, &cases, &settings(k));
        let mut counts = vec![0.0_f64; log.catalogue];
        (0..cases.len()).for_each(|case| rankings.list(case).iter().for_each(|item| counts[*item as usize] += 1.0));
        let share = k as f64 / 20.0;
        let (mean, deviation) = (4000.0 * share, (4000.0 * share * (1.0 - share)).sqrt());
        assert!(counts.iter().all(|count| (count - mean).abs() < 4.5 * deviation), "{counts:?}");
    }
}

/// A generated log, and the model that fits it.
fn generated(directory: &tempfile::TempDir) -> (Interactions, Arc<Model>) {
    let options = generate::Options { events: 20_000, users: 600, items: 300, ..generate::Options::default() };
    let path = directory.path().join("log.csv");
    generate::run(&options, generate::Target::File(path.clone()), &mut |_| {}).unwrap();
    let made = generate::model(&options, &generate::ModelShape::default()).unwrap();
    let map = |ids| IdMap::from_ids(ids).unwrap();
    ModelDirectory::save(directory.path(), made.weights, map(made.users), map(made.items)).unwrap();
    let model = Model::load(directory.path(), Algorithm::Ddpg, None).unwrap();
    (Interactions::read(&path, &LogFormat::default()).unwrap(), Arc::new(model))
}

#[test]
fn a_model_is_asked_with_its_own_indices() {
    let directory = tempfile::tempdir().unwrap();
    let (log, model) = generated(&directory);
    let cases: Arc<[Case]> = cases(&log).into();
    for exclude_history in [false, true] {
        let settings = Settings { exclude_history, ..Settings::default() };
        let rankings = rank_by_model(&log, &cases, &model, &settings, 3);
        // The model knows items that the log does not have.
        let lists = Lists::new("hand-built", &cases, &settings, Some(&model), rankings);
        assert_eq!(lists.iter(&log).count(), cases.len());
        let mut scorer = Scorer::new(model.packed().clone());
        for (case, list) in cases.iter().zip(lists.iter(&log)) {
            // One at a time, from raw ids.
            let train: Vec<u64> = train_items(&log, case.user).iter().map(|item| log.items[*item as usize]).collect();
            let newest = &train[train.len().saturating_sub(10)..];
            let sequence: Vec<u32> = newest.iter().map(|id| model.items().index(*id).unwrap()).collect();
            let mut requests = Requests::new(model.packed());
            let user = model.users().index(log.users[case.user]).unwrap();
            requests.push(user, &sequence, Draw::default()).unwrap();
            let mut ranked = Ranked::default();
            scorer.top_k(&requests, 10, exclude_history, &mut ranked);
            let expected: Vec<u64> = ranked.indices(0).iter().map(|index| model.items().id(*index).unwrap()).collect();
            assert_eq!(
                list,
                List { method: "hand-built", user: log.users[case.user], history: newest.into(), items: expected }
            );
        }
    }
}

#[test]
fn a_model_that_fits_the_log_beats_the_baselines_and_one_that_does_not_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (log, model) = generated(&directory);
    let candidates = [Candidate { name: "hand-built".to_owned(), model: model.clone() }];
    let summary = evaluate(&log, &candidates, &Settings::default()).summary;
    let ndcg = |method: usize| summary.methods[method].scores.next_item.ndcg.value;
    assert_eq!(summary.methods[0].method, "hand-built");
    assert!((1..=4).all(|baseline| ndcg(0) > ndcg(baseline)), "{:?}", (0..5).map(ndcg).collect::<Vec<_>>());
    assert!(summary.differences.iter().any(|difference| difference.scores.next_item.ndcg.excludes_zero()));
    let known = Known::of(&log, &model);
    assert_eq!((known.cases, known.items), (known.cases_all, log.catalogue));

    let other = log_of(&(0..5).map(|at| (7, 7 + at, 0, at)).collect::<Vec<_>>());
    let summary = evaluate(&other, &candidates, &Settings::default()).summary;
    assert_eq!(summary.methods[0].users_without_list, 1);
    assert_eq!(summary.methods[0].scores.next_item.hit_rate.value, 0.0);
    assert_eq!(Known::of(&other, &model).cases, 0);
}

#[test]
fn histories_become_curves() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(read_histories(directory.path()).unwrap(), []);
    let path = directory.path().join("history.jsonl");
    fs::write(&path, "{\"epoch\":1,\"loss\":0.5,\"model\":\"ddpg\"}\n\n{\"epoch\":2,\"loss\":0.25,\"model\":\"ddpg\",\"auc\":null}\n").unwrap();
    let curves = read_histories(directory.path()).unwrap();
    let curve = |training: &str, name: &str, points: &[(f64, f64)]| Curve {
        training: training.to_owned(),
        name: name.to_owned(),
        points: points.to_vec(),
    };
    assert_eq!(curves, [curve("ddpg", "loss", &[(1.0, 0.5), (2.0, 0.25)])]);
    // Trainings of one directory that have curves of the same name; counts make none.
    for (training, loss) in [("bcq", 3), ("ddpg", 4)] {
        let line = format!("{{\"epoch\":1,\"critic_loss\":{loss},\"samples\":9,\"steps\":1}}\n");
        fs::write(directory.path().join(format!("history_{training}.jsonl")), line).unwrap();
    }
    assert_eq!(
        read_histories(directory.path()).unwrap(),
        [
            curve("bcq", "critic loss", &[(1.0, 3.0)]),
            curve("ddpg", "critic loss", &[(1.0, 4.0)]),
            curve("ddpg", "loss", &[(1.0, 0.5), (2.0, 0.25)]),
        ]
    );
    fs::write(&path, "{\"epoch\":1,\"loss\":0.5}\n{\"loss\":1}\n").unwrap();
    let message = read_histories(directory.path()).unwrap_err().to_string();
    assert!(
        message.contains("history.jsonl, row 1: not a JSON object with a number as its `epoch` (no epoch)"),
        "{message}"
    );
    fs::write(&path, "[1]\n").unwrap();
    assert!(read_histories(directory.path()).unwrap_err().to_string().contains("row 0"));
}

#[test]
fn the_page_is_whole_and_escaped() {
    let events: Vec<(u64, u64, usize, u64)> =
        (0..30_u64).flat_map(|user| (0..6).map(move |at| (user, (user * at) % 11, at as usize % 4, at))).collect();
    let summary = evaluate_on(&log_of(&events), &[], &settings(3), 2).summary;
    let points = vec![(1.0, 0.5), (2.0, 0.25)];
    let point = Curve { training: "at once".to_owned(), name: "loss".to_owned(), points: vec![(1.0, 0.5)] };
    let curves = [Curve { training: "a&b".to_owned(), name: "<loss>".to_owned(), points }, point];
    let facts = [("log".to_owned(), "a<b".to_owned())];
    let page = super::super::report::render_holdout("Evaluation of x & y", &facts, &summary, &curves);
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    assert!(page.contains("Evaluation of x &amp; y") && page.contains("a&lt;b") && page.contains("&lt;loss&gt;"));
    assert!(page.contains("Learning curves of a&amp;b") && !page.contains("at once"));
    for outside in ["<script", "http://", "https://", "NaN"] {
        let page = page.replace("http://www.w3.org/1999/xhtml", "");
        assert!(!page.contains(outside), "{outside}");
    }
    for name in BASELINES.iter().chain(&METRIC_NAMES) {
        assert!(page.contains(name), "{name}");
    }
}

#[test]
fn the_table_fits_80_columns_and_the_keys_are_stable() {
    let events: Vec<(u64, u64, usize, u64)> =
        (0..30_u64).flat_map(|user| (0..6).map(move |at| (user, (user * at) % 11, at as usize % 4, at))).collect();
    let summary = evaluate_on(&log_of(&events), &[], &settings(3), 2).summary;
    let text = table(&summary, super::super::Style::Plain);
    for line in text.lines().filter(|line| !line.starts_with("Evaluation of")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let json = serde_json::to_value(&summary).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let expect = |names: &str| names.split(' ').map(String::from).collect::<BTreeSet<_>>();
    assert_eq!(
        keys(&json),
        expect(
            "k users users_without_test catalogue train_events test_events test_events_outside intervals methods differences"
        )
    );
    assert_eq!(
        keys(&json["methods"][0]),
        expect(
            "method baseline next_item all_items reward users_without_list items distinct_items coverage novelty_bits"
        )
    );
    assert_eq!(keys(&json["methods"][0]["next_item"]), expect("hit_rate ndcg mrr"));
    assert_eq!(keys(&json["methods"][0]["all_items"]), expect("hit_rate ndcg mrr recall"));
    assert_eq!(keys(&json["methods"][0]["reward"]), expect("value low high"));
}

impl Scores<super::super::Estimate> {
    fn map_values(self) -> Scores<f64> {
        Scores::from_array(self.into_array().map(|estimate| estimate.value))
    }
}
