//! What a replay is told, resolved: the configuration's sections mapped to the rooms that they configure.

use super::ReplayError;
use super::feed::Stamping;
use crate::config::Config;
use crate::config::words::{Exclude as ExcludeWord, Late, Reward};
use crate::model::rank::Model;
use crate::pipeline::Settings;
use crate::sinks::embedded::OtherPipeline;
use crate::sources::files::{FileLog, Options};
use dataflows::evaluate::Evaluate;
use dataflows::event::Time;
use dataflows::popular::Popular;
use dataflows::recommend::{Exclude, Recommend};
use dataflows::time::{LatePolicy, Steps, Window};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// Sequences are this long where neither configuration nor model say (contract, section 3).
const LENGTH_DEFAULT: usize = 10;

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

/// Everything that a replay is told.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Partitions 0, 1, …; `-` is standard input.
    pub inputs: Vec<PathBuf>,
    /// How they are read.
    pub source: Options,
    /// The configuration.
    pub config: Config,
    /// Worker threads in this process.
    pub workers: usize,
    /// The embedded store.
    pub store: Option<PathBuf>,
    /// What if it holds another pipeline's results.
    pub other_pipeline: OtherPipeline,
    /// Directory of the canonical files.
    pub out: Option<PathBuf>,
    /// Compare recommendations with what came.
    pub evaluate: bool,
    /// A rejected record is an error.
    pub strict: bool,
    /// Stop at this frontier, ms.
    pub until: Option<Time>,
    /// Decisions to repeat.
    pub journal: Option<PathBuf>,
    /// What runs.
    pub dataflows: Dataflows,
}

impl Plan {
    /// Reads the model directory, if one is configured.
    pub(super) fn load_model(&self) -> Result<Option<Arc<Model>>, ReplayError> {
        let Some(dir) = self.config.model.dir.as_ref().filter(|_| self.dataflows.recommend) else { return Ok(None) };
        let algorithm = self.config.model.algorithm.into();
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
