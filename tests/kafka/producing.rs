//! `eddyline produce`, from outside: what is in the topic afterwards, and what is said.

use super::cluster::{self, Own, create, topic, unused_name};
use super::*;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Message, Timestamp};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Partition, key, timestamp if it is the producer's, value.
type Found = (i32, Option<String>, Option<i64>, Vec<u8>);

/// The first `count` messages of a topic, by partition.
fn messages(brokers: &str, topic: &str, partitions: i32, count: usize) -> Vec<Found> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", unused_name()).set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    while found.len() < count {
        assert!(Instant::now() < deadline, "{} of {count}", found.len());
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.unwrap();
        let key = message.key().map(|key| String::from_utf8(key.to_vec()).unwrap());
        let created = match message.timestamp() {
            Timestamp::CreateTime(time) => Some(time),
            _ => None,
        };
        found.push((message.partition(), key, created, message.payload().unwrap().to_vec()));
    }
    found.sort_by_key(|(partition, ..)| *partition);
    found
}

fn command(brokers: &str, topic: &str, files: &[PathBuf], flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eddyline"));
    command.arg("produce").args(files).args(["--brokers", brokers, "--topic", topic]).args(flags);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(brokers: &str, topic: &str, files: &[PathBuf], flags: &[&str]) -> Output {
    command(brokers, topic, files, flags).output().unwrap()
}

fn summary(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{text}");
    text
}

fn written(directory: &Path, name: &str, text: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn rows_arrive_as_they_are_a_file_a_partition() {
    let Some(brokers) = cluster::shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let long = [b"7,7,pv,7,".as_slice(), &b"x".repeat(100_000)].concat();
    let first =
        [b"\xEF\xBB\xBFuser,item,behavior,time\r\n 1 ,2,pv,3\r\n\r\n  \nx,1,pv,3\n", &long[..], b"\n\xFF\n9,9,pv,9"]
            .concat();
    let files = [written(directory.path(), "a.csv", &first), written(directory.path(), "b.csv", b"5,6,buy,7,more\n")];
    let topic = unused_name();
    let output = run(
        &brokers,
        &topic,
        &files,
        &["--partitions", "3", "--partition-by", "file", "--timestamps", "event", "--json"],
    );
    let summary = summary(&output);
    let expected: Vec<Found> = vec![
        (0, None, Some(3_000), b" 1 ,2,pv,3".to_vec()),
        (0, None, None, b"x,1,pv,3".to_vec()),
        (0, None, None, long[..65_544].to_vec()),
        (0, None, None, b"\xFF".to_vec()),
        (0, None, Some(9_000), b"9,9,pv,9".to_vec()),
        (1, None, Some(7_000), b"5,6,buy,7,more".to_vec()),
    ];
    let mut found = messages(&brokers, &topic, 3, 6);
    let began = 1_600_000_000_000;
    // Without an event's time it is the time of sending.
    found.iter_mut().for_each(|(_, _, time, _)| *time = time.filter(|&time| time < began));
    assert_eq!(found, expected);
    assert_eq!(
        (&summary["messages"], &summary["acknowledged"], &summary["no_events"]),
        (&6.into(), &6.into(), &3.into())
    );
    assert_eq!((&summary["created"], &summary["cut"], &summary["left_out"]), (&true.into(), &1.into(), &3.into()));
    assert_eq!(summary["partitions"], serde_json::json!([5, 1, 0]));
    assert_eq!((&summary["files"][0]["lines"], &summary["files"][1]["complete"]), (&8.into(), &true.into()));
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 rows are over 64 KiB"));
    // A second time the topic is there.
    assert_eq!(self::summary(&run(&brokers, &topic, &files, &["--json"]))["created"], false);
}

#[test]
fn a_users_rows_are_in_one_partition_and_files_are_merged_by_time() {
    let Some(brokers) = cluster::shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let rows =
        |from: u64| (0..3_000_u64).map(|row| format!("{},1,pv,{}\n", row % 50, from + 2 * row)).collect::<String>();
    let files = [
        written(directory.path(), "even.csv", rows(10).as_bytes()),
        written(directory.path(), "odd.csv", rows(11).as_bytes()),
    ];
    let topic = unused_name();
    let text = run(&brokers, &topic, &files, &["--partitions", "4", "--timestamps", "event"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("messages      6000, 6000 acknowledged"));
    let found = messages(&brokers, &topic, 4, 6_000);
    let mut homes = BTreeMap::new();
    let mut newest = BTreeMap::new();
    for (partition, key, time, value) in found {
        let user = String::from_utf8(value).unwrap().split(',').next().unwrap().to_owned();
        assert_eq!(key.as_deref(), Some(&user[..]));
        assert_eq!(*homes.entry(user).or_insert(partition), partition);
        let newest = newest.entry(partition).or_insert(0);
        assert!(time.unwrap() >= *newest);
        *newest = time.unwrap();
    }
    assert!(homes.len() == 50 && newest.len() == 4);
    // As Kafka's own producer places these keys among four partitions (murmur2).
    assert_eq!(
        ["0", "1", "21"].map(|user| homes[user]),
        [murmur2_partition(b"0"), murmur2_partition(b"1"), murmur2_partition(b"21")]
    );

    let spread = self::topic(&brokers, 3);
    let spread_summary = summary(&run(&brokers, &spread, &files, &["--partition-by", "round-robin", "--json"]));
    assert_eq!(spread_summary["partitions"], serde_json::json!([2_000, 2_000, 2_000]));
}

/// Of four, as `org.apache.kafka.common.utils.Utils.murmur2` has it for keys of up to three bytes.
fn murmur2_partition(key: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash: u32 = 0x9747_b28c ^ key.len() as u32;
    for (at, &byte) in key.iter().enumerate().rev() {
        hash ^= u32::from(byte) << (8 * at);
    }
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    ((hash & 0x7fff_ffff) % 4) as i32
}

#[test]
fn every_row_arrives_once_over_a_kill_of_the_broker() {
    let Some(mut own) = Own::start() else { return };
    let topic = topic(&own.brokers, 2);
    let directory = tempfile::tempdir().unwrap();
    let rows: String = (0..30_000).map(|row| format!("{row},1,pv,{row}\n")).collect();
    let files = [written(directory.path(), "a.csv", rows.as_bytes())];
    let flags = ["--rate", "5k", "--partition-by", "round-robin", "--json"];
    let child = command(&own.brokers, &topic, &files, &flags).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    own.kill();
    std::thread::sleep(Duration::from_secs(2));
    own.revive();
    let output = child.wait_with_output().unwrap();
    assert_eq!(summary(&output)["acknowledged"], 30_000);
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not answer"), "the kill was not noticed");
    let log = open(&own.brokers, &topic);
    let mut reader = reader(&log, &[0, 0]);
    let mut read = Read::new();
    read_until(&mut reader, &mut read, |reader, _| (0..2).all(|partition| reader.status(partition).at_end.is_some()));
    for (partition, records) in read {
        let rows: Vec<String> =
            (u64::from(partition)..30_000).step_by(2).map(|row| format!("{row},1,pv,{row}")).collect();
        let found: Vec<String> = records.into_iter().map(|(_, value)| value).collect();
        let differs = rows.iter().zip(&found).position(|(row, found)| row != found);
        assert!(
            rows == found,
            "partition {partition} has {} rows for {}, and differs first at {differs:?}: {:?}",
            found.len(),
            rows.len(),
            differs.map(|at| &found[at.saturating_sub(1)..found.len().min(at + 3)])
        );
    }
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_stop_says_how_far_and_paces_are_kept() {
    let Some(brokers) = cluster::shared() else { return };
    let topic = topic(&brokers, 1);
    let directory = tempfile::tempdir().unwrap();
    let rows: String = (0..10_000).map(|row| format!("{row},1,pv,{}\n", 100 + row)).collect();
    let files = [written(directory.path(), "a.csv", rows.as_bytes())];
    let child = command(&brokers, &topic, &files, &["--rate", "200", "--json"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    interrupt(&child);
    let summary = summary(&child.wait_with_output().unwrap());
    let sent = summary["messages"].as_u64().unwrap();
    assert!((1..=650).contains(&sent), "{summary}");
    assert_eq!((&summary["acknowledged"], &summary["stopped"]), (&sent.into(), &true.into()));
    assert_eq!((&summary["files"][0]["lines"], &summary["files"][0]["complete"]), (&sent.into(), &false.into()));
    let found = messages(&brokers, &topic, 1, sent as usize);
    assert_eq!(found.last().unwrap().3, format!("{},1,pv,{}", sent - 1, 99 + sent).into_bytes());

    // 10 s of events at five times their speed.
    let few = [written(directory.path(), "b.csv", b"1,1,pv,100\n1,2,pv,103\n1,3,pv,110\n")];
    let took = self::summary(&run(&brokers, &topic, &few, &["--speedup", "5", "--json"]))["seconds"].as_f64().unwrap();
    assert!(took >= 2.0, "{took}");
}

#[test]
fn what_cannot_be_produced_is_refused_before_anything_is_sent() {
    let Some(brokers) = cluster::shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let files = ["a.csv", "b.csv"].map(|name| written(directory.path(), name, b"1,2,pv,1511544070\n"));
    let topic = unused_name();
    let message = error(&run(&brokers, &topic, &files, &[]));
    assert!(message.contains(&format!("has no topic `{topic}`; correct --topic, or give --partitions N")), "{message}");
    create(&brokers, &topic, 1, &[("retention.ms", "86400000")]);
    let message = error(&run(&brokers, &topic, &files, &["--partitions", "2"]));
    assert!(message.contains("has 1 partitions, not 2"), "{message}");
    let message = error(&run(&brokers, &topic, &files, &["--partition-by", "file"]));
    assert!(message.contains("2 files cannot have a partition each"), "{message}");
    let message = error(&run(&brokers, &topic, &files, &["--timestamps", "event"]));
    assert!(message.contains("keeps messages for 1.0 days by their timestamps"), "{message}");
    assert_eq!(open(&brokers, &topic).description().partitions[0].end, Some(0));
    assert_eq!(summary(&run(&brokers, &topic, &files, &["--json"]))["acknowledged"], 2);
    let message = error(&run(&brokers, &topic, &files, &["-X", "acks=0"]));
    assert!(message.contains("`acks` must be all"), "{message}");
    let message = error(&run(&brokers, &topic, &[directory.path().join("none.csv")], &[]));
    assert!(message.contains("no such file"), "{message}");
}
