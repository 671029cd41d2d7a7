//! A pipe that is followed: a thread waits for its text, so that the worker need not.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use super::super::error::SourceError;
use super::super::files::Options;
use super::super::inputs::STDIN;
use super::super::live::{Fetched, LiveError};
use super::super::message::MessageFormat;
use super::Look;
use super::lines::Lines;

/// How much is read at once, and how many such pieces may wait.
const PIECE_BYTES: usize = 64 << 10;
const PIECES_AHEAD: usize = 4;

#[derive(Debug)]
pub(super) struct Pipe {
    input: String,
    /// Pieces of text; an empty one is the end.
    pieces: Receiver<io::Result<Vec<u8>>>,
    lines: Lines,
    closed: bool,
    ended: bool,
}

impl Pipe {
    /// Starts to read a pipe, or standard input for `-`.
    pub(super) fn open(path: &Path, offset: u64) -> Result<Pipe, LiveError> {
        let is_stdin = path.as_os_str() == "-";
        let input = if is_stdin { STDIN.to_owned() } else { path.display().to_string() };
        if offset > 0 {
            return Err(LiveError::NoWayBack { input, offset });
        }
        let (sender, pieces) = sync_channel(PIECES_AHEAD);
        let path = path.to_owned();
        // To open a pipe may wait for who writes it.
        let read = move || match is_stdin {
            true => pass_on(io::stdin().lock(), &sender),
            false => match File::open(path) {
                Ok(file) => pass_on(file, &sender),
                Err(error) => drop(sender.send(Err(error))),
            },
        };
        thread::Builder::new().name("follow-pipe".to_owned()).spawn(read).map_err(LiveError::Thread)?;
        Ok(Pipe { lines: Lines::new(input.clone()), input, pieces, closed: false, ended: false })
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

    pub(super) fn read(&mut self, partition: u32, into: &mut Fetched, options: &Options) -> Result<Look, LiveError> {
        loop {
            if !self.lines.hand_over(partition, self.closed, options, into)? {
                return Ok(Look::More);
            }
            if self.closed {
                self.ended = true;
                return Ok(Look::More);
            }
            match self.pieces.try_recv() {
                Ok(Ok(piece)) if piece.is_empty() => self.closed = true,
                Ok(Ok(piece)) => self.lines.add(&piece)?,
                Ok(Err(error)) => return Err(SourceError::io(&self.input, error).into()),
                Err(TryRecvError::Empty) => return Ok(Look::AtEnd),
                Err(TryRecvError::Disconnected) => {
                    let error = io::Error::other("the thread that reads it has ended");
                    return Err(SourceError::io(&self.input, error).into());
                }
            }
        }
    }
}

fn pass_on(mut reader: impl Read, pieces: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let piece = match reader.read(&mut piece) {
            Ok(count) => {
                piece.truncate(count);
                Ok(piece)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_last = piece.as_ref().map_or(true, Vec::is_empty);
        // A send fails when nobody wants more.
        if pieces.send(piece).is_err() || is_last {
            return;
        }
    }
}
