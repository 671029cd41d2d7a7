//! PyTorch reads what we write, and we read what PyTorch writes, in each of its formats. Needs a Python with torch;
//! name it in `EDDYLINE_TORCH_PYTHON`, otherwise the test says SKIP.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use eddyline::model::{algorithm::Algorithm, directory::ModelDirectory, state_dict::StateDict};

#[test]
fn pytorch_and_this_reader_agree() {
    let Some(python) = std::env::var_os("EDDYLINE_TORCH_PYTHON") else {
        println!("SKIP: EDDYLINE_TORCH_PYTHON names no Python with torch");
        return;
    };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for algorithm in Algorithm::ALL {
        let directory = ModelDirectory::load(&tests.join("fixtures/models"), algorithm).unwrap();
        let temporary = tempfile::tempdir().unwrap();
        let saved =
            ModelDirectory::save(temporary.path(), directory.weights, directory.users, directory.items).unwrap();
        let model = temporary.path().join(saved.algorithm.file_name());
        let out = temporary.path().join("rewritten");
        fs::create_dir(&out).unwrap();
        let nesting = if algorithm == Algorithm::Bcq { "nested" } else { "flat" };
        let script = tests.join("model_torch/rewrite.py");
        let status = Command::new(&python).arg(script).arg(&model).arg(nesting).arg(&out).status().unwrap();
        assert!(status.success(), "{algorithm}: {status}");
        compare(&StateDict::read(&fs::read(&model).unwrap()).unwrap(), &out);
    }
}

fn compare(expected: &StateDict, out: &Path) {
    let files: Vec<PathBuf> = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 16);
    for path in files {
        let found = StateDict::read(&fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(found.iter().len(), expected.iter().len(), "{name}");
        for ((key, tensor), (expected_key, expected)) in found.iter().zip(expected.iter()) {
            assert_eq!((key, tensor.shape()), (expected_key, expected.shape()), "{name}");
            // Half precision keeps 8 (bf16) or 11 (f16) significant bits; everything else is exact.
            let tolerance = if name.starts_with("rounded") { 1.0 / 256.0 } else { 0.0 };
            for (value, expected) in tensor.data().iter().zip(expected.data()) {
                assert!((value - expected).abs() <= expected.abs() * tolerance + tolerance / 1e3, "{name}: {key}");
            }
        }
    }
}
