//! Opening one input: what it is, how it is packed, how it starts, and the format that follows from that.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use super::columns::Unresolved;
use super::compression::{Compression, MAGIC_BYTES};
use super::csv::{line_at, without_mark};
use super::cut::LINE_BYTES_KEPT;
use super::error::SourceError;
use super::files::Options;
use super::format::{Format, RECORD_BYTES_MAX};
use super::identity::HEAD_BYTES;
use super::stream::{Counted, Text};

/// What messages call `-`.
pub(super) const STDIN: &str = "standard input";

/// Where a partition's text comes from.
pub(super) enum Content {
    /// A regular file that is not packed.
    Plain { path: PathBuf, size_bytes: u64, handle: Option<File> },
    /// A regular file that is.
    Packed { path: PathBuf, size_bytes: u64, compression: Compression },
    /// Anything else: the text until it is taken, and the start of it.
    Pipe { text: Mutex<Option<Text>>, head: Vec<u8> },
    /// Such a one that another process reads.
    Elsewhere,
}

impl Content {
    /// The text of a pipe; `None` if it was taken before, or if this is no pipe.
    pub(super) fn take_text(&self) -> Option<Text> {
        let Content::Pipe { text, .. } = self else { return None };
        text.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Plain { size_bytes, .. } => write!(f, "plain file of {size_bytes} bytes"),
            Content::Packed { size_bytes, compression, .. } => write!(f, "{compression} file of {size_bytes} bytes"),
            Content::Pipe { .. } => f.write_str("pipe"),
            Content::Elsewhere => f.write_str("pipe of another process"),
        }
    }
}

/// An input, and how its text starts: 64 KiB, and enough beyond to see whether line 0 is too long.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) input: String,
    pub(super) content: Content,
    pub(super) head: Vec<u8>,
}

impl Opened {
    /// Opens a file or pipe, or standard input for `-`. A pipe that is not ours to read is not touched: opening it could
    /// take bytes from the process that reads it, or wait for a writer that never comes.
    pub(super) fn open(path: &Path, reads_pipes: bool) -> Result<Opened, SourceError> {
        let elsewhere = |input| Opened { input, content: Content::Elsewhere, head: Vec::new() };
        if path.as_os_str() == "-" {
            let input = STDIN.to_owned();
            return if reads_pipes { Opened::pipe(input, Box::new(io::stdin())) } else { Ok(elsewhere(input)) };
        }
        let input = path.display().to_string();
        let metadata = path.metadata().map_err(|error| SourceError::io(&input, error))?;
        if metadata.is_dir() {
            return Err(SourceError::Directory { input });
        }
        if !metadata.is_file() && !reads_pipes {
            return Ok(elsewhere(input));
        }
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = opened.map_err(|error| SourceError::io(&input, error))?;
        if !metadata.is_file() {
            return Opened::pipe(input, Box::new(file));
        }
        let (path, size_bytes) = (path.to_owned(), metadata.len());
        let handle = file.try_clone().map_err(|error| SourceError::io(&input, error))?;
        let mut text = unpack(&input, Box::new(file.take(size_bytes)))?;
        let head = text.read_head()?;
        let content = match text.compression {
            Compression::None => Content::Plain { path, size_bytes, handle: Some(handle) },
            compression => Content::Packed { path, size_bytes, compression },
        };
        Ok(Opened { input, content, head })
    }

    /// An input that can be read only once.
    pub(super) fn pipe(input: String, reader: Box<dyn Read + Send>) -> Result<Opened, SourceError> {
        let mut text = unpack(&input, reader)?;
        let head = text.read_head()?;
        text.reader = Box::new(Cursor::new(head.clone()).chain(text.reader));
        Ok(Opened { input, content: Content::Pipe { text: Mutex::new(Some(text)), head: head.clone() }, head })
    }

    /// The format that `options` and the first line give.
    pub(super) fn format(&self, options: &Options) -> Result<Format, SourceError> {
        let start = without_mark(&self.head);
        let record = line_at(&self.head, start).0;
        let line = String::from_utf8_lossy(record);
        let fields = if record.len() <= RECORD_BYTES_MAX { options.dialect.fields(&line) } else { Vec::new() };
        let line0 = (start < self.head.len()).then_some(&fields[..]);
        let (positions, header) = options
            .columns
            .resolve(options.header, line0)
            .map_err(|unresolved| self.unresolved(unresolved, &fields))?;
        Ok(Format::new(options.dialect.clone(), positions, header)?)
    }

    fn unresolved(&self, unresolved: Unresolved, fields: &[&str]) -> SourceError {
        let input = self.input.clone();
        match unresolved {
            Unresolved::NoHeader => SourceError::NamesNeedHeader { input },
            Unresolved::Missing(role, column) => {
                let found: String = fields.join(", ").escape_debug().take(SHOWN_CHARACTERS).collect();
                let found = if found.is_empty() { "no names".to_owned() } else { found };
                SourceError::ColumnMissing { input, column, role, found }
            }
        }
    }
}

/// As much of a header as a message shows.
const SHOWN_CHARACTERS: usize = 120;

/// Finds out how `reader` is packed, and unpacks it.
fn unpack(input: &str, reader: Box<dyn Read + Send>) -> Result<Text, SourceError> {
    let read_bytes = Arc::new(AtomicU64::new(0));
    let mut reader = Counted { reader, read_bytes: read_bytes.clone() };
    let mut magic = Vec::with_capacity(MAGIC_BYTES);
    let read = reader.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut magic);
    read.map_err(|error| SourceError::io(input, error))?;
    let compression =
        Compression::detect(&magic).map_err(|kind| SourceError::Unsupported { input: input.to_owned(), kind })?;
    let unpacked = compression.unpack(Cursor::new(magic).chain(reader));
    let reader = unpacked.map_err(|error| SourceError::io(input, error))?;
    Ok(Text { input: input.to_owned(), compression, reader, read_bytes })
}

/// Opens a regular file once more, from its start to where its end was at first.
pub(super) fn reopen(input: &str, path: &Path, size_bytes: u64, compression: Compression) -> Result<Text, SourceError> {
    let file = File::open(path).map_err(|error| SourceError::io(input, error))?;
    let text = unpack(input, Box::new(file.take(size_bytes)))?;
    if text.compression == compression {
        return Ok(text);
    }
    let source = io::Error::other("another file has taken its place since the start");
    Err(SourceError::Io { input: input.to_owned(), source })
}

impl Text {
    /// The start of the text, as [`Opened`] keeps it.
    pub(super) fn read_head(&mut self) -> Result<Vec<u8>, SourceError> {
        let mut head = Vec::new();
        match self.reader.by_ref().take(LINE_BYTES_KEPT.max(HEAD_BYTES) as u64).read_to_end(&mut head) {
            Ok(_) => Ok(head),
            Err(error) => Err(SourceError::unpacking(&self.input, self.compression, head.len() as u64, error)),
        }
    }
}
