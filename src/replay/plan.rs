//! What a replay is told, resolved: the configuration's sections mapped to the rooms that they configure.

use super::feed::Stamping;
use super::{ReplayError, Shared};
use crate::cluster::{Agreement, Cluster};
use crate::config::{Config, Ids};
use crate::journal::Journal;
use crate::model::rank::Model;
use crate::pipeline::Settings;
use crate::plan::{self, Dataflows, Processes};
use crate::progress::Progress;
use crate::sinks::identity::OtherPipeline;
use crate::sources::FileLog;
use dataflows::event::Time;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Process 0's wish for the rows of all outputs, which it writes.
pub(super) const WANTS_ROWS: &str = "rows";

/// What a replay is to do: everything that the command line and the configuration say, resolved.
#[derive(Clone, Debug)]
pub struct ReplayPlan {
    /// The configuration.
    pub config: Config,
    /// The log's files in the order of their partitions; `-` is standard input, at most once. Nothing was opened yet.
    pub files: Vec<PathBuf>,
    /// Worker threads of this process: 1 ..= [`crate::plan::WORKERS_MAX`].
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

impl ReplayPlan {
    /// The processes, and this one's place among them.
    pub(super) fn cluster(&self) -> Cluster {
        plan::cluster(self.workers, self.processes.as_ref())
    }

    /// What all processes must have in common: input, and everything that changes results or operators. And what process
    /// 0 decides, whose store and files they are.
    pub(super) fn agreement(
        &self,
        shared: &Shared,
        model: Option<&str>,
        wants_rows: bool,
    ) -> Result<Agreement, ReplayError> {
        let wishes = if wants_rows { vec![WANTS_ROWS.to_owned()] } else { Vec::new() };
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
        plan::is_first(self.processes.as_ref())
    }

    /// Workers of all processes.
    pub(super) fn peers(&self) -> usize {
        self.workers * self.processes.as_ref().map_or(1, |processes| processes.addresses.len())
    }

    /// Reads the model directory, if one is configured and matters: it scores, gives sequences their length, and knows the
    /// indices that outputs may show.
    pub(super) fn load_model(&self) -> Result<Option<Arc<Model>>, ReplayError> {
        let matters = self.dataflows.recent || self.shows_model();
        Ok(if matters { plan::load_model(&self.config)? } else { None })
    }

    /// The pipeline's settings, next to a model.
    pub(super) fn settings(&self, model: Option<&Arc<Model>>) -> Result<Settings, ReplayError> {
        let settings = plan::settings(&self.config, self.dataflows, model).map_err(ReplayError::Configuration)?;
        let evaluate = self.evaluate.then(|| plan::evaluate(&self.config, self.dataflows, model));
        Ok(Settings { evaluate, until: self.until.unwrap_or(Time::MAX), ..settings })
    }

    /// Whether results depend on what the model holds, and not only on the length of its histories.
    pub(super) fn shows_model(&self) -> bool {
        self.dataflows.recommend || self.config.output.ids == Ids::Model
    }

    /// The rules that rows are stamped by; whether rows are wanted is process 0's decision.
    pub(super) fn stamping(&self) -> Stamping {
        let time = &self.config.time;
        Stamping {
            lateness: time.lateness.ms(),
            late: plan::late(&self.config),
            jump_max: self.config.source.max_jump.map(|jump| jump.ms()),
            tick: plan::steps(time.tick.ms()),
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
