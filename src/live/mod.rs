//! `run`: a live log in, results into stores, exactly once, until it is told to stop (contract, sections 2, 5 and 6).
//!
//! ```text
//!                         ┌ worker ─ source ─ partitions ─ pipeline ┐
//!  state directory        ├ worker ─ …                              ├─ batches ─▶ sinks, a thread each
//!   │ snapshot, journal ─▶└ worker ─ …                              ┘     │
//!   │                        │ proposals                                  │ with a snapshot
//!   ├◀── journal thread ◀────┘ (control)                                  ▼
//!   └◀──────────────────────────────────────────────────────────── snapshots thread, when all sinks hold what is before
//! ```
//!
//! Process 0 owns everything that is durable: the state directory and the sinks. The others compute, and learn from
//! worker 0 where to start.
//!
//! **Invariants.** A decision is durable before it has any effect. A snapshot counts only when every sink holds all that is
//! before it. What a run does after its snapshot, the next run does again, to the same bytes.

mod control;
mod error;
mod in_flight;
mod journaling;
mod leader;
mod metrics;
mod open;
mod partition;
mod patience;
pub mod plan;
mod scoring;
mod snapshots;
mod start;
mod watermarks;
mod worker;

pub use error::RunError;
pub use metrics::Metrics;
pub use plan::LivePlan;

use crate::cluster::{self, Agreement};
use crate::config::Config;
use crate::model::rank::{Model, PolicyScorer};
use crate::pipeline::{self, Sending, Settings};
use crate::plan as shared_plan;
use crate::serve::Server;
use crate::sinks::End;
use crate::sinks::identity::{OtherPipeline, RunIdentity};
use crate::sinks::ids::OutputIds;
use crate::sources::live::LiveLog;
use dataflows::event::Time;
use dataflows::recommend::{NoModel, Scorer};
use dataflows::rows::PopularList;
use metrics::ShownSizes;
use open::Durables;
use scoring::Measured;
use start::Start;
use std::sync::{Arc, Mutex, PoisonError};
use timely::worker::Worker;
use worker::{Clockwork, Ending, LiveWorker, State};

/// Runs until it is stopped, or until all partitions have ended. `true` in the latter case.
///
/// # Errors
/// Whatever keeps it from going on; see [`RunError`].
pub fn run(plan: &LivePlan) -> Result<bool, RunError> {
    let log = open::log(plan)?;
    let model = shared_plan::load_model(&plan.config)?;
    let settings = open::settings(&plan.config, model.as_ref())?;
    let metrics = Arc::new(Metrics::new(plan.workers));
    let run = identity(plan, &log, &settings, model.as_deref());
    let agreement =
        Agreement { parts: vec![("pipeline".to_owned(), run.pipeline.fingerprint.clone())], ..Agreement::default() };
    let listen = plan.config.serve.listen.as_deref();
    let server = listen.map(|listen| Server::start(listen, metrics.clone())).transpose()?;
    if let Some(server) = &server {
        tracing::info!("health and metrics at http://{}", server.address());
    }
    let durables = match shared_plan::is_first(plan.processes.as_ref()) {
        true => Some(open::durables(plan, run, model.as_ref(), &metrics)?),
        false => None,
    };
    let sinks = durables.as_ref().map(|durables| durables.sinks.clone());
    let shared = Shared {
        clockwork: open::clockwork(&plan.config, &settings),
        settings,
        log,
        plan: plan.clone(),
        metrics: metrics.clone(),
        durables: Mutex::new(durables),
    };
    let cluster = shared_plan::cluster(plan.workers, plan.processes.as_ref());
    let outcomes = cluster::execute(&cluster, &agreement, move |worker, _| match &model {
        Some(model) => work(worker, &shared, PolicyScorer::new(model.clone())),
        None => work(worker, &shared, NoModel),
    });
    metrics.set_ready(false);
    metrics.workers_are_done();
    let outcomes = match outcomes.map_err(RunError::from) {
        // Nothing was begun that would have to be ended.
        Err(RunError::StoppedAtTheStart) => return Ok(false),
        outcomes => outcomes?,
    };
    let Some(Done { ending: Ending::Ended, last }) = outcomes.into_iter().next() else { return Ok(false) };
    let sinks = sinks.and_then(|sinks| sinks.lock().unwrap_or_else(PoisonError::into_inner).take());
    if let Some(sinks) = sinks {
        sinks.finish(End { frontier: Time::MAX, popular: last })?;
    }
    Ok(true)
}

/// What a run over Kafka would find: the topic, and the servers among the stores. Nothing is changed anywhere.
///
/// Returns what was looked at, and what was found, in plain words. `log_name`: as the run is given it.
pub fn check(config: &Config, log_name: Option<&str>) -> Vec<(String, Result<String, RunError>)> {
    let plan = LivePlan {
        config: config.clone(),
        files: Vec::new(),
        workers: 1,
        processes: None,
        other_pipeline: OtherPipeline::Refuse,
        until_end: false,
        accept_loss: false,
        from_start: false,
        log_name: log_name.map(str::to_owned),
        stop: Arc::default(),
    };
    // Without the log, the model or right settings it is not known whose results stores should hold.
    let mut pipeline = None;
    let opened = open::log(&plan).and_then(|log| {
        let model = shared_plan::load_model(config)?;
        let settings = open::settings(config, model.as_ref())?;
        pipeline = Some(identity(&plan, &log, &settings, model.as_deref()).pipeline);
        Ok(format!("can be read, {} partitions", log.description().partitions.len()))
    });
    let mut found = vec![(format!("kafka topic {}", config.kafka.topic), opened)];
    if let Some(holding) = open::state_place(config).inspect_remote() {
        found.push(("state.remote".to_owned(), holding.map_err(RunError::from)));
    }
    for (store, holding) in open::inspect(config, pipeline.as_ref()) {
        found.push((store.to_owned(), holding.map(|holding| holding.to_string()).map_err(RunError::from)));
    }
    found
}

/// Whose results the run makes. Its epoch and the ids that stores show come later, in process 0.
fn identity(plan: &LivePlan, log: &LiveLog, settings: &Settings, model: Option<&Model>) -> RunIdentity {
    let (config, log) = (&plan.config, log.description().id);
    let model = model.map(Model::content_hash);
    RunIdentity {
        pipeline: open::pipeline(config, log, settings, model.as_deref()),
        epoch: None,
        log,
        behaviors: config.behaviors.names.clone(),
        model,
        tick: settings.tick,
        slide: settings.popular.window.slide().length(),
        ids: OutputIds::Raw,
        other_pipeline: plan.other_pipeline,
    }
}

/// What all workers of a process share.
struct Shared {
    clockwork: Clockwork,
    settings: Settings,
    log: LiveLog,
    plan: LivePlan,
    metrics: Arc<Metrics>,
    /// Worker 0 takes them.
    durables: Mutex<Option<Durables>>,
}

/// What a worker brings home.
struct Done {
    ending: Ending,
    /// From worker 0: the list that stores keep as the newest.
    last: Option<PopularList>,
}

fn work(worker: &mut Worker, shared: &Shared, scorer: impl Scorer + 'static) -> Result<Done, RunError> {
    let done = complete(worker, shared, scorer);
    if done.is_err() {
        shared.metrics.set_ready(false);
    }
    done
}

fn complete(worker: &mut Worker, shared: &Shared, scorer: impl Scorer + 'static) -> Result<Done, RunError> {
    let (index, peers) = (worker.index(), worker.peers());
    let durables = match index {
        0 => shared.durables.lock().unwrap_or_else(PoisonError::into_inner).take(),
        _ => None,
    };
    let mut control = control::Control::build(worker);
    let sending = durables.as_ref().map(|own| Sending::live(own.sinks.clone(), own.to_snapshots.clone()));
    let scorer = Measured::new(scorer, shared.metrics.clone());
    let mut pipeline = pipeline::build(worker, &shared.settings, scorer, sending, true);
    let leader = durables.map(|own| start::lead(worker, shared, own, &mut control, &mut pipeline)).transpose()?;
    pipeline.close_restored();
    let start = Start::hear(worker, &mut control, shared)?;
    let partitions = start.partitions().len();
    let mut source = shared.log.reader(&start.log, partitions.div_ceil(peers));
    let owned = start.assign(shared, source.as_mut(), index, peers)?;
    let collected = pipeline.collected.clone();
    let newcomer = |partition, watermark| start.newcomer(shared, partition, watermark);
    let live = LiveWorker {
        clockwork: shared.clockwork.clone(),
        index,
        peers,
        partitions,
        resumed_at: start.resumed_at,
        source,
        owned,
        pipeline,
        control,
        leader,
        stop: &shared.plan.stop,
        accept_loss: shared.plan.accept_loss,
        until_end: shared.plan.until_end,
        metrics: shared.metrics.clone(),
        shown: ShownSizes::default(),
        newcomer: &newcomer,
        state: State::new(shared.settings.tick),
    };
    shared.metrics.set_ready(true);
    let ending = live.run(worker)?;
    let last = collected.borrow().last_list(None).cloned();
    Ok(Done { ending, last })
}
