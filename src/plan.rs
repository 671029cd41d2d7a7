//! From the configuration to the rooms that it configures: what replays and live runs have in common.

use crate::cluster::Cluster;
use crate::config::{
    Algorithm as AlgorithmWord, Config, ConfigError, Exclude as ExcludeWord, Header as HeaderWord, Ids, Late, Reward,
    TimeUnit as TimeUnitWord,
};
use crate::model::algorithm::Algorithm;
use crate::model::error::ModelError;
use crate::model::rank::Model;
use crate::pipeline::Settings;
use crate::sinks::ids::{Indices, OutputIds};
use crate::sources::files::CHUNK_BYTES;
use crate::sources::{Dialect, FormatError, Header, Options, TimeUnit};
use dataflows::evaluate::Evaluate;
use dataflows::evaluation::Offered;
use dataflows::event::Time;
use dataflows::popular::Popular;
use dataflows::recommend::{Exclude, Recommend};
use dataflows::time::{LatePolicy, Steps, Window};
use std::sync::Arc;

/// About how much text all first chunks may have together.
const FIRST_CHUNKS_BYTES: usize = 64 << 20;
const CHUNK_BYTES_MIN: usize = 16 << 10;

/// Which of the dataflows run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dataflows {
    /// Trending lists.
    pub popular: bool,
    /// Sequences.
    pub recent: bool,
    /// Recommendations, which need sequences.
    pub recommend: bool,
}

impl Default for Dataflows {
    fn default() -> Dataflows {
        Dataflows { popular: true, recent: true, recommend: true }
    }
}

/// The most worker threads that a process may have.
pub const WORKERS_MAX: usize = 1024;

/// Several processes, of which this is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processes {
    /// Which one: an index into `addresses`.
    pub index: usize,
    /// `host:port` of each, at least two.
    pub addresses: Vec<String>,
}

/// How the configuration says that `files` files are read.
///
/// # Errors
/// If it says so in a way that the reader does not know; the configuration's own checks come before.
pub fn source_options(config: &Config, log_name: Option<String>, files: usize) -> Result<Options, FormatError> {
    let source = &config.source;
    let dialect = dialect(config)?;
    let header = match source.header {
        HeaderWord::Auto => Header::Auto,
        HeaderWord::Present => Header::Present,
        HeaderWord::Absent => Header::Absent,
    };
    // A first chunk of every file waits until the last one has its turn.
    let chunk_bytes = (FIRST_CHUNKS_BYTES / files.max(1)).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES);
    let columns = source.columns.to_string().parse()?;
    Ok(Options { columns, header, dialect, log_name, chunk_bytes, reads_pipes: true })
}

/// The unit of the log's times.
pub fn time_unit(config: &Config) -> TimeUnit {
    match config.source.time_unit {
        TimeUnitWord::Seconds => TimeUnit::Seconds,
        TimeUnitWord::Milliseconds => TimeUnit::Milliseconds,
    }
}

/// What lines look like.
///
/// # Errors
/// As [`source_options`].
pub fn dialect(config: &Config) -> Result<Dialect, FormatError> {
    Ok(Dialect {
        delimiter: char::from(config.source.delimiter).to_string().parse()?,
        time_unit: time_unit(config),
        behaviors: config.behaviors.names.clone(),
    })
}

/// The processes of a run, and this one's place among them.
pub(crate) fn cluster(workers: usize, processes: Option<&Processes>) -> Cluster {
    match processes {
        None => Cluster::local(workers),
        Some(Processes { index, addresses }) => Cluster {
            workers,
            processes: addresses.len(),
            index: *index,
            addresses: addresses.clone(),
            ..Cluster::default()
        },
    }
}

/// Whether this is the process that writes, or the only one.
pub(crate) fn is_first(processes: Option<&Processes>) -> bool {
    processes.is_none_or(|processes| processes.index == 0)
}

/// Reads the model directory, if one is configured.
pub(crate) fn load_model(config: &Config) -> Result<Option<Arc<Model>>, ModelError> {
    let Some(dir) = &config.model.dir else { return Ok(None) };
    let algorithm = match config.model.algorithm {
        AlgorithmWord::Reinforce => Algorithm::Reinforce,
        AlgorithmWord::Ddpg => Algorithm::Ddpg,
        AlgorithmWord::Bcq => Algorithm::Bcq,
    };
    Ok(Some(Arc::new(Model::load(dir, algorithm, config.model.seed)?)))
}

/// The ids that stores show.
pub(crate) fn output_ids(config: &Config, model: Option<&Arc<Model>>) -> Result<OutputIds, ConfigError> {
    match (config.output.ids, model) {
        (Ids::Raw, _) => Ok(OutputIds::Raw),
        (Ids::Model, None) => Err(ids_need_a_model()),
        (Ids::Model, Some(model)) => {
            let (of_users, of_items) = (model.clone(), model.clone());
            let users = Indices::new(model.users().len(), move |id| of_users.users().index(id));
            let items = Indices::new(model.items().len(), move |id| of_items.items().index(id));
            Ok(OutputIds::Model { users, items })
        }
    }
}

/// What is wrong with `output.ids = "model"` where no model is configured.
pub fn ids_need_a_model() -> ConfigError {
    let message = "output.ids = \"model\" needs a model's maps: give --model-dir DIR, or set output.ids to \"raw\"";
    ConfigError::Inconsistent(message.into())
}

/// The pipeline's settings, next to a model: without an evaluation, to the end of the log, and without snapshots.
pub(crate) fn settings(
    config: &Config,
    dataflows: Dataflows,
    model: Option<&Arc<Model>>,
) -> Result<Settings, ConfigError> {
    let Config { time, popular, recent, recommend, behaviors, .. } = config;
    let slide = steps(popular.slide.ms());
    let length = config.sequence_length(model.map(|model| model.history()))?;
    let rewards = match recommend.reward {
        Reward::Count => Vec::new(),
        Reward::Weighted => behaviors.rewards.clone(),
    };
    let exclude = match recommend.exclude {
        ExcludeWord::None => Exclude::None,
        ExcludeWord::Recent => Exclude::Recent,
    };
    let window = Window::new(popular.window.ms(), slide).expect("the configuration checked that it is a multiple");
    let Dataflows { popular: lists, recent: sequences, recommend: recommendations } = dataflows;
    Ok(Settings {
        tick: steps(time.tick.ms()),
        popular: Popular {
            window,
            top: popular.top,
            weights: popular.weights.clone(),
            differences: popular.arrange,
            snapshots: false,
        },
        popular_enabled: lists,
        length,
        recent_enabled: sequences || recommendations,
        arrange: recent.arrange,
        recommend: Recommend { n: recommend.n, min_history: recommend.min_history, exclude, slide, rewards },
        recommend_enabled: recommendations,
        evaluate: None,
        until: Time::MAX,
        snapshots: false,
    })
}

/// How recommendations are compared with what comes.
pub(crate) fn evaluate(config: &Config, dataflows: Dataflows, model: Option<&Arc<Model>>) -> Evaluate {
    let offered = model.filter(|_| dataflows.recommend).cloned().map_or(Offered::default(), |model| {
        Offered::new(model.items().len(), move |item| model.items().index(item.0).is_some())
    });
    Evaluate {
        n: config.recommend.n,
        tick: steps(config.time.tick.ms()),
        slide: steps(config.popular.slide.ms()),
        rewards: config.behaviors.rewards.clone(),
        offered,
    }
}

/// What becomes of late events.
pub(crate) fn late(config: &Config) -> LatePolicy {
    match config.time.late {
        Late::Drop => LatePolicy::Drop,
        Late::Admit => LatePolicy::Admit,
    }
}

/// Steps of a length that the configuration has checked.
pub(crate) fn steps(length: Time) -> Steps {
    Steps::new(length).expect("the configuration checked that it is not zero")
}
