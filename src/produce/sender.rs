//! The producer: idempotent, bounded, and patient.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::error::ProduceError;
use super::lines::Line;
use super::topic::{Topic, now_ms};
use super::{PartitionBy, Produce, Timestamps};
use crate::sources::kafka::config::{Context, Role, client_config, not_made};

/// How long a wait is before the flag to stop is looked at again.
const SLICE: Duration = Duration::from_millis(50);
/// After so many messages what has been acknowledged is taken in.
const POLL_EVERY: u64 = 1_000;
/// How long to wait for acknowledgements once asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What became of the messages.
pub(super) struct Delivery {
    context: Context,
    brokers: String,
    acknowledged: AtomicU64,
    by_partition: Vec<AtomicU64>,
    refused: Mutex<Option<(i32, String)>>,
    /// An outage was told of.
    is_told: AtomicBool,
}

impl ClientContext for Delivery {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown)
            && !self.is_told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("Kafka at {} does not answer ({reason}); waiting for it", self.brokers);
        }
        self.context.error(error, reason);
    }
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                self.is_told.store(false, Ordering::Relaxed);
                let count = usize::try_from(message.partition()).ok().and_then(|at| self.by_partition.get(at));
                if let Some(count) = count {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err((error, message)) => {
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                refused.get_or_insert_with(|| (message.partition(), error.to_string()));
            }
        }
    }
}

/// Sends lines.
pub(super) struct Sender<'a> {
    produce: &'a Produce,
    stop: &'a AtomicBool,
    partitions: i32,
    producer: BaseProducer<Delivery>,
    sent: u64,
    now_ms: u64,
}

impl<'a> Sender<'a> {
    pub(super) fn new(produce: &'a Produce, topic: &Topic, stop: &'a AtomicBool) -> Result<Sender<'a>, ProduceError> {
        // A message that was accepted is sent until it is acknowledged, however long that takes.
        let own = [("message.timeout.ms", "0")];
        let config = client_config(Role::Producer, &produce.brokers, &produce.properties, &own)?;
        let delivery = Delivery {
            context: Context::default(),
            brokers: produce.brokers.clone(),
            acknowledged: AtomicU64::new(0),
            by_partition: (0..topic.partitions).map(|_| AtomicU64::new(0)).collect(),
            refused: Mutex::new(None),
            is_told: AtomicBool::new(false),
        };
        let producer = BaseProducer::from_config_and_context(&config, delivery).map_err(not_made)?;
        let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
        Ok(Sender { produce, stop, partitions, producer, sent: 0, now_ms: now_ms() })
    }

    fn delivery(&self) -> &Delivery {
        self.producer.client().context()
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.delivery().acknowledged.load(Ordering::Relaxed)
    }

    /// Acknowledged messages of each partition.
    pub(super) fn by_partition(&self) -> Vec<u64> {
        self.delivery().by_partition.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits until `due`. `false` if asked to stop before.
    pub(super) fn wait(&self, due: Instant) -> Result<bool, ProduceError> {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(true);
            }
            if self.is_stopped() {
                return Ok(false);
            }
            // Not by polling so long: for what is less than a millisecond, the library's poll spins.
            thread::sleep(left.min(SLICE));
            self.take_in(Duration::ZERO)?;
        }
    }

    /// Takes in what became of messages.
    fn take_in(&self, timeout: Duration) -> Result<(), ProduceError> {
        self.producer.poll(timeout);
        let refused = self.delivery().refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        refused.map_or(Ok(()), |(partition, reason)| Err(self.refused(partition, reason)))
    }

    fn refused(&self, partition: i32, reason: String) -> ProduceError {
        let (brokers, topic) = (self.produce.brokers.clone(), self.produce.topic.clone());
        ProduceError::Refused { brokers, topic, partition, reason }
    }

    /// Sends a line, as soon as there is room. `false` if asked to stop before.
    pub(super) fn send(&mut self, line: &Line<'_>) -> Result<bool, ProduceError> {
        if self.sent.is_multiple_of(POLL_EVERY) {
            self.take_in(Duration::ZERO)?;
            self.now_ms = now_ms();
        }
        let mut digits = itoa::Buffer::new();
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.produce.topic).payload(line.text);
        if self.produce.timestamps == Timestamps::Event
            // Brokers refuse times that lie ahead.
            && let Some(time) = line.event.map(|(_, time)| time).filter(|&time| time <= self.now_ms)
        {
            record.timestamp = i64::try_from(time).ok();
        }
        match self.produce.partition_by {
            PartitionBy::User => record.key = line.event.map(|(user, _)| digits.format(user).as_bytes()),
            PartitionBy::File => record.partition = i32::try_from(line.file).ok(),
            PartitionBy::RoundRobin => record.partition = i32::try_from(self.sent % self.partitions as u64).ok(),
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(true);
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => record = again,
                Err((error, record)) => return Err(self.refused(record.partition.unwrap_or(-1), error.to_string())),
            }
            if self.is_stopped() {
                return Ok(false);
            }
            self.take_in(SLICE)?;
        }
    }

    /// Waits until all is acknowledged; once asked to stop, not for ever. `show` is called now and then.
    pub(super) fn flush(&self, mut show: impl FnMut(u64)) -> Result<(), ProduceError> {
        let mut deadline = None;
        loop {
            // So that what waits for more to be sent together goes at once.
            let is_flushed = self.producer.flush(SLICE).is_ok();
            self.take_in(Duration::ZERO)?;
            show(self.acknowledged());
            if is_flushed && self.producer.in_flight_count() == 0 {
                return Ok(());
            }
            if self.is_stopped() && Instant::now() >= *deadline.get_or_insert_with(|| Instant::now() + STOP_TIMEOUT) {
                return Ok(());
            }
        }
    }
}
