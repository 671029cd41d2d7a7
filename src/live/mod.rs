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
pub mod plan;
mod scoring;
mod snapshots;
mod start;
mod watermarks;
mod worker;

pub use error::LiveError;
pub use metrics::Metrics;
pub use plan::LivePlan;

use crate::cluster::{self, Agreement};
use crate::model::rank::{Model, PolicyScorer};
use crate::pipeline::{self, Sending, Settings};
use crate::serve::Server;
use crate::sinks::End;
use dataflows::event::Time;
use dataflows::recommend::{NoModel, Scorer};
use leader::Leader;
use open::{Durables, OpenedSource};
use scoring::Measured;
use start::Start;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use timely::worker::Worker;
use worker::{Clockwork, Ending, LiveWorker};

/// Runs until it is stopped, or until all partitions have ended. `true` in the latter case.
///
/// # Errors
/// Whatever keeps it from going on; see [`LiveError`].
pub fn run(plan: &LivePlan) -> Result<bool, LiveError> {
    let source = open::source(plan)?;
    let model = open::model(plan)?;
    let model_hash = model.as_deref().map(Model::content_hash);
    let settings = open::settings(plan, model.as_deref())?;
    let metrics = Arc::new(Metrics::new());
    let identity = open::identity(plan, &source, &settings, model_hash.as_deref());
    let durables = match plan.is_first_process() {
        true => Some(open::durables(plan, &source, identity.clone(), &metrics)?),
        false => None,
    };
    let server = plan.config.serve.listen.as_deref().map(|listen| Server::start(listen, metrics.clone())).transpose()?;
    if let Some(server) = &server {
        tracing::info!("health and metrics at http://{}", server.address());
    }
    let agreement = Agreement { parts: vec![("pipeline".to_owned(), identity.pipeline.fingerprint)] };
    let sinks = durables.as_ref().map(|durables| durables.sinks.clone());
    let shared = Arc::new(Shared {
        clockwork: open::clockwork(plan, &settings),
        settings,
        source,
        plan: plan.clone(),
        metrics: metrics.clone(),
        durables: Mutex::new(durables),
        failed: AtomicBool::new(false),
    });
    let outcomes = cluster::execute(&open::cluster(plan), &agreement, move |worker| match &model {
        Some(model) => work(worker, &shared, PolicyScorer::new(model.clone())),
        None => work(worker, &shared, NoModel),
    });
    metrics.set_ready(false);
    let done = outcomes.map_err(LiveError::from)?.into_iter().next();
    let Some(Done { ending: Ending::Ended, last }) = done else { return Ok(false) };
    let sinks = sinks.and_then(|sinks| sinks.lock().unwrap_or_else(PoisonError::into_inner).take());
    if let Some(sinks) = sinks {
        sinks.finish(End { frontier: Time::MAX, popular: last })?;
    }
    drop(server);
    Ok(true)
}

/// What all workers of a process share.
struct Shared {
    clockwork: Clockwork,
    settings: Settings,
    source: OpenedSource,
    plan: LivePlan,
    metrics: Arc<Metrics>,
    /// Worker 0 takes them.
    durables: Mutex<Option<Durables>>,
    /// A worker of this process has failed.
    failed: AtomicBool,
}

/// What a worker brings home.
struct Done {
    ending: Ending,
    /// From worker 0: the list that stores keep as the newest.
    last: Option<dataflows::rows::PopularList>,
}

fn work(worker: &mut Worker, shared: &Shared, scorer: impl Scorer + 'static) -> Result<Done, LiveError> {
    let done = complete(worker, shared, scorer);
    if done.is_err() {
        shared.failed.store(true, Ordering::Relaxed);
        shared.metrics.set_ready(false);
    }
    done
}

fn complete(worker: &mut Worker, shared: &Shared, scorer: impl Scorer + 'static) -> Result<Done, LiveError> {
    let (index, peers) = (worker.index(), worker.peers());
    let durables = match index {
        0 => shared.durables.lock().unwrap_or_else(PoisonError::into_inner).take(),
        _ => None,
    };
    let mut control = control::Control::build(worker);
    let sending = durables.as_ref().map(|durables| Sending::live(durables.sinks.clone(), durables.to_snapshots.clone()));
    let scorer = Measured::new(scorer, shared.metrics.clone());
    let mut pipeline = pipeline::build(worker, &shared.settings, scorer, sending, true);
    let leader = match durables {
        None => None,
        Some(durables) => Some(start::lead(worker, shared, durables, &mut control, &mut pipeline)?),
    };
    pipeline.close_restored();
    let start = Start::hear(worker, &mut control, shared)?;
    let collected = pipeline.collected.clone();
    let newcomer = |partition, watermark| start.newcomer(shared, partition, watermark);
    let live = LiveWorker {
        clockwork: shared.clockwork.with_partitions(start.partitions()),
        source: shared.source.worker(index, peers)?,
        format: shared.source.format(),
        owned: start.owned(shared, index, peers),
        pipeline,
        control,
        leader,
        stop: &shared.plan.stop,
        metrics: shared.metrics.clone(),
        newcomer: &newcomer,
        state: worker::State::new(shared.settings.tick),
    };
    shared.metrics.set_ready(true);
    let ending = live.run(worker)?;
    let last = collected.borrow().last_list().cloned();
    Ok(Done { ending, last })
}
