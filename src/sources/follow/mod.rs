//! Growing CSV files and pipes as a live log, so that live use needs no server.
//!
//! Each input is a partition, in the order given; offsets are physical lines, as in a replay. Only whole lines are handed
//! over: what has no line end yet is not written yet. A pipe that is closed has ended, and so has a file at the size it
//! had at the start, if that was asked for; there a last line counts without its end, as in a replay.

mod lines;
mod pipe;
mod tail;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataflows::event::Position;

use self::pipe::Pipe;
use self::tail::{Tail, extent};
use super::error::SourceError;
use super::files::Options;
use super::identity::LogId;
use super::inputs::STDIN;
use super::live::{AtEnd, Extent, Fetched, LiveError, LiveSource, LogDescription, PartitionStatus};
use super::message::MessageFormat;

/// How often an input that had nothing new is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Files and pipes that are followed.
#[derive(Debug)]
pub struct FollowLog {
    shared: Arc<Followed>,
    description: LogDescription,
}

/// What readers share.
#[derive(Debug)]
struct Followed {
    inputs: Vec<PathBuf>,
    options: Options,
    until_end: bool,
}

impl FollowLog {
    /// Looks at the inputs, partitions 0, 1, … in this order; `-` is standard input. With `until_end` the sizes that they
    /// have now are their ends.
    ///
    /// # Errors
    /// No name for the log, or an input that cannot be followed; see [`LiveError`].
    pub fn open(inputs: &[PathBuf], options: Options, until_end: bool) -> Result<FollowLog, LiveError> {
        if inputs.is_empty() {
            return Err(SourceError::NoInput.into());
        }
        if inputs.len() > Position::PARTITION_MAX as usize + 1 {
            return Err(SourceError::TooManyPartitions { count: inputs.len() }.into());
        }
        if inputs.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
            return Err(SourceError::ReadTwice { input: STDIN.to_owned() }.into());
        }
        let id = LogId::of_name(options.log_name.as_deref().ok_or(LiveError::NoLogName)?);
        let partitions = inputs.iter().map(|path| extent(path, until_end)).collect::<Result<_, _>>()?;
        let names: Vec<String> = inputs.iter().map(|path| path.display().to_string()).collect();
        let description = LogDescription { id, name: names.join(", "), partitions };
        Ok(FollowLog { shared: Arc::new(Followed { inputs: inputs.to_vec(), options, until_end }), description })
    }

    /// What the inputs were when they were opened.
    pub fn description(&self) -> &LogDescription {
        &self.description
    }

    /// The part of one worker; `description` is that of process 0.
    pub fn reader(&self, description: &LogDescription) -> FollowReader {
        let extents = description.partitions.clone();
        FollowReader { shared: Arc::clone(&self.shared), extents, partitions: Vec::new(), turn: 0 }
    }
}

/// One worker's part of the inputs.
#[derive(Debug)]
pub struct FollowReader {
    shared: Arc<Followed>,
    extents: Vec<Extent>,
    partitions: Vec<Following>,
    turn: usize,
}

#[derive(Debug)]
struct Following {
    partition: u32,
    input: Input,
    paused: bool,
    at_end: Option<AtEnd>,
    /// Not to be looked at before.
    next_look: Option<Instant>,
}

#[derive(Debug)]
enum Input {
    File(Tail),
    Pipe(Pipe),
}

/// What one look at an input brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Something was handed over, or there may be more.
    More,
    /// There is nothing more now.
    AtEnd,
}

impl Following {
    fn position(&self) -> u64 {
        match &self.input {
            Input::File(tail) => tail.position(),
            Input::Pipe(pipe) => pipe.position(),
        }
    }

    fn is_ended(&self) -> bool {
        match &self.input {
            Input::File(tail) => tail.is_ended(),
            Input::Pipe(pipe) => pipe.is_ended(),
        }
    }

    fn read(&mut self, into: &mut Fetched, options: &Options) -> Result<(), LiveError> {
        let now = Instant::now();
        if self.paused || self.is_ended() || self.next_look.is_some_and(|next| now < next) {
            return Ok(());
        }
        let before = self.position();
        let look = match &mut self.input {
            Input::File(tail) => tail.read(self.partition, into, options)?,
            Input::Pipe(pipe) => pipe.read(self.partition, into, options)?,
        };
        if self.position() != before || look == Look::More {
            self.at_end = None;
        }
        self.next_look = None;
        if look == Look::AtEnd {
            self.next_look = Some(now + LOOK_INTERVAL);
            self.at_end = Some(AtEnd { since: self.at_end.map_or(now, |at_end| at_end.since), seen: now });
        }
        Ok(())
    }
}

impl FollowReader {
    fn find(&self, partition: u32) -> Option<&Following> {
        self.partitions.iter().find(|following| following.partition == partition)
    }
}

impl LiveSource for FollowReader {
    fn assign(&mut self, partition: u32, offset: u64) -> Result<(), LiveError> {
        let path = &self.shared.inputs[partition as usize];
        let extent = self.extents[partition as usize];
        let is_pipe = path.as_os_str() == "-" || path.metadata().is_ok_and(|metadata| !metadata.is_file());
        let input = if is_pipe {
            Input::Pipe(Pipe::open(path, offset)?)
        } else {
            let end = extent.bytes.filter(|_| self.shared.until_end);
            Input::File(Tail::open(path, partition, offset, end, &self.shared.options)?)
        };
        self.partitions.retain(|following| following.partition != partition);
        self.partitions.push(Following { partition, input, paused: false, at_end: None, next_look: None });
        Ok(())
    }

    fn set_paused(&mut self, partition: u32, paused: bool) {
        if let Some(following) = self.partitions.iter_mut().find(|following| following.partition == partition) {
            following.paused = paused;
            if paused {
                following.at_end = None;
            }
        }
    }

    fn poll(&mut self, into: &mut Fetched) -> Result<(), LiveError> {
        let count = self.partitions.len();
        self.turn = (self.turn + 1) % count.max(1);
        for step in 0..count {
            if into.is_full() {
                break;
            }
            self.partitions[(self.turn + step) % count].read(into, &self.shared.options)?;
        }
        Ok(())
    }

    fn status(&self, partition: u32) -> PartitionStatus {
        let Some(following) = self.find(partition) else {
            return PartitionStatus { position: 0, end: None, at_end: None, ended: false };
        };
        let (position, ended) = (following.position(), following.is_ended());
        let end = (following.at_end.is_some() || ended).then_some(position);
        PartitionStatus { position, end, at_end: following.at_end, ended }
    }

    fn commit(&mut self, _offsets: &[(u32, u64)]) {}

    fn lag(&self, partition: u32) -> Option<u64> {
        match &self.find(partition)?.input {
            Input::File(tail) => tail.lag(),
            Input::Pipe(_) => None,
        }
    }

    fn new_partitions(&mut self) -> Range<u32> {
        let count = self.extents.len() as u32;
        count..count
    }

    fn format(&self, partition: u32) -> Option<&MessageFormat> {
        match &self.find(partition)?.input {
            Input::File(tail) => tail.format(),
            Input::Pipe(pipe) => pipe.format(),
        }
    }
}
