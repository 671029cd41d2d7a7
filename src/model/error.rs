//! What can be wrong with a model directory, as one plain line that names the file.

use std::{fmt, io, path::PathBuf};

use super::{algorithm::Algorithm, layers::WeightsError, maps::MapError, npy::NpyError, state_dict::StateDictError};

/// Why a model directory could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The operating system said no.
    #[error("{}: cannot {action}: {reason}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried: `read`, `write`, ….
        action: &'static str,
        /// The system's words.
        reason: io::Error,
    },
    /// The directory is not there, or is something else.
    #[error("{}: not a directory; a model directory holds model_{{reinforce,ddpg,bcq}}.pt, two .npy files and two maps", path.display())]
    NotADirectory {
        /// What was named.
        path: PathBuf,
    },
    /// A file of the directory is missing.
    #[error("{}: no such file in the model directory{hint}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What is there instead, or nothing.
        hint: String,
    },
    /// A directory, socket or device where a file should be.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// A file beyond the reader's limit.
    #[error("{}: larger than {limit_bytes} bytes, the most that is read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// A `.npy` file that is none, or not of the kind that is needed.
    #[error("{}: {reason}", path.display())]
    Npy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: NpyError,
    },
    /// A `.pt` file that is no state_dict.
    #[error("{}: {reason}", path.display())]
    StateDict {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: StateDictError,
    },
    /// A state_dict that is not this algorithm's.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: Box<WeightsError>,
    },
    /// A map that is not one-to-one on 0 … count−1.
    #[error("{}: {reason}", path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: MapError,
    },
    /// A map and a table that count differently.
    #[error(
        "{}: {entries} ids, but {table} of {} has {rows} rows ({expected})", path.display(), algorithm.file_name()
    )]
    MapSize {
        /// The map.
        path: PathBuf,
        /// Ids in the map.
        entries: usize,
        /// The table's key.
        table: &'static str,
        /// Whose file it is in.
        algorithm: Algorithm,
        /// Rows of the table.
        rows: usize,
        /// The rule: one row an id, or one more.
        expected: &'static str,
    },
    /// Tables and maps that do not go together, or were put there by somebody else.
    #[error(
        "{}: its embeddings and maps are not those that manifest.json tells of: they were changed, or writing them was cut short; \
         run train embeddings again (or remove manifest.json, if they are yours)", dir.display()
    )]
    OtherTables {
        /// The directory.
        dir: PathBuf,
    },
    /// A `.npy` and a table of different shapes.
    #[error(
        "{}: shape {}, but {table} of {} has shape {}",
        path.display(), Shape(found), algorithm.file_name(), Shape(expected)
    )]
    TableShape {
        /// The `.npy` file.
        path: PathBuf,
        /// Its shape.
        found: [usize; 2],
        /// The table's key.
        table: String,
        /// Whose file it is in.
        algorithm: Algorithm,
        /// The table's shape.
        expected: [usize; 2],
    },
}

/// Writes a shape as PyTorch and NumPy do: `(60, 32)`.
pub(crate) struct Shape<'a>(pub(crate) &'a [usize]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (axis, size) in self.0.iter().enumerate() {
            write!(f, "{}{size}", if axis == 0 { "" } else { ", " })?;
        }
        f.write_str(if self.0.len() == 1 { ",)" } else { ")" })
    }
}

/// Text of a file, fit for one line of a terminal: control characters escaped, cut after 60 characters.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    let mut line = String::new();
    for character in text.chars().take(CHARACTERS_MAX) {
        match character {
            '\'' | '"' => line.push(character),
            _ => line.extend(character.escape_debug()),
        }
    }
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        line.push('…');
    }
    line
}

/// Says what a file that is not of the wanted kind seems to be, as an addition to the message.
pub(crate) fn looks_like(bytes: &[u8]) -> &'static str {
    let start = bytes.trim_ascii_start();
    let is = |prefix: &[u8]| start.get(..prefix.len()).is_some_and(|s| s.eq_ignore_ascii_case(prefix));
    if bytes.is_empty() {
        " (the file is empty)"
    } else if is(b"<!doctype") || is(b"<html") {
        " (it is a web page: was the download refused?)"
    } else if is(b"version https://git-lfs") {
        " (it is a Git LFS pointer: fetch the file itself with `git lfs pull`)"
    } else if is(b"\x93NUMPY") {
        " (it is a NumPy array)"
    } else if is(b"PK\x03\x04") {
        " (it is a zip archive)"
    } else if is(b"\x1f\x8b") {
        " (it is compressed: unpack it first)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_on_one_short_line() {
        assert_eq!(excerpt("a\u{1b}[31m\nb's"), "a\\u{1b}[31m\\nb's");
        assert_eq!(excerpt(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
        assert_eq!(excerpt(&"é".repeat(60)), "é".repeat(60));
    }

    #[test]
    fn shapes_read_like_numpy() {
        assert_eq!(Shape(&[60, 32]).to_string(), "(60, 32)");
        assert_eq!(Shape(&[7]).to_string(), "(7,)");
        assert_eq!(Shape(&[]).to_string(), "()");
    }
}
