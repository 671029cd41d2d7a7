//! What can go wrong with a source. Every message is one line that names the input and says what to do.

use std::io;

use super::columns::Role;
use super::compression::{Compression, Trailing};

/// A `source.*` setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Neither a preset, nor a list, nor pairs.
    #[error(
        "source.columns: `{given}` is neither a preset (events, tianchi, flinkrl), nor a list like \
         `user,item,behavior,time`, nor pairs like `user=visitor,item=product,time=ts`"
    )]
    UnknownColumns {
        /// As written.
        given: String,
    },
    /// A role that every event needs has no column.
    #[error("source.columns: no column is `{role}`; name one (an event has `user`, `item` and `time`)")]
    NoColumn {
        /// The role.
        role: Role,
    },
    /// Two roles on one column, or one role on two.
    #[error("source.columns: column `{column}` is named twice; name it once")]
    DuplicateColumn {
        /// The column.
        column: String,
    },
    /// A pair without a known role or without a name.
    #[error("source.columns: `{given}` is no pair; write role=name, with role one of user, item, behavior, time")]
    BadPair {
        /// As written.
        given: String,
    },
    /// Not `auto`, `true` or `false`.
    #[error("source.header: `{given}` is unknown; write auto, true or false")]
    UnknownHeader {
        /// As written.
        given: String,
    },
    /// Not `s` or `ms`.
    #[error("source.time_unit: `{given}` is unknown; write s or ms")]
    UnknownTimeUnit {
        /// As written.
        given: String,
    },
    /// A delimiter that is no single character, or one that fields themselves hold.
    #[error(
        "source.delimiter: `{given}` cannot separate fields; give one ASCII character that is no digit or line end"
    )]
    BadDelimiter {
        /// As written, with control characters escaped.
        given: String,
    },
    /// A behaviour's name that no field can equal.
    #[error(
        "behaviour `{name}` cannot be read from a log: it is empty, or has blanks around it, or a line end or the delimiter in it"
    )]
    BadBehavior {
        /// The name, with control characters escaped.
        name: String,
    },
    /// A name twice, or more than 256 of them.
    #[error("behaviours: {problem}")]
    BadBehaviors {
        /// What about them.
        problem: String,
    },
    /// Columns by name, for lines that have no header.
    #[error(
        "source.columns looks names up in a header, which messages do not have; list the columns in their order instead, such as `user,item,behavior,time`"
    )]
    MessagesHaveNoHeader,
    /// `flinkrl` and other columns without a behaviour mean page views.
    #[error(
        "source.columns has no behavior, which makes every event a `pv`, but `pv` is not among the behaviours; add it"
    )]
    NoPageView,
}

/// A log that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A setting that cannot be.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// No input was named.
    #[error("no input: name at least one file, or - for standard input")]
    NoInput,
    /// A partition number has 16 bits.
    #[error("{count} files are too many: a log has at most 65536 partitions; concatenate some of them")]
    TooManyPartitions {
        /// How many were named.
        count: usize,
    },
    /// Standard input was named twice, or a pipe is read a second time.
    #[error("{input} can be read only once; name it once, or save it to a file first")]
    ReadTwice {
        /// The input.
        input: String,
    },
    /// No such file.
    #[error("{input}: no such file; check the path")]
    NotFound {
        /// The input.
        input: String,
    },
    /// A directory where a file is wanted.
    #[error("{input} is a directory; name the files in it instead")]
    Directory {
        /// The input.
        input: String,
    },
    /// No permission to read.
    #[error("{input}: no permission to read it; change its mode or run as a user who may")]
    Permission {
        /// The input.
        input: String,
    },
    /// A container that is not read.
    #[error("{input} looks like {kind}, which is not read; unpack it first, or pack it with gzip or zstd")]
    Unsupported {
        /// The input.
        input: String,
        /// What its first bytes say.
        kind: &'static str,
    },
    /// The compressed stream ends in the middle.
    #[error(
        "{input} is truncated: its {compression} stream breaks off after {text_bytes} bytes of text; fetch it again"
    )]
    Truncated {
        /// The input.
        input: String,
        /// How it is packed.
        compression: Compression,
        /// Bytes of text before the break.
        text_bytes: u64,
    },
    /// The compressed stream does not decode.
    #[error(
        "{input} is corrupt: its {compression} stream cannot be unpacked after {text_bytes} bytes of text ({source})"
    )]
    Corrupt {
        /// The input.
        input: String,
        /// How it is packed.
        compression: Compression,
        /// Bytes of text before the fault.
        text_bytes: u64,
        /// What the decoder says.
        source: io::Error,
    },
    /// Something follows the compressed stream that is no part of it.
    #[error(
        "{input}: something that is not {compression} follows its {compression} stream, after {text_bytes} bytes of text; \
         cut it off, or pack the text again"
    )]
    Trailing {
        /// The input.
        input: String,
        /// How it is packed.
        compression: Compression,
        /// Bytes of text before it.
        text_bytes: u64,
    },
    /// The file has fewer bytes than when it was opened.
    #[error(
        "{input} shrank while it was read: {size_bytes} bytes when opened, now only {found_bytes}; leave it alone until the end"
    )]
    Shrank {
        /// The input.
        input: String,
        /// Its size when it was opened.
        size_bytes: u64,
        /// Where it ends now.
        found_bytes: u64,
    },
    /// A column looked up by name is not in the header.
    #[error("{input}: row 0 has no column `{column}`, which source.columns wants as {role}; it has: {found}")]
    ColumnMissing {
        /// The input.
        input: String,
        /// The name that was looked up.
        column: String,
        /// What it should hold.
        role: Role,
        /// The names in row 0.
        found: String,
    },
    /// Columns by name, but no header.
    #[error(
        "{input}: source.columns looks names up in a header, but source.header is false; list the columns in their order instead"
    )]
    NamesNeedHeader {
        /// The input.
        input: String,
    },
    /// Anything else that the operating system reports.
    #[error("{input}: cannot read it: {source}")]
    Io {
        /// The input.
        input: String,
        /// What the system says.
        source: io::Error,
    },
}

impl SourceError {
    /// The error for `source`, met while `input` was opened or read as plain bytes.
    pub(super) fn io(input: &str, source: io::Error) -> SourceError {
        let input = input.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => SourceError::NotFound { input },
            io::ErrorKind::IsADirectory => SourceError::Directory { input },
            io::ErrorKind::PermissionDenied => SourceError::Permission { input },
            _ => SourceError::Io { input, source },
        }
    }

    /// The error for `source`, met while `input` was unpacked, `text_bytes` into its text.
    pub(super) fn unpacking(input: &str, compression: Compression, text_bytes: u64, source: io::Error) -> SourceError {
        // A decoder makes its own errors; only the system's have a number.
        if compression == Compression::None || source.raw_os_error().is_some() {
            return SourceError::io(input, source);
        }
        let input = input.to_owned();
        if source.get_ref().is_some_and(|source| source.is::<Trailing>()) {
            return SourceError::Trailing { input, compression, text_bytes };
        }
        match source.kind() {
            io::ErrorKind::UnexpectedEof => SourceError::Truncated { input, compression, text_bytes },
            _ => SourceError::Corrupt { input, compression, text_bytes, source },
        }
    }
}
