//! The committed sample is what its command makes: the command that `data/README.md` gives is run, and every byte compared.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The arguments of the first `eddyline generate` in the README of the data.
fn arguments(data: &Path) -> Vec<String> {
    let text = fs::read_to_string(data.join("README.md")).unwrap();
    let command = text.lines().find_map(|line| line.strip_prefix("eddyline generate "));
    let words = command.expect("data/README.md gives the command").split(' ').map(str::to_owned);
    ["generate".to_owned()].into_iter().chain(words).collect()
}

/// The files below `root` by their paths from there, with their bytes.
fn files(root: &Path, below: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let path = entry.unwrap().path();
        found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
    }
    found
}

#[test]
fn the_sample_is_what_its_command_makes() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().unwrap();
    fs::create_dir(fresh.path().join("data")).unwrap();
    let arguments = arguments(&repository.join("data"));
    let made = Command::new(env!("CARGO_BIN_EXE_eddyline")).args(arguments).current_dir(fresh.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let log = |root: &Path| fs::read(root.join("data/sample.csv")).unwrap();
    assert!(log(repository) == log(fresh.path()), "data/sample.csv is not what the command makes");
    let (committed, made) = (files(repository, "data/sample-model"), files(fresh.path(), "data/sample-model"));
    assert!(committed.keys().eq(made.keys()), "{:?} against {:?}", committed.keys(), made.keys());
    for (path, bytes) in &committed {
        assert!(*bytes == made[path], "{} is not what the command makes", path.display());
    }
}
