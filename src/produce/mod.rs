//! `eddyline produce`: files → a topic of Kafka (contract, section 6).
//!
//! ```text
//! files ─→ Lines (merged by event time) ─→ Pacer ─→ Sender (idempotent, acks=all) ─→ topic
//! ```
//!
//! - A line is a message, its bytes unchanged, without its end; headers and lines of blanks are left out. Lines that are no
//!   events are sent, too: what they are is for the reader to say, and nothing may be lost on the way (contract, section 9).
//! - Of a line over 64 KiB the first 65,544 bytes are sent: readers reject it as too long and keep the same 64 KiB of it as
//!   they would from the file.
//! - In each partition the messages of a file stand in the order of its lines, and once, whatever fails on the way.

mod error;
mod lines;
mod pace;
mod sender;
mod topic;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use dataflows::event::Time;
use serde::Serialize;

pub use error::ProduceError;
pub use pace::Pace;

use self::lines::Lines;
use self::pace::Pacer;
use self::sender::Sender;
use crate::progress::Update;
use crate::secret::Secret;
use crate::sources::{FileLog, Options};

/// After so many lines progress is shown.
const SHOW_EVERY: u64 = 1_024;

/// Which partition a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionBy {
    /// By the user, who is the message's key: all of a user's events are in one partition, the one that Java's producers
    /// choose for the key, too. Lines without a user go anywhere.
    User,
    /// That of the file's number, so that a run over the topic sees the partitions that a replay of the files sees.
    File,
    /// One after the other.
    RoundRobin,
}

/// What a message's timestamp is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// The event's time, unless that cannot be read or lies in the future. A broker tells by timestamps how long ago it last
    /// heard of a producer: with those of old events it forgets this one when it restarts, and takes again what it was
    /// sent before it died.
    Event,
    /// The time of sending.
    Now,
}

/// What to send, where to and how.
#[derive(Clone, Debug)]
pub struct Produce {
    /// CSV files, plain, gzip or zstd; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// How they are read.
    pub reading: Options,
    /// host:port, several divided by commas.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Further properties of librdkafka.
    pub properties: BTreeMap<String, Secret>,
    /// With how many partitions to create the topic if it is missing; without, a missing topic is an error.
    pub partitions: Option<u32>,
    /// Which partition a message goes to.
    pub partition_by: PartitionBy,
    /// How fast.
    pub pace: Pace,
    /// What a message's timestamp is.
    pub timestamps: Timestamps,
}

/// What was sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The topic.
    pub topic: String,
    /// Whether it was made for this.
    pub created: bool,
    /// Messages that were given to the producer.
    pub messages: u64,
    /// Of these, the ones that the broker has.
    pub acknowledged: u64,
    /// Bytes of all messages' values.
    pub bytes: u64,
    /// Messages that cannot be read as events.
    pub no_events: u64,
    /// Messages of which only the first 65,544 bytes were sent.
    pub cut: u64,
    /// Headers and lines of blanks, which were left out.
    pub left_out: u64,
    /// Acknowledged messages by partition.
    pub partitions: Vec<u64>,
    /// How far each file is.
    pub files: Vec<FileSummary>,
    /// Whether that is less than all, because a stop was asked for.
    pub stopped: bool,
    /// How long it took.
    pub seconds: f64,
}

/// How far one file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSummary {
    /// The file.
    pub input: String,
    /// Lines that were passed: all before this one.
    pub lines: u64,
    /// Whether these are all.
    pub complete: bool,
}

/// Sends all lines, until `stop` is set, and waits until the broker has them; `show` gets progress now and then.
///
/// # Errors
/// The files cannot be read, the topic is missing or unfit, or the broker refuses a message; see [`ProduceError`]. A
/// broker that is away is waited for.
pub fn run(produce: &Produce, stop: &AtomicBool, show: &mut dyn FnMut(&Update)) -> Result<Summary, ProduceError> {
    let log = FileLog::open(&produce.files, &produce.reading)?;
    let sizes: Option<u64> = log.partitions().iter().map(crate::sources::Partition::size_bytes).sum();
    let topic = topic::prepare(produce)?;
    let sender = Sender::new(produce, &topic, stop)?;
    send_all(produce, topic, Lines::new(log)?, sender, stop, &mut |lines, sender, clock| {
        let events = sender.acknowledged();
        show(&Update { done: lines.read_bytes(), total: sizes, events, event_time: clock, ..Update::default() });
    })
}

fn send_all(
    produce: &Produce,
    topic: topic::Topic,
    mut lines: Lines,
    mut sender: Sender<'_>,
    stop: &AtomicBool,
    update: &mut dyn FnMut(&Lines, &Sender<'_>, Option<Time>),
) -> Result<Summary, ProduceError> {
    let started = Instant::now();
    let mut pacer = Pacer::new(produce.pace, started);
    let mut is_known = vec![false; produce.files.len()];
    let (mut bytes, mut no_events, mut cut, mut clock) = (0, 0, 0, None);
    // The file whose last line was not sent any more.
    let mut unsent = None;
    while unsent.is_none() {
        if sender.sent().is_multiple_of(SHOW_EVERY) {
            update(&lines, &sender, clock);
        }
        let Some(line) = lines.next()? else { break };
        if let Some((_, time)) = line.event
            && !std::mem::replace(&mut is_known[line.file], true)
        {
            topic.keeps(&produce.topic, &produce.files[line.file].display().to_string(), time)?;
        }
        let due = pacer.next(line.clock);
        let is_due = !stop.load(Ordering::Relaxed) && due.map_or(Ok(true), |due| sender.wait(due))?;
        if is_due && sender.send(&line)? {
            bytes += line.text.len() as u64;
            no_events += u64::from(line.event.is_none());
            cut += u64::from(line.is_cut);
            clock = Some(line.clock).filter(|&clock| clock > 0);
        } else {
            unsent = Some(line.file);
        }
    }
    sender.flush(|_| update(&lines, &sender, clock))?;
    Ok(Summary {
        topic: produce.topic.clone(),
        created: topic.created,
        messages: sender.sent(),
        acknowledged: sender.acknowledged(),
        bytes,
        no_events,
        cut,
        left_out: lines.blank(),
        partitions: sender.by_partition(),
        files: files(&lines, unsent),
        stopped: unsent.is_some() || sender.acknowledged() < sender.sent(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// How far the files are, of which `unsent` has a line that was read and not sent.
fn files(lines: &Lines, unsent: Option<usize>) -> Vec<FileSummary> {
    let files = lines.files().iter().zip(lines.log().partitions()).enumerate();
    let summary = |(at, (file, partition)): (usize, (&lines::File, &crate::sources::Partition))| FileSummary {
        input: partition.input().to_owned(),
        lines: file.line - u64::from(unsent == Some(at)),
        complete: file.ended,
    };
    files.map(summary).collect()
}
