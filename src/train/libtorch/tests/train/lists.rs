//! One trained directory, asked in every way: `evaluate`, a replay of what users did before, and PyTorch.

use super::torch::ask;
use super::*;
use eddyline::model::algorithm::Algorithm;
use eddyline::model::directory::ModelDirectory;
use serde_json::Value;

/// By user, the history that a model was asked with and the items that it showed, in the log's ids.
type Shown = BTreeMap<u64, (Vec<u64>, Vec<u64>)>;

/// The rows of each user's training part, in the order of `log`, whose rows are in the order of their times.
fn training_part(log: &str) -> String {
    let user = |line: &str| line.split(',').next().unwrap().to_owned();
    let mut left: BTreeMap<String, usize> = BTreeMap::new();
    log.lines().for_each(|line| *left.entry(user(line)).or_default() += 1);
    // round(0.8 n), or all of three and fewer.
    left.values_mut().filter(|count| **count > 3).for_each(|count| *count = (*count * 8 + 5) / 10);
    let mut part = String::new();
    for line in log.lines() {
        let left = left.get_mut(&user(line)).unwrap();
        if *left > 0 {
            *left -= 1;
            part.push_str(&format!("{line}\n"));
        }
    }
    part
}

const RECOMMENDATIONS: &str = "recommendations.jsonl";

fn objects(path: &Path) -> Vec<Value> {
    let content = std::fs::read_to_string(path).unwrap();
    content.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

fn user(row: &Value) -> u64 {
    row["user"].as_u64().unwrap()
}

/// What `evaluate` shows, by method.
fn evaluated(place: &Place, dir: &Path) -> BTreeMap<String, Shown> {
    let lists = place.path("lists.jsonl");
    succeed(&[
        "evaluate",
        text(&place.log),
        "--model-dir",
        text(dir),
        "--lists",
        text(&lists),
        "--no-skew-check",
        "-q",
    ]);
    let mut methods: BTreeMap<String, Shown> = BTreeMap::new();
    for row in objects(&lists) {
        let shown = methods.entry(row["method"].as_str().unwrap().to_owned()).or_default();
        shown.insert(user(&row), (ids(&row["history"]), ids(&row["items"])));
    }
    methods
}

/// What each user has at the end of a replay of `log`.
fn replayed(place: &Place, log: &Path, dir: &Path, algorithm: Algorithm) -> Shown {
    let out = place.path("out");
    let policy = format!("model.algorithm={algorithm}");
    let settings = ["--set", &policy, "--set", "recommend.n=10", "--out", text(&out), "-q"];
    succeed(&[&["replay", text(log), "--model-dir", text(dir)], &settings[..]].concat());
    let newest = |file: &str| {
        let rows = objects(&out.join(file));
        assert!(file != RECOMMENDATIONS || rows.iter().all(|row| row["from_model"] == 10));
        // In the order of their times: the last one of a user stays.
        let mut rows: Vec<_> =
            rows.iter().map(|row| (row["time"].as_u64().unwrap(), user(row), ids(&row["items"]))).collect();
        rows.sort();
        rows.into_iter().map(|(time, user, items)| (user, (time, items))).collect::<BTreeMap<_, _>>()
    };
    let sequences = newest("recent.jsonl");
    let shown = newest(RECOMMENDATIONS).into_iter().map(|(user, (time, items))| {
        let (of, sequence) = &sequences[&user];
        assert_eq!(*of, time);
        (user, (sequence.clone(), items))
    });
    let shown = shown.collect();
    std::fs::remove_dir_all(out).unwrap();
    shown
}

/// What PyTorch answers to the same histories.
fn answered(python: &std::ffi::OsStr, dir: &Path, algorithm: Algorithm, shown: &Shown) -> Shown {
    let model = ModelDirectory::load(dir, algorithm).unwrap();
    let padding = model.weights.count() as u32;
    let length = model.weights.history;
    let requests: Vec<(usize, Vec<u32>)> = shown
        .iter()
        .map(|(&user, (history, _))| {
            let known = history.iter().map(|&item| model.items.index(item).unwrap_or(padding));
            let before = std::iter::repeat_n(padding, length - history.len());
            (model.users.index(user).unwrap() as usize, before.chain(known).collect())
        })
        .collect();
    let answers = ask(python, dir, algorithm, &requests);
    let items = |answer: &Value| ids(&answer["items"]).iter().map(|&index| model.items.ids()[index as usize]).collect();
    shown.iter().zip(&answers).map(|((&user, (history, _)), answer)| (user, (history.clone(), items(answer)))).collect()
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped has to be seen")]
fn evaluate_replay_and_pytorch_show_the_same() {
    let place = Place::with(&["--disorder", "0s", "--late", "0", "--rubbish", "0"]);
    let dir = place.embedded("model");
    let log = std::fs::read_to_string(&place.log).unwrap();
    let before = place.path("before.csv");
    std::fs::write(&before, training_part(&log)).unwrap();
    for algorithm in Algorithm::ALL {
        succeed(&place.train(algorithm.name(), &dir, &["--epochs", "2", "--lr", "0.001", "-q"]));
    }
    let methods = evaluated(&place, &dir);
    assert_eq!(methods.len(), 3 + 4, "{:?}", methods.keys());
    for algorithm in Algorithm::ALL {
        let shown = &methods[algorithm.name()];
        assert!(shown.len() > 100);
        let replayed = replayed(&place, &before, &dir, algorithm);
        for (user, list) in shown {
            assert_eq!(Some(list), replayed.get(user), "{algorithm}: {user}");
        }
        match std::env::var_os("EDDYLINE_TORCH_PYTHON") {
            Some(python) => {
                // PyTorch sums in another order: near ties may change places.
                let answers = answered(&python, &dir, algorithm, shown);
                let same = shown.iter().filter(|&(user, list)| answers[user] == *list).count();
                assert!(same * 10 >= shown.len() * 9, "{algorithm}: {same} of {} lists are the same", shown.len());
            }
            None => eprintln!("SKIP: EDDYLINE_TORCH_PYTHON names no Python with torch"),
        }
    }
}
