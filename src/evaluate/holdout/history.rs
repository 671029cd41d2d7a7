//! What training wrote down while it went on: `history_TRAINING.jsonl` of a model directory, one JSON object an epoch.
//!
//! An object has `epoch`, a number, and others, such as `critic_loss`, each of which makes a curve of that training. Words, such
//! as `"algorithm":"ddpg"`, name the training too. `history.jsonl` is read alike.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// A history that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The operating system said no.
    #[error("{}: cannot read it: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line that is no object with an epoch.
    #[error("{}, row {line}: not a JSON object with a number as its `epoch` ({problem}); mend the line, or remove the file", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 0.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

/// What every epoch has as much of as the one before: no curve.
const COUNTS: [&str; 2] = ["samples", "steps"];

/// One number over the epochs of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Which training, such as `ddpg`; empty if neither the file's name nor its objects say.
    pub training: String,
    /// What it is, such as `critic loss`.
    pub name: String,
    /// (epoch, value) in the order of the file; all finite.
    pub points: Vec<(f64, f64)>,
}

/// All curves of a model directory, by training and name; none where there is no history.
///
/// # Errors
/// A file that is there and can't be read; see [`HistoryError`].
pub fn read_histories(directory: &Path) -> Result<Vec<Curve>, HistoryError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| HistoryError::Io { path, source }
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "history.jsonl" || (name.starts_with("history_") && name.ends_with(".jsonl")) {
            paths.push(path);
        }
    }
    paths.sort();
    let mut curves: BTreeMap<(String, String), Vec<(f64, f64)>> = BTreeMap::new();
    for path in paths {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let of_file = stem.strip_prefix("history_").filter(|name| !name.is_empty());
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        for (line, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let wrong = |problem| HistoryError::Line { path: path.clone(), line, problem };
            let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
            let epoch = object.get("epoch").and_then(Value::as_f64).ok_or_else(|| wrong("no epoch".to_owned()))?;
            let words: Vec<&str> = of_file.into_iter().chain(object.values().filter_map(Value::as_str)).collect();
            for (key, value) in object.iter().filter(|(key, _)| *key != "epoch" && !COUNTS.contains(&key.as_str())) {
                if let Some(value) = value.as_f64() {
                    curves.entry((words.join(" "), key.replace('_', " "))).or_default().push((epoch, value));
                }
            }
        }
    }
    Ok(curves.into_iter().map(|((training, name), points)| Curve { training, name, points }).collect())
}
