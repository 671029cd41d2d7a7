//! What a model decides besides its scores: the length of sequences, and ids.

use super::tables::{Tables, tables};
use super::{Log, checked, eddyline};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Histories of 5.
fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models_small_dims")
}

type Map = BTreeMap<u64, u64>;

fn map(name: &str) -> Map {
    let text = fs::read_to_string(model().join(name)).unwrap();
    let map: BTreeMap<String, u64> = serde_json::from_str(&text).unwrap();
    map.into_iter().map(|(id, index)| (id.parse().unwrap(), index)).collect()
}

/// Some that the map has, and some that it lacks.
fn ids(map: &Map, known: usize, unknown: u64) -> Vec<u64> {
    let known = map.keys().copied().take(known);
    known.chain((1 << 62..).take(unknown as usize)).collect()
}

/// Users and items that the model knows, and others.
fn log() -> Log {
    let (users, items) = (ids(&map("user_map.json"), 20, 4), ids(&map("item_map.json"), 12, 5));
    let row = |at: usize| {
        let (user, item) = (users[at * 7 % users.len()], items[at * at % 31 % items.len()]);
        format!("{user},{item},pv,{}\n", at * 3)
    };
    Log::of(&[(0..900).map(row).collect::<String>().as_bytes()])
}

impl Log {
    fn tables(&self, name: &str, flags: &[&str]) -> Tables {
        let store = self.directory.path().join(name);
        let model = model();
        let mut command = eddyline(&["replay", "--store", store.to_str().unwrap()]);
        command.args(["--model-dir", model.to_str().unwrap()]).args(&self.files).args(flags);
        checked(command.output().unwrap());
        tables(&store)
    }
}

/// The rows of a store of raw ids as they are with indices.
struct Translation {
    users: Map,
    items: Map,
}

impl Translation {
    fn table(&self, name: &str, rows: &[String]) -> Vec<String> {
        let rows = rows.iter().map(|row| row.split('|').map(str::to_owned).collect::<Vec<_>>());
        let translated = match name {
            "record" => rows.map(|row| self.record(row)).collect(),
            "recommendation" => rows.filter_map(|row| self.list(row, 1, 2)).collect(),
            "recommendation_latest" | "recent" => rows.filter_map(|row| self.list(row, 0, 2)).collect(),
            "popular" => self.ranked(rows.collect(), 0, 1),
            "popular_latest" => self.ranked(rows.collect(), 3, 0),
            _ => rows.collect::<Vec<_>>(),
        };
        translated.into_iter().map(|row| row.join("|")).collect()
    }

    fn record(&self, mut row: Vec<String>) -> Vec<String> {
        for (column, map) in [(3, &self.users), (4, &self.items)] {
            row[column] = map.get(&number(&row[column])).copied().unwrap_or(map.len() as u64).to_string();
        }
        row
    }

    fn list(&self, mut row: Vec<String>, user: usize, list: usize) -> Option<Vec<String>> {
        row[user] = self.users.get(&number(&row[user]))?.to_string();
        let items: Vec<u64> = serde_json::from_str(&row[list]).unwrap();
        let indices: Vec<u64> = items.iter().filter_map(|item| self.items.get(item).copied()).collect();
        row[list] = serde_json::to_string(&indices).unwrap();
        Some(row)
    }

    /// Known items, ranked anew within each window end.
    fn ranked(&self, rows: Vec<Vec<String>>, end: usize, rank: usize) -> Vec<Vec<String>> {
        let item = if rank == 0 { 1 } else { 2 };
        let mut next: BTreeMap<String, u64> = BTreeMap::new();
        let mut translated = Vec::new();
        for mut row in rows {
            let Some(index) = self.items.get(&number(&row[item])) else { continue };
            let place = next.entry(row[end].clone()).or_insert(0);
            *place += 1;
            (row[rank], row[item]) = (place.to_string(), index.to_string());
            translated.push(row);
        }
        translated
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap()
}

#[test]
fn a_store_of_indices_is_the_store_of_ids_translated() {
    let log = log();
    let translation = Translation { users: map("user_map.json"), items: map("item_map.json") };
    for flags in [&[][..], &["--only", "popular"], &["--only", "recent"]] {
        let raw = log.tables(&format!("raw{}.db", flags.len()), &[flags, &["--purge"]].concat());
        let of_model = &[flags, &["--purge", "--set", "output.ids=model"]].concat();
        let indices = log.tables(&format!("indices{}.db", flags.len()), of_model);
        for (name, rows) in &raw {
            let sorted = |mut rows: Vec<String>| {
                rows.sort();
                rows
            };
            assert_eq!(sorted(indices[name].clone()), sorted(translation.table(name, rows)), "{name}");
        }
        assert_eq!(indices["record"].len(), 900);
        assert!(indices["recent"].len() == if flags.contains(&"popular") { 0 } else { 20 });
    }
}

#[test]
fn sequences_are_as_long_as_the_models_histories_whatever_runs() {
    let log = log();
    let lengths = |tables: &Tables| {
        let items = tables["recent"].iter().map(|row| row.split('|').nth(2).unwrap().split(',').count());
        items.max().unwrap()
    };
    let (all, only) = (log.tables("all.db", &[]), log.tables("only.db", &["--only", "recent"]));
    assert_eq!(lengths(&all), 5);
    assert_eq!(only["recent"], all["recent"]);
}

#[test]
fn the_catalogue_is_what_the_log_shows_or_the_model_has() {
    let log = log();
    let text = String::from_utf8(log.texts().remove(0)).unwrap();
    let items = text.lines().map(|line| number(line.split(',').nth(1).unwrap()));
    let catalogue: std::collections::BTreeSet<u64> = items.chain(map("item_map.json").into_keys()).collect();
    for workers in ["1", "3"] {
        let model = model();
        let mut command = eddyline(&["replay", "--json", "--evaluate", "-w", workers]);
        let outcome = command.args(["--model-dir", model.to_str().unwrap()]).args(&log.files).output().unwrap();
        let outcome: serde_json::Value = serde_json::from_str(&checked(outcome)).unwrap();
        let evaluation = &outcome["evaluation"];
        assert_eq!(evaluation["catalogue"], catalogue.len());
        let coverage = evaluation["methods"][0]["coverage"].as_f64().unwrap();
        let distinct = evaluation["methods"][0]["distinct_items"].as_u64().unwrap();
        assert!(distinct > 17, "the model puts out items that the log never shows: {distinct}");
        assert!(coverage <= 1.0, "{coverage}");
    }
}
