//! Properties of librdkafka: what Eddyline needs, what users may add, and what they may not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaConfRes;

use crate::secret::Secret;

use super::super::live::LiveError;

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Reads a topic.
    Consumer,
    /// Asks about topics.
    Admin,
    /// Writes a topic.
    Producer,
}

/// What may not be set at all, and why.
const REFUSED: [(&str, &str); 17] = [
    ("bootstrap.servers", "is kafka.brokers; set that instead"),
    ("metadata.broker.list", "is kafka.brokers; set that instead"),
    ("group.id", "is kafka.group; set that instead"),
    ("group.instance.id", "is for consumers that share partitions by a group, which Eddyline's do not; leave it out"),
    ("group.protocol", "is for consumers that share partitions by a group, which Eddyline's do not; leave it out"),
    (
        "partition.assignment.strategy",
        "is for consumers that share partitions by a group, which Eddyline's do not; leave it out",
    ),
    ("auto.commit.enable", "would commit offsets that are not durable yet; leave it out"),
    ("auto.commit.interval.ms", "would commit offsets that are not durable yet; leave it out"),
    ("offset.store.method", "would commit offsets that are not durable yet; leave it out"),
    ("statistics.interval.ms", "is Eddyline's own, which watches for stalls by it; leave it out"),
    ("transactional.id", "has no use: Eddyline makes no transactions; leave it out"),
    ("plugin.library.paths", "loads foreign code into the process, which Eddyline does not allow; leave it out"),
    ("builtin.features", "cannot be changed; leave it out"),
    ("log.queue", "is Eddyline's own; leave it out"),
    ("message.timeout.ms", "would give messages up that the broker may take later; leave it out"),
    ("delivery.timeout.ms", "would give messages up that the broker may take later; leave it out"),
    ("delivery.report.only.error", "would hide what arrived; leave it out"),
];

/// What must be as it is, and why.
const FIXED: [(Role, &str, &str, &str); 10] = [
    (Role::Consumer, "enable.auto.commit", "false", "others would see offsets that are not durable yet"),
    (Role::Consumer, "enable.auto.offset.store", "false", "others would see offsets that are not durable yet"),
    (Role::Consumer, "auto.offset.reset", "error", "lost records would be passed over in silence"),
    (Role::Consumer, "isolation.level", "read_committed", "records of aborted transactions would count"),
    (Role::Consumer, "check.crcs", "true", "corrupt records would count"),
    (Role::Consumer, "enable.partition.eof", "true", "idle partitions would not be noticed"),
    (Role::Consumer, "allow.auto.create.topics", "false", "a misspelt topic would be made and found empty"),
    (Role::Producer, "enable.idempotence", "true", "messages would come twice or in another order"),
    (Role::Producer, "acks", "all", "messages would be lost with a broker"),
    (Role::Producer, "request.required.acks", "all", "messages would be lost with a broker"),
];

/// What is better than librdkafka's own defaults here, and may be changed.
const DEFAULTS: [(Role, &str, &str); 19] = [
    // The OpenSSL that is built in does not know where this system has its certificates; librdkafka knows many places.
    (Role::Consumer, "ssl.ca.location", "probe"),
    (Role::Admin, "ssl.ca.location", "probe"),
    (Role::Producer, "ssl.ca.location", "probe"),
    // A broker answers at once when there is something; this only bounds how long a new partition waits for its turn.
    (Role::Consumer, "fetch.wait.max.ms", "100"),
    (Role::Consumer, "fetch.error.backoff.ms", "100"),
    // With a bounded queue its default of a second would be most of the time.
    (Role::Consumer, "fetch.queue.backoff.ms", "5"),
    (Role::Consumer, "reconnect.backoff.max.ms", "2000"),
    (Role::Consumer, "topic.metadata.refresh.interval.ms", "10000"),
    (Role::Consumer, "socket.keepalive.enable", "true"),
    (Role::Admin, "reconnect.backoff.max.ms", "2000"),
    (Role::Admin, "topic.metadata.refresh.interval.ms", "10000"),
    (Role::Admin, "socket.keepalive.enable", "true"),
    (Role::Producer, "reconnect.backoff.max.ms", "2000"),
    (Role::Producer, "socket.keepalive.enable", "true"),
    (Role::Producer, "compression.type", "lz4"),
    (Role::Producer, "linger.ms", "20"),
    (Role::Producer, "batch.size", "1000000"),
    // As Java's producers do, so that a user's messages are in one partition whoever writes them.
    (Role::Producer, "partitioner", "murmur2_random"),
    (Role::Producer, "queue.buffering.max.kbytes", "65536"),
];

/// librdkafka's configuration for `role`; `own` are properties that the caller decides.
///
/// # Errors
/// A property that is refused, unknown or has a value that cannot be, by name; a secret that cannot be read.
pub(crate) fn client_config(
    role: Role,
    brokers: &str,
    properties: &BTreeMap<String, Secret>,
    own: &[(&str, &str)],
) -> Result<ClientConfig, LiveError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("client.id", "eddyline");
    for (_, name, value) in DEFAULTS.iter().filter(|(of, ..)| *of == role) {
        config.set(*name, *value);
    }
    for (name, value) in own {
        config.set(*name, *value);
    }
    for (name, value) in properties {
        let value = value.reveal()?;
        check(name, &value)?;
        if is_for(role, name) {
            config.set(name, value);
        }
    }
    // An alias of another name, which librdkafka would take for a second value.
    for (_, name, value, _) in FIXED.iter().filter(|(of, name, ..)| *of == role && *name != "request.required.acks") {
        config.set(*name, *value);
    }
    config.create_native_config().map_err(refused)?;
    Ok(config)
}

fn check(name: &str, value: &str) -> Result<(), LiveError> {
    let error = |reason: String| Err(LiveError::Property { name: name.to_owned(), reason });
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return error((*reason).to_owned());
    }
    match FIXED.iter().find(|(_, fixed, ..)| *fixed == name) {
        Some((_, _, fixed, why)) if !is_same(fixed, value) => error(format!("must be {fixed}, or {why}; leave it out")),
        _ => Ok(()),
    }
}

fn is_same(fixed: &str, given: &str) -> bool {
    fixed == given || (fixed == "all" && given == "-1")
}

/// Whether a client of `role` knows the property; one set of properties is for all.
fn is_for(role: Role, name: &str) -> bool {
    const CONSUMER_PREFIXES: [&str; 5] = ["fetch.", "queued.", "max.poll.", "max.partition.", "check.crcs"];
    const PRODUCER: [&str; 13] = [
        "compression.type",
        "compression.codec",
        "compression.level",
        "linger.ms",
        "queue.buffering.max.ms",
        "batch.size",
        "batch.num.messages",
        "partitioner",
        "retries",
        "message.send.max.retries",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "request.timeout.ms",
    ];
    let is_consumers = CONSUMER_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let is_producers = PRODUCER.contains(&name) || name.starts_with("queue.buffering.") || name.starts_with("sticky.");
    match role {
        Role::Consumer => !is_producers,
        Role::Admin => !is_consumers && !is_producers,
        Role::Producer => !is_consumers,
    }
}

/// librdkafka's refusal without the value, which may be a secret.
fn refused(error: KafkaError) -> LiveError {
    match error {
        KafkaError::ClientConfig(kind, description, name, _) => {
            const SECRET: [&str; 6] = ["password", "secret", "pem", "token", "oauthbearer", "username"];
            let reason = match kind {
                RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN => "is unknown to librdkafka; correct its name".to_owned(),
                _ if SECRET.iter().any(|part| name.contains(part)) => {
                    "has a value that cannot be; correct it".to_owned()
                }
                _ => format!("has a value that cannot be ({description}); correct it"),
            };
            LiveError::Property { name, reason }
        }
        other => LiveError::Client { reason: other.to_string() },
    }
}

/// The error of a client that could not be made.
pub(crate) fn not_made(error: KafkaError) -> LiveError {
    match error {
        KafkaError::ClientCreation(reason) => LiveError::Client { reason },
        other => refused(other),
    }
}

/// What librdkafka tells a client outside of its answers.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// The last refused login, which librdkafka goes on trying.
    login: Mutex<Option<String>>,
    /// The last failure to reach a broker.
    unreachable: Mutex<Option<String>>,
    /// Where the fetchers are, by partition; see [`super::stall`].
    pub(super) fetching: Mutex<BTreeMap<i32, i64>>,
    failed_commits: AtomicU64,
}

impl Context {
    /// Why brokers refuse the login, if they do.
    pub(crate) fn login_error(&self) -> Option<String> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why no broker could be reached last.
    pub(crate) fn reach_error(&self) -> Option<String> {
        self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters is told by whoever knows what it means; an outage would fill the log.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", "{facility}: {message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::info!(target: "librdkafka", "{facility}: {message}");
            }
            _ => tracing::debug!(target: "librdkafka", "{facility}: {message}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        if let Some(positions) = super::stall::fetch_positions(statistics) {
            *self.fetching.lock().unwrap_or_else(PoisonError::into_inner) = positions;
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let place = match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::SSL,
            ) => &self.login,
            _ => &self.unreachable,
        };
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        tracing::debug!(target: "librdkafka", "{reason}");
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        let Err(error) = result else { return };
        // Said once: it changes nothing for the run, and is repeated with every snapshot.
        if self.failed_commits.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                "cannot commit offsets for others to see: {error}; is another program a member of the group (kafka.group)?"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(role: Role, properties: &[(&str, &str)]) -> Result<ClientConfig, LiveError> {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
        client_config(role, "127.0.0.1:1", &properties, &[("group.id", "g")])
    }

    #[test]
    fn what_would_break_a_promise_is_refused_by_name() {
        for (property, expected) in [
            (("enable.auto.commit", "true"), "`enable.auto.commit` must be false, or others would see"),
            (("auto.offset.reset", "earliest"), "`auto.offset.reset` must be error, or lost records"),
            (("isolation.level", "read_uncommitted"), "`isolation.level` must be read_committed"),
            (("enable.idempotence", "false"), "`enable.idempotence` must be true"),
            (("acks", "1"), "`acks` must be all"),
            (("group.id", "x"), "`group.id` is kafka.group"),
            (("plugin.library.paths", "/tmp/x.so"), "`plugin.library.paths` loads foreign code"),
            (("no.such.thing", "1"), "`no.such.thing` is unknown to librdkafka"),
            (("fetch.wait.max.ms", "never"), "`fetch.wait.max.ms` has a value that cannot be (Invalid value"),
        ] {
            let message = made(Role::Consumer, &[property]).expect_err(expected).to_string();
            assert!(message.starts_with("kafka.properties: ") && message.contains(expected), "{message}");
            assert!(!message.contains('\n'));
        }
    }

    #[test]
    fn values_that_are_secret_do_not_show() {
        let message = made(Role::Consumer, &[("ssl.key.pem", "hunter2")])
            .map(|_| ())
            .map_or_else(|error| error.to_string(), |()| String::new());
        assert!(!message.contains("hunter2"), "{message}");
        let config = made(Role::Consumer, &[("sasl.password", "hunter2")]).expect("a password");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn one_set_of_properties_is_for_all_clients() {
        let properties =
            [("sasl.username", "u"), ("fetch.wait.max.ms", "7"), ("linger.ms", "3"), ("check.crcs", "true")];
        let consumer = made(Role::Consumer, &properties).expect("good");
        assert_eq!((consumer.get("fetch.wait.max.ms"), consumer.get("linger.ms")), (Some("7"), None));
        let producer = made(Role::Producer, &properties).expect("good");
        assert_eq!((producer.get("fetch.wait.max.ms"), producer.get("linger.ms")), (None, Some("3")));
        assert_eq!(producer.get("sasl.username"), Some("u"));
        assert_eq!(made(Role::Admin, &properties).expect("good").get("linger.ms"), None);
    }

    #[test]
    fn the_systems_certificates_are_trusted_unless_others_are_named() {
        for role in [Role::Consumer, Role::Admin, Role::Producer] {
            let location = |properties| made(role, properties).expect("good").get("ssl.ca.location").map(str::to_owned);
            assert_eq!(location(&[]).as_deref(), Some("probe"));
            assert_eq!(location(&[("ssl.ca.location", "/etc/own.pem")]).as_deref(), Some("/etc/own.pem"));
        }
    }
}
