//! Whole lines out of text that arrives in pieces.

use std::path::Path;

use memchr::memchr;

use super::super::compression::{Compression, MAGIC_BYTES};
use super::super::csv::without_mark;
use super::super::cut::LINE_BYTES_KEPT;
use super::super::error::SourceError;
use super::super::files::Options;
use super::super::inputs::{Content, Opened};
use super::super::live::{Fetched, LiveError};
use super::super::message::MessageFormat;

/// The text of one input from some line on, as far as it has arrived.
#[derive(Debug)]
pub(super) struct Lines {
    input: String,
    /// What has arrived; before `start` it is handed over.
    text: Vec<u8>,
    start: usize,
    /// Up to here no line end was found.
    searched: usize,
    /// Within a line of which enough is kept; its end is looked for.
    skipping: bool,
    /// The number of the line at `start`.
    line: u64,
    format: Option<MessageFormat>,
    /// Whether the text is known not to be packed.
    is_plain: bool,
}

impl Lines {
    pub(super) fn new(input: String) -> Lines {
        Lines {
            input,
            text: Vec::new(),
            start: 0,
            searched: 0,
            skipping: false,
            line: 0,
            format: None,
            is_plain: false,
        }
    }

    /// The number of the next line.
    pub(super) fn position(&self) -> u64 {
        self.line
    }

    /// How the lines are written, once line 0 has been seen.
    pub(super) fn format(&self) -> Option<&MessageFormat> {
        self.format.as_ref()
    }

    /// Appends what has arrived.
    pub(super) fn add(&mut self, piece: &[u8]) -> Result<(), LiveError> {
        if self.start > 0 {
            self.text.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        if self.skipping {
            // Of the line only its end is wanted.
            let Some(end) = memchr(b'\n', piece) else { return Ok(()) };
            self.text.extend_from_slice(&piece[end..]);
            self.skipping = false;
        } else {
            self.text.extend_from_slice(piece);
        }
        self.check_packing()
    }

    fn check_packing(&mut self) -> Result<(), LiveError> {
        if self.is_plain || self.line > 0 {
            return Ok(());
        }
        self.is_plain = self.text.len() >= MAGIC_BYTES;
        let input = || self.input.clone();
        match Compression::detect(&self.text[..self.text.len().min(MAGIC_BYTES)]) {
            Ok(Compression::None) => Ok(()),
            Ok(compression) => Err(LiveError::Packed { input: input(), compression }),
            Err(kind) => Err(SourceError::Unsupported { input: input(), kind }.into()),
        }
    }

    /// Hands over whole lines as far as there is room; with `at_end` also a last one without its end. `true` if there is no
    /// more.
    pub(super) fn hand_over(
        &mut self,
        partition: u32,
        at_end: bool,
        options: &Options,
        into: &mut Fetched,
    ) -> Result<bool, LiveError> {
        while !into.is_full() {
            let Some(next) = self.next_line(at_end) else { return Ok(true) };
            let line = self.start..next;
            (self.start, self.searched) = (next, next);
            let number = self.line;
            self.line += 1;
            let mut text = &self.text[line];
            if number == 0 {
                text = &text[without_mark(text)..];
                let (format, is_header) = resolve(&self.input, text, options)?;
                self.format = Some(format);
                if is_header {
                    continue;
                }
            }
            into.push(partition, number, Some(text.strip_suffix(b"\n").unwrap_or(text)));
        }
        Ok(false)
    }

    /// Passes over whole lines up to number `to`, as far as they have arrived. `true` once there.
    pub(super) fn pass_over(&mut self, to: u64, options: &Options) -> Result<bool, LiveError> {
        while self.line < to {
            let Some(next) = self.next_line(false) else { return Ok(false) };
            if self.line == 0 {
                let text = &self.text[self.start..next];
                self.format = Some(resolve(&self.input, &text[without_mark(text)..], options)?.0);
            }
            (self.start, self.searched) = (next, next);
            self.line += 1;
        }
        Ok(true)
    }

    /// Forgets what has arrived, and stands at line `to`.
    pub(super) fn close(&mut self, to: u64) {
        self.text.clear();
        (self.start, self.searched, self.line) = (0, 0, to);
    }

    /// Where the line after the next one starts, if the next one is whole.
    fn next_line(&mut self, at_end: bool) -> Option<usize> {
        if let Some(end) = memchr(b'\n', &self.text[self.searched..]) {
            return Some(self.searched + end + 1);
        }
        self.searched = self.text.len();
        if at_end && (self.start < self.text.len()) {
            return Some(self.text.len());
        }
        if self.text.len() - self.start > LINE_BYTES_KEPT {
            self.text.truncate(self.start + LINE_BYTES_KEPT);
            self.searched = self.text.len();
            self.skipping = true;
        }
        None
    }
}

/// The format that line 0 gives, and whether it is a header.
fn resolve(input: &str, line0: &[u8], options: &Options) -> Result<(MessageFormat, bool), LiveError> {
    let content = Content::Plain { path: Path::new("").to_owned(), size_bytes: 0, handle: None };
    let opened = Opened { input: input.to_owned(), content, head: line0.to_vec() };
    let format = opened.format(options)?;
    let is_header = format.header();
    Ok((MessageFormat::Csv(format), is_header))
}
