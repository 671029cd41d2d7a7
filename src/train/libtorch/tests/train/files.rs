//! What a training leaves in the model directory.

use super::*;
use eddyline::model::algorithm::Algorithm;
use eddyline::model::directory::{ModelDirectory, Tables};
use eddyline::model::state_dict::StateDict;
use serde_json::Value;

#[test]
fn every_training_leaves_a_directory_that_is_read() {
    let place = Place::new();
    let dir = place.embedded("model");
    let tables = Tables::load(&dir).unwrap().unwrap();
    let manifest = || -> Value { serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap() };
    assert_eq!(manifest()["embeddings"]["content_hash"].as_str().map(str::len), Some(64));
    assert_eq!(tables.items.rows, tables.item_map.len() + 1);
    for algorithm in Algorithm::ALL {
        let told = succeed(&place.train(algorithm.name(), &dir, &["--epochs", "2", "--json", "-q"]));
        let summary: Value = serde_json::from_str(&told).unwrap();
        let model = ModelDirectory::load(&dir, algorithm).unwrap();
        assert_eq!(summary["content_hash"], model.content_hash);
        assert_eq!((model.weights.history, model.weights.hidden, model.weights.dim()), (5, 16, 8));
        // The tables are the pre-trained ones, but for the padding row.
        let padding = model.weights.count() * model.weights.dim();
        assert_eq!(model.weights.users, tables.users);
        assert_eq!(model.weights.items.data[..padding], tables.items.data[..padding]);
        assert!(model.weights.items.data[padding..].iter().all(|&value| value == 0.0));
        assert!(tables.items.data[padding..].iter().any(|&value| value != 0.0), "the unknown item has a vector");
        let history = std::fs::read_to_string(dir.join(format!("history_{algorithm}.jsonl"))).unwrap();
        let epochs: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((epochs.len(), &epochs[1]["epoch"]), (2, &2.into()));
        let manifest = manifest();
        assert_eq!(manifest[algorithm.name()]["content_hash"], model.content_hash);
        assert_eq!(manifest[algorithm.name()]["metrics"], epochs[1]);
        assert_eq!(manifest[algorithm.name()]["data"], manifest["embeddings"]["data"]);
        same_tensors(&dir, algorithm);
    }
    assert!(files(&dir).keys().all(|name| !name.contains("partial")));
}

#[test]
fn spectral_vectors_are_tables_as_others_are() {
    let place = Place::new();
    let (dir, other) = (place.path("model"), place.path("other"));
    let train = |dir, more: &[_]| {
        let flags =
            ["train", "embeddings", text(&place.log), "--method", "spectral", "--dim", "8", "--model-dir", text(dir)];
        [&flags[..], more].concat()
    };
    let told = succeed(&train(&dir, &["-q"]));
    assert!(told.contains("mean_probability"), "{told}");
    let tables = Tables::load(&dir).unwrap().unwrap();
    assert!(tables.users.data.iter().all(|&value| value == 0.0));
    assert!(tables.items.data[..8].iter().all(|&value| value != 0.0));
    succeed(&train(&other, &["-q"]));
    assert_eq!(differences(&dir, &other), [""; 0]);
    succeed(&place.train("ddpg", &dir, &["--epochs", "1", "--behavior-weight", "1", "-q"]));
    let told = failure(&train(&dir, &[]));
    assert!(told.contains("model_ddpg.pt, trained on the embeddings that are there now"), "{told}");
    let told = failure(&train(&dir, &["--epochs", "30"]));
    assert!(told.contains("--epochs is of --method dssm"), "{told}");
    // Nor do the two methods go on from each other.
    succeed(&place.train("embeddings", &other, &["--epochs", "1", "-q"]));
    let told = failure(&train(&other, &[]));
    assert!(told.contains("checkpoint_embeddings.safetensors: a checkpoint of a run with"), "{told}");
}

/// The `.safetensors` holds what the `.pt` holds; what is read of the `.pt` and written again is the same file.
fn same_tensors(dir: &Path, algorithm: Algorithm) {
    let pt = std::fs::read(dir.join(algorithm.file_name())).unwrap();
    let state = StateDict::read(&pt).unwrap();
    let bytes = std::fs::read(dir.join(format!("model_{algorithm}.safetensors"))).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.len(), state.iter().len());
    for (key, tensor) in state.iter() {
        let other = tensors.tensor(key).unwrap();
        let values: Vec<u8> = tensor.data().iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!((other.shape(), other.data()), (tensor.shape(), &values[..]), "{key}");
    }
    let (again, _) = eddyline::model::layers::write_state(state, algorithm).unwrap();
    assert!(again == pt, "{algorithm}");
}

#[test]
fn the_reference_files_are_written_as_they_were_read() {
    for (name, algorithm) in ["models", "models_small_dims", "models_legacy"]
        .into_iter()
        .flat_map(|name| Algorithm::ALL.map(|algorithm| (name, algorithm)))
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../tests/fixtures")
            .join(name)
            .join(algorithm.file_name());
        let read = StateDict::read(&std::fs::read(path).unwrap()).unwrap();
        let (bytes, _) = eddyline::model::layers::write_state(read.clone(), algorithm).unwrap();
        let again = StateDict::read(&bytes).unwrap();
        assert!(again == read, "{name} {algorithm}");
    }
}

#[test]
fn seeds_decide() {
    let place = Place::new();
    let (one, other) = (place.embedded("one"), place.embedded("other"));
    assert_eq!(differences(&one, &other), [""; 0]);
    for algorithm in ["reinforce", "ddpg", "bcq"] {
        succeed(&place.train(algorithm, &one, &["--epochs", "2", "-q"]));
        succeed(&place.train(algorithm, &other, &["--epochs", "2", "-q"]));
        assert_eq!(differences(&one, &other), [""; 0], "{algorithm}");
        succeed(&place.train(algorithm, &other, &["--epochs", "2", "-q", "--seed", "2", "--restart"]));
        assert!(differences(&one, &other).contains(&format!("model_{algorithm}.pt")));
        succeed(&place.train(algorithm, &other, &["--epochs", "2", "-q", "--restart"]));
    }
}

#[test]
fn training_stops_when_nothing_gets_better() {
    let place = Place::new();
    let dir = place.embedded("model");
    // Far too large a step: soon nothing gets better.
    let flags = ["--epochs", "60", "--patience", "2", "--lr", "0.05", "--json", "-q"];
    let told = succeed(&place.train("reinforce", &dir, &flags));
    let summary: Value = serde_json::from_str(&told).unwrap();
    let history = std::fs::read_to_string(dir.join("history_reinforce.jsonl")).unwrap();
    let metrics: Vec<f64> = history
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["held_out_ndcg@10"].as_f64().unwrap())
        .collect();
    let best = metrics.iter().copied().fold(0.0, f64::max);
    let at = metrics.iter().position(|&metric| metric == best).unwrap();
    assert_eq!((summary["stopped_early"].as_bool(), metrics.len()), (Some(true), at + 3), "{metrics:?}");
    let manifest: Value = serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["reinforce"]["best"]["epoch"], at + 1);
    // The metrics are those of the weights that are written.
    let written: Value = serde_json::from_str(history.lines().nth(at).unwrap()).unwrap();
    assert_eq!((&manifest["reinforce"]["metrics"], &summary["metrics"]), (&written, &written));
    let again = succeed(&place.train("reinforce", &dir, &flags[..6]));
    assert!(again.contains(&format!("written            epoch {}, the best\n", at + 1)), "{again}");
}
