//! What a replay is told, resolved: the configuration's sections mapped to the rooms that they configure.

use super::ReplayError;
use super::feed::Stamping;
use crate::config::{Algorithm as AlgorithmWord, Config, Exclude as ExcludeWord, Header as HeaderWord, Late, Reward, TimeUnit as TimeUnitWord};
use crate::model::algorithm::Algorithm;
use crate::model::rank::Model;
use crate::pipeline::Settings;
use crate::progress::Progress;
use crate::sinks::embedded::OtherPipeline;
use crate::sources::columns::Header;
use crate::sources::files::{CHUNK_BYTES, FileLog, Options};
use crate::sources::format::{Delimiter, Style, TimeUnit};
use dataflows::evaluate::Evaluate;
use dataflows::event::Time;
use dataflows::popular::Popular;
use dataflows::recommend::{Exclude, Recommend};
use dataflows::time::{LatePolicy, Steps, Window};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Sequences are this long where neither configuration nor model say (contract, section 3).
const LENGTH_DEFAULT: usize = 10;

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

impl ReplayPlan {
    /// How files are read.
    pub(super) fn source(&self) -> Result<Options, ReplayError> {
        let source = &self.config.source;
        let delimiter: Delimiter = char::from(source.delimiter).to_string().parse()?;
        let style = Style {
            delimiter,
            time_unit: self.time_unit(),
            behaviors: self.config.behaviors.names.clone(),
        };
        // A first chunk of every file waits until the last one has its turn.
        let chunk_bytes = (FIRST_CHUNKS_BYTES / self.files.len().max(1)).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES);
        Ok(Options {
            columns: source.columns.to_string().parse()?,
            header: match source.header {
                HeaderWord::Auto => Header::Auto,
                HeaderWord::Present => Header::Present,
                HeaderWord::Absent => Header::Absent,
            },
            style,
            log_name: self.log_name.clone(),
            chunk_bytes,
        })
    }

    /// The unit of the log's times.
    pub fn time_unit(&self) -> TimeUnit {
        match self.config.source.time_unit {
            TimeUnitWord::Seconds => TimeUnit::Seconds,
            TimeUnitWord::Milliseconds => TimeUnit::Milliseconds,
        }
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
        if let Some(until) = self.until.filter(|until| until % tick.length() != 0) {
            return Err(ReplayError::Until { until, tick: tick.length() });
        }
        let length = match (recent.length, history) {
            (Some(length), Some(history)) if length != history => return Err(ReplayError::History { length, history }),
            (length, history) => length.or(history).unwrap_or(LENGTH_DEFAULT),
        };
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
    pub(super) fn fingerprint(&self, log: &FileLog, settings: &Settings, model: Option<&str>) -> String {
        let parts = Value::Object(self.fingerprint_parts(log, settings, model));
        blake3::hash(parts.to_string().as_bytes()).to_hex().to_string()
    }

    /// What the fingerprint is made of.
    pub(super) fn fingerprint_parts(&self, log: &FileLog, settings: &Settings, model: Option<&str>) -> Map<String, Value> {
        let Dataflows { popular, recent, recommend } = self.dataflows;
        let journal = self.journal.as_ref().and_then(|path| std::fs::read(path).ok());
        let parts = json!({
            "log": log.id(),
            "configuration": self.config.fingerprint(settings.length),
            "model": model,
            "journal": journal.map(|bytes| blake3::hash(&bytes).to_hex().to_string()),
            "until": self.until,
            "dataflows": [popular, recent, recommend],
        });
        match parts {
            Value::Object(parts) => parts,
            _ => Map::new(),
        }
    }
}

fn steps(length: Time) -> Steps {
    Steps::new(length).expect("the configuration checked that it is not zero")
}
