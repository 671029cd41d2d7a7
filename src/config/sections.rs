//! The resolved configuration: plain data, every value checked.

use super::columns::{Columns, Header};
use super::duration::Duration;
use super::time_format::TimeFormat;
use super::words::{Algorithm, Exclude, Format, Ids, Late, Reward, TimeUnit};
use crate::secret::Secret;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that the configuration says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Lateness and ticks.
    pub time: TimeSection,
    /// Trending items.
    pub popular: PopularSection,
    /// Sequences.
    pub recent: RecentSection,
    /// Recommendations.
    pub recommend: RecommendSection,
    /// Who scores.
    pub model: ModelSection,
    /// How records are read.
    pub source: SourceSection,
    /// The set of behaviours.
    pub behaviors: BehaviorSection,
    /// The shape of outputs.
    pub output: OutputSection,
    /// Where a live run keeps what it needs to go on.
    pub state: StateSection,
    /// Where live events come from.
    pub kafka: KafkaSection,
    /// Where live results go.
    pub stores: StoreSections,
    /// What a live run tells over HTTP.
    pub serve: ServeSection,
}

/// Section 2 of the contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimeSection {
    /// Disorder that is waited for; may be zero.
    pub lateness: Duration,
    /// What happens to late events.
    pub late: Late,
    /// Length of a tick, not zero.
    pub tick: Duration,
    /// How long a live partition must be at its end to count as idle, not zero.
    pub idle: Duration,
}

/// Section 3 of the contract, *popular*.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PopularSection {
    /// Length of the window: a multiple of `slide`.
    pub window: Duration,
    /// Distance of window ends: a multiple of the tick, not zero.
    pub slide: Duration,
    /// Length of the list, at least 1.
    pub top: usize,
    /// How much an event counts, by behaviour; as many as there are behaviours, not all zero.
    pub weights: Vec<u32>,
    /// Whether the counts are also arranged, which nothing reads yet.
    pub arrange: bool,
}

/// Section 3 of the contract, *recent*.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecentSection {
    /// Length of a sequence, at least 1; `None` takes the model's, see [`Config::sequence_length`].
    pub length: Option<usize>,
    /// Whether the sequences are also arranged, which nothing reads yet.
    pub arrange: bool,
}

/// Section 3 of the contract, *recommend*.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecommendSection {
    /// Length of a recommendation, at least 1.
    pub n: usize,
    /// The shortest sequence that gets one, at least 1.
    pub min_history: usize,
    /// What is never recommended.
    pub exclude: Exclude,
    /// What a hit adds to `last_reward`.
    pub reward: Reward,
}

/// Section 4 of the contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSection {
    /// The model directory; not looked at yet.
    pub dir: Option<PathBuf>,
    /// Which policy of it.
    pub algorithm: Algorithm,
    /// Where BCQ's latent vectors come from; `None` uses zero.
    pub seed: Option<u64>,
}

/// Section 1 of the contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceSection {
    /// How a record is written.
    pub format: Format,
    /// Where its fields are.
    pub columns: Columns,
    /// The ASCII character between them.
    pub delimiter: u8,
    /// Whether line 0 is a header.
    pub header: Header,
    /// Unit of the times.
    pub time_unit: TimeUnit,
    /// The largest step forward in a partition that is believed; `None` believes all.
    pub max_jump: Option<Duration>,
}

/// Section 1 of the contract: the behaviours, by index.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BehaviorSection {
    /// As they stand in the log; not empty, all different, at most 256.
    pub names: Vec<String>,
    /// What an event of each is worth; as many as there are names.
    pub rewards: Vec<i64>,
}

/// Section 5 of the contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputSection {
    /// Which ids the stores hold.
    pub ids: Ids,
    /// How MongoDB holds times.
    pub time_format: TimeFormat,
    /// IANA name of a known zone, for times as text; see [`super::time_zone`].
    pub time_zone: String,
    /// Whether MongoDB holds integers that fit as int32.
    pub int32: bool,
    /// Length of `userConsumed`, at least 1.
    pub consumed_max: usize,
    /// What Redis keys begin with.
    pub redis_prefix: String,
}

/// Section 5 of the contract, the consistency contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StateSection {
    /// The directory of the journal and the snapshots.
    pub dir: PathBuf,
    /// The least time between two snapshots, not zero.
    pub snapshot_interval: Duration,
}

/// The topic of a live run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KafkaSection {
    /// `host:port`, several divided by commas.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// The group under which progress is shown.
    pub group: String,
    /// Further properties of librdkafka.
    pub properties: BTreeMap<String, Secret>,
}

/// The sections `embedded`, `mongodb`, `mysql` and `redis`: the stores of a live run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoreSections {
    /// The embedded store's file.
    pub embedded: Option<PathBuf>,
    /// MongoDB's address.
    pub mongodb_uri: Option<Secret>,
    /// MongoDB's database.
    pub mongodb_database: String,
    /// The address of MySQL or MariaDB, with the database.
    pub mysql_url: Option<Secret>,
    /// The address of Redis.
    pub redis_url: Option<Secret>,
    /// Whether Redis also gets the keys `1`, `2`, … of the old deployment.
    pub redis_legacy_keys: bool,
}

/// Section 7 of the contract, as far as a live run has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServeSection {
    /// `host:port`.
    pub listen: Option<String>,
}
