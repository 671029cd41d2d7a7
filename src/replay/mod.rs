//! `replay`: files in, deterministic results out (contract, section 6).
//!
//! [`run()`] opens the log, model and sinks, starts the workers, and sums up. `feed` reads the log with exact logical times
//! on all workers; `drive` is a worker's loop; [`plan`] is what a run is told.

mod drive;
mod feed;
pub mod plan;
mod summary;
mod watch;

pub use crate::plan::{Dataflows, Processes, WORKERS_MAX, ids_need_a_model, source_options, time_unit};
pub use crate::sinks::identity::OtherPipeline;
pub use drive::Gauges;
pub use plan::ReplayPlan;
pub use summary::{Summary, Throughput};

use crate::cluster::{self, ClusterError, ExecuteError};
use crate::config::ConfigError;
use crate::journal::{Journal, JournalError};
use crate::model::error::ModelError;
use crate::model::rank::PolicyScorer;
use crate::pipeline::{self, Collected, Sending, Settings, Sinks};
use crate::sinks::canonical::CanonicalFiles;
use crate::sinks::embedded::{EmbeddedStore, StoreOptions};
use crate::sinks::identity::{Pipeline as SinkPipeline, RunIdentity};
use crate::sinks::ids::OutputIds;
use crate::sinks::set::{Pace, SinkSet};
use crate::sinks::stop::Stop;
use crate::sinks::{End, Rejected, Sink, SinkError};
use crate::sources::diagnose::explain;
use crate::sources::{FileLog, FormatError, Options, SourceError};
use dataflows::evaluation::Evaluation;
use dataflows::event::Time;
use dataflows::recommend::{NoModel, Scorer};
use drive::{Gossip, WorkError, drive};
pub use feed::FeedError;
use feed::{Feed, Stamping};
use plan::WANTS_ROWS;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use timely::worker::Worker;
use watch::Watch;

/// How many bytes of batches may wait for the sinks.
const SINK_QUEUE_BYTES: usize = 256 << 20;

/// Why a replay did not complete.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The input.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// How the input is to be read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The input, while it was read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The model directory.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What is written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// `--strict`, and a record was rejected: which, and why.
    #[error("{0} (--strict stops at the first record that is no event)")]
    Rejected(String),
    /// The model does not go with the configuration.
    #[error("{0}")]
    Configuration(#[source] ConfigError),
    /// The processes do not come together.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Ctrl-C or SIGTERM.
    #[error("stopped before the end; no result was completed")]
    Stopped,
}

impl From<ExecuteError<WorkError>> for ReplayError {
    fn from(error: ExecuteError<WorkError>) -> ReplayError {
        match error {
            ExecuteError::Cluster(error) => ReplayError::Cluster(error),
            ExecuteError::Work(WorkError::Feed(error)) => ReplayError::Feed(error),
            ExecuteError::Work(WorkError::Sink(error)) => ReplayError::Sink(error),
            ExecuteError::Work(WorkError::Stopped) => ReplayError::Stopped,
        }
    }
}

/// What a replay brings.
#[derive(Debug)]
pub struct Outcome {
    /// Counts and digests.
    pub summary: Summary,
    /// What the evaluation counted, if one was asked for.
    pub evaluation: Option<Evaluation>,
    /// How fast it went.
    pub throughput: Throughput,
}

/// Replays a log. `None` in all processes but the first.
///
/// # Errors
/// Anything that keeps the results from being complete; then no output looks whole.
pub fn run(plan: &ReplayPlan) -> Result<Option<Outcome>, ReplayError> {
    run_into(plan, Vec::new())
}

/// [`run`], with more sinks than the plan names. There are no other processes then.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_into(plan: &ReplayPlan, more: Vec<Box<dyn Sink>>) -> Result<Option<Outcome>, ReplayError> {
    let started = Instant::now();
    let gauges = &Arc::new(Gauges { stop: plan.stop.clone(), ..Gauges::default() });
    let options = source_options(&plan.config, plan.log_name.clone(), plan.files.len())?;
    let options = Options { reads_pipes: plan.is_first_process(), ..options };
    let log = Arc::new(FileLog::open(&plan.files, &options)?);
    let has_hints = warn_of_settings(&log)?;
    let journal = match &plan.journal {
        Some(path) => Journal::read(path, log.partitions().len())?,
        None => Journal::default(),
    };
    let model = plan.load_model()?;
    let settings = plan.settings(model.as_ref())?;
    let model_hash = model.as_ref().filter(|_| plan.shows_model()).map(|model| model.content_hash());
    let wants_rows = plan.wants_rows() || !more.is_empty();
    let sinks = match wants_rows && plan.is_first_process() {
        true => {
            let ids = crate::plan::output_ids(&plan.config, model.as_ref()).map_err(ReplayError::Configuration)?;
            let mut sinks = open_sinks(plan, &log, &settings, &journal, (model_hash.clone(), ids))?;
            sinks.extend(more);
            Some(SinkSet::spawn(sinks, Pace::Replay, SINK_QUEUE_BYTES, &Stop::default())?)
        }
        false => None,
    };
    let shared = Arc::new(Shared {
        log: log.clone(),
        journal,
        settings,
        stamping: plan.stamping(),
        sinks: Arc::new(Mutex::new(sinks)),
        gauges: gauges.clone(),
    });
    let (cluster, agreement) = (plan.cluster(), plan.agreement(&shared, model_hash.as_deref(), wants_rows)?);
    let watch = Watch::start(plan, &log, gauges);
    let for_workers = shared.clone();
    let outcomes = cluster::execute(&cluster, &agreement, move |worker, wishes| {
        let wants_rows = wishes.iter().any(|wish| wish == WANTS_ROWS);
        match &model {
            Some(model) => work(worker, &for_workers, wants_rows, PolicyScorer::new(model.clone())),
            None => work(worker, &for_workers, wants_rows, NoModel),
        }
    });
    // Also after an error, so that what was begun is taken away before the process ends.
    let sinks = shared.sinks.lock().unwrap_or_else(PoisonError::into_inner).take();
    let done = outcomes.map_err(ReplayError::from)?.into_iter().flatten().next();
    let Some(done) = done else { return Ok(None) };
    let (summary, evaluation) = finish(plan, &log, done, sinks, model_hash, started)?;
    // What looks wrong with the settings says why, and has been told.
    if let Some(warning) = summary.no_events().filter(|_| !has_hints) {
        tracing::warn!("{warning}");
    }
    Ok(Some(Outcome { summary, evaluation, throughput: watch.finish() }))
}

/// Warns where the first lines of a file look as if they were meant to be read otherwise. Says whether any do.
fn warn_of_settings(log: &FileLog) -> Result<bool, SourceError> {
    let mut has_hints = false;
    for (at, partition) in log.partitions().iter().enumerate() {
        for hint in log.diagnose(at)? {
            tracing::warn!("{}: {hint}", partition.input());
            has_hints = true;
        }
    }
    Ok(has_hints)
}

/// What all workers of a process share.
struct Shared {
    log: Arc<FileLog>,
    journal: Journal,
    settings: Settings,
    stamping: Stamping,
    /// Worker 0 sends to them.
    sinks: Sinks,
    gauges: Arc<Gauges>,
}

/// What worker 0 brings home.
struct Done {
    collected: Collected,
    evaluation: Option<Evaluation>,
}

/// One worker, from start to end. `None` from all but worker 0.
fn work(
    worker: &mut Worker,
    shared: &Shared,
    wants_rows: bool,
    scorer: impl Scorer + 'static,
) -> Result<Option<Done>, WorkError> {
    let done = complete(worker, shared, wants_rows, scorer);
    if done.is_err() {
        shared.gauges.stop.store(true, Ordering::Relaxed);
    }
    done
}

fn complete(
    worker: &mut Worker,
    shared: &Shared,
    wants_rows: bool,
    scorer: impl Scorer + 'static,
) -> Result<Option<Done>, WorkError> {
    let (index, peers) = (worker.index(), worker.peers());
    let gossip = Gossip::build(worker);
    let sending = (wants_rows && index == 0).then(|| Sending::new(shared.sinks.clone()));
    let pipeline = pipeline::build(worker, &shared.settings, scorer, sending, wants_rows);
    let (collected, evaluation) = (pipeline.collected.clone(), pipeline.evaluation.clone());
    let advances = |partition| shared.journal.advances(partition);
    let stamping = Stamping { wants_rows, ..shared.stamping };
    let feed = Feed::new(shared.log.clone(), stamping, &advances, index, peers)?;
    drive(worker, feed, pipeline, gossip, &shared.gauges)?;
    let collected = collected.replace(Collected::new(shared.settings.popular.window, None));
    let evaluation = evaluation.take();
    Ok((index == 0).then_some(Done { collected, evaluation }))
}

fn open_sinks(
    plan: &ReplayPlan,
    log: &FileLog,
    settings: &Settings,
    journal: &Journal,
    (model, ids): (Option<String>, OutputIds),
) -> Result<Vec<Box<dyn Sink>>, ReplayError> {
    let behaviors = &plan.config.behaviors.names;
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if let Some(directory) = &plan.out {
        sinks.push(Box::new(CanonicalFiles::create(directory, behaviors).map_err(SinkError::from)?));
    }
    if let Some(path) = &plan.store {
        let options = StoreOptions {
            path: path.clone(),
            run: RunIdentity {
                pipeline: SinkPipeline {
                    fingerprint: plan.fingerprint(log, settings, journal, model.as_deref()),
                    parts: plan.fingerprint_parts(log, settings, journal, model.as_deref()),
                },
                epoch: None,
                log: log.id(),
                behaviors: behaviors.clone(),
                model,
                tick: settings.tick,
                slide: settings.popular.window.slide().length(),
                ids,
                other_pipeline: plan.other_pipeline,
            },
            commit_rows: StoreOptions::REPLAY_COMMIT_ROWS,
            lock_wait: StoreOptions::LOCK_WAIT,
        };
        sinks.push(Box::new(EmbeddedStore::open(options).map_err(SinkError::from)?));
    }
    Ok(sinks)
}

/// Completes the sinks, and sums up.
fn finish(
    plan: &ReplayPlan,
    log: &FileLog,
    mut done: Done,
    sinks: Option<SinkSet>,
    model: Option<String>,
    started: Instant,
) -> Result<(Summary, Option<Evaluation>), ReplayError> {
    let collected = &mut done.collected;
    if let Some(rejected) = collected.report.first_rejected.as_ref().filter(|_| plan.strict) {
        return Err(strict(log, rejected));
    }
    let last = collected.last_list(plan.until).cloned();
    if let Some(sinks) = sinks {
        let frontier = plan.until.map_or(Time::MAX, |until| until.saturating_add(1));
        sinks.finish(End { frontier, popular: last })?;
    }
    collected.digests.late = collected.report.late;
    collected.digests.rejected = collected.report.rejected;
    let summary = Summary::new(plan, log, collected, model, started.elapsed());
    Ok((summary, done.evaluation))
}

fn strict(log: &FileLog, rejected: &Rejected) -> ReplayError {
    let Rejected { position, reason, record } = rejected;
    let partition = &log.partitions()[position.partition() as usize];
    ReplayError::Rejected(explain(partition.format(), partition.input(), position.offset(), *reason, record))
}
