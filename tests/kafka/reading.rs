//! What is there is read: all of it, once, in order, from anywhere.

use super::cluster::{self, committed, create, produce, send, topic, transactions, unused_name};
use super::*;
use eddyline::sinks::RejectReason;
use rdkafka::producer::Producer;

#[test]
fn every_record_of_every_partition_comes_once_in_order() {
    let Some(brokers) = cluster::shared() else { return };
    let topic = topic(&brokers, 4);
    let producer = cluster::producer(&brokers, &[("compression.type", "zstd")]);
    for number in 0..40_000 {
        send(&producer, &topic, number % 4, Some(&format!("{number},2,pv,3")));
    }
    producer.flush(PATIENCE).unwrap();
    let log = open(&brokers, &topic);
    assert!(log.description().partitions.iter().all(|extent| (extent.begin, extent.end) == (0, Some(10_000))));
    assert!(log.description().id < 1 << 63 && log.description().id == open(&brokers, &topic).description().id);
    let mut reader = reader(&log, &[0, 0, 9_990, 0]);
    let mut read = Read::new();
    read_until(&mut reader, &mut read, |_, read| total(read) == 30_010);
    for (partition, records) in &read {
        let from = if *partition == 2 { 9_990 } else { 0 };
        assert!((from..).zip(records).all(|(offset, (found, value))| {
            offset == *found && *value == format!("{},2,pv,3", offset * 4 + u64::from(*partition))
        }));
        assert_eq!((reader.status(*partition).position, reader.lag(*partition)), (10_000, Some(0)));
    }
    assert_eq!(counts(&read), BTreeMap::from([(0, 10_000), (1, 10_000), (2, 10), (3, 10_000)]));

    reader.commit(&[(0, 7_000), (3, 9_999)]);
    let group = format!("group-of-{topic}");
    let deadline = Instant::now() + PATIENCE;
    while committed(&brokers, &group, &topic, 4) != [Some(7_000), None, None, Some(9_999)] {
        assert!(Instant::now() < deadline, "the commit is not seen");
        reader.poll(&mut Fetched::new(1)).unwrap();
    }

    // Again from another place, and on with what comes.
    reader.assign(1, 9_998).unwrap();
    produce(&brokers, &topic, 1, &["7,7,pv,7"]);
    let mut read = Read::new();
    read_until(&mut reader, &mut read, |_, read| total(read) == 3);
    let expected: Vec<(u64, String)> =
        [(9_998, "39993,2,pv,3"), (9_999, "39997,2,pv,3"), (10_000, "7,7,pv,7")].map(|(o, v)| (o, v.to_owned())).into();
    assert_eq!(read, Read::from([(1, expected)]));
}

#[test]
fn records_without_a_value_are_rejected_and_pauses_hold() {
    let Some(brokers) = cluster::shared() else { return };
    let topic = topic(&brokers, 2);
    let producer = cluster::producer(&brokers, &[]);
    for value in [Some("1,2,pv,3\r\n"), None, Some(""), Some("x,2,pv,3")] {
        send(&producer, &topic, 0, value);
    }
    producer.flush(PATIENCE).unwrap();
    let log = open(&brokers, &topic);
    let mut reader = reader(&log, &[0, 0]);
    let mut fetched = Fetched::new(100_000);
    let deadline = Instant::now() + PATIENCE;
    while fetched.len() < 4 {
        assert!(Instant::now() < deadline);
        reader.poll(&mut fetched).unwrap();
    }
    let format = reader.format(0).unwrap();
    let read: Vec<_> = fetched.records().map(|record| record.read(format).map(|row| row.map(|row| row.time))).collect();
    assert_eq!(read, [Ok(Some(3000)), Err(RejectReason::Columns), Ok(None), Err(RejectReason::User)]);

    reader.set_paused(0, true);
    produce(&brokers, &topic, 0, &["5,6,pv,7"]);
    produce(&brokers, &topic, 1, &["8,9,pv,10"]);
    let mut read = Read::new();
    read_until(&mut reader, &mut read, |_, read| total(read) == 1);
    assert!(read.contains_key(&1) && reader.status(0).position == 4 && reader.status(0).at_end.is_none());
    reader.set_paused(0, false);
    read_until(&mut reader, &mut read, |_, read| total(read) == 2);
    assert_eq!(read[&0], [(4, "5,6,pv,7".to_owned())]);
}

#[test]
fn aborted_transactions_leave_gaps_and_open_ones_hold_back() {
    let Some(brokers) = cluster::shared() else { return };
    let topic = topic(&brokers, 1);
    let producer = transactions(&brokers);
    let transaction = |values: &[&str], commits: bool| {
        producer.begin_transaction().unwrap();
        values.iter().for_each(|value| send(&producer, &topic, 0, Some(value)));
        match commits {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => {
                producer.flush(PATIENCE).unwrap();
                producer.abort_transaction(PATIENCE).unwrap();
            }
        }
    };
    transaction(&["a", "b"], true); // 0, 1, marker 2
    transaction(&["c", "d", "e"], false); // 3 … 5, marker 6
    transaction(&["f"], true); // 7, marker 8
    transaction(&["g"], false); // 9, marker 10
    let log = open(&brokers, &topic);
    assert_eq!(log.description().partitions[0].end, Some(11));
    let mut reader = reader(&log, &[0]);
    let mut read = Read::new();
    // The position passes over what is no record, so that the end is seen to be reached.
    read_until(&mut reader, &mut read, |reader, _| reader.status(0).at_end.is_some());
    assert_eq!(
        read[&0].iter().map(|(offset, value)| (*offset, value.as_str())).collect::<Vec<_>>(),
        [(0, "a"), (1, "b"), (7, "f")]
    );
    assert_eq!((reader.status(0).position, reader.lag(0)), (11, Some(0)));

    // What an open transaction holds back is not there yet: the partition stays at its end.
    producer.begin_transaction().unwrap();
    send(&producer, &topic, 0, Some("h"));
    producer.flush(PATIENCE).unwrap();
    produce(&brokers, &topic, 0, &["i"]);
    let since = reader.status(0).at_end_since().unwrap();
    read_until(&mut reader, &mut read, |reader, _| reader.status(0).idle_for() > Duration::from_millis(1500));
    assert_eq!((read[&0].len(), reader.status(0).at_end_since()), (3, Some(since)));
    producer.commit_transaction(PATIENCE).unwrap();
    read_until(&mut reader, &mut read, |_, read| total(read) == 5);
    assert_eq!(read[&0][3..], [(11, "h".to_owned()), (12, "i".to_owned())]);
    read_until(&mut reader, &mut read, |reader, _| reader.status(0).position == 14);
}

#[test]
fn until_the_end_is_until_the_end_that_was_there() {
    let Some(brokers) = cluster::shared() else { return };
    let topic = topic(&brokers, 2);
    let producer = transactions(&brokers);
    producer.begin_transaction().unwrap();
    ["a", "b"].iter().for_each(|value| send(&producer, &topic, 0, Some(value)));
    producer.commit_transaction(PATIENCE).unwrap();
    let log = KafkaLog::open(KafkaOptions { until_end: true, ..options(&brokers, &topic) }).unwrap();
    produce(&brokers, &topic, 0, &["c"]);
    produce(&brokers, &topic, 1, &["d"]);
    let mut reader = reader(&log, &[0, 0]);
    assert!(reader.status(1).ended);
    let mut read = Read::new();
    read_until(&mut reader, &mut read, |reader, _| reader.status(0).ended);
    assert_eq!((counts(&read), reader.status(0).position), (BTreeMap::from([(0, 2)]), 3));
}

#[test]
fn partitions_that_are_added_are_told_once_and_read() {
    let Some(brokers) = cluster::shared() else { return };
    let topic = topic(&brokers, 1);
    let log = open(&brokers, &topic);
    let mut reader = reader(&log, &[0]);
    assert!(reader.new_partitions().is_empty());
    cluster::add_partitions(&brokers, &topic, 3);
    let mut read = Read::new();
    let mut new = 0..0;
    read_until(&mut reader, &mut read, |_, _| {
        // The borrow of the reader is the closure's, so new partitions are looked for by another one.
        new = log.reader(log.description(), 1).new_partitions();
        !new.is_empty()
    });
    assert_eq!((new, reader.new_partitions(), reader.new_partitions()), (1..3, 1..3, 3..3));
    reader.assign(2, 0).unwrap();
    produce(&brokers, &topic, 0, &["a"]);
    produce(&brokers, &topic, 2, &["b"]);
    read_until(&mut reader, &mut read, |_, read| total(read) == 2);
    assert_eq!(counts(&read), BTreeMap::from([(0, 1), (2, 1)]));
}

#[test]
fn memory_is_bounded_and_large_messages_come_through() {
    let Some(brokers) = cluster::shared() else { return };
    let topic = unused_name();
    create(&brokers, &topic, 1, &[("max.message.bytes", "4000000")]);
    let producer = cluster::producer(&brokers, &[("message.max.bytes", "4000000")]);
    let large = "x".repeat(3_000_000);
    for _ in 0..5 {
        send(&producer, &topic, 0, Some(&large));
        send(&producer, &topic, 0, Some("1,2,pv,3"));
    }
    producer.flush(PATIENCE).unwrap();
    let log = KafkaLog::open(KafkaOptions { buffer_bytes: 1, ..options(&brokers, &topic) }).unwrap();
    let mut reader = reader(&log, &[0]);
    let mut read = Read::new();
    read_until(&mut reader, &mut read, |_, read| total(read) == 10);
    let lengths: Vec<usize> = read[&0].iter().map(|(_, value)| value.len()).collect();
    assert_eq!(lengths, [65_544, 8].repeat(5));
}
