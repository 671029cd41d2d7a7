//! What can be wrong with a configuration; each is one line that says where, what, and what would be right.

use super::settings::Origin;
use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("can't read the configuration {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is not TOML.
    #[error("{}:{line}: not TOML: {message}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that there is not.
    #[error("{origin}: unknown key {key}{}", did_you_mean(suggestion.as_deref()))]
    UnknownKey {
        /// Where it was set.
        origin: Origin,
        /// As it was written.
        key: String,
        /// The one that was probably meant, as it would be written there.
        suggestion: Option<String>,
    },
    /// A value of the wrong type, or out of range.
    #[error("{origin}: {key} = {value}: expected {expected}")]
    Value {
        /// Where it was set.
        origin: Origin,
        /// Of which key.
        key: String,
        /// As it was given.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// Values that do not fit each other.
    #[error("{0}")]
    Inconsistent(String),
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|suggestion| format!("; did you mean {suggestion}?")).unwrap_or_default()
}

/// All that is wrong with a configuration, never empty. It shows as the first, in one line.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => write!(f, "the configuration is wrong"),
            [only] => write!(f, "{only}"),
            [first, more @ ..] => write!(f, "{first} (and {} more; `eddyline check` lists them all)", more.len()),
        }
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> ConfigErrors {
        ConfigErrors(vec![error])
    }
}
