//! One worker's consumer: its partitions, each with a queue of its own.
//!
//! A queue a partition has two uses. A pause is a queue that is not read: nothing is thrown away or fetched again, and the
//! bounded queue stops the fetcher. And an error of one partition is heard by that partition alone.
//!
//! Positions are our own. librdkafka's are asked for nothing but stalls, so that a consumer can be thrown away and made
//! anew at any time: after a stall, or after bytes that could not be read.

use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::super::live::{Extent, Fetched, LiveError, LiveSource, LogDescription, PartitionStatus};
use super::super::message::MessageFormat;
use super::Shared;
use super::config::{self, Context, Role, client_config};
use super::native::{Batch, Message, PartitionQueue};
use super::partition::Track;

/// How many messages are taken from a queue at once.
const TAKE: usize = 512;
/// How often a partition is tried again whose bytes cannot be read.
const ATTEMPTS: u32 = 3;
/// How long the ends of a partition are waited for when an offset is refused.
const ENDS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a consumer may take to end before it is left to itself.
const DROP_TIMEOUT: Duration = Duration::from_secs(3);
/// A fetch brings at least this much, whatever the bound says.
const QUEUE_KBYTES_MIN: usize = 256;
/// What librdkafka keeps of a short message, most of which its bound in kilobytes does not count.
const MESSAGE_BYTES: usize = 320;

/// One worker's part of a topic.
pub struct KafkaReader {
    shared: Arc<Shared>,
    extents: Vec<Extent>,
    queue_kbytes: usize,
    consumer: Option<Arc<BaseConsumer<Context>>>,
    partitions: Vec<Assigned>,
    /// Partitions were added, or must be read from another place.
    is_stale: bool,
    /// Where the next poll starts, so that all get their turn.
    turn: usize,
    /// Partitions that the caller knows.
    known: u32,
}

struct Assigned {
    track: Track,
    batch: Option<Batch>,
    queue: Option<PartitionQueue>,
    attempts: u32,
    /// The broker refused the offset: find out why.
    refused: bool,
}

/// What to do after a message.
enum Next {
    Go,
    /// Reading has to start again at the position.
    Again,
}

impl KafkaReader {
    pub(super) fn new(shared: Arc<Shared>, description: &LogDescription, share: usize) -> KafkaReader {
        let queue_kbytes = (shared.options.buffer_bytes / share.max(1) / 1024).max(QUEUE_KBYTES_MIN);
        KafkaReader {
            known: description.partitions.len() as u32,
            extents: description.partitions.clone(),
            shared,
            queue_kbytes,
            consumer: None,
            partitions: Vec::new(),
            is_stale: false,
            turn: 0,
        }
    }

    fn find(&self, partition: u32) -> Option<&Assigned> {
        self.partitions.iter().find(|assigned| assigned.track.partition() == partition)
    }

    /// Gives the consumer its partitions, from where we are.
    fn start(&mut self) -> Result<(), LiveError> {
        self.is_stale = false;
        let options = &self.shared.options;
        let consumer = match &self.consumer {
            Some(consumer) => Arc::clone(consumer),
            None => {
                let (kbytes, messages) = (self.queue_kbytes, self.queue_kbytes * 1024 / MESSAGE_BYTES);
                let (kbytes, messages) = (kbytes.to_string(), messages.to_string());
                let own = [
                    ("group.id", options.group.as_str()),
                    ("queued.max.messages.kbytes", &kbytes),
                    ("queued.min.messages", &messages),
                    ("statistics.interval.ms", "2000"),
                ];
                let config = client_config(Role::Consumer, &options.brokers, &options.properties, &own)?;
                let made = config.create_with_context::<_, BaseConsumer<Context>>(Context::default());
                Arc::clone(self.consumer.insert(Arc::new(made.map_err(config::not_made)?)))
            }
        };
        let mut list = TopicPartitionList::new();
        for assigned in &mut self.partitions {
            (assigned.batch, assigned.queue) = (None, None);
            let offset = Offset::Offset(i64::try_from(assigned.track.position()).unwrap_or(i64::MAX));
            if !assigned.track.is_ended() {
                let added = list.add_partition_offset(&options.topic, assigned.track.partition() as i32, offset);
                added.map_err(config::not_made)?;
                let queue = PartitionQueue::split(&consumer, &options.topic, assigned.track.partition());
                let no_queue = || LiveError::Client { reason: format!("no queue for topic `{}`", options.topic) };
                assigned.queue = Some(queue.ok_or_else(no_queue)?);
            }
        }
        consumer.assign(&list).map_err(config::not_made)
    }

    /// Throws the consumer away; the next poll makes another one.
    fn restart(&mut self) {
        self.is_stale = true;
        let queues: Vec<_> = self.partitions.iter_mut().map(|a| (a.batch.take(), a.queue.take())).collect();
        if let Some(consumer) = self.consumer.take() {
            dispose(consumer, queues, Duration::ZERO);
        }
    }

    /// Hands over what partition `at` has, as far as there is room. `true` if its queue is empty then.
    fn read(&mut self, at: usize, into: &mut Fetched) -> Result<bool, LiveError> {
        let shared = Arc::clone(&self.shared);
        let assigned = &mut self.partitions[at];
        while !into.is_full() {
            let Some(message) = assigned.batch.as_mut().and_then(Iterator::next) else {
                let batch = assigned.queue.as_ref().map(|queue| queue.take(TAKE)).filter(|batch| !batch.is_empty());
                assigned.batch = batch;
                if assigned.batch.is_none() {
                    return Ok(true);
                }
                continue;
            };
            match assigned.hand_over(&message, into, &shared)? {
                Next::Go => {}
                Next::Again => {
                    self.restart();
                    return Ok(false);
                }
            }
            if assigned.track.is_ended() {
                (assigned.batch, assigned.queue) = (None, None);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds out why an offset was refused.
    fn explain_refusal(&mut self, at: usize) -> Result<(), LiveError> {
        let (Some(consumer), options) = (&self.consumer, &self.shared.options) else { return Ok(()) };
        let (partition, position) = (self.partitions[at].track.partition(), self.partitions[at].track.position());
        let ends = consumer.fetch_watermarks(&options.topic, partition as i32, ENDS_TIMEOUT);
        // Without an answer the next poll asks again.
        let Ok((begin, end)) = ends else { return Ok(()) };
        let (begin, end) = (u64::try_from(begin).unwrap_or(0), u64::try_from(end).unwrap_or(0));
        let topic = options.topic.clone();
        if position < begin {
            return Err(LiveError::Lost { topic, partition, from: position, to: begin });
        }
        if position > end {
            return Err(LiveError::Beyond { input: format!("topic `{topic}`"), partition, position, end });
        }
        self.partitions[at].refused = false;
        self.partitions[at].failed(&self.shared, "the broker refuses an offset that the log has".to_owned())?;
        self.restart();
        Ok(())
    }

    /// Whether a partition has stalled beside data that a broker has told of.
    fn has_stalled(&mut self, at: usize, now: Instant) -> bool {
        let assigned = &mut self.partitions[at];
        let answer = self.shared.monitor.answer(assigned.track.partition());
        let fetching = self.consumer.as_ref().and_then(|consumer| {
            let positions = consumer.context().fetching.lock().unwrap_or_else(PoisonError::into_inner);
            positions.get(&(assigned.track.partition() as i32)).copied()
        });
        assigned.track.waits(answer, fetching, now)
    }
}

impl Assigned {
    fn hand_over(&mut self, message: &Message, into: &mut Fetched, shared: &Shared) -> Result<Next, LiveError> {
        let Some(error) = message.error() else {
            if let Some(offset) = message.offset()
                && self.track.takes(offset, Instant::now())
            {
                self.attempts = 0;
                into.push(self.track.partition(), offset, message.payload());
            }
            return Ok(Next::Go);
        };
        match error {
            RDKafkaErrorCode::PartitionEOF => {
                if let Some(offset) = message.offset() {
                    self.track.reached(offset, Instant::now());
                }
            }
            RDKafkaErrorCode::AutoOffsetReset => self.refused = true,
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                let (brokers, topic) = (shared.options.brokers.clone(), shared.options.topic.clone());
                return Err(LiveError::Forbidden { brokers, topic, what: "read the topic", operation: "Read" });
            }
            error if heals(error) => {}
            error => {
                let text = message.payload().map(|text| String::from_utf8_lossy(text).into_owned());
                self.failed(shared, text.unwrap_or_else(|| error.to_string()))?;
                return Ok(Next::Again);
            }
        }
        Ok(Next::Go)
    }

    /// Counts a failure at the position.
    fn failed(&mut self, shared: &Shared, reason: String) -> Result<(), LiveError> {
        self.attempts += 1;
        let (partition, position) = (self.track.partition(), self.track.position());
        if self.attempts < ATTEMPTS {
            tracing::warn!("partition {partition}: cannot read on at offset {position} ({reason}); trying again");
            return Ok(());
        }
        let (brokers, topic) = (shared.options.brokers.clone(), shared.options.topic.clone());
        Err(LiveError::Unreadable { brokers, topic, partition, position, reason })
    }
}

/// Errors that librdkafka and the monitor deal with.
fn heals(error: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error,
        Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::ReplicaNotAvailable
            | Code::BrokerNotAvailable
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::Authentication
            | Code::Resolve
    )
}

impl LiveSource for KafkaReader {
    fn assign(&mut self, partition: u32, offset: u64) -> Result<(), LiveError> {
        let shared = Arc::clone(&self.shared);
        let stop = self.extents.get(partition as usize).and_then(|extent| extent.end);
        let stop = shared.options.until_end.then_some(stop).flatten();
        let track = Track::new(partition, offset, stop, Instant::now());
        if let Some(extent) = self.extents.get(partition as usize)
            && offset < extent.begin
        {
            let topic = shared.options.topic.clone();
            return Err(LiveError::Lost { topic, partition, from: offset, to: extent.begin });
        }
        let assigned = Assigned { track, batch: None, queue: None, attempts: 0, refused: false };
        match self.partitions.iter_mut().find(|assigned| assigned.track.partition() == partition) {
            Some(place) => *place = assigned,
            None => self.partitions.push(assigned),
        }
        self.is_stale = true;
        Ok(())
    }

    fn set_paused(&mut self, partition: u32, paused: bool) {
        if let Some(assigned) = self.partitions.iter_mut().find(|assigned| assigned.track.partition() == partition) {
            assigned.track.set_paused(paused, Instant::now());
        }
    }

    fn poll(&mut self, into: &mut Fetched) -> Result<(), LiveError> {
        if self.is_stale {
            self.start()?;
        }
        if let Some(consumer) = &self.consumer {
            // Statistics, results of commits, and errors that concern no partition; those the context keeps.
            while consumer.poll(Duration::ZERO).is_some() {}
        }
        self.shared.monitor.check()?;
        let count = self.partitions.len();
        self.turn = (self.turn + 1) % count.max(1);
        for step in 0..count {
            let at = (self.turn + step) % count;
            if self.partitions[at].refused {
                self.explain_refusal(at)?;
            } else if self.partitions[at].track.is_read()
                && self.read(at, into)?
                && self.has_stalled(at, Instant::now())
            {
                let (partition, position) =
                    (self.partitions[at].track.partition(), self.partitions[at].track.position());
                tracing::warn!(
                    "partition {partition} brings nothing from offset {position} on, though the log has more; making a new consumer"
                );
                self.restart();
            }
            if self.is_stale {
                return Ok(());
            }
        }
        Ok(())
    }

    fn status(&self, partition: u32) -> PartitionStatus {
        let monitor = &self.shared.monitor;
        match self.find(partition) {
            Some(assigned) => assigned.track.status(monitor.answer(partition), monitor.end(partition)),
            None => PartitionStatus { position: 0, end: monitor.end(partition), at_end: None, ended: false },
        }
    }

    fn commit(&mut self, offsets: &[(u32, u64)]) {
        let Some(consumer) = self.consumer.as_ref().filter(|_| !offsets.is_empty()) else { return };
        let mut list = TopicPartitionList::new();
        for &(partition, offset) in offsets {
            let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
            let added = list.add_partition_offset(&self.shared.options.topic, partition as i32, offset);
            debug_assert!(added.is_ok(), "an offset that is no special one");
        }
        if let Err(error) = consumer.commit(&list, CommitMode::Async) {
            tracing::debug!("cannot commit offsets: {error}");
        }
    }

    fn lag(&self, partition: u32) -> Option<u64> {
        let end = self.shared.monitor.end(partition)?;
        Some(end.saturating_sub(self.find(partition)?.track.position()))
    }

    fn new_partitions(&mut self) -> Range<u32> {
        let count = self.shared.monitor.partitions().max(self.known);
        std::mem::replace(&mut self.known, count)..count
    }

    fn format(&self, _partition: u32) -> Option<&MessageFormat> {
        Some(&self.shared.options.format)
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        let queues: Vec<_> = self.partitions.drain(..).map(|assigned| (assigned.batch, assigned.queue)).collect();
        if let Some(consumer) = self.consumer.take() {
            dispose(consumer, queues, DROP_TIMEOUT);
        }
    }
}

/// Ends a consumer on a thread of its own, as that may take for ever, and waits for it as long as told.
fn dispose(
    consumer: Arc<BaseConsumer<Context>>,
    queues: Vec<(Option<Batch>, Option<PartitionQueue>)>,
    timeout: Duration,
) {
    let (done, ended) = std::sync::mpsc::sync_channel::<()>(1);
    let end = move || {
        drop(queues);
        drop(consumer);
        drop(done);
    };
    // Without a thread the consumer is dropped here, with the closure.
    if thread::Builder::new().name("kafka-end".to_owned()).spawn(end).is_ok() {
        let _ = ended.recv_timeout(timeout);
    }
}
