//! A file that is followed.

use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use memchr::memchr_iter;

use super::super::error::SourceError;
use super::super::files::Options;
use super::super::live::{Extent, Fetched, LiveError};
use super::super::message::MessageFormat;
use super::Look;
use super::lines::Lines;

/// How much is read at once.
const PIECE_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: File,
    identity: Option<(u64, u64)>,
    lines: Lines,
    /// How much of the file has been read.
    read_bytes: u64,
    /// Where the file is taken to end.
    end_bytes: Option<u64>,
    /// Its size when it was looked at last.
    size_bytes: u64,
    piece: Vec<u8>,
    ended: bool,
}

/// What `path` holds now: with `counted` all its lines, a last one without its end among them.
pub(super) fn extent(path: &Path, counted: bool) -> Result<Extent, LiveError> {
    let unknown = Extent { begin: 0, end: None, bytes: None };
    if path.as_os_str() == "-" {
        return Ok(unknown);
    }
    let input = path.display().to_string();
    let io = |error| SourceError::io(&input, error);
    let metadata = path.metadata().map_err(io)?;
    if metadata.is_dir() {
        return Err(SourceError::Directory { input }.into());
    }
    if !metadata.is_file() {
        return Ok(unknown);
    }
    let bytes = metadata.len();
    let mut file = File::open(path).map_err(io)?;
    let end = match counted {
        true => Some(count_lines(&mut (&mut file).take(bytes)).map_err(io)?),
        false => None,
    };
    Ok(Extent { begin: 0, end, bytes: Some(bytes) })
}

fn count_lines(text: &mut impl Read) -> std::io::Result<u64> {
    let mut piece = vec![0; PIECE_BYTES];
    let (mut lines, mut last) = (0, b'\n');
    loop {
        let count = text.read(&mut piece)?;
        let Some(&end) = piece[..count].last() else { break };
        lines += memchr_iter(b'\n', &piece[..count]).count() as u64;
        last = end;
    }
    Ok(lines + u64::from(last != b'\n'))
}

impl Tail {
    /// Opens a file at line `offset`.
    pub(super) fn open(
        path: &Path,
        partition: u32,
        offset: u64,
        end_bytes: Option<u64>,
        options: &Options,
    ) -> Result<Tail, LiveError> {
        let input = path.display().to_string();
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = opened.map_err(|error| SourceError::io(&input, error))?;
        let mut tail = Tail {
            path: path.to_owned(),
            file,
            identity: identity(&metadata),
            lines: Lines::new(input.clone()),
            read_bytes: 0,
            end_bytes,
            size_bytes: metadata.len(),
            piece: vec![0; PIECE_BYTES],
            ended: false,
        };
        while !tail.lines.pass_over(offset, options)? {
            if tail.read_piece()? == 0 {
                return tail.start_beyond(partition, offset, input);
            }
        }
        Ok(tail)
    }

    /// There are fewer whole lines than `offset`: all right only if the last one, without its end, was taken as the end.
    fn start_beyond(mut self, partition: u32, offset: u64, input: String) -> Result<Tail, LiveError> {
        let end = self.lines.position();
        if self.end_bytes.is_some() && end + 1 == offset {
            self.lines.close(offset);
            self.ended = true;
            return Ok(self);
        }
        Err(LiveError::Beyond { input, partition, position: offset, end })
    }

    pub(super) fn position(&self) -> u64 {
        self.lines.position()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn format(&self) -> Option<&MessageFormat> {
        self.lines.format()
    }

    /// About how many lines are not handed over yet, going by the length of those that were.
    pub(super) fn lag(&self) -> Option<u64> {
        let lines = self.lines.position().max(1);
        Some(self.size_bytes.saturating_sub(self.read_bytes) * lines / self.read_bytes.max(1))
    }

    pub(super) fn read(&mut self, partition: u32, into: &mut Fetched, options: &Options) -> Result<Look, LiveError> {
        loop {
            let at_end = self.end_bytes.is_some_and(|end| self.read_bytes >= end);
            if !self.lines.hand_over(partition, at_end, options, into)? {
                return Ok(Look::More);
            }
            if at_end {
                self.ended = true;
                return Ok(Look::AtEnd);
            }
            if self.read_piece()? == 0 {
                return Ok(Look::AtEnd);
            }
        }
    }

    /// Reads what comes next, and gives how much that was. At the end the file must still be what it was.
    fn read_piece(&mut self) -> Result<usize, LiveError> {
        let input = || self.path.display().to_string();
        let wanted = self.end_bytes.map_or(u64::MAX, |end| end - self.read_bytes).min(PIECE_BYTES as u64) as usize;
        let read =
            self.file.seek(SeekFrom::Start(self.read_bytes)).and_then(|_| self.file.read(&mut self.piece[..wanted]));
        let count = read.map_err(|error| SourceError::io(&input(), error))?;
        self.read_bytes += count as u64;
        self.size_bytes = self.size_bytes.max(self.read_bytes);
        if count == 0 {
            self.check_file()?;
        }
        self.lines.add(&self.piece[..count])?;
        Ok(count)
    }

    fn check_file(&mut self) -> Result<(), LiveError> {
        let replaced = || LiveError::Replaced { path: self.path.clone() };
        let metadata = self.path.metadata().map_err(|_| replaced())?;
        if identity(&metadata) != self.identity {
            return Err(replaced());
        }
        if metadata.len() < self.read_bytes || self.end_bytes.is_some_and(|end| metadata.len() < end) {
            let (input, found_bytes) = (self.path.display().to_string(), metadata.len());
            return Err(SourceError::Shrank { input, size_bytes: self.size_bytes, found_bytes }.into());
        }
        self.size_bytes = metadata.len();
        Ok(())
    }
}

/// What tells a file from another one of its name.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}
