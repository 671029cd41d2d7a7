//! Why a log cannot be produced.

use crate::sources::SourceError;
use crate::sources::live::LiveError;

/// A log that cannot be produced, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The files.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The cluster, its topic, or the properties.
    #[error(transparent)]
    Kafka(#[from] LiveError),
    /// The topic is missing, and nothing says how to make it.
    #[error("Kafka at {brokers} has no topic `{topic}`; correct --topic, or give --partitions N to create it")]
    NoTopic {
        /// As configured.
        brokers: String,
        /// The topic.
        topic: String,
    },
    /// The topic could not be made.
    #[error("Kafka at {brokers} does not create the topic `{topic}`: {reason}")]
    NotCreated {
        /// As configured.
        brokers: String,
        /// The topic.
        topic: String,
        /// What the cluster says.
        reason: String,
    },
    /// The topic is there and is another than the one asked for.
    #[error("topic `{topic}` has {found} partitions, not {wanted}; leave --partitions out, or choose another topic")]
    OtherPartitions {
        /// The topic.
        topic: String,
        /// How many it has.
        found: u32,
        /// How many were asked for.
        wanted: u32,
    },
    /// A partition a file needs as many partitions.
    #[error(
        "{files} files cannot have a partition each in topic `{topic}`, which has {partitions}; add partitions, or choose another --partition-by"
    )]
    TooFewPartitions {
        /// The topic.
        topic: String,
        /// How many it has.
        partitions: u32,
        /// How many files there are.
        files: usize,
    },
    /// The broker would delete the messages at once, by their timestamps.
    #[error(
        "topic `{topic}` keeps messages for {days:.1} days by their timestamps, and the events of {input} are {age_days:.0} days old: they would be deleted; set the topic's retention.ms to -1, or give --timestamps now"
    )]
    TooOld {
        /// The topic.
        topic: String,
        /// The file.
        input: String,
        /// How long messages are kept.
        days: f64,
        /// How old the file's first event is.
        age_days: f64,
    },
    /// The broker refuses a message for good.
    #[error("Kafka at {brokers}, topic `{topic}`, partition {partition}: refuses a message: {reason}")]
    Refused {
        /// As configured.
        brokers: String,
        /// The topic.
        topic: String,
        /// The partition, or -1 where none was chosen yet.
        partition: i32,
        /// What the broker says.
        reason: String,
    },
}

impl ProduceError {
    /// Whether the same may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, ProduceError::Kafka(error) if error.is_retryable())
    }
}
