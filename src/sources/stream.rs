//! Text that can only be read from front to back: packed files, pipes and standard input.
//!
//! ```text
//! file or pipe ─→ [thread: unpack into blocks] ─→ bounded channel ─→ Stream: cut into whole lines ─→ chunks
//!                          ↑─────────── spent blocks, to be filled again ────────┘
//! ```
//!
//! Unpacking runs beside the parsing of what is unpacked already, a few blocks ahead at most.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use super::compression::Compression;
use super::cut::LineCutter;
use super::error::SourceError;

/// How many blocks may wait to be cut.
const BLOCKS_AHEAD: usize = 4;

/// The chunks of one partition, one after the other.
#[derive(Debug)]
pub struct Stream {
    input: String,
    compression: Compression,
    chunk_bytes: usize,
    /// Blocks of text; an empty one is the end.
    blocks: Receiver<io::Result<Vec<u8>>>,
    spent: Sender<Vec<u8>>,
    read_bytes: Arc<AtomicU64>,
    text_bytes: u64,
    cutter: LineCutter,
    /// The start of a line that the last chunk did not hold.
    unfinished: Vec<u8>,
    ended: bool,
}

/// What a stream is made of.
pub(super) struct Text {
    pub(super) input: String,
    pub(super) compression: Compression,
    /// The unpacked text.
    pub(super) reader: Box<dyn Read + Send>,
    /// Counts the bytes that were read to unpack it.
    pub(super) read_bytes: Arc<AtomicU64>,
}

impl Stream {
    /// Starts to read `text` on a thread of its own, which ends with the text or soon after the stream is dropped.
    pub(super) fn start(text: Text, chunk_bytes: usize) -> Result<Stream, SourceError> {
        let Text { input, compression, reader, read_bytes } = text;
        let (filled, blocks) = sync_channel(BLOCKS_AHEAD);
        let (spent, refill) = channel();
        let unpack = move || unpack_blocks(reader, chunk_bytes, &filled, &refill);
        let thread = thread::Builder::new().name("unpack".to_owned()).spawn(unpack);
        thread.map_err(|error| SourceError::io(&input, error))?;
        let (cutter, unfinished) = (LineCutter::default(), Vec::new());
        Ok(Stream {
            input,
            compression,
            chunk_bytes,
            blocks,
            spent,
            read_bytes,
            text_bytes: 0,
            cutter,
            unfinished,
            ended: false,
        })
    }

    /// The next lines, at least one and about `chunk_bytes` of them, in `buffer`; `None` at the end.
    ///
    /// # Errors
    /// What the input or its decoder reports; the lines before the fault may have been given or not.
    pub fn next_chunk<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Result<Option<&'b [u8]>, SourceError> {
        buffer.clear();
        buffer.append(&mut self.unfinished);
        let mut whole = 0;
        while !self.ended && (whole == 0 || buffer.len() < self.chunk_bytes) {
            let block = self.next_block()?;
            self.ended = block.is_empty();
            whole = self.cutter.append(&block, buffer, whole);
            // The thread may have ended, and then there is nothing to fill again.
            let _ = self.spent.send(block);
        }
        if self.ended {
            whole = buffer.len();
        }
        self.unfinished.extend_from_slice(&buffer[whole..]);
        buffer.truncate(whole);
        Ok((!buffer.is_empty()).then_some(buffer))
    }

    /// How many bytes of the input have been read so far, packed as they are; for progress.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    fn next_block(&mut self) -> Result<Vec<u8>, SourceError> {
        let lost = || io::Error::other("the thread that reads it has ended");
        let block = self.blocks.recv().unwrap_or_else(|_| Err(lost()));
        let block =
            block.map_err(|error| SourceError::unpacking(&self.input, self.compression, self.text_bytes, error))?;
        self.text_bytes += block.len() as u64;
        Ok(block)
    }
}

fn unpack_blocks(
    mut reader: Box<dyn Read + Send>,
    block_bytes: usize,
    filled: &SyncSender<io::Result<Vec<u8>>>,
    refill: &Receiver<Vec<u8>>,
) {
    loop {
        let mut block: Vec<u8> = refill.try_recv().unwrap_or_default();
        block.clear();
        let result = reader.by_ref().take(block_bytes as u64).read_to_end(&mut block);
        let last = block.is_empty() || result.is_err();
        // What came before a fault goes first. An empty block would be taken for the end.
        let text = (!block.is_empty() || result.is_ok()).then_some(Ok(block));
        // A send fails when nobody wants more.
        let sent = text.into_iter().chain(result.err().map(Err)).try_for_each(|item| filled.send(item));
        if last || sent.is_err() {
            return;
        }
    }
}

/// Counts what goes through it.
pub(super) struct Counted<R> {
    pub(super) reader: R,
    pub(super) read_bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(bytes)?;
        self.read_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
