//! Where one chunk of a file ends and the next begins.
//!
//! A file is cut at fixed byte positions, so that any worker can take any chunk without asking the others. A chunk is the
//! lines that start between its two positions; the last one usually ends past the second. A line that is too long anyway
//! is kept only so far that the reader can tell; no chunk starts within it, so its rest is passed over.

use std::ops::Range;

use memchr::{memchr, memrchr};

use super::format::RECORD_BYTES_MAX;

/// How much of a line is kept: enough to see that it is too long, whatever mark or line end the bytes may hold.
pub(super) const LINE_BYTES_KEPT: usize = RECORD_BYTES_MAX + 8;

/// How far to read past a chunk at first: most lines end within it.
const OVERLAP_BYTES: u64 = 512;

/// Reads the lines of a file of `size` bytes that start within `span`, which must not be empty or go past `size`, and
/// says where in `buffer` they are.
///
/// `read_at(bytes, position)` fills all of `bytes` from the file. `buffer` only grows.
pub(super) fn lines_starting_in<E>(
    span: Range<u64>,
    size: u64,
    buffer: &mut Vec<u8>,
    mut read_at: impl FnMut(&mut [u8], u64) -> Result<(), E>,
) -> Result<Range<usize>, E> {
    // The byte before the span tells whether a line starts with it.
    let from = span.start.saturating_sub(1);
    let mut filled = 0;
    let mut fill = |buffer: &mut Vec<u8>, to: u64| {
        let start = std::mem::replace(&mut filled, (to - from) as usize);
        if buffer.len() < filled {
            buffer.resize(filled, 0);
        }
        read_at(&mut buffer[start..filled], from + start as u64).map(|()| start..filled)
    };

    let read = fill(buffer, size.min(span.end + OVERLAP_BYTES))?;
    let inside = (span.end - from) as usize;
    let first = match span.start {
        0 => 0,
        _ => memchr(b'\n', &buffer[..inside]).map_or(inside, |end| end + 1),
    };
    if first >= inside {
        return Ok(0..0);
    }
    // A line end on the span's last byte ends the last line.
    if let Some(more) = memchr(b'\n', &buffer[inside - 1..read.end]) {
        return Ok(first..inside + more);
    }
    let limit = size.min(span.end + LINE_BYTES_KEPT as u64);
    let read = fill(buffer, limit)?;
    let end = memchr(b'\n', &buffer[read.clone()]).map_or(read.end, |end| read.start + end + 1);
    Ok(first..end)
}

/// Cuts a stream of bytes into whole lines, keeping of each no more than [`LINE_BYTES_KEPT`] bytes in memory between
/// two blocks.
#[derive(Debug, Default)]
pub(super) struct LineCutter {
    /// Within a line of which enough is kept.
    skipping: bool,
}

impl LineCutter {
    /// Appends `block` to `lines`, whose first `whole` bytes are whole lines, and gives what `whole` is then.
    pub(super) fn append(&mut self, mut block: &[u8], lines: &mut Vec<u8>, whole: usize) -> usize {
        if self.skipping {
            let Some(end) = memchr(b'\n', block) else { return whole };
            block = &block[end + 1..];
            self.skipping = false;
        }
        let before = lines.len();
        lines.extend_from_slice(block);
        let whole = memrchr(b'\n', block).map_or(whole, |last| before + last + 1);
        if lines.len() - whole <= LINE_BYTES_KEPT {
            return whole;
        }
        lines.truncate(whole + LINE_BYTES_KEPT);
        lines.push(b'\n');
        self.skipping = true;
        lines.len()
    }
}
