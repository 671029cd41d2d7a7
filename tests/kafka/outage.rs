//! A broker that is killed, again and again, and comes back.

use super::cluster::{self, Own, produce, send, topic};
use super::*;
use rdkafka::producer::Producer;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[test]
fn nothing_is_lost_or_comes_twice_over_kills_of_the_broker() {
    let Some(mut own) = Own::start() else { return };
    let topic = topic(&own.brokers, 3);
    let stop = AtomicBool::new(false);
    let log = open(&own.brokers, &topic);
    let mut reader = reader(&log, &[0, 0, 0]);
    let mut read = Read::new();
    let brokers = own.brokers.clone();
    let sent = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let producer = cluster::producer(&brokers, &[]);
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                send(&producer, &topic, number % 3, Some(&number.to_string()));
                number += 1;
                if number % 200 == 0 {
                    producer.poll(Duration::from_millis(10));
                }
            }
            producer.flush(PATIENCE).unwrap();
            number
        });
        for kill in 1..=2 {
            read_until(&mut reader, &mut read, |_, read| total(read) > kill * 5_000);
            own.kill();
            let before = total(&read);
            let deadline = Instant::now() + Duration::from_secs(2);
            read_until(&mut reader, &mut read, |_, _| Instant::now() > deadline);
            own.revive();
            read_until(&mut reader, &mut read, |_, read| total(read) > before + 10_000);
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    read_until(&mut reader, &mut read, |_, read| total(read) >= sent as usize);
    for (partition, records) in &read {
        let expected = (0..sent as u64).filter(|number| number % 3 == u64::from(*partition));
        assert!(expected.zip(records).all(|(number, (_, value))| *value == number.to_string()));
        assert!((0..).zip(records).all(|(offset, (found, _))| offset == *found));
    }
    assert_eq!(total(&read), sent as usize);
}

#[test]
fn an_outage_is_not_idleness() {
    let Some(mut own) = Own::start() else { return };
    let topic = topic(&own.brokers, 1);
    produce(&own.brokers, &topic, 0, &["a"]);
    let log = open(&own.brokers, &topic);
    let mut reader = reader(&log, &[0]);
    let mut read = Read::new();
    read_until(&mut reader, &mut read, |reader, _| reader.status(0).idle_for() > Duration::from_secs(1));
    let first = reader.status(0).at_end_since().unwrap();
    own.kill();
    let killed = Instant::now();
    // What was proven before stays so, and does not grow; soon it is forgotten.
    let mut longest = Duration::ZERO;
    read_until(&mut reader, &mut read, |reader, _| {
        longest = longest.max(reader.status(0).idle_for());
        reader.status(0).at_end.is_none()
    });
    assert!(first + longest <= killed, "idle for {longest:?} without an answer");
    let deadline = Instant::now() + Duration::from_secs(3);
    read_until(&mut reader, &mut read, |reader, _| {
        assert_eq!(reader.status(0).at_end, None);
        Instant::now() > deadline
    });
    own.revive();
    let revived = Instant::now();
    read_until(&mut reader, &mut read, |reader, _| reader.status(0).at_end.is_some());
    let again = reader.status(0).at_end_since().unwrap();
    assert!(again > killed && reader.status(0).idle_for() <= revived.elapsed() + Duration::from_secs(1));
    produce(&own.brokers, &topic, 0, &["b"]);
    read_until(&mut reader, &mut read, |_, read| total(read) == 2);
    assert!(reader.status(0).at_end_since().is_none_or(|since| since > again));
}
