//! What a live run tells of itself, in Prometheus' terms (contract, sections 6 and 7). Names are `eddyline_…`, in base
//! units; counters end in `_total`.

use super::watermarks::{Standing, Told};
use super::worker::now_ms;
use crate::pipeline::{Counts, Report};
use crate::sinks::RejectReason;
use crate::sinks::gauges::SinkGauges;

use dataflows::event::Time;
use dataflows::sizes::Sizes;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A worker that has not turned for this long hangs.
const TURN_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByPartition {
    partition: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;

/// The numbers of one process.
pub struct Metrics {
    registry: Mutex<Registry>,
    records: Counter,
    bytes: Counter,
    accepted: Counter,
    late: Counter,
    rejected: Family<ByReason, Counter>,
    read: Family<ByPartition, Counter>,
    lag: Family<ByPartition, Gauge>,
    watermark: Family<ByPartition, Seconds>,
    idle: Family<ByPartition, Gauge>,
    frontier: Seconds,
    state: Family<ByKind, Gauge>,
    tick_latency: Histogram,
    event_latency: Histogram,
    batch_users: Histogram,
    scoring: Histogram,
    decisions: Counter,
    snapshot_duration: Histogram,
    snapshot_rows: Gauge,
    snapshot_bytes: Gauge,
    snapshots: Counter,
    /// The newest frontier of all, ms.
    frontier_ms: AtomicU64,
    /// What all sinks hold is before it, ms.
    durable_ms: AtomicU64,
    /// When each worker of this process turned last, ms since 1970; 0 for those that don't work yet, or any more.
    turned: Vec<AtomicU64>,
    ready: AtomicBool,
    /// Those of process 0.
    sinks: OnceLock<Vec<Arc<SinkGauges>>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// All at zero, for a process of so many workers.
    pub(super) fn new(workers: usize) -> Metrics {
        let seconds = |first, factor, count| Histogram::new(exponential_buckets(first, factor, count));
        let metrics = Metrics {
            registry: Mutex::new(Registry::with_prefix("eddyline")),
            records: Counter::default(),
            bytes: Counter::default(),
            accepted: Counter::default(),
            late: Counter::default(),
            rejected: Family::default(),
            read: Family::default(),
            lag: Family::default(),
            watermark: Family::default(),
            idle: Family::default(),
            frontier: Seconds::default(),
            state: Family::default(),
            tick_latency: seconds(0.001, 1.5, 28),
            event_latency: seconds(0.001, 1.5, 28),
            batch_users: Histogram::new(exponential_buckets(1.0, 4.0, 11)),
            scoring: seconds(0.000_1, 2.0, 18),
            decisions: Counter::default(),
            snapshot_duration: seconds(0.001, 2.0, 18),
            snapshot_rows: Gauge::default(),
            snapshot_bytes: Gauge::default(),
            snapshots: Counter::default(),
            frontier_ms: AtomicU64::new(0),
            durable_ms: AtomicU64::new(0),
            turned: (0..workers.max(1)).map(|_| AtomicU64::new(0)).collect(),
            ready: AtomicBool::new(false),
            sinks: OnceLock::new(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry();
        let r = &mut *registry;
        r.register("records", "Records read, headers and blank lines included", self.records.clone());
        r.register_with_unit("input", "What was read", Unit::Bytes, self.bytes.clone());
        r.register("events", "Records that are events, late ones included", self.accepted.clone());
        r.register("late_events", "Events older than their partition's watermark", self.late.clone());
        r.register("rejected_records", "Records that are no events, by reason", self.rejected.clone());
        r.register("partition_records", "Records of the partition that were read", self.read.clone());
        r.register("partition_lag", "Records of the partition that were not read yet", self.lag.clone());
        r.register_with_unit("partition_watermark", "Its watermark, since 1970", Unit::Seconds, self.watermark.clone());
        r.register("partition_idle", "1 while the partition is idle", self.idle.clone());
        r.register_with_unit(
            "frontier",
            "The first tick that is not complete, since 1970",
            Unit::Seconds,
            self.frontier.clone(),
        );
        r.register("state_entries", "Entries of the dataflows' state, by kind", self.state.clone());
        let help = "From a tick's end to its results in all sinks; of use where event times are the time of day";
        r.register_with_unit("tick_latency", help, Unit::Seconds, self.tick_latency.clone());
        let help = "From reading the first event of a tick, on a worker, to the tick's results in all sinks";
        r.register_with_unit("event_latency", help, Unit::Seconds, self.event_latency.clone());
        r.register("scoring_batch_users", "Users scored together", self.batch_users.clone());
        r.register_with_unit("scoring_duration", "Scoring one batch", Unit::Seconds, self.scoring.clone());
        r.register("journal_decisions", "Decisions made durable in the journal", self.decisions.clone());
        let help = "Writing one snapshot, from the moment at which all sinks hold what is before it";
        r.register_with_unit("snapshot_duration", help, Unit::Seconds, self.snapshot_duration.clone());
        r.register("snapshot_rows", "Users and panes that the newest snapshot wrote", self.snapshot_rows.clone());
        r.register_with_unit(
            "snapshot_size",
            "All files of the newest snapshot",
            Unit::Bytes,
            self.snapshot_bytes.clone(),
        );
        r.register("snapshots", "Snapshots that count", self.snapshots.clone());
    }

    fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the sinks' own numbers.
    pub(super) fn watch_sinks(&self, sinks: Vec<Arc<SinkGauges>>) {
        let sinks = self.sinks.get_or_init(|| sinks).clone();
        self.registry().register_collector(Box::new(SinkCollector { sinks }));
    }

    /// Counts what was read.
    pub(super) fn note(&self, report: &Report) {
        let Counts { lines, accepted, late, rejected } = report.counts;
        self.records.inc_by(lines);
        self.bytes.inc_by(report.bytes);
        self.accepted.inc_by(accepted);
        self.late.inc_by(late);
        for (reason, count) in RejectReason::ALL.into_iter().zip(rejected).filter(|(_, count)| *count > 0) {
            self.rejected.get_or_create(&ByReason { reason: reason.name() }).inc_by(count);
        }
    }

    /// How far a partition is, and how many records of it are `new`.
    pub(super) fn partition(&self, partition: u32, new: u64, told: &Told, lag: Option<u64>) {
        let label = ByPartition { partition };
        if new > 0 {
            self.read.get_or_create(&label).inc_by(new);
        }
        if let Some(lag) = lag {
            self.lag.get_or_create(&label).set(i64::try_from(lag).unwrap_or(i64::MAX));
        }
        self.watermark.get_or_create(&label).set(seconds(told.watermark));
        self.idle.get_or_create(&label).set(i64::from(told.standing == Standing::Idle));
    }

    /// A worker's inputs stand here.
    pub(super) fn frontier(&self, frontier: Time) {
        let newest = self.frontier_ms.fetch_max(frontier, Ordering::Relaxed).max(frontier);
        self.frontier.set(seconds(newest));
    }

    /// How large a worker's state is. Workers are told apart, and their sum is what shows.
    pub(super) fn sizes(&self, worker: &mut ShownSizes, sizes: &Sizes) {
        let now = [sizes.users.get(), sizes.waiting_events.get(), sizes.window_items.get()];
        for ((kind, now), shown) in ["users", "waiting_events", "window_items"].into_iter().zip(now).zip(&mut worker.0)
        {
            let change = i64::try_from(now).unwrap_or(i64::MAX) - *shown;
            if change != 0 {
                self.state.get_or_create(&ByKind { kind }).inc_by(change);
                *shown += change;
            }
        }
    }

    /// The results of a tick are in all sinks, of which a worker of this process read the first event so long ago.
    pub(super) fn tick_is_out(&self, tick: Time, since_read: Duration) {
        self.tick_latency.observe(seconds(now_ms().saturating_sub(tick)));
        self.event_latency.observe(since_read.as_secs_f64());
    }

    /// All sinks hold what is before `frontier`.
    pub(super) fn durable(&self, frontier: Time) {
        self.durable_ms.store(frontier, Ordering::Relaxed);
    }

    /// [`Metrics::durable`]; `None` in a process that has no sinks.
    pub(super) fn durable_ms(&self) -> Option<Time> {
        self.sinks.get().map(|_| self.durable_ms.load(Ordering::Relaxed))
    }

    /// A batch of users was scored.
    pub(super) fn scored(&self, users: usize, took: Duration) {
        self.batch_users.observe(users as f64);
        self.scoring.observe(took.as_secs_f64());
    }

    /// Decisions are durable.
    pub(super) fn decided(&self, count: usize) {
        self.decisions.inc_by(count as u64);
    }

    /// A snapshot counts.
    pub(super) fn published(&self, took: Duration, rows: usize, bytes: u64) {
        self.snapshots.inc();
        self.snapshot_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.snapshot_duration.observe(took.as_secs_f64());
        self.snapshot_rows.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// Worker `index`, counted over all processes, has come round.
    pub(super) fn turn(&self, index: usize) {
        self.turned[index % self.turned.len()].store(now_ms(), Ordering::Relaxed);
    }

    /// Whether the run takes events.
    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Whether the run takes events, and all stores take results.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && self.sinks.get().into_iter().flatten().all(|sink| sink.is_connected())
    }

    /// No worker turns any more, and none has to.
    pub(super) fn workers_are_done(&self) {
        self.turned.iter().for_each(|turned| turned.store(0, Ordering::Relaxed));
    }

    /// Whether all workers turn that are at work.
    pub fn is_alive(&self) -> bool {
        let turned = self.turned.iter().map(|turned| turned.load(Ordering::Relaxed)).filter(|turned| *turned > 0);
        turned.min().is_none_or(|oldest| now_ms().saturating_sub(oldest) <= TURN_MAX.as_millis() as u64)
    }

    /// The frontier, ms.
    pub fn frontier_ms(&self) -> Time {
        self.frontier_ms.load(Ordering::Relaxed)
    }

    /// All numbers in the text format of OpenMetrics.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = encode(&mut text, &self.registry());
        text
    }
}

/// What was last shown of a worker's state.
#[derive(Debug, Default)]
pub(super) struct ShownSizes([i64; 3]);

fn seconds(ms: Time) -> f64 {
    ms as f64 / 1000.0
}

/// The sinks' gauges at the moment of asking.
#[derive(Debug)]
struct SinkCollector {
    sinks: Vec<Arc<SinkGauges>>,
}

impl Collector for SinkCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: &dyn Fn(&SinkGauges) -> f64| {
            let mut metric = encoder.encode_descriptor(name, help, unit, ConstGauge::new(0.0).metric_type())?;
            for sink in &self.sinks {
                ConstGauge::new(value(sink)).encode(metric.encode_family(&[("sink", sink.name())])?)?;
            }
            Ok::<_, fmt::Error>(())
        };
        gauge("sink_up", "1 while the sink takes rows", None, &|sink| f64::from(u8::from(sink.is_connected())))?;
        gauge("sink_queue", "What waits for the sink", Some(&Unit::Bytes), &|sink| sink.queue_bytes() as f64)?;
        gauge("sink_frontier", "What it holds durably, since 1970", Some(&Unit::Seconds), &|sink| {
            seconds(sink.durable())
        })?;
        let mut counter = |name: &str, help: &str, value: &dyn Fn(&SinkGauges) -> u64| {
            let mut metric = encoder.encode_descriptor(name, help, None, ConstCounter::new(0_u64).metric_type())?;
            for sink in &self.sinks {
                ConstCounter::new(value(sink)).encode(metric.encode_family(&[("sink", sink.name())])?)?;
            }
            Ok::<_, fmt::Error>(())
        };
        counter("sink_rows", "Rows written", &SinkGauges::rows)?;
        counter("sink_batches", "Batches written", &SinkGauges::batches)?;
        counter("sink_retries", "Attempts after one that failed", &SinkGauges::retries)
    }
}
