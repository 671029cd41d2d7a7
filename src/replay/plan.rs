//! What a replay is told, resolved: the configuration's sections mapped to the rooms that they configure.

use super::feed::Stamping;
use super::{ReplayError, Shared};
use crate::cluster::{Agreement, Cluster};
use crate::config::{
    Algorithm as AlgorithmWord, Config, Exclude as ExcludeWord, Header as HeaderWord, Late, Reward,
    TimeUnit as TimeUnitWord,
};
use crate::model::algorithm::Algorithm;
use crate::model::rank::Model;
use crate::pipeline::Settings;
use crate::progress::Progress;
use crate::sinks::embedded::OtherPipeline;
use crate::sources::files::CHUNK_BYTES;
use crate::sources::{Dialect, FileLog, FormatError, Header, Options, TimeUnit};
use dataflows::evaluate::Evaluate;
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
    Ok(Options { columns: source.columns.to_string().parse()?, header, dialect, log_name, chunk_bytes })
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

    /// What all processes must have in common: input, and everything that changes results or operators.
    pub(super) fn agreement(&self, shared: &Shared, model: Option<&str>) -> Result<Agreement, ReplayError> {
        if self.processes.is_none() {
            return Ok(Agreement::default());
        }
        let mut parts = Vec::new();
        for at in 0..shared.log.partitions().len() {
            // Standard input is process 0's alone.
            if let Some(identity) = shared.log.content_identity(at)? {
                parts.push((format!("input {}, file {at}", self.files[at].display()), identity.to_string()));
            }
        }
        let digest = |value: &dyn std::fmt::Debug| blake3::hash(format!("{value:?}").as_bytes()).to_hex().to_string();
        let parts_of = self.fingerprint_parts(&shared.log, &shared.settings, model)?;
        let own = [("configuration", "configuration"), ("model", "model"), ("journal", "journal")];
        parts.extend(own.map(|(name, key)| (name.to_owned(), digest(&parts_of.get(key)))));
        let flags =
            (self.dataflows, self.evaluate, self.until, self.config.recent.arrange, shared.log.partitions().len());
        parts.push(("flags".to_owned(), digest(&flags)));
        Ok(Agreement { parts })
    }

    /// Whether this is the process that writes, or the only one.
    pub(super) fn is_first_process(&self) -> bool {
        self.processes.as_ref().is_none_or(|processes| processes.index == 0)
    }

    /// Workers of all processes.
    pub(super) fn peers(&self) -> usize {
        self.workers * self.processes.as_ref().map_or(1, |processes| processes.addresses.len())
    }

    /// Reads the model directory, if one is configured.
    pub(super) fn load_model(&self) -> Result<Option<Arc<Model>>, ReplayError> {
        let Some(dir) = self.config.model.dir.as_ref().filter(|_| self.dataflows.recommend) else { return Ok(None) };
        let algorithm = match self.config.model.algorithm {
            AlgorithmWord::Reinforce => Algorithm::Reinforce,
            AlgorithmWord::Ddpg => Algorithm::Ddpg,
            AlgorithmWord::Bcq => Algorithm::Bcq,
        };
        Ok(Some(Arc::new(Model::load(dir, algorithm, self.config.model.seed)?)))
    }

    /// The pipeline's settings, for a model with histories of `history`.
    pub(super) fn settings(&self, history: Option<usize>) -> Result<Settings, ReplayError> {
        let Config { time, popular, recent, recommend, behaviors, .. } = &self.config;
        let tick = steps(time.tick.ms());
        let slide = steps(popular.slide.ms());
        let length = self.config.sequence_length(history).map_err(ReplayError::Configuration)?;
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
        let evaluate = Evaluate { n: recommend.n, tick, slide, rewards: behaviors.rewards.clone() };
        Ok(Settings {
            tick,
            popular: Popular { window, top: popular.top, weights: popular.weights.clone() },
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

    /// The rules that rows are stamped by.
    pub(super) fn stamping(&self, wants_rows: bool) -> Stamping {
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
            wants_rows,
        }
    }

    /// Equal for two replays just if all their results are.
    pub(super) fn fingerprint(
        &self,
        log: &FileLog,
        settings: &Settings,
        model: Option<&str>,
    ) -> Result<String, ReplayError> {
        let parts = Value::Object(self.fingerprint_parts(log, settings, model)?);
        Ok(blake3::hash(parts.to_string().as_bytes()).to_hex().to_string())
    }

    /// What the fingerprint is made of.
    pub(super) fn fingerprint_parts(
        &self,
        log: &FileLog,
        settings: &Settings,
        model: Option<&str>,
    ) -> Result<Map<String, Value>, ReplayError> {
        let Dataflows { popular, recent, recommend } = self.dataflows;
        let journal = match &self.journal {
            Some(path) => {
                Some(std::fs::read(path).map_err(|error| ReplayError::Fingerprint { path: path.clone(), error })?)
            }
            None => None,
        };
        let parts = json!({
            "log": log.id(),
            "configuration": self.config.fingerprint(settings.length),
            "model": model,
            "journal": journal.map(|bytes| blake3::hash(&bytes).to_hex().to_string()),
            "until": self.until,
            "dataflows": [popular, recent, recommend],
        });
        Ok(parts.as_object().cloned().unwrap_or_default())
    }
}

fn steps(length: Time) -> Steps {
    Steps::new(length).expect("the configuration checked that it is not zero")
}
