//! Messages a second and CPU time a message, into a topic of four partitions and out of it, beside a consumer that does
//! nothing with them.
//!
//! `scripts/with-services kafka -- cargo bench --bench kafka [-- ROWS]` (2 million rows unless told otherwise). CPU time is
//! that of this process, librdkafka's threads included, and not the broker's. Median of three rounds, in which the
//! candidates take turns.

#![expect(clippy::print_stdout, reason = "what a benchmark finds is what it prints")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use eddyline::produce::{self, Pace, PartitionBy, Produce, Timestamps};
use eddyline::sources::kafka::{KafkaLog, KafkaOptions};
use eddyline::sources::live::{Fetched, LiveSource};
use eddyline::sources::{Columns, Dialect, MessageFormat, Options};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const PARTITIONS: u32 = 4;
const ROUNDS: usize = 3;

fn main() {
    let Ok(brokers) = std::env::var("EDDYLINE_TEST_KAFKA") else {
        println!("SKIP: EDDYLINE_TEST_KAFKA is not set: run scripts/with-services kafka -- cargo bench --bench kafka");
        return;
    };
    let rows = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(2_000_000);
    let file = tempfile::NamedTempFile::new().expect("a place for temporary files");
    generate(file.as_file(), rows);
    let (topic, csv) = (format!("bench-{}", std::process::id()), PartitionBy::User);
    let produce = Produce {
        files: vec![file.path().to_owned()],
        reading: Options::default(),
        brokers: brokers.clone(),
        topic: topic.clone(),
        properties: BTreeMap::new(),
        partitions: Some(PARTITIONS),
        partition_by: csv,
        pace: Pace::Fastest,
        timestamps: Timestamps::Event,
    };
    measure("produce, idempotent, lz4", rows, || {
        produce::run(&produce, &AtomicBool::new(false), &mut |_| ()).expect("the broker is there").acknowledged
    })
    .print(rows);
    let mut candidates: [Candidate<'_>; 3] = [
        ("poll and parse", Box::new(|| read(&brokers, &topic, rows))),
        ("rdkafka's BaseConsumer, poll alone", Box::new(|| raw(&brokers, &topic, rows))),
        ("librdkafka's rd_kafka_consume_batch_queue alone", Box::new(|| batches(&brokers, &topic, rows))),
    ];
    let mut results: Vec<Vec<Cost>> = vec![Vec::new(); candidates.len()];
    for _ in 0..ROUNDS {
        for ((name, run), results) in candidates.iter_mut().zip(&mut results) {
            results.push(measure(name, rows, run));
        }
    }
    for mut results in results {
        results.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
        results[ROUNDS / 2].print(rows);
    }
}

/// A name, and what reads everything and counts it.
type Candidate<'a> = (&'static str, Box<dyn Fn() -> u64 + 'a>);

#[derive(Clone, Copy)]
struct Cost {
    name: &'static str,
    wall: f64,
    cpu: f64,
}

impl Cost {
    fn print(&self, rows: u64) {
        let (rate, cost) = (rows as f64 / self.wall, self.cpu * 1e6 / rows as f64);
        println!("{rate:10.0} messages/s  {cost:6.3} µs CPU a message  {}", self.name);
    }
}

fn measure(name: &'static str, rows: u64, run: impl FnOnce() -> u64) -> Cost {
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    assert_eq!(run(), rows, "{name}");
    Cost { name, wall: wall.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu }
}

/// Of all threads of the process.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn read(brokers: &str, topic: &str, rows: u64) -> u64 {
    let log = KafkaLog::open(KafkaOptions {
        brokers: brokers.to_owned(),
        topic: topic.to_owned(),
        group: "bench".to_owned(),
        properties: BTreeMap::new(),
        log_name: None,
        format: MessageFormat::csv(&Columns::EVENTS, Dialect::default()).expect("a preset"),
        idle: Duration::from_secs(30),
        until_end: true,
        buffer_bytes: 64 << 20,
    })
    .expect("the topic is there");
    let mut reader = log.reader(log.description(), PARTITIONS as usize);
    (0..PARTITIONS).for_each(|partition| reader.assign(partition, 0).expect("from the start"));
    let format = log_format();
    let mut fetched = Fetched::new(256 << 10);
    let mut read = 0;
    while read < rows {
        fetched.clear();
        reader.poll(&mut fetched).expect("the broker is there");
        read +=
            fetched.records().filter(|record| black_box(record.read(&format)).is_ok_and(|row| row.is_some())).count()
                as u64;
        if fetched.is_empty() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    read
}

fn log_format() -> MessageFormat {
    MessageFormat::csv(&Columns::EVENTS, Dialect::default()).expect("a preset")
}

fn consumer(brokers: &str, topic: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "bench").set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false").set("check.crcs", "true").set("isolation.level", "read_committed");
    config.set("queued.max.messages.kbytes", "65536").set("queued.min.messages", "1000000");
    config.set("fetch.queue.backoff.ms", "5");
    let consumer: BaseConsumer = config.create().expect("good properties");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS as i32 {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("a good offset");
    }
    consumer.assign(&list).expect("good partitions");
    consumer
}

fn raw(brokers: &str, topic: &str, rows: u64) -> u64 {
    let consumer = consumer(brokers, topic);
    let mut read = 0;
    while read < rows {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            read += u64::from(black_box(message.expect("the broker is there").payload()).is_some());
        }
    }
    read
}

fn batches(brokers: &str, topic: &str, rows: u64) -> u64 {
    let consumer = consumer(brokers, topic);
    let mut messages = vec![std::ptr::null_mut(); 512];
    let mut read = 0;
    // SAFETY: the consumer outlives its queue, which fills as many places as it says; each message is destroyed once.
    unsafe {
        let queue = rdkafka_sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr());
        while read < rows {
            let taken = rdkafka_sys::rd_kafka_consume_batch_queue(queue, 100, messages.as_mut_ptr(), messages.len());
            for &message in &messages[..usize::try_from(taken).unwrap_or(0)] {
                let found: &rdkafka_sys::rd_kafka_message_t = &*message;
                read += u64::from(found.err == rdkafka_sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
                black_box(found.len);
                rdkafka_sys::rd_kafka_message_destroy(message);
            }
        }
        rdkafka_sys::rd_kafka_queue_destroy(queue);
    }
    read
}

/// Rows of 500,000 users and 200,000 items over 48 hours, 89 % of them page views.
fn generate(file: &std::fs::File, rows: u64) {
    let mut file = std::io::BufWriter::new(file);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for row in 0..rows {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (user, item) = (state % 500_000, (state >> 20) % 200_000);
        let behavior = match (state >> 40) % 100 {
            0..89 => "pv",
            89..95 => "cart",
            95..98 => "fav",
            _ => "buy",
        };
        writeln!(file, "{user},{item},{behavior},{}", 1_511_544_070 + row * 172_800 / rows).expect("room for the rows");
    }
    file.flush().expect("room for the rows");
}
