//! A Kafka to test against, and what is done to it: topics, messages, transactions, kills.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use std::future::Future;
use std::pin::pin;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services/kafka.sh");
const TIMEOUT: Duration = Duration::from_secs(60);

/// The broker that tests share; `None`, after saying so, where there is none and none is required.
pub(crate) fn shared() -> Option<String> {
    variable("EDDYLINE_TEST_KAFKA")
}

pub(crate) fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        assert!(std::env::var("EDDYLINE_REQUIRE_SERVICES").is_err(), "{test}: {name} is not set");
        eprintln!("SKIP: {test}: {name} is not set: run scripts/test");
    }
    value
}

/// A broker of one test.
pub(crate) struct Own {
    directory: tempfile::TempDir,
    pub(crate) brokers: String,
}

impl Own {
    pub(crate) fn start() -> Option<Own> {
        shared()?;
        let directory = tempfile::tempdir().unwrap();
        let mut own = Own { directory, brokers: String::new() };
        own.revive();
        Some(own)
    }

    fn script(&self, verb: &str) -> String {
        let output =
            Command::new(SCRIPT).arg(verb).arg(self.directory.path()).env("KAFKA_HEAP", "256m").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn kill(&self) {
        self.script("kill");
    }

    pub(crate) fn revive(&mut self) {
        let variables = self.script("start");
        let brokers = variables.lines().find_map(|line| line.strip_prefix("EDDYLINE_TEST_KAFKA="));
        brokers.unwrap().clone_into(&mut self.brokers);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = Command::new(SCRIPT).arg("kill").arg(self.directory.path()).output();
    }
}

pub(crate) fn wait<F: Future>(answer: F) -> F::Output {
    let mut answer = pin!(answer);
    loop {
        if let Poll::Ready(output) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

pub(crate) fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

/// A name that no topic has.
pub(crate) fn unused_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("t{}-{}-{now}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn create(brokers: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    new.config = settings.to_vec();
    let admin = admin(brokers);
    let started = Instant::now();
    while let Err((_, error)) = wait(admin.create_topics([&new], &admin_options())).unwrap().remove(0) {
        // A broker that has just started answers before it counts itself among those that can have a partition.
        assert_eq!(error, RDKafkaErrorCode::InvalidReplicationFactor, "{topic}");
        assert!(started.elapsed() < Duration::from_secs(30), "{topic}: {error}");
        std::thread::sleep(Duration::from_millis(100));
    }
    // A busy broker knows it a little later than it says that it is made.
    let is_known = || {
        let metadata = admin.inner().fetch_metadata(Some(topic), Duration::from_secs(10)).ok()?;
        let partitions = metadata.topics().first()?.partitions();
        let led = partitions.iter().filter(|partition| partition.leader() >= 0 && partition.error().is_none()).count();
        (led == partitions.len() && led > 0).then_some(())
    };
    let started = Instant::now();
    while is_known().is_none() && started.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn topic(brokers: &str, partitions: i32) -> String {
    let topic = unused_name();
    create(brokers, &topic, partitions, &[]);
    topic
}

pub(crate) fn delete(brokers: &str, topic: &str) {
    wait(admin(brokers).delete_topics(&[topic], &admin_options())).unwrap()[0].clone().unwrap();
}

pub(crate) fn add_partitions(brokers: &str, topic: &str, to: usize) {
    wait(admin(brokers).create_partitions([&NewPartitions::new(topic, to)], &admin_options())).unwrap()[0]
        .clone()
        .unwrap();
}

pub(crate) fn delete_records(brokers: &str, topic: &str, partition: i32, before: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
    wait(admin(brokers).delete_records(&list, &admin_options())).unwrap();
}

pub(crate) fn producer(brokers: &str, properties: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("enable.idempotence", "true").set("message.timeout.ms", "0");
    config.set("linger.ms", "5").set("reconnect.backoff.max.ms", "500");
    for (name, value) in properties {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

/// Gives a message to the producer, waiting while it is full.
pub(crate) fn send(producer: &BaseProducer, topic: &str, partition: i32, value: Option<&str>) {
    let mut record = BaseRecord::<(), str>::to(topic).partition(partition);
    record.payload = value;
    while let Err((error, again)) = producer.send(record) {
        assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{error}");
        producer.poll(Duration::from_millis(10));
        record = again;
    }
}

pub(crate) fn produce(brokers: &str, topic: &str, partition: i32, values: &[&str]) {
    let producer = producer(brokers, &[]);
    values.iter().for_each(|value| send(&producer, topic, partition, Some(value)));
    producer.flush(TIMEOUT).unwrap();
}

/// A producer of transactions.
pub(crate) fn transactions(brokers: &str) -> BaseProducer {
    let producer = producer(brokers, &[("transactional.id", &unused_name()), ("message.timeout.ms", "60000")]);
    producer.init_transactions(TIMEOUT).unwrap();
    producer
}

/// The offsets that a group has committed.
pub(crate) fn committed(brokers: &str, group: &str, topic: &str, partitions: i32) -> Vec<Option<i64>> {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let mut config = ClientConfig::new();
    let consumer: BaseConsumer = config.set("bootstrap.servers", brokers).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(topic, partition);
    }
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match consumer.committed_offsets(list.clone(), TIMEOUT) {
            Ok(found) => {
                let offset = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset()
                {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                };
                return found.elements().into_iter().map(offset).collect();
            }
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}
