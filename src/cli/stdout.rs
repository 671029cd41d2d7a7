//! Data on standard output. That nobody reads it any more (`| head`) is no failure.

use std::io::{self, ErrorKind, Write};

/// Whoever read standard output has gone; the command stops quietly.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(super) struct StdoutClosed;

/// Writes all of `data`.
pub(super) fn write(data: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(data).and_then(|()| stdout.flush()).or_else(closed_or_failed)
}

/// The error of a write to standard output.
pub(super) fn closed_or_failed(error: io::Error) -> anyhow::Result<()> {
    match error.kind() {
        ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        _ => Err(anyhow::Error::new(error).context("can't write to standard output")),
    }
}
