//! `eddyline train` from outside: what it leaves behind, that it goes on after any death, and what it says when it can't.

#![allow(clippy::unwrap_used)]

mod files;
mod lists;
mod refusals;
mod resume;
mod torch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Small sizes, so that an epoch takes a moment.
const SMALL: [&str; 6] = ["--hidden", "16", "--history", "5", "--batch", "256"];

fn eddyline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eddyline-train"));
    command.args(arguments).env_remove("EDDYLINE_LOG");
    command
}

fn output(arguments: &[&str]) -> Output {
    eddyline(arguments).output().unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = output(arguments);
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// The one line that a command fails with.
fn failure(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = output(&[arguments, &["-q"]].concat());
    let told = String::from_utf8(stderr).unwrap();
    assert!(!status.success() && stdout.is_empty(), "{arguments:?}: {told}");
    let errors: Vec<&str> = told.lines().filter(|line| !line.starts_with("hint: ")).collect();
    assert_eq!(errors.len(), 1, "{arguments:?}: {told}");
    errors[0].strip_prefix("error: ").unwrap().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A directory with a generated log.
struct Place {
    dir: tempfile::TempDir,
    log: PathBuf,
}

impl Place {
    fn new() -> Place {
        Place::with(&[])
    }

    /// With further flags for the log.
    fn with(flags: &[&str]) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log.csv");
        let sizes = ["--users", "150", "--items", "80", "--events", "6000", "--columns", "tianchi"];
        succeed(&[&["generate", text(&log), "-q"], &sizes[..], flags].concat());
        Place { dir, log }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Arguments of a training into the directory `name`.
    fn train<'a>(&'a self, subject: &'a str, dir: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec![
            "train",
            subject,
            text(&self.log),
            "--model-dir",
            text(dir),
            "--tensorboard",
            "none",
            "--threads",
            "1",
        ];
        if subject == "embeddings" {
            all.extend(["--dim", "8", "--batch", "512", "--lr", "0.003"]);
        } else {
            all.extend(SMALL);
        }
        all.extend(more);
        all
    }

    /// A directory with embeddings.
    fn embedded(&self, name: &str) -> PathBuf {
        let dir = self.path(name);
        succeed(&self.train("embeddings", &dir, &["--epochs", "2", "-q"]));
        dir
    }
}

/// All files of a directory, by name.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())).collect()
}

/// Names of the files in which two directories differ. Checkpoints count, too, but for the order of their header's entries.
fn differences(one: &Path, other: &Path) -> Vec<String> {
    let (one, other) = (files(one), files(other));
    let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    names.into_iter().filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}
