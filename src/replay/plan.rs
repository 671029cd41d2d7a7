//! What a replay is told, resolved: the configuration's sections mapped to the rooms that they configure.

use super::feed::Stamping;
use super::{ReplayError, Shared};
use crate::cluster::{Agreement, Cluster};
use crate::config::{
    Algorithm as AlgorithmWord, Config, ConfigError, Exclude as ExcludeWord, Header as HeaderWord, Ids, Late, Reward,
    TimeUnit as TimeUnitWord,
};
use crate::journal::Journal;
use crate::model::algorithm::Algorithm;
use crate::model::rank::Model;
use crate::pipeline::Settings;
use crate::progress::Progress;
use crate::sinks::identity::OtherPipeline;
use crate::sinks::ids::{Indices, OutputIds};
use crate::sources::files::CHUNK_BYTES;
use crate::sources::{Dialect, FileLog, FormatError, Header, Options, TimeUnit};
use dataflows::evaluate::Evaluate;
use dataflows::evaluation::Offered;
use dataflows::event::Time;
use dataflows::popular::Popular;
use dataflows::recommend::{Exclude, Recommend};
use dataflows::time::{LatePolicy, Steps, Window};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// About how much text all first chunks may have together.
const FIRST_CHUNKS_BYTES: usize = 64 << 20;
const CHUNK_BYTES_MIN: usize = 16 << 10;

/// Process 0's wish for the rows of all outputs, which it writes.
pub(super) const WANTS_ROWS: &str = "rows";

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

/// What a replay is to do: everything that the command line and the configuration say, resolved.
#[derive(Clone, Debug)]
pub struct ReplayPlan {
    /// The configuration.
    pub config: Config,
    /// The log's files in the order of their partitions; `-` is standard input, at most once. Nothing was opened yet.
    pub files: Vec<PathBuf>,
    /// Worker threads of this process: 1 ..= [`WORKERS_MAX`].
    pub workers: usize,
    /// The processes, if there are several.
    pub processes: Option<Processes>,
    /// What runs.
    pub dataflows: Dataflows,
    /// The embedded store.
    pub store: Option<PathBuf>,
    /// What becomes of a store that holds the results of another pipeline.
    pub other_pipeline: OtherPipeline,
    /// The directory of the canonical files.
    pub out: Option<PathBuf>,
    /// Whether to evaluate.
    pub evaluate: bool,
    /// Whether the first rejected record is an error.
    pub strict: bool,
    /// The frontier at which to stop: a multiple of the tick.
    pub until: Option<Time>,
    /// The journal of the live run to repeat.
    pub journal: Option<PathBuf>,
    /// The log's name, if it is not known by its content.
    pub log_name: Option<String>,
    /// Where to show how far it is.
    pub progress: Progress,
    /// Becomes true when the user wants it to stop.
    pub stop: Arc<AtomicBool>,
}

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
    let dialect = Dialect {
        delimiter: char::from(source.delimiter).to_string().parse()?,
        time_unit: time_unit(config),
        behaviors: config.behaviors.names.clone(),
    };
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

impl ReplayPlan {
    /// The processes, and this one's place among them.
    pub(super) fn cluster(&self) -> Cluster {
        match &self.processes {
            None => Cluster::local(self.workers),
            Some(Processes { index, addresses }) => Cluster {
                workers: self.workers,
                processes: addresses.len(),
                index: *index,
                addresses: addresses.clone(),
                ..Cluster::default()
            },
        }
    }

    /// What all processes must have in common: input, and everything that changes results or operators. And what process
    /// 0 decides, whose store and files they are.
    pub(super) fn agreement(&self, shared: &Shared, model: Option<&str>) -> Result<Agreement, ReplayError> {
        let wishes = if self.wants_rows() { vec![WANTS_ROWS.to_owned()] } else { Vec::new() };
        if self.processes.is_none() {
            return Ok(Agreement { parts: Vec::new(), wishes });
        }
        let mut parts = Vec::new();
        for at in 0..shared.log.partitions().len() {
            let identity = shared.log.content_identity(at)?;
            let identity = identity.map_or("a pipe".to_owned(), |identity| identity.to_string());
            parts.push((format!("input {}, file {at}", self.files[at].display()), identity));
        }
        let digest = |value: &dyn std::fmt::Debug| blake3::hash(format!("{value:?}").as_bytes()).to_hex().to_string();
        let parts_of = self.fingerprint_parts(&shared.log, &shared.settings, &shared.journal, model);
        let own = [("configuration", "configuration"), ("model", "model"), ("journal", "journal")];
        parts.extend(own.map(|(name, key)| (name.to_owned(), digest(&parts_of.get(key)))));
        let flags =
            (self.dataflows, self.evaluate, self.until, self.config.recent.arrange, shared.log.partitions().len());
        parts.push(("flags".to_owned(), digest(&flags)));
        Ok(Agreement { parts, wishes })
    }

    /// Whether this process has a place to write rows to.
    pub(super) fn wants_rows(&self) -> bool {
        self.out.is_some() || self.store.is_some()
    }

    /// Whether this is the process that writes, or the only one.
    pub(super) fn is_first_process(&self) -> bool {
        self.processes.as_ref().is_none_or(|processes| processes.index == 0)
    }

    /// Workers of all processes.
    pub(super) fn peers(&self) -> usize {
        self.workers * self.processes.as_ref().map_or(1, |processes| processes.addresses.len())
    }

    /// Reads the model directory, if one is configured and matters: it scores, gives sequences their length, and knows the
    /// indices that outputs may show.
    pub(super) fn load_model(&self) -> Result<Option<Arc<Model>>, ReplayError> {
        let matters = self.dataflows.recent || self.shows_model();
        let Some(dir) = self.config.model.dir.as_ref().filter(|_| matters) else { return Ok(None) };
        let algorithm = match self.config.model.algorithm {
            AlgorithmWord::Reinforce => Algorithm::Reinforce,
            AlgorithmWord::Ddpg => Algorithm::Ddpg,
            AlgorithmWord::Bcq => Algorithm::Bcq,
        };
        Ok(Some(Arc::new(Model::load(dir, algorithm, self.config.model.seed)?)))
    }

    /// Whether results depend on what the model holds, and not only on the length of its histories.
    pub(super) fn shows_model(&self) -> bool {
        self.dataflows.recommend || self.config.output.ids == Ids::Model
    }

    /// The ids that the store shows.
    pub(super) fn output_ids(&self, model: Option<&Arc<Model>>) -> Result<OutputIds, ReplayError> {
        match (self.config.output.ids, model) {
            (Ids::Raw, _) => Ok(OutputIds::Raw),
            (Ids::Model, None) => Err(ReplayError::Configuration(ids_need_a_model())),
            (Ids::Model, Some(model)) => {
                let (of_users, of_items) = (model.clone(), model.clone());
                let users = Indices::new(model.users().len(), move |id| of_users.users().index(id));
                let items = Indices::new(model.items().len(), move |id| of_items.items().index(id));
                Ok(OutputIds::Model { users, items })
            }
        }
    }

    /// The pipeline's settings, next to a model.
    pub(super) fn settings(&self, model: Option<&Arc<Model>>) -> Result<Settings, ReplayError> {
        let Config { time, popular, recent, recommend, behaviors, .. } = &self.config;
        let tick = steps(time.tick.ms());
        let slide = steps(popular.slide.ms());
        let length =
            self.config.sequence_length(model.map(|model| model.history())).map_err(ReplayError::Configuration)?;
        let rewards = match recommend.reward {
            Reward::Count => Vec::new(),
            Reward::Weighted => behaviors.rewards.clone(),
        };
        let exclude = match recommend.exclude {
            ExcludeWord::None => Exclude::None,
            ExcludeWord::Recent => Exclude::Recent,
        };
        let window = Window::new(popular.window.ms(), slide).expect("the configuration checked that it is a multiple");
        let Dataflows { popular: lists, recent: sequences, recommend: recommendations } = self.dataflows;
        let offered = model.filter(|_| self.dataflows.recommend).cloned().map_or(Offered::default(), |model| {
            Offered::new(model.items().len(), move |item| model.items().index(item.0).is_some())
        });
        let evaluate = Evaluate { n: recommend.n, tick, slide, rewards: behaviors.rewards.clone(), offered };
        Ok(Settings {
            tick,
            popular: Popular {
                window,
                top: popular.top,
                weights: popular.weights.clone(),
                differences: recent.arrange,
                snapshots: false,
            },
            popular_enabled: lists,
            length,
            recent_enabled: sequences || recommendations,
            arrange: recent.arrange,
            recommend: Recommend { n: recommend.n, min_history: recommend.min_history, exclude, slide, rewards },
            recommend_enabled: recommendations,
            evaluate: self.evaluate.then_some(evaluate),
            snapshots: false,
            until: self.until.unwrap_or(Time::MAX),
        })
    }

    /// The rules that rows are stamped by; whether rows are wanted is process 0's decision.
    pub(super) fn stamping(&self) -> Stamping {
        let time = &self.config.time;
        Stamping {
            lateness: time.lateness.ms(),
            late: match time.late {
                Late::Drop => LatePolicy::Drop,
                Late::Admit => LatePolicy::Admit,
            },
            jump_max: self.config.source.max_jump.map(|jump| jump.ms()),
            tick: steps(time.tick.ms()),
            until: self.until.unwrap_or(Time::MAX),
            wants_rows: false,
        }
    }

    /// Equal for two replays just if all their results are, as far as both go: where a run stops is not part of it.
    pub(super) fn fingerprint(
        &self,
        log: &FileLog,
        settings: &Settings,
        journal: &Journal,
        model: Option<&str>,
    ) -> String {
        let parts = Value::Object(self.fingerprint_parts(log, settings, journal, model));
        blake3::hash(parts.to_string().as_bytes()).to_hex().to_string()
    }

    /// What the fingerprint is made of.
    pub(super) fn fingerprint_parts(
        &self,
        log: &FileLog,
        settings: &Settings,
        journal: &Journal,
        model: Option<&str>,
    ) -> Map<String, Value> {
        let Dataflows { popular, recent, recommend } = self.dataflows;
        let parts = json!({
            "log": log.id(),
            "configuration": self.config.fingerprint(settings.length),
            "model": model,
            "journal": journal.content_hash(),
            "dataflows": [popular, recent, recommend],
        });
        parts.as_object().cloned().unwrap_or_default()
    }
}

/// What is wrong with `output.ids = "model"` where no model is configured.
pub fn ids_need_a_model() -> ConfigError {
    let message = "output.ids = \"model\" needs a model's maps: give --model-dir DIR, or set output.ids to \"raw\"";
    ConfigError::Inconsistent(message.into())
}

fn steps(length: Time) -> Steps {
    Steps::new(length).expect("the configuration checked that it is not zero")
}
