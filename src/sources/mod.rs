//! Where events come from: bytes of a log → rows with their lines, and records that are none.
//!
//! ```text
//!            ┌ plain: FileLog::read_chunk(partition, chunk) ┐
//! FileLog ───┤                                              ├─→ whole lines ─→ csv::parse ─→ ParsedChunk
//!            └ packed or pipe: FileLog::stream(partition) ──┘                                (rows, rejected, lines)
//! ```
//!
//! Invariants:
//! - A chunk is a pure function of the bytes of its file, so chunks can be read and parsed anywhere and in any order. What
//!   depends on what came before (offsets, watermarks, lateness, jumps) is added by who puts them in order.
//! - Every line of a file starts in exactly one chunk; where the cuts are never shows in rows or rejected records.
//! - Memory is bounded by chunks, however long a line is: of a line over 64 KiB only the first 64 KiB are kept.
//! - A record that cannot be read is a row of the output and never an error; an input that cannot be read is an error
//!   and never an early end.

pub mod chunk;
pub mod columns;
pub mod compression;
pub mod csv;
mod cut;
pub mod diagnose;
mod digits;
pub mod error;
pub mod files;
pub mod follow;
pub mod format;
pub mod identity;
mod inputs;
pub mod json;
pub mod kafka;
pub mod live;
pub mod message;
pub mod stream;
#[cfg(test)]
mod tests;

pub use chunk::{ParsedChunk, RejectedLine, Row};
pub use columns::{Columns, Header};
pub use csv::parse;
pub use error::{FormatError, SourceError};
pub use files::{FileLog, Options, Partition, Reading};
pub use format::{Delimiter, Dialect, Format, TimeUnit};
pub use message::MessageFormat;
pub use stream::Stream;
