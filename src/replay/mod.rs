//! `replay`: files in, deterministic results out (contract, section 6).
//!
//! [`run()`] opens the log, model and sinks, starts the workers, and sums up. [`feed`] reads the log with exact logical times
//! on all workers; [`drive`] is a worker's loop; [`plan`] is what a run is told.

mod drive;
mod feed;
pub mod plan;
mod summary;
mod watch;

pub use drive::Gauges;
pub use crate::sinks::embedded::OtherPipeline;
pub use plan::{Dataflows, Processes, ReplayPlan, WORKERS_MAX};
pub use summary::{Summary, Throughput};

use crate::journal::{Journal, JournalError};
use crate::model::error::ModelError;
use crate::model::rank::PolicyScorer;
use crate::pipeline::{self, Collected, Sending, Settings};
use crate::sinks::canonical::CanonicalFiles;
use crate::sinks::embedded::{EmbeddedStore, Pipeline as StorePipeline, StoreOptions};
use crate::sinks::thread::SinkThread;
use crate::sinks::{End, Rejected, Sink, SinkError};
use crate::sources::error::{FormatError, SourceError};
use crate::sources::files::FileLog;
use dataflows::evaluation::Evaluation;
use dataflows::event::Time;
use dataflows::recommend::{NoModel, Scorer};
use drive::{Ended, Gossip, drive};
pub use feed::FeedError;
use feed::{Feed, Stamping};
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
    /// `--strict`, and a record was rejected.
    #[error("{input}, line {line}: {reason} (--strict stops at the first record that is no event)", line = offset + 1)]
    Rejected {
        /// The file.
        input: String,
        /// The record's offset.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The sequence length and the model's do not agree.
    #[error("recent.length is {length}, and the model takes histories of {history}: leave recent.length out, or set it to {history}")]
    History {
        /// As configured.
        length: usize,
        /// The model's.
        history: usize,
    },
    /// `--until` is not the end of a tick.
    #[error("--until {until} is not a multiple of time.tick ({tick} ms)")]
    Until {
        /// As given, ms.
        until: Time,
        /// The tick, ms.
        tick: Time,
    },
    /// The workers could not be started.
    #[error("cannot start the workers: {0}")]
    Workers(String),
    /// Ctrl-C or SIGTERM.
    #[error("stopped; no result was completed")]
    Stopped,
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

/// Replays a log.
///
/// # Errors
/// Anything that keeps the results from being complete; then no output looks whole.
pub fn run(plan: &ReplayPlan) -> Result<Outcome, ReplayError> {
    let started = Instant::now();
    let gauges = &Arc::new(Gauges { stop: plan.stop.clone(), ..Gauges::default() });
    let log = Arc::new(FileLog::open(&plan.files, &plan.source()?)?);
    let journal = match &plan.journal {
        Some(path) => Journal::read(path, log.partitions().len())?,
        None => Journal::default(),
    };
    let model = plan.load_model()?;
    let settings = plan.settings(model.as_deref().map(|model| model.history()))?;
    let model_hash = model.as_ref().map(|model| model.content_hash());
    let sinks = open_sinks(plan, &log, &settings, model_hash.clone())?;
    let wants_rows = !sinks.is_empty();
    let sending = match wants_rows {
        true => Some(Sending::new(SinkThread::spawn(sinks, SINK_QUEUE_BYTES)?)),
        false => None,
    };
    let shared = Arc::new(Shared {
        log: log.clone(),
        journal,
        settings,
        stamping: plan.stamping(wants_rows),
        sending: Mutex::new(sending),
        gauges: gauges.clone(),
        wants_rows,
    });
    let workers = shared.clone();
    let watch = Watch::start(plan, &log, gauges);
    let guards = timely::execute(timely_config(plan.workers), move |worker| match &model {
        Some(model) => work(worker, &workers, PolicyScorer::new(model.clone())),
        None => work(worker, &workers, NoModel),
    });
    let mut outcomes = Vec::new();
    for outcome in guards.map_err(ReplayError::Workers)?.join() {
        outcomes.push(outcome.map_err(ReplayError::Workers)?);
    }
    let mut first = None;
    for outcome in outcomes {
        let done = outcome?;
        first = first.or(done);
    }
    let done = first.ok_or(ReplayError::Stopped)?;
    let (summary, evaluation) = finish(plan, &log, done, model_hash, started)?;
    Ok(Outcome { summary, evaluation, throughput: watch.finish() })
}

fn timely_config(workers: usize) -> timely::Config {
    if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) }
}

/// What all workers of a process share.
struct Shared {
    log: Arc<FileLog>,
    journal: Journal,
    settings: Settings,
    stamping: Stamping,
    /// For worker 0.
    sending: Mutex<Option<Sending>>,
    gauges: Arc<Gauges>,
    wants_rows: bool,
}

/// What worker 0 brings home.
struct Done {
    collected: Collected,
    evaluation: Option<Evaluation>,
}

/// One worker, from start to end. `None` from all but worker 0, and after a stop.
fn work(worker: &mut Worker, shared: &Shared, scorer: impl Scorer + 'static) -> Result<Option<Done>, FeedError> {
    let (index, peers) = (worker.index(), worker.peers());
    let gossip = Gossip::build(worker);
    let sending = match index {
        0 => shared.sending.lock().unwrap_or_else(PoisonError::into_inner).take(),
        _ => None,
    };
    let pipeline = pipeline::build(worker, &shared.settings, scorer, sending, shared.wants_rows);
    let (collected, evaluation) = (pipeline.collected.clone(), pipeline.evaluation.clone());
    let advances = |partition| shared.journal.advances(partition);
    let feed = Feed::new(shared.log.clone(), shared.stamping, &advances, index, peers);
    let ended = drive(worker, feed, pipeline, gossip, &shared.gauges)?;
    if index != 0 || ended == Ended::Stopped {
        return Ok(None);
    }
    let collected = collected.replace(Collected::new(shared.settings.popular.window, None));
    let evaluation = evaluation.take();
    Ok(Some(Done { collected, evaluation }))
}

fn open_sinks(
    plan: &ReplayPlan,
    log: &FileLog,
    settings: &Settings,
    model: Option<String>,
) -> Result<Vec<Box<dyn Sink>>, SinkError> {
    let behaviors = &plan.config.behaviors.names;
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if let Some(directory) = &plan.out {
        sinks.push(Box::new(CanonicalFiles::create(directory, behaviors)?));
    }
    if let Some(path) = &plan.store {
        let options = StoreOptions {
            path: path.clone(),
            pipeline: StorePipeline {
                fingerprint: plan.fingerprint(log, settings, model.as_deref()),
                parts: plan.fingerprint_parts(log, settings, model.as_deref()),
            },
            log: log.id(),
            behaviors: behaviors.clone(),
            model,
            slide: settings.popular.window.slide().length(),
            ids: Default::default(),
            other_pipeline: plan.other_pipeline,
            commit_rows: StoreOptions::REPLAY_COMMIT_ROWS,
            lock_wait: StoreOptions::LOCK_WAIT,
        };
        sinks.push(Box::new(EmbeddedStore::open(options)?));
    }
    Ok(sinks)
}

/// Completes the sinks, and sums up.
fn finish(
    plan: &ReplayPlan,
    log: &FileLog,
    mut done: Done,
    model: Option<String>,
    started: Instant,
) -> Result<(Summary, Option<Evaluation>), ReplayError> {
    let collected = &mut done.collected;
    if let Some(rejected) = collected.report.first_rejected.as_ref().filter(|_| plan.strict) {
        return Err(strict(log, rejected));
    }
    let last = collected.last_list().cloned();
    if let Some(sending) = collected.sending.take() {
        if let Some(error) = sending.error {
            return Err(error.into());
        }
        sending.thread.finish(End { frontier: plan.until.unwrap_or(Time::MAX), popular: last })?;
    }
    collected.digests.late = collected.report.late;
    collected.digests.rejected = collected.report.rejected;
    let summary = Summary::new(plan, log, collected, model, started.elapsed());
    Ok((summary, done.evaluation))
}

fn strict(log: &FileLog, rejected: &Rejected) -> ReplayError {
    let partition = rejected.position.partition() as usize;
    ReplayError::Rejected {
        input: log.partitions()[partition].input().to_owned(),
        offset: rejected.position.offset(),
        reason: rejected.reason.name(),
    }
}

