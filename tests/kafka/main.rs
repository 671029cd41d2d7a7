//! Live reading and producing against a real Kafka. Each test has a topic of its own; those that kill the broker have a
//! broker of their own, too.

#![allow(clippy::unwrap_used)]

mod cluster;
mod faults;
mod outage;
mod producing;
mod reading;

use eddyline::secret::Secret;
use eddyline::sources::kafka::{KafkaLog, KafkaOptions, KafkaReader};
use eddyline::sources::live::{Fetched, LiveError, LiveSource};
use eddyline::sources::{Columns, Dialect, MessageFormat};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longer than anything takes here, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

fn options(brokers: &str, topic: &str) -> KafkaOptions {
    KafkaOptions {
        brokers: brokers.to_owned(),
        topic: topic.to_owned(),
        group: format!("group-of-{topic}"),
        properties: BTreeMap::new(),
        log_name: None,
        format: MessageFormat::csv(&Columns::EVENTS, Dialect::default()).unwrap(),
        idle: Duration::from_secs(1),
        until_end: false,
        buffer_bytes: 16 << 20,
    }
}

fn open(brokers: &str, topic: &str) -> KafkaLog {
    KafkaLog::open(options(brokers, topic)).unwrap()
}

fn reader(log: &KafkaLog, from: &[u64]) -> KafkaReader {
    let mut reader = log.reader(log.description(), from.len());
    for (partition, &offset) in from.iter().enumerate() {
        reader.assign(partition as u32, offset).unwrap();
    }
    reader
}

/// What came, by partition: offsets and values.
type Read = BTreeMap<u32, Vec<(u64, String)>>;

/// Reads until `enough` is satisfied.
fn read_until(reader: &mut KafkaReader, read: &mut Read, mut enough: impl FnMut(&KafkaReader, &Read) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut fetched = Fetched::new(100_000);
    while !enough(reader, read) {
        assert!(Instant::now() < deadline, "it takes too long; read so far: {:?}", counts(read));
        fetched.clear();
        reader.poll(&mut fetched).unwrap();
        for record in fetched.records() {
            let value = String::from_utf8_lossy(record.value()).into_owned();
            read.entry(record.partition).or_default().push((record.offset, value));
        }
        if fetched.is_empty() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Polls until it fails.
fn failure(reader: &mut KafkaReader) -> LiveError {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "it does not fail");
        match reader.poll(&mut Fetched::new(100_000)) {
            Err(error) => return error,
            Ok(()) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn counts(read: &Read) -> BTreeMap<u32, usize> {
    read.iter().map(|(&partition, records)| (partition, records.len())).collect()
}

fn total(read: &Read) -> usize {
    read.values().map(Vec::len).sum()
}

fn secret(text: &str) -> Secret {
    Secret::new(text)
}
