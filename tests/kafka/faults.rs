//! What cannot be read is refused, in words that help.

use super::cluster::{self, add_partitions, create, delete, delete_records, produce, topic, unused_name};
use super::*;

fn refused(options: KafkaOptions) -> String {
    let message = KafkaLog::open(options).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn a_missing_topic_is_named() {
    let Some(brokers) = cluster::shared() else { return };
    let topic = unused_name();
    let message = refused(options(&brokers, &topic));
    assert_eq!(message, format!("Kafka at {brokers} has no topic `{topic}`; create it, or correct kafka.topic"));
    let message = refused(options(&brokers, "no such/name"));
    assert!(message.contains("has no topic `no such/name`"), "{message}");
}

#[test]
fn compacted_topics_are_refused() {
    let Some(brokers) = cluster::shared() else { return };
    for policy in ["compact", "compact,delete"] {
        let topic = unused_name();
        create(&brokers, &topic, 1, &[("cleanup.policy", policy)]);
        let message = refused(options(&brokers, &topic));
        assert!(message.starts_with(&format!("topic `{topic}` is compacted (cleanup.policy = ")), "{message}");
    }
}

#[test]
fn records_that_are_gone_are_a_loss_that_can_be_accepted() {
    let Some(brokers) = cluster::shared() else { return };
    let topic = topic(&brokers, 1);
    produce(&brokers, &topic, 0, &["a", "b", "c", "d", "e"]);
    let log = open(&brokers, &topic);
    delete_records(&brokers, &topic, 0, 3);
    let mut reader = reader(&log, &[1]);
    let error = failure(&mut reader);
    assert!(matches!(error, LiveError::Lost { partition: 0, from: 1, to: 3, .. }), "{error}");
    assert!(error.to_string().contains("partition 0: the records of offsets 1 to 2 are gone"), "{error}");
    reader.assign(0, 3).unwrap();
    let mut read = Read::new();
    read_until(&mut reader, &mut read, |_, read| total(read) == 2);
    assert_eq!(read[&0][0], (3, "d".to_owned()));
    // Known at the start, it is told at once.
    let log = open(&brokers, &topic);
    let error = log.reader(log.description(), 1).assign(0, 2).unwrap_err();
    assert!(matches!(error, LiveError::Lost { from: 2, to: 3, .. }), "{error}");
}

#[test]
fn a_log_that_ends_before_the_offset_is_another_one() {
    let Some(brokers) = cluster::shared() else { return };
    let topic = topic(&brokers, 1);
    produce(&brokers, &topic, 0, &["a", "b"]);
    let log = open(&brokers, &topic);
    let error = failure(&mut reader(&log, &[5]));
    assert!(matches!(error, LiveError::Beyond { partition: 0, position: 5, end: 2, .. }), "{error}");
}

#[test]
fn a_topic_made_anew_is_noticed() {
    let Some(brokers) = cluster::shared() else { return };
    let topic = topic(&brokers, 1);
    produce(&brokers, &topic, 0, &["a"]);
    let log = open(&brokers, &topic);
    let mut reader = reader(&log, &[0]);
    let mut read = Read::new();
    read_until(&mut reader, &mut read, |_, read| total(read) == 1);
    delete(&brokers, &topic);
    // The name is free when all brokers have forgotten it.
    std::thread::sleep(Duration::from_secs(1));
    create(&brokers, &topic, 1, &[]);
    add_partitions(&brokers, &topic, 2);
    let error = failure(&mut reader);
    assert!(matches!(error, LiveError::Recreated { .. } | LiveError::Beyond { .. }), "{error}");
    assert_ne!(open(&brokers, &topic).description().id, log.description().id);
}

#[test]
fn logins_and_certificates_are_passed_on_and_their_failures_told() {
    let (Some(brokers), Some(tls)) = (cluster::shared(), cluster::variable("EDDYLINE_TEST_KAFKA_TLS")) else { return };
    let topic = topic(&brokers, 1);
    produce(&brokers, &topic, 0, &["a"]);
    let login = std::env::var("EDDYLINE_TEST_KAFKA_LOGIN").unwrap();
    let (user, password) = login.split_once(':').unwrap();
    let authority = std::env::var("EDDYLINE_TEST_KAFKA_CA").unwrap();
    let with = |mechanism: &str, password: &str| {
        let properties = [
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", mechanism),
            ("sasl.username", user),
            ("sasl.password", password),
            ("ssl.ca.location", &authority),
        ];
        let properties = properties.map(|(name, value)| (name.to_owned(), secret(value))).into();
        KafkaOptions { properties, ..options(&tls, &topic) }
    };
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let log = KafkaLog::open(with(mechanism, password)).unwrap();
        let mut reader = reader(&log, &[0]);
        read_until(&mut reader, &mut Read::new(), |_, read| total(read) == 1);
        let message = refused(with(mechanism, "wrong-password"));
        assert!(message.starts_with(&format!("Kafka at {tls} refuses the login: ")), "{message}");
        assert!(!message.contains("wrong-password") && !format!("{:?}", with(mechanism, password)).contains(password));
    }
    let message =
        refused(KafkaOptions { properties: BTreeMap::from([("acks".into(), secret("0"))]), ..options(&tls, &topic) });
    assert!(message.contains("`acks` must be all"), "{message}");
}

#[test]
fn brokers_that_are_not_there_may_come_back() {
    if cluster::shared().is_none() {
        return;
    }
    let error = KafkaLog::open(options("127.0.0.1:9", "events")).unwrap_err();
    assert!(
        error.is_retryable() && error.to_string().contains("Kafka at 127.0.0.1:9 does not answer within 30 s"),
        "{error}"
    );
}
