//! A log in files: one partition each, opened once, read by all workers.
//!
//! A plain file is read in chunks by position, in any order, by any thread ([`FileLog::read_chunk`]). What is packed, and
//! whatever is no regular file (`-` for standard input, a pipe), is read as a [`Stream`], from front to back, once if
//! it is a pipe. How an input is packed is told by its first bytes.
//!
//! Opening reads the first 64 KiB of every file's text: they tell the header and the columns, and they are the log's id.
//! The end of a file, packed or not, is where it is then; what is appended later is not read.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;

use dataflows::event::Position;

use super::columns::{Columns, Header};
use super::compression::Compression;
use super::cut::lines_starting_in;
use super::diagnose::{Hint, hints};
use super::error::SourceError;
use super::format::{Dialect, Format};
use super::identity::{ContentIdentity, LogId};
use super::inputs::{Content, Opened, STDIN, reopen};
use super::stream::Stream;

/// What a chunk of a file is about as long as, unless told otherwise.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Line numbers within a chunk have 32 bits.
const CHUNK_BYTES_MAX: usize = 1 << 30;

/// How many plain files stay open; further ones are opened for each chunk.
const HANDLES_MAX: usize = 512;

/// How the files of a log are read.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which column holds what.
    pub columns: Columns,
    /// Whether line 0 of each file is a header.
    pub header: Header,
    /// Delimiter, time unit and behaviours.
    pub dialect: Dialect,
    /// The log's name, from which its id is made; without one, its content is.
    pub log_name: Option<String>,
    /// About how long a chunk is; at least 1, at most a GiB.
    pub chunk_bytes: usize,
    /// Whether this process reads standard input and pipes. In a cluster only one can (contract, section 6); to the others
    /// they are partitions of which they know nothing.
    pub reads_pipes: bool,
}

impl Default for Options {
    fn default() -> Options {
        let (columns, header, dialect) = (Columns::default(), Header::default(), Dialect::default());
        Options { columns, header, dialect, log_name: None, chunk_bytes: CHUNK_BYTES, reads_pipes: true }
    }
}

/// A log in files. Workers share it.
#[derive(Debug)]
pub struct FileLog {
    partitions: Vec<Partition>,
    id: u64,
    chunk_bytes: usize,
}

/// One file of a log.
#[derive(Debug)]
pub struct Partition {
    input: String,
    format: Format,
    content: Content,
}

/// How a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// By [`FileLog::read_chunk`], with numbers below this one.
    Chunks(u64),
    /// By [`FileLog::stream`].
    Stream,
}

impl Partition {
    /// What messages call it.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// How to read its lines.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// The size of the file, packed as it is; `None` for a pipe. For progress.
    pub fn size_bytes(&self) -> Option<u64> {
        match self.content {
            Content::Plain { size_bytes, .. } | Content::Packed { size_bytes, .. } => Some(size_bytes),
            Content::Pipe { .. } | Content::Elsewhere => None,
        }
    }
}

impl FileLog {
    /// Opens `inputs`, partitions 0, 1, … in this order; `-` is standard input.
    ///
    /// Waits for the first 64 KiB of text of a pipe, or its end.
    ///
    /// # Errors
    /// An input that cannot be read, or whose header does not have the columns; see [`SourceError`].
    pub fn open(inputs: &[PathBuf], options: &Options) -> Result<FileLog, SourceError> {
        if inputs.is_empty() {
            return Err(SourceError::NoInput);
        }
        if inputs.len() > Position::PARTITION_MAX as usize + 1 {
            return Err(SourceError::TooManyPartitions { count: inputs.len() });
        }
        let is_stdin = |path: &&PathBuf| path.as_os_str() == "-";
        if inputs.iter().filter(is_stdin).count() > 1 {
            return Err(SourceError::ReadTwice { input: STDIN.to_owned() });
        }
        let mut heads = LogId::of_heads();
        let mut partitions = Vec::with_capacity(inputs.len());
        for path in inputs {
            let mut opened = Opened::open(path, options.reads_pipes)?;
            heads.add(&opened.head);
            if let Content::Plain { handle, .. } = &mut opened.content
                && partitions.len() >= HANDLES_MAX
            {
                *handle = None;
            }
            let format = opened.format(options)?;
            partitions.push(Partition { input: opened.input, format, content: opened.content });
        }
        let id = options.log_name.as_deref().map_or_else(|| heads.finish(), LogId::of_name);
        Ok(FileLog { partitions, id, chunk_bytes: options.chunk_bytes.clamp(1, CHUNK_BYTES_MAX) })
    }

    /// The 63 bits that stand for this log in output rows (contract, section 5); right only where all of it is read.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The files, in order.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// How partition `at` is read.
    pub fn reading(&self, at: usize) -> Reading {
        match self.partitions[at].content {
            Content::Plain { size_bytes, .. } => Reading::Chunks(size_bytes.div_ceil(self.chunk_bytes as u64)),
            Content::Packed { .. } | Content::Pipe { .. } | Content::Elsewhere => Reading::Stream,
        }
    }

    /// Reads the lines of partition `at` that start within chunk `chunk`, perhaps none, into `buffer`, which only grows, and
    /// says where in it they are.
    ///
    /// Chunk 0 is the start of the file. A line longer than 64 KiB may lack its end.
    ///
    /// # Errors
    /// The file shrank, or cannot be read any more.
    ///
    /// # Panics
    /// If the partition is not read in chunks, or has no such chunk ([`FileLog::reading`]).
    pub fn read_chunk(&self, at: usize, chunk: u64, buffer: &mut Vec<u8>) -> Result<Range<usize>, SourceError> {
        let Partition { input, content: Content::Plain { path, size_bytes, handle }, .. } = &self.partitions[at] else {
            panic!("partition {at} is a stream");
        };
        let start = chunk * self.chunk_bytes as u64;
        let span = start..(*size_bytes).min(start + self.chunk_bytes as u64);
        assert!(!span.is_empty(), "partition {at} has no chunk {chunk}");
        let reopened;
        let file = match handle {
            Some(file) => file,
            None => {
                reopened = File::open(path).map_err(|error| SourceError::io(input, error))?;
                &reopened
            }
        };
        lines_starting_in(span, *size_bytes, buffer, |bytes, position| {
            read_exact_at(file, bytes, position).map_err(|error| read_error(input, file, *size_bytes, error))
        })
    }

    /// Partition `at` from front to back.
    ///
    /// # Errors
    /// The file cannot be read any more, or it is a pipe and was taken before, or is another process's.
    pub fn stream(&self, at: usize) -> Result<Stream, SourceError> {
        let Partition { input, content, .. } = &self.partitions[at];
        let text = match content {
            Content::Plain { path, size_bytes, .. } => reopen(input, path, *size_bytes, Compression::None)?,
            Content::Packed { path, size_bytes, compression } => reopen(input, path, *size_bytes, *compression)?,
            Content::Pipe { .. } | Content::Elsewhere => {
                content.take_text().ok_or_else(|| SourceError::ReadTwice { input: input.clone() })?
            }
        };
        Stream::start(text, self.chunk_bytes)
    }

    /// What partition `at` holds, up to where its end was when it was opened, for comparison between processes; `None` for a
    /// pipe, which only one process can read. Reads the whole file.
    ///
    /// # Errors
    /// The file shrank, or cannot be read any more.
    pub fn content_identity(&self, at: usize) -> Result<Option<ContentIdentity>, SourceError> {
        let Partition { input, content, .. } = &self.partitions[at];
        let (Content::Plain { path, size_bytes, .. } | Content::Packed { path, size_bytes, .. }) = content else {
            return Ok(None);
        };
        let identity = File::open(path).and_then(|file| ContentIdentity::of(file.take(*size_bytes)));
        let identity = identity.map_err(|error| SourceError::io(input, error))?;
        if identity.size_bytes < *size_bytes {
            let (input, found_bytes) = (input.clone(), identity.size_bytes);
            return Err(SourceError::Shrank { input, size_bytes: *size_bytes, found_bytes });
        }
        Ok(Some(identity))
    }

    /// What seems wrong with the settings, going by the first lines of partition `at`; empty if nothing does.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn diagnose(&self, at: usize) -> Result<Vec<Hint>, SourceError> {
        let Partition { input, format, content } = &self.partitions[at];
        let mut text = match content {
            Content::Pipe { head, .. } => return Ok(hints(format, head)),
            Content::Elsewhere => return Ok(Vec::new()),
            Content::Plain { path, size_bytes, .. } => reopen(input, path, *size_bytes, Compression::None)?,
            Content::Packed { path, size_bytes, compression } => reopen(input, path, *size_bytes, *compression)?,
        };
        Ok(hints(format, &text.read_head()?))
    }
}

fn read_error(input: &str, file: &File, size_bytes: u64, error: io::Error) -> SourceError {
    if error.kind() != io::ErrorKind::UnexpectedEof {
        return SourceError::io(input, error);
    }
    let found_bytes = file.metadata().map_or(0, |metadata| metadata.len());
    SourceError::Shrank { input: input.to_owned(), size_bytes, found_bytes }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, position)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, position) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = &mut bytes[count..];
                position += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
