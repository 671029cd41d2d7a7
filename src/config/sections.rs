//! The resolved configuration: plain data, every value checked.

use super::columns::{Columns, Header};
use super::duration::Duration;
use super::time_format::TimeFormat;
use super::training::{Device, TensorBoard};
use super::words::{Algorithm, EmbeddingLoss, EmbeddingMethod, Exclude, Format, Ids, Late, Reward, TimeUnit};
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
    /// How models are trained.
    pub train: TrainSection,
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

/// Section 8 of the contract, `train`. Where a default depends on what is trained, `None` stands for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainSection {
    /// Times through the training parts, at least 1.
    pub epochs: Option<u32>,
    /// Step size of Adam, above 0.
    pub lr: Option<f64>,
    /// Samples a step, at least 4.
    pub batch: Option<usize>,
    /// What everything random follows from.
    pub seed: u64,
    /// Epochs without a better metric on held-out samples after which training stops; `None` holds none out.
    pub patience: Option<u32>,
    /// Where tensors are.
    pub device: Device,
    /// Threads of libtorch, at least 1; `None` leaves it to libtorch.
    pub threads: Option<usize>,
    /// Time between checkpoints; zero: one after every batch.
    pub checkpoint: Duration,
    /// Where TensorBoard's event files go.
    pub tensorboard: TensorBoard,
    /// How embeddings are made.
    pub method: EmbeddingMethod,
    /// d, at least 1.
    pub dim: usize,
    /// What the two towers minimise.
    pub loss: EmbeddingLoss,
    /// H, at least 1.
    pub history: usize,
    /// h, at least 1.
    pub hidden: usize,
    /// γ, 0 to 1.
    pub gamma: f64,
    /// K of the top-K correction, at least 1.
    pub top_k: u32,
    /// The most that an importance weight counts, above 0.
    pub weight_clip: f64,
    /// The gap that ends a session.
    pub session_gap: Duration,
    /// τ, 0 to 1.
    pub tau: Option<f64>,
    /// How much DDPG's actor is kept to the log's actions, from 0.
    pub behavior_weight: f64,
    /// λ of BCQ, 0 to 1.
    pub lambda: f64,
    /// Actions that BCQ samples for a target, at least 1.
    pub actions: usize,
    /// The weight of the KL term in BCQ's generator, from 0.
    pub kl_weight: f64,
}

/// Section 5 of the contract, the consistency contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StateSection {
    /// The directory of the journal and the snapshots.
    pub dir: PathBuf,
    /// The object store that has a copy of it: `s3://bucket/prefix`.
    pub remote: Option<String>,
    /// Settings of that store's client.
    pub remote_options: BTreeMap<String, Secret>,
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
