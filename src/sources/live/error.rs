//! What can go wrong with a live log. Every message is one line that names broker, topic and partition and says what to do.

use std::path::PathBuf;

use crate::secret::SecretError;

use super::super::compression::Compression;
use super::super::error::{FormatError, SourceError};

/// A live log that cannot be read, or not be read on.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No broker answers. It may come back.
    #[error(
        "Kafka at {brokers} does not answer within {seconds} s ({reason}); check that it runs, that kafka.brokers is right, and that the addresses it advertises can be reached from here"
    )]
    Unreachable {
        /// As configured.
        brokers: String,
        /// How long was waited.
        seconds: u64,
        /// What librdkafka says.
        reason: String,
    },
    /// The login or the TLS handshake fails.
    #[error(
        "Kafka at {brokers} refuses the login: {reason}; check security.protocol, sasl.* and ssl.* among kafka.properties"
    )]
    Login {
        /// As configured.
        brokers: String,
        /// What librdkafka says.
        reason: String,
    },
    /// An operation that the user may not do.
    #[error("Kafka at {brokers}, topic `{topic}`: this user may not {what}; grant it {operation} on the topic")]
    Forbidden {
        /// As configured.
        brokers: String,
        /// The topic.
        topic: String,
        /// What was refused.
        what: &'static str,
        /// Kafka's name for it.
        operation: &'static str,
    },
    /// No such topic.
    #[error("Kafka at {brokers} has no topic `{topic}`; create it, or correct kafka.topic")]
    NoTopic {
        /// As configured.
        brokers: String,
        /// The topic.
        topic: String,
    },
    /// The topic forgets records by key, so that its log is not the same twice (contract, section 5).
    #[error(
        "topic `{topic}` is compacted (cleanup.policy = {policy}): records vanish from its middle, so that nothing can be repeated; use a topic with cleanup.policy = delete"
    )]
    Compacted {
        /// The topic.
        topic: String,
        /// Its policy.
        policy: String,
    },
    /// Another topic has the name now.
    #[error(
        "topic `{topic}` was deleted and made anew while it was read; its offsets mean other records now: start anew with an empty state directory"
    )]
    Recreated {
        /// The topic.
        topic: String,
    },
    /// Records are gone before they were read (contract, section 5). With `--accept-loss` the run goes on from `to`.
    #[error(
        "topic `{topic}`, partition {partition}: the records of offsets {from} to {} are gone (retention, or deleted): keep records longer (retention.ms), or go on without them with --accept-loss",
        to.saturating_sub(1)
    )]
    Lost {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The first offset that is gone: where reading was to go on.
        from: u64,
        /// The first offset that is there.
        to: u64,
    },
    /// The log ends before the offset where reading is to go on.
    #[error(
        "{input}, partition {partition}: reading is to go on at offset {position}, but the log ends at {end}: it was cut off or made anew; restore it, or start anew with an empty state directory"
    )]
    Beyond {
        /// The topic or file.
        input: String,
        /// The partition.
        partition: u32,
        /// Where reading is to go on.
        position: u64,
        /// The offset after the last record.
        end: u64,
    },
    /// What the broker sends cannot be read, again and again.
    #[error(
        "Kafka at {brokers}, topic `{topic}`, partition {partition}: cannot read on at offset {position}: {reason}; check the broker's log and disk"
    )]
    Unreadable {
        /// As configured.
        brokers: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// Where reading stopped.
        position: u64,
        /// What librdkafka says.
        reason: String,
    },
    /// A property that cannot be, or that would break what Eddyline promises.
    #[error("kafka.properties: `{name}` {reason}")]
    Property {
        /// The property.
        name: String,
        /// What about it, and what to do.
        reason: String,
    },
    /// The properties do not fit each other, or a file that they name cannot be read.
    #[error("kafka.properties: no client can be made of them: {reason}")]
    Client {
        /// What librdkafka says.
        reason: String,
    },
    /// A property's secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A setting of `source.*` that cannot be.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A followed input that cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A packed file does not grow by lines.
    #[error(
        "{input} is packed ({compression}), and packed files cannot be followed; unpack it, or use eddyline replay"
    )]
    Packed {
        /// The input.
        input: String,
        /// How it is packed.
        compression: Compression,
    },
    /// Another file has the name now.
    #[error(
        "{} was removed, or replaced by another file, while it was followed; let the file grow, and begin a new one under another name",
        path.display()
    )]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// What is growing has no content to be known by.
    #[error("a growing file or pipe cannot be known by its content: give the log a name with --log-name")]
    NoLogName,
    /// A pipe's earlier lines are gone.
    #[error(
        "{input} cannot be read from line {offset} on, as it is no file: save it to a file and follow that, or start anew with an empty state directory"
    )]
    NoWayBack {
        /// The input.
        input: String,
        /// The line.
        offset: u64,
    },
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl LiveError {
    /// Whether the same may succeed later. Errors of reading that heal by themselves are not reported at all.
    pub fn is_retryable(&self) -> bool {
        matches!(self, LiveError::Unreachable { .. } | LiveError::Thread(_))
    }
}
