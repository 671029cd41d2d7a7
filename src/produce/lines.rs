//! The lines of all files, in the order in which they happened as far as each file's own order lets them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dataflows::event::Time;
use memchr::memchr;

use crate::sources::format::RECORD_BYTES_MAX;
use crate::sources::{FileLog, MessageFormat, Reading, SourceError, Stream};

/// Of a longer line no more is sent. A reader rejects it as too long all the same, and keeps no more than 64 KiB of it.
pub(super) const LINE_BYTES_MAX: usize = RECORD_BYTES_MAX + 8;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A line to be sent.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Which file it is of.
    pub(super) file: usize,
    /// Without its end.
    pub(super) text: &'a [u8],
    /// Whether that is not all of it.
    pub(super) is_cut: bool,
    /// User and time, if it can be read as an event.
    pub(super) event: Option<(u64, Time)>,
    /// The largest time of its file so far.
    pub(super) clock: Time,
}

/// All files, each at some line.
pub(super) struct Lines {
    log: FileLog,
    files: Vec<File>,
    /// Files that have lines, the one that is furthest behind in time on top, and which is read now.
    waiting: BinaryHeap<Reverse<(Time, usize)>>,
    current: Option<usize>,
    blank: u64,
}

/// How far one file is.
#[derive(Debug)]
pub(super) struct File {
    format: MessageFormat,
    source: Source,
    buffer: Vec<u8>,
    text: Vec<u8>,
    at: usize,
    clock: Time,
    /// The number of the next line.
    pub(super) line: u64,
    /// Bytes of the file that were read.
    read_bytes: u64,
    /// All lines are passed.
    pub(super) ended: bool,
}

#[derive(Debug)]
enum Source {
    Chunks { next: u64, count: u64 },
    Stream(Box<Stream>),
}

impl Lines {
    pub(super) fn new(log: FileLog) -> Result<Lines, SourceError> {
        let file = |at: usize| {
            let source = match log.reading(at) {
                Reading::Chunks(count) => Source::Chunks { next: 0, count },
                Reading::Stream => Source::Stream(Box::new(log.stream(at)?)),
            };
            let format = MessageFormat::Csv(log.partitions()[at].format().clone());
            let (buffer, text) = (Vec::new(), Vec::new());
            Ok(File { format, source, buffer, text, at: 0, clock: 0, line: 0, read_bytes: 0, ended: false })
        };
        let files = (0..log.partitions().len()).map(file).collect::<Result<Vec<File>, SourceError>>()?;
        let waiting = (0..files.len()).map(|at| Reverse((0, at))).collect();
        Ok(Lines { log, files, waiting, current: None, blank: 0 })
    }

    pub(super) fn log(&self) -> &FileLog {
        &self.log
    }

    pub(super) fn files(&self) -> &[File] {
        &self.files
    }

    /// Lines of blanks and headers that were passed over.
    pub(super) fn blank(&self) -> u64 {
        self.blank
    }

    /// Bytes of all files that were read, as they are on disk.
    pub(super) fn read_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.read_bytes).sum()
    }

    /// The next line of the file whose time is furthest behind.
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, SourceError> {
        loop {
            let file = match self.current {
                Some(file) => file,
                None => match self.waiting.pop() {
                    Some(Reverse((_, file))) => *self.current.insert(file),
                    None => return Ok(None),
                },
            };
            let found = self.files[file].advance(&self.log, file, &mut self.blank)?;
            let clock = self.files[file].clock;
            if found.is_none() {
                self.current = None;
            } else if self.waiting.peek().is_some_and(|Reverse(least)| *least < (clock, file)) {
                self.waiting.push(Reverse((clock, file)));
                self.current = None;
            }
            if let Some((range, event)) = found {
                let text = &self.files[file].text[range];
                let is_cut = text.len() > LINE_BYTES_MAX;
                let text = &text[..text.len().min(LINE_BYTES_MAX)];
                return Ok(Some(Line { file, text, is_cut, event, clock }));
            }
        }
    }
}

/// Where a line is in the text, and its user and time.
type Found = (std::ops::Range<usize>, Option<(u64, Time)>);

impl File {
    /// Goes to the next line that is to be sent.
    fn advance(&mut self, log: &FileLog, at: usize, blank: &mut u64) -> Result<Option<Found>, SourceError> {
        loop {
            if self.at >= self.text.len() {
                if !self.read(log, at)? {
                    self.ended = true;
                    return Ok(None);
                }
                continue;
            }
            let start = self.at;
            let end = memchr(b'\n', &self.text[start..]).map_or(self.text.len(), |end| start + end);
            self.at = end + 1;
            self.line += 1;
            let is_header = self.line == 1 && log.partitions()[at].format().header();
            let range = match self.text[start..end].ends_with(b"\r") {
                true => start..end - 1,
                false => start..end,
            };
            let event = match self.format.read_at(&self.text, range.clone()) {
                Ok(None) => {
                    *blank += 1;
                    continue;
                }
                _ if is_header => {
                    *blank += 1;
                    continue;
                }
                Ok(Some(row)) => {
                    self.clock = self.clock.max(row.time);
                    Some((row.user.0, row.time))
                }
                Err(_) => None,
            };
            return Ok(Some((range, event)));
        }
    }

    /// Reads the next chunk; `false` at the end.
    fn read(&mut self, log: &FileLog, at: usize) -> Result<bool, SourceError> {
        let text = match &mut self.source {
            Source::Chunks { next, count } if *next < *count => {
                *next += 1;
                let span = log.read_chunk(at, *next - 1, &mut self.buffer)?;
                self.read_bytes += span.len() as u64;
                Some(&self.buffer[span])
            }
            Source::Chunks { .. } => None,
            Source::Stream(stream) => {
                let text = stream.next_chunk(&mut self.buffer)?;
                self.read_bytes = stream.read_bytes();
                text
            }
        };
        self.text.clear();
        let Some(text) = text else { return Ok(false) };
        self.text.extend_from_slice(text);
        self.at = if self.line == 0 && text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        Ok(true)
    }
}
