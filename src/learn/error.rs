//! What can go wrong with a log that is to be learned from. Every message is one line that names the file.

use crate::sources::SourceError;

/// A log that cannot be learned from.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Standard input or another pipe.
    #[error("{input} is a pipe, but a log that is learned from is read twice; save it to a file first")]
    Pipe {
        /// The input.
        input: String,
    },
    /// No row is an event.
    #[error(
        "{input}: none of its {lines} lines is an event{first}; check source.columns, source.delimiter and source.time_unit"
    )]
    Empty {
        /// The input.
        input: String,
        /// Lines, header and blank ones counted.
        lines: u64,
        /// What is wrong with the first rejected line, or nothing.
        first: String,
    },
    /// The file was written to between the first reading and the second.
    #[error("{input} changed while it was read; leave it alone until the end")]
    Changed {
        /// The input.
        input: String,
    },
    /// Indices have 32 bits.
    #[error("{input}: more than {limit} {what}, which is more than a model can have; leave some out")]
    TooMany {
        /// The input.
        input: String,
        /// Users or items.
        what: &'static str,
        /// The most there may be.
        limit: u32,
    },
}
