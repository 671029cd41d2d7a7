//! What a live run opens before it starts: the log, the model, and, in process 0, the state directory and the sinks.

use super::error::RunError;
use super::metrics::Metrics;
use super::plan::LivePlan;
use super::snapshots::{Generations, Snapshots};
use super::worker::Clockwork;
use crate::checkpoint::{JournalWriter, Recovered, RemoteOptions, Snapshot, StateDirectory, StatePlace, Unbelieved};
use crate::config::{Config, Format, TimeFormat, TimeText, time_zone};
use crate::journal::Decision;
use crate::model::rank::Model;
use crate::pipeline::{Settings, Sinks};
use crate::plan::{self, Dataflows};
use crate::sinks::durable::Durable;
use crate::sinks::embedded::{EmbeddedStore, StoreOptions};
use crate::sinks::identity::{Holding, Pipeline, RunIdentity};
use crate::sinks::mongodb::{MongoOptions, MongoSink, Times, Transactions};
use crate::sinks::mysql::{MySqlOptions, MySqlSink, TimeLimits};
use crate::sinks::redis::{RedisOptions, RedisSink};
use crate::sinks::set::{Pace, SinkSet, check_resume};
use crate::sinks::stop::Stop;
use crate::sinks::{Batch, Sink, SinkError};
use crate::sources::follow::FollowLog;
use crate::sources::kafka::{KafkaLog, KafkaOptions};
use crate::sources::live::LiveLog;
use crate::sources::{Columns, FormatError, MessageFormat};
use dataflows::event::Time;
use serde_json::{Value, json};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many bytes of batches may wait for the sinks.
const SINK_QUEUE_BYTES: usize = 64 << 20;

/// How much of its partitions one worker may fetch ahead, in bytes.
const FETCH_AHEAD_BYTES: usize = 32 << 20;

/// Opens the log: the topic, or the files that are followed.
pub(super) fn log(plan: &LivePlan) -> Result<LiveLog, RunError> {
    let config = &plan.config;
    if !plan.files.is_empty() {
        let options = plan::source_options(config, plan.log_name.clone(), plan.files.len())?;
        return Ok(LiveLog::Follow(FollowLog::open(&plan.files, options, plan.until_end)?));
    }
    let options = KafkaOptions {
        brokers: config.kafka.brokers.clone(),
        topic: config.kafka.topic.clone(),
        group: config.kafka.group.clone(),
        properties: config.kafka.properties.clone(),
        log_name: plan.log_name.clone(),
        format: message_format(config)?,
        idle: Duration::from_millis(config.time.idle.ms()),
        until_end: plan.until_end,
        buffer_bytes: FETCH_AHEAD_BYTES,
    };
    Ok(LiveLog::Kafka(KafkaLog::open(options)?))
}

/// How messages are written.
fn message_format(config: &Config) -> Result<MessageFormat, FormatError> {
    let columns: Columns = config.source.columns.to_string().parse()?;
    match config.source.format {
        Format::Csv => MessageFormat::csv(&columns, plan::dialect(config)?),
        Format::Json => MessageFormat::json(&columns, plan::dialect(config)?),
    }
}

/// The pipeline's settings: all dataflows, with snapshots.
pub(super) fn settings(config: &Config, model: Option<&Arc<Model>>) -> Result<Settings, RunError> {
    let mut settings = plan::settings(config, Dataflows::default(), model).map_err(RunError::Configuration)?;
    settings.snapshots = true;
    settings.popular.snapshots = true;
    Ok(settings)
}

/// The rules of time.
pub(super) fn clockwork(config: &Config, settings: &Settings) -> Clockwork {
    Clockwork {
        tick: settings.tick,
        window: settings.popular.window,
        lateness: config.time.lateness.ms(),
        late: plan::late(config),
        jump_max: config.source.max_jump.map(|jump| jump.ms()),
        idle: Duration::from_millis(config.time.idle.ms()),
    }
}

/// Whose results the run makes: the log's, with this configuration and model.
pub(super) fn pipeline(config: &Config, log: u64, settings: &Settings, model: Option<&str>) -> Pipeline {
    let parts = json!({ "log": log, "configuration": config.fingerprint(settings.length), "model": model });
    let fingerprint = blake3::hash(parts.to_string().as_bytes()).to_hex().to_string();
    let Value::Object(parts) = parts else { unreachable!("it is written as an object above") };
    Pipeline { fingerprint, parts }
}

/// What process 0 alone has, until worker 0 takes it.
pub(super) struct Durables {
    pub(super) journal: JournalWriter,
    pub(super) decisions: Vec<Decision>,
    pub(super) snapshot: Option<Snapshot>,
    /// To be deleted before the first decision.
    pub(super) unbelieved: Option<Unbelieved>,
    pub(super) snapshots: Snapshots,
    pub(super) to_snapshots: Sender<Arc<Batch>>,
    pub(super) sinks: Sinks,
    pub(super) durable: Durable,
}

/// Opens the state directory and the sinks, and makes sure that the sinks hold all that the snapshot relies on.
pub(super) fn durables(
    plan: &LivePlan,
    run: RunIdentity,
    model: Option<&Arc<Model>>,
    metrics: &Arc<Metrics>,
) -> Result<Durables, RunError> {
    let place = state_place(&plan.config);
    let (state, recovered) = match plan.from_start {
        true => StateDirectory::open_from_start(&place, &run.pipeline, plan.other_pipeline)?,
        false => StateDirectory::open(&place, &run.pipeline, plan.other_pipeline)?,
    };
    let Recovered { epoch, decisions, snapshot, unbelieved, .. } = recovered;
    let ids = plan::output_ids(&plan.config, model).map_err(RunError::Configuration)?;
    let stop = Stop::default();
    let run = RunIdentity { epoch: Some(epoch), ids, ..run };
    let opened = sinks(&plan.config, &run, &stop)?;
    state.purged()?;
    if let Some(ended) = opened.iter().find(|sink| sink.durable() == Time::MAX && !plan.until_end) {
        return Err(RunError::HasEnded { sink: ended.name() });
    }
    if let Some(snapshot) = &snapshot {
        check_resume(&opened, snapshot.frontier())?;
    }
    let building: Vec<&str> = opened.iter().filter(|sink| sink.is_building()).map(|sink| sink.name()).collect();
    let builds = !building.is_empty();
    let set = SinkSet::spawn(opened, Pace::Live, SINK_QUEUE_BYTES, &stop)?;
    let gauges = set.gauges();
    metrics.watch_sinks(gauges.clone());
    let durable = set.durable();
    metrics.durable(durable.frontier());
    let sinks: Sinks = Arc::new(Mutex::new(Some(set)));
    let (journal, writer) = state.into_writers();
    if builds && !plan.until_end {
        writer.replacing(&building)?;
    }
    // Where the log has an end, results take the place of others' when the sinks finish.
    let generations = Generations { sinks: gauges, builds, promotes: !plan.until_end };
    let (snapshots, to_snapshots) =
        Snapshots::start(writer, sinks.clone(), durable.clone(), metrics.clone(), generations)?;
    Ok(Durables { journal, decisions, snapshot, unbelieved, snapshots, to_snapshots, sinks, durable })
}

/// Where the configuration keeps the state.
pub(super) fn state_place(config: &Config) -> StatePlace {
    let state = &config.state;
    let remote = state.remote.clone().map(|url| RemoteOptions { url, options: state.remote_options.clone() });
    StatePlace { dir: state.dir.clone(), remote }
}

/// All stores that the configuration names.
fn sinks(config: &Config, run: &RunIdentity, stop: &Stop) -> Result<Vec<Box<dyn Sink>>, SinkError> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if let Some(path) = &config.stores.embedded {
        let options = StoreOptions {
            path: path.clone(),
            run: run.clone(),
            // A batch at a time: what is complete is to be seen at once.
            commit_rows: 1,
            lock_wait: StoreOptions::LOCK_WAIT,
        };
        sinks.push(Box::new(EmbeddedStore::open(options)?));
    }
    if let Some(options) = mongodb(config) {
        sinks.push(Box::new(MongoSink::open(&options, run, stop)?));
    }
    if let Some(options) = mysql(config) {
        sinks.push(Box::new(MySqlSink::open(&options, run, stop)?));
    }
    if let Some(options) = redis(config) {
        sinks.push(Box::new(RedisSink::open(&options, run, stop)?));
    }
    Ok(sinks)
}

/// What the servers among the stores hold, changing nothing: their names, and what a run would find.
pub(super) fn inspect(config: &Config, pipeline: Option<&Pipeline>) -> Vec<(&'static str, Result<Holding, SinkError>)> {
    let stop = Stop::default();
    let mut found = Vec::new();
    if let Some(options) = mongodb(config) {
        found.push(("mongodb", MongoSink::inspect(&options, pipeline, &stop).map_err(SinkError::from)));
    }
    if let Some(options) = mysql(config) {
        found.push(("mysql", MySqlSink::inspect(&options, pipeline, &stop).map_err(SinkError::from)));
    }
    if let Some(options) = redis(config) {
        found.push(("redis", RedisSink::inspect(&options, pipeline, &stop).map_err(SinkError::from)));
    }
    found
}

fn mongodb(config: &Config) -> Option<MongoOptions> {
    Some(MongoOptions {
        uri: config.stores.mongodb_uri.clone()?,
        database: config.stores.mongodb_database.clone(),
        consumed_max: config.output.consumed_max,
        times: times(config),
        int32: config.output.int32,
        transactions: Transactions::Auto,
    })
}

fn mysql(config: &Config) -> Option<MySqlOptions> {
    Some(MySqlOptions { url: config.stores.mysql_url.clone()?, limits: TimeLimits::default() })
}

fn redis(config: &Config) -> Option<RedisOptions> {
    Some(RedisOptions {
        url: config.stores.redis_url.clone()?,
        prefix: config.output.redis_prefix.clone(),
        legacy_keys: config.stores.redis_legacy_keys,
        limits: TimeLimits::default(),
    })
}

/// How MongoDB shows times.
fn times(config: &Config) -> Times {
    let text = match &config.output.time_format {
        TimeFormat::Date => None,
        TimeFormat::Pattern(pattern) => {
            let zone = time_zone(&config.output.time_zone).expect("the configuration checked that it is a zone");
            Some(TimeText::new(pattern, zone).expect("the configuration checked that it is a pattern"))
        }
    };
    text.map_or(Times::Date, Times::Text)
}
