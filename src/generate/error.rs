//! What can go wrong while generating.

use std::io;
use std::path::PathBuf;

/// Why a log, a table or a model could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// An option has a value that makes no sense.
    #[error("{option} must be {expected}, not {given}")]
    Option {
        /// The field of [`super::Options`].
        option: &'static str,
        /// What is allowed.
        expected: String,
        /// What was asked for.
        given: String,
    },
    /// Two options contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A file or stream could not be made or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Output {
        /// "create", "write" or "rename".
        action: &'static str,
        /// Which one; "standard output" or the like for a stream.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
