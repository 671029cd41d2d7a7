//! A trained directory in PyTorch, and its event files in TensorBoard. Needs a Python with torch, and one with tensorboard;
//! `scripts/with-libtorch` names the first in `EDDYLINE_TORCH_PYTHON`, otherwise the tests say SKIP.

use super::*;
use eddyline::model::algorithm::Algorithm;
use eddyline::model::directory::ModelDirectory;
use eddyline::model::philox::Draw;
use eddyline::model::scorer::{PackedModel, Ranked, Requests, Scorer};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped has to be seen")]
fn pytorch_loads_and_ranks_the_same() {
    let Some(python) = std::env::var_os("EDDYLINE_TORCH_PYTHON") else {
        eprintln!("SKIP: EDDYLINE_TORCH_PYTHON names no Python with torch");
        return;
    };
    let place = Place::new();
    let dir = place.embedded("model");
    for algorithm in Algorithm::ALL {
        succeed(&place.train(algorithm.name(), &dir, &["--epochs", "3", "--lr", "0.001", "-q"]));
        let model = ModelDirectory::load(&dir, algorithm).unwrap();
        let count = model.weights.count();
        let requests: Vec<(usize, Vec<u32>)> = (0..40)
            .map(|user| (user, (0..5).map(|at| ((user * 7 + at * 13) % (count + 1)) as u32).collect()))
            .collect();
        compare(model, &requests, ask(&python, &dir, algorithm, &requests).into_iter());
    }
}

/// What PyTorch answers to each request, a user and items in the model's indices.
pub(super) fn ask(python: &OsStr, dir: &Path, algorithm: Algorithm, requests: &[(usize, Vec<u32>)]) -> Vec<Value> {
    let lines: String =
        requests.iter().map(|(user, items)| format!("{}\n", json!({ "user": user, "items": items }))).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../scripts/compare-torch.py");
    let mut child = Command::new(python)
        .arg(script)
        .args([text(dir), algorithm.name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{algorithm}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Scores agree to 1e-4 of their size, and items do where their scores are not that close.
fn compare(model: ModelDirectory, requests: &[(usize, Vec<u32>)], answers: impl Iterator<Item = Value>) {
    let packed = Arc::new(PackedModel::new(model.weights, None));
    let mut scorer = Scorer::new(Arc::clone(&packed));
    let mut batch = Requests::new(&packed);
    for (user, items) in requests {
        batch.push(u32::try_from(*user).unwrap(), items, Draw::default()).unwrap();
    }
    let mut ranked = Ranked::default();
    scorer.top_k(&batch, 10, false, &mut ranked);
    let mut same = 0;
    let mut answered = 0;
    for (request, answer) in answers.enumerate() {
        let numbers = |name: &str| answer[name].as_array().unwrap().clone();
        let (items, scores) = (numbers("items"), numbers("scores"));
        assert_eq!(ranked.scores(request).len(), scores.len());
        for (found, expected) in ranked.scores(request).iter().zip(&scores) {
            let expected = expected.as_f64().unwrap();
            let difference = (f64::from(*found) - expected).abs();
            assert!(difference <= 1e-4 * expected.abs().max(1.0), "{request}: {found} {expected}");
        }
        let found: Vec<Value> = ranked.indices(request).iter().map(|&index| index.into()).collect();
        same += usize::from(found == items);
        answered += 1;
    }
    assert_eq!(answered, requests.len());
    assert!(same * 10 >= answered * 9, "{same} of {answered} lists are the same");
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped has to be seen")]
fn tensorboard_reads_the_events() {
    const SCRIPT: &str = r#"
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
print(sorted(events.Tags()["scalars"]))
print([(event.step, round(event.value, 4)) for event in events.Scalars("epoch/critic_loss")])
"#;
    let named = |name| std::env::var_os(name);
    let python = named("EDDYLINE_TENSORBOARD_PYTHON").or_else(|| named("EDDYLINE_TORCH_PYTHON"));
    let python = python.unwrap_or_else(|| "python3".into());
    let has =
        Command::new(&python).args(["-c", "import tensorboard"]).output().is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("SKIP: {} has no tensorboard", Path::new(&python).display());
        return;
    }
    let place = Place::new();
    let dir = place.embedded("model");
    let board = place.path("board");
    let arguments = place.train("ddpg", &dir, &["--epochs", "3", "-q"]);
    let arguments: Vec<&str> =
        arguments.into_iter().map(|argument| if argument == "none" { text(&board) } else { argument }).collect();
    succeed(&arguments);
    let output = Command::new(python).args(["-c", SCRIPT, text(&board.join("ddpg"))]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let history = std::fs::read_to_string(dir.join("history_ddpg.jsonl")).unwrap();
    let expected: Vec<String> = history
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| format!("({}, {})", line["epoch"], (line["critic_loss"].as_f64().unwrap() * 1e4).round() / 1e4))
        .collect();
    assert!(
        told.contains(
            "['batch/actor_loss', 'batch/critic_loss', 'epoch/actor_loss', 'epoch/critic_loss', 'samples_per_s']"
        ),
        "{told}"
    );
    assert!(told.contains(&format!("[{}]", expected.join(", "))), "{told} {expected:?}");
}
