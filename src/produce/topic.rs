//! The topic: made if it is missing, and fit for what will be sent.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dataflows::event::Time;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};

use super::error::ProduceError;
use super::{PartitionBy, Produce, Timestamps};
use crate::sources::kafka::config::Context;
use crate::sources::kafka::{Opening, admin, native};
use crate::sources::live::LiveError;

/// How long a cluster may take to make a topic.
const CREATE_TIMEOUT: Duration = Duration::from_secs(60);

/// What there is to write to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Topic {
    pub(super) partitions: u32,
    pub(super) created: bool,
    /// For how many milliseconds after their timestamps messages are kept; `None` keeps them for ever.
    retention_ms: Option<u64>,
}

/// Finds the topic or makes it.
pub(super) fn prepare(produce: &Produce) -> Result<Topic, ProduceError> {
    let client = admin(&produce.brokers, &produce.properties)?;
    let opening = Opening { client: &client, brokers: &produce.brokers, topic: &produce.topic };
    let topic = match (opening.describe(), produce.partitions) {
        (Ok(found), wanted) => {
            let partitions = found.partitions;
            if let Some(wanted) = wanted.filter(|&wanted| wanted != partitions) {
                return Err(ProduceError::OtherPartitions { topic: produce.topic.clone(), found: partitions, wanted });
            }
            Topic { partitions, created: false, retention_ms: retention(&opening, produce)? }
        }
        (Err(LiveError::NoTopic { .. }), Some(partitions)) => {
            create(&client, &opening, produce, partitions)?;
            Topic { partitions, created: true, retention_ms: None }
        }
        (Err(LiveError::NoTopic { brokers, topic }), None) => return Err(ProduceError::NoTopic { brokers, topic }),
        (Err(error), _) => return Err(error.into()),
    };
    let files = produce.files.len();
    if produce.partition_by == PartitionBy::File && files > topic.partitions as usize {
        let (topic, partitions) = (produce.topic.clone(), topic.partitions);
        return Err(ProduceError::TooFewPartitions { topic, partitions, files });
    }
    Ok(topic)
}

fn create(
    client: &AdminClient<Context>,
    opening: &Opening<'_>,
    produce: &Produce,
    partitions: u32,
) -> Result<(), ProduceError> {
    let failed = |reason: String| {
        let (brokers, topic) = (produce.brokers.clone(), produce.topic.clone());
        ProduceError::NotCreated { brokers, topic, reason }
    };
    let count = i32::try_from(partitions).unwrap_or(i32::MAX);
    // The cluster's own replication. Old events must not be deleted for their age.
    let new = NewTopic::new(&produce.topic, count, TopicReplication::Fixed(-1)).set("retention.ms", "-1");
    let options = AdminOptions::new().operation_timeout(Some(CREATE_TIMEOUT)).request_timeout(Some(CREATE_TIMEOUT));
    let results = native::wait(client.create_topics([&new], &options)).map_err(|error| failed(error.to_string()))?;
    for result in results {
        result.map_err(|(_, code)| failed(code.to_string()))?;
    }
    // A broker may hear of it a little later.
    let deadline = Instant::now() + CREATE_TIMEOUT;
    while let Err(error) = opening.describe() {
        if !matches!(error, LiveError::NoTopic { .. }) || Instant::now() >= deadline {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn retention(opening: &Opening<'_>, produce: &Produce) -> Result<Option<u64>, ProduceError> {
    if produce.timestamps == Timestamps::Now {
        return Ok(None);
    }
    // The broker's own time is not the event's.
    if opening.setting("message.timestamp.type")?.as_deref() == Some("LogAppendTime") {
        return Ok(None);
    }
    if !opening.setting("cleanup.policy")?.is_some_and(|policy| policy.contains("delete")) {
        return Ok(None);
    }
    Ok(opening.setting("retention.ms")?.and_then(|milliseconds| milliseconds.parse().ok()))
}

impl Topic {
    /// Whether the broker would keep a message with the time of an event.
    pub(super) fn keeps(&self, topic: &str, input: &str, time: Time) -> Result<(), ProduceError> {
        const DAY_MS: f64 = 86_400_000.0;
        let age_ms = now_ms().saturating_sub(time);
        match self.retention_ms {
            Some(retention_ms) if age_ms > retention_ms => Err(ProduceError::TooOld {
                topic: topic.to_owned(),
                input: input.to_owned(),
                days: retention_ms as f64 / DAY_MS,
                age_days: age_ms as f64 / DAY_MS,
            }),
            _ => Ok(()),
        }
    }
}

/// Milliseconds since 1970 by the clock on the wall.
pub(super) fn now_ms() -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
