//! A topic of Kafka as a live log (contract, sections 1, 2 and 5).
//!
//! ```text
//! KafkaLog::open ─→ topic id, partitions, begin and end of each          ┌ Monitor: ends of all partitions, again and again
//!     │                                                          process ┤
//!     └─ reader ─→ KafkaReader: a consumer, assigned and never subscribed ┘ one a worker
//! ```

pub(crate) mod config;
mod monitor;
pub(crate) mod native;
mod partition;
mod reader;
mod stall;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::error::RDKafkaErrorCode;

pub use reader::KafkaReader;

use crate::secret::Secret;

use self::config::{Context, Role, client_config};
use self::monitor::Monitor;
use self::native::{End, Failure, Topic};
use super::identity::LogId;
use super::live::{Extent, LiveError, LogDescription};
use super::message::MessageFormat;

/// How long a broker may take to answer at the start.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// What to read, and how.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// host:port, several divided by commas.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// The consumer group under which progress is shown to others.
    pub group: String,
    /// Further properties of librdkafka.
    pub properties: BTreeMap<String, Secret>,
    /// The log's name, from which its id is made; without one, the topic's id is.
    pub log_name: Option<String>,
    /// How messages are written.
    pub format: MessageFormat,
    /// How long a partition must be at its end to count as idle; its end is asked for four times in that, at least every
    /// second.
    pub idle: Duration,
    /// Whether the ends that are there when the log is opened are the ends of its partitions.
    pub until_end: bool,
    /// How much one worker may fetch ahead, in bytes.
    pub buffer_bytes: usize,
}

/// An open topic.
pub struct KafkaLog {
    shared: Arc<Shared>,
    description: LogDescription,
}

/// What readers share.
struct Shared {
    options: KafkaOptions,
    monitor: Monitor,
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog").field("description", &self.description).finish_non_exhaustive()
    }
}

impl KafkaLog {
    /// Looks at the topic and starts to watch its ends.
    ///
    /// # Errors
    /// No broker answers, or the topic is missing or compacted, or may not be read; see [`LiveError`].
    pub fn open(options: KafkaOptions) -> Result<KafkaLog, LiveError> {
        let client = admin(&options.brokers, &options.properties)?;
        let opened = Opening { client: &client, brokers: &options.brokers, topic: &options.topic };
        let topic = opened.describe()?;
        opened.refuse_compaction()?;
        let begins = opened.ends(topic, End::Begin)?;
        let ends = opened.ends(topic, End::Stable)?;
        let id = match &options.log_name {
            Some(name) => LogId::of_name(name),
            None => opened.id(topic)?,
        };
        let extent = |(begin, end)| Extent { begin, end: Some(end), bytes: None };
        let partitions = begins.into_iter().zip(ends).map(extent).collect();
        let description = LogDescription { id, name: format!("topic `{}`", options.topic), partitions };
        let monitor = Monitor::start(client, &options.brokers, &options.topic, topic, options.idle)?;
        Ok(KafkaLog { shared: Arc::new(Shared { options, monitor }), description })
    }

    /// What the topic was when it was opened.
    pub fn description(&self) -> &LogDescription {
        &self.description
    }

    /// The consumer of one worker, which reads about `share` partitions; `description` is that of process 0.
    pub fn reader(&self, description: &LogDescription, share: usize) -> KafkaReader {
        KafkaReader::new(Arc::clone(&self.shared), description, share)
    }
}

/// A client that asks about topics.
pub(crate) fn admin(brokers: &str, properties: &BTreeMap<String, Secret>) -> Result<AdminClient<Context>, LiveError> {
    let config = client_config(Role::Admin, brokers, properties, &[])?;
    config.create_with_context(Context::default()).map_err(config::not_made)
}

/// Questions about a topic, with errors that say what to do.
pub(crate) struct Opening<'a> {
    pub(crate) client: &'a AdminClient<Context>,
    pub(crate) brokers: &'a str,
    pub(crate) topic: &'a str,
}

impl Opening<'_> {
    /// The topic, as soon as a broker answers.
    pub(crate) fn describe(&self) -> Result<Topic, LiveError> {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        loop {
            let answer = native::describe(self.client.inner(), self.topic, Duration::from_secs(2));
            native::drain(self.client.inner());
            let failure = match answer {
                Ok(topic) => return Ok(topic),
                Err(failure) => failure,
            };
            let is_refused = self.client.inner().context().login_error().is_some();
            if !is_outage(failure.code) || is_refused || Instant::now() >= deadline {
                return Err(self.error(failure, "look at the topic", "Describe"));
            }
        }
    }

    fn ends(&self, topic: Topic, end: End) -> Result<Vec<u64>, LiveError> {
        let answers = native::ends(self.client.inner(), self.topic, 0..topic.partitions, end, OPEN_TIMEOUT);
        let answers = answers.and_then(|answers| answers.into_iter().collect());
        answers.map_err(|failure| self.error(failure, "ask for offsets of the topic", "Describe"))
    }

    /// One of the topic's settings.
    pub(crate) fn setting(&self, name: &str) -> Result<Option<String>, LiveError> {
        let options = AdminOptions::new().request_timeout(Some(OPEN_TIMEOUT));
        let answer = native::wait(self.client.describe_configs(&[ResourceSpecifier::Topic(self.topic)], &options));
        let failure = |code: RDKafkaErrorCode| {
            let failure = Failure { code, text: code.to_string() };
            self.error(failure, "look at the topic's settings", "DescribeConfigs")
        };
        let resources =
            answer.map_err(|error| failure(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)))?;
        match resources.into_iter().next() {
            Some(Ok(resource)) => Ok(resource.get(name).and_then(|entry| entry.value.clone())),
            Some(Err(code)) => Err(failure(code)),
            None => Ok(None),
        }
    }

    fn refuse_compaction(&self) -> Result<(), LiveError> {
        match self.setting("cleanup.policy")? {
            Some(policy) if policy.split(',').any(|policy| policy.trim() == "compact") => {
                Err(LiveError::Compacted { topic: self.topic.to_owned(), policy })
            }
            _ => Ok(()),
        }
    }

    /// The log's id: of the topic's own, or of its name in its cluster where brokers give topics no ids.
    fn id(&self, topic: Topic) -> Result<u64, LiveError> {
        if let Some(id) = topic.id {
            return Ok(LogId::of_topic(&id));
        }
        let cluster = native::cluster_id(self.client.inner(), OPEN_TIMEOUT).ok_or_else(|| {
            let text = "the cluster tells no id; give the log a name with --log-name".to_owned();
            self.error(Failure { code: RDKafkaErrorCode::OperationTimedOut, text }, "", "")
        })?;
        tracing::warn!(
            "topic `{}` has no id of its own: the log is known by cluster and name, so delete no topic of this name",
            self.topic
        );
        Ok(LogId::of_topic_name(&cluster, self.topic))
    }

    /// The error for a request that failed.
    pub(crate) fn error(&self, failure: Failure, what: &'static str, operation: &'static str) -> LiveError {
        let (brokers, topic) = (self.brokers.to_owned(), self.topic.to_owned());
        let context = self.client.inner().context();
        match failure.code {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                LiveError::NoTopic { brokers, topic }
            }
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
                LiveError::Forbidden { brokers, topic, what, operation }
            }
            RDKafkaErrorCode::InvalidTopic => LiveError::NoTopic { brokers, topic },
            _ => match context.login_error() {
                Some(reason) => LiveError::Login { brokers, reason },
                None => {
                    let reason = context.reach_error().unwrap_or(failure.text);
                    LiveError::Unreachable { brokers, seconds: OPEN_TIMEOUT.as_secs(), reason }
                }
            },
        }
    }
}

/// Whether a broker may answer yet.
fn is_outage(code: RDKafkaErrorCode) -> bool {
    !matches!(
        code,
        RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
    )
}
