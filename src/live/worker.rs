//! One worker of a live run: reads its partitions, keeps time with the others, hands over events; never too far ahead of
//! what has been put out.
//!
//! ```text
//!           records ─▶ PartitionReader ─▶ events, reports ─▶ pipeline
//!  source ─┤                │
//!           at the end ─▶ proposal ─▶ worker 0's journal ─▶ decision ─▶ PartitionReader      (messages: control)
//! ```
//!
//! **Invariants.** A worker's inputs stand at the frontier of the least watermark that it has heard of, its own or others', so a
//! partition that appears later can be given that watermark. A partition that waits for a decision is held: no record of
//! it is taken in before the decision is durable and applied.

use super::control::{Control, Message};
use super::error::RunError;
use super::in_flight::{InFlight, Room};
use super::leader::Leader;
use super::metrics::{Metrics, ShownSizes};
use super::partition::PartitionReader;
use super::watermarks::{Standing, Told, Watermarks};
use crate::fault;
use crate::journal::Decision;
use crate::pipeline::{Pipeline, Report};
use crate::sinks::RejectReason;
use crate::sources::Row;
use crate::sources::live::{Fetched, LiveError as SourceError, LiveSource};
use dataflows::event::{Event, Time};
use dataflows::time::{LatePolicy, Steps, Window};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use timely::worker::Worker;

/// How long a worker with nothing to do sleeps, unless a message of another worker wakes it.
const PARK: Duration = Duration::from_millis(1);

/// So long rows of the log wait for the next tick, which sends them on by itself; then they go out without it, in time that
/// stands still, too. Sinks write what comes together at once, so that every turn's rows by themselves would cost much more.
const REPORTS_WAIT_MAX: Duration = Duration::from_millis(100);

/// What a worker takes from its source at a time, in bytes: a few thousand records, so that time moves on between.
const FETCH_BYTES: usize = 64 << 10;

/// So many bytes of records of a partition that is held may wait, and those of one more turn.
const HELD_BYTES_MAX: usize = 1 << 20;

/// What a worker goes by.
#[derive(Clone, Debug)]
pub(super) struct Clockwork {
    /// Length of a tick.
    pub(super) tick: Steps,
    /// The window of the trending lists.
    pub(super) window: Window,
    /// `time.lateness`, ms.
    pub(super) lateness: Time,
    /// `time.late`.
    pub(super) late: LatePolicy,
    /// `source.max_jump`, ms.
    pub(super) jump_max: Option<Time>,
    /// `time.idle`.
    pub(super) idle: Duration,
}

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Somebody asked for it; time stands where it stood.
    Stopped,
    /// All partitions have ended.
    Ended,
}

/// A partition of this worker.
pub(super) struct Owned {
    pub(super) reader: PartitionReader,
    /// What was proposed, while nothing is decided.
    proposed: Option<Decision>,
    /// Records that came while the partition is held.
    held: VecDeque<Held>,
    held_bytes: usize,
    told: Option<Told>,
    /// How many of its records the metrics have.
    noted: u64,
    /// Where its log ended when the run started; where that is not known, where its end was seen first.
    end: Option<u64>,
}

/// A record that waits, as it was read.
struct Held {
    offset: u64,
    value: Vec<u8>,
    read: Result<Option<Row>, RejectReason>,
}

impl Owned {
    /// `end`: where its log ended when the run started, if that is known.
    pub(super) fn new(reader: PartitionReader, end: Option<u64>) -> Owned {
        Owned { reader, proposed: None, held: VecDeque::new(), held_bytes: 0, told: None, noted: 0, end }
    }

    fn hold(&mut self, held: Held) {
        self.held_bytes += size_of::<Held>() + held.value.len();
        self.held.push_back(held);
    }
}

/// One worker, between two steps of timely.
pub(super) struct LiveWorker<'a> {
    pub(super) clockwork: Clockwork,
    pub(super) index: usize,
    pub(super) peers: usize,
    /// How many partitions there are when the run starts.
    pub(super) partitions: usize,
    /// The frontier of the snapshot that the run goes on from; 0 without one.
    pub(super) resumed_at: Time,
    pub(super) source: Box<dyn LiveSource>,
    pub(super) owned: BTreeMap<u32, Owned>,
    pub(super) pipeline: Pipeline,
    pub(super) control: Control,
    /// Worker 0's further duties.
    pub(super) leader: Option<Leader>,
    pub(super) stop: &'a AtomicBool,
    /// Records that are gone before they were read are passed over.
    pub(super) accept_loss: bool,
    /// The log ends where it ended when the run started.
    pub(super) until_end: bool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shown: ShownSizes,
    /// Makes the reader of a partition that has just appeared, with a first watermark.
    pub(super) newcomer: &'a dyn Fn(u32, Time) -> PartitionReader,
    pub(super) state: State,
}

/// What a worker remembers from one turn to the next.
pub(super) struct State {
    watermarks: Watermarks,
    in_flight: InFlight,
    fetched: Fetched,
    events: Vec<Event>,
    /// Since when rows of the log wait in the input.
    unflushed: Option<Instant>,
    /// Since when nothing more is read, because somebody wants the run to stop.
    stopping: Option<Instant>,
    detached: bool,
    /// The sinks have no room for what is out already.
    sinks_are_full: bool,
}

impl State {
    pub(super) fn new(tick: Steps) -> State {
        State {
            watermarks: Watermarks::default(),
            in_flight: InFlight::new(tick),
            fetched: Fetched::new(FETCH_BYTES),
            events: Vec::new(),
            unflushed: None,
            stopping: None,
            detached: false,
            sinks_are_full: false,
        }
    }
}

impl LiveWorker<'_> {
    /// Works until the run is over.
    ///
    /// # Errors
    /// Whatever keeps the run from going on. Results are then as after a crash: the next run completes them.
    pub(super) fn run(mut self, worker: &mut Worker) -> Result<Ending, RunError> {
        loop {
            self.listen()?;
            if self.state.detached {
                return Ok(Ending::Stopped);
            }
            let busy = self.state.stopping.is_none() && self.read()?;
            self.keep_time();
            if self.everything_has_ended() {
                break;
            }
            self.note_whether_caught_up();
            self.lead()?;
            match busy {
                true => worker.step(),
                false => worker.step_or_park(Some(PARK)),
            };
            self.metrics.turn(self.index);
            self.metrics.sizes(&mut self.shown, &self.pipeline.sizes);
            self.check()?;
            let probe = &self.pipeline.probe;
            self.state.in_flight.release(|time| !probe.less_than(&time));
            match self.metrics.durable_ms() {
                Some(durable) => {
                    let arrived = self.state.in_flight.arrived(durable);
                    arrived.for_each(|(tick, latency)| self.metrics.tick_is_out(tick, latency));
                }
                // Another process knows.
                None => drop(self.state.in_flight.arrived(Time::MAX)),
            }
        }
        self.complete(worker)
    }

    /// Whether results still get out.
    fn check(&self) -> Result<(), RunError> {
        self.pipeline.collected.borrow_mut().sink_error().map_or(Ok(()), |error| Err(error.into()))
    }

    fn listen(&mut self) -> Result<(), RunError> {
        while let Some(message) = self.control.next() {
            match message {
                Message::Told(partition, told) => self.state.watermarks.hear(partition, told),
                Message::Proposed(decision) => {
                    if let Some(leader) = &mut self.leader {
                        leader.propose(decision)?;
                    }
                }
                Message::Decided(decision) => self.obey(&decision)?,
                Message::Snapshot(request) => self.tell_positions(request),
                Message::Published(frontier) => self.forget(frontier),
                Message::Full(full) => self.state.sinks_are_full = full,
                Message::Stopping => self.stop_reading(),
                Message::Detached => self.state.detached = true,
                Message::Window(emptied) => self.state.watermarks.restored(emptied),
                Message::Start(_) => {}
            }
        }
        if self.state.stopping.is_none() && self.stop.load(Ordering::Relaxed) {
            self.stop_reading();
            self.control.tell(Message::Stopping);
        }
        Ok(())
    }

    fn stop_reading(&mut self) {
        self.state.stopping.get_or_insert_with(Instant::now);
        self.metrics.set_ready(false);
    }

    /// Applies a decision about a partition of ours, and reads it on.
    fn obey(&mut self, decision: &Decision) -> Result<(), RunError> {
        fault::point("decision.heard");
        let Some(partition) = decision.partition().filter(|partition| self.is_ours(*partition)) else { return Ok(()) };
        match *decision {
            Decision::Partition { watermark, .. } => {
                let reader = (self.newcomer)(partition, watermark);
                self.source.assign(partition, reader.next())?;
                self.owned.insert(partition, Owned::new(reader, Some(0)));
            }
            Decision::Advance { watermark, .. } => self.release(partition, |reader| reader.advance(watermark)),
            Decision::Loss { to, .. } => self.release(partition, |reader| reader.skip_to(to)),
            Decision::Epoch { .. } => {}
        }
        Ok(())
    }

    /// Applies what a partition of ours was held for, and takes in what has come meanwhile.
    fn release(&mut self, partition: u32, apply: impl FnOnce(&mut PartitionReader)) {
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        apply(&mut owned.reader);
        owned.proposed = None;
        let mut report = Report::default();
        owned.held_bytes = 0;
        for Held { offset, value, read } in std::mem::take(&mut owned.held) {
            owned.reader.take(offset, &value, read, &mut self.state.events, &mut report);
        }
        self.hand_over(report);
    }

    /// Takes in what the source has, in `state.fetched`.
    fn poll(&mut self) -> Result<(), RunError> {
        match self.source.poll(&mut self.state.fetched) {
            Err(SourceError::Lost { partition, from, to, .. }) if self.accept_loss => {
                // If something else is to be decided first, the source will say so again.
                if let Some(owned) = self.owned.get_mut(&partition).filter(|owned| owned.proposed.is_none()) {
                    // The source may have passed over what are no records.
                    let decision = Decision::Loss { partition, from: from.min(owned.reader.next()), to };
                    owned.proposed = Some(decision.clone());
                    self.source.assign(partition, to)?;
                    self.control.tell(Message::Proposed(decision));
                }
                Ok(())
            }
            polled => Ok(polled?),
        }
    }

    fn is_ours(&self, partition: u32) -> bool {
        partition as usize % self.peers == self.index
    }

    /// Takes in what has come. Whether that was anything.
    fn read(&mut self) -> Result<bool, RunError> {
        let room = if self.state.sinks_are_full { Room::None } else { self.state.in_flight.room() };
        let least = self.state.watermarks.least();
        for (&partition, owned) in &self.owned {
            let readable = match room {
                Room::All => true,
                Room::Least => least.is_none_or(|least| owned.reader.watermark() <= least),
                Room::None => false,
            };
            // A partition at its end, where nothing has come since that was seen first, stays open: a pause would end what is known of
            // it. One that is held does so until much has come there.
            let at_end = self.source.status(partition).idle_for() > Duration::ZERO;
            self.source.set_paused(partition, !readable && !at_end || owned.held_bytes >= HELD_BYTES_MAX);
        }
        self.state.fetched.clear();
        // Also where all are paused: the client has more to say than records.
        self.poll()?;
        let mut report = Report::default();
        for record in self.state.fetched.records() {
            let Some(owned) = self.owned.get_mut(&record.partition) else { continue };
            let Some(format) = self.source.format(record.partition) else { continue };
            let (offset, read) = (record.offset, record.read(format));
            let value = format.record(record.value());
            match owned.proposed {
                None => owned.reader.take(offset, value, read, &mut self.state.events, &mut report),
                Some(_) => owned.hold(Held { offset, value: value.to_vec(), read }),
            }
        }
        let busy = !self.state.fetched.is_empty();
        self.hand_over(report);
        Ok(busy)
    }

    fn hand_over(&mut self, report: Report) {
        self.metrics.note(&report);
        self.state.in_flight.add(&self.state.events);
        self.split_off_what_is_read_again();
        self.pipeline.events.send_batch(&mut self.state.events);
        if report.counts.lines > 0 {
            self.pipeline.reports.send(report);
            self.state.unflushed.get_or_insert_with(Instant::now);
            fault::point("worker.handed_over");
        }
    }

    /// Users have the events before the snapshot already; the window lacks those of the slide that it lies in.
    fn split_off_what_is_read_again(&mut self) {
        if let Some(read_again) = &mut self.pipeline.read_again {
            let before = |event: &mut Event| event.logical < self.resumed_at;
            read_again.send_batch(&mut self.state.events.extract_if(.., before).collect());
        }
    }

    /// Tells the others how far our partitions are, proposes to move idle ones on, and moves the frontier.
    fn keep_time(&mut self) {
        let tick = self.clockwork.tick;
        for (&partition, owned) in &mut self.owned {
            let status = self.source.status(partition);
            let standing = if status.ended && owned.held.is_empty() && owned.proposed.is_none() {
                Standing::Ended
            } else if owned.held.is_empty() && status.idle_for() >= self.clockwork.idle {
                Standing::Idle
            } else {
                Standing::Active
            };
            let (watermark, logical_max) = (owned.reader.watermark(), owned.reader.logical_max());
            owned.end = owned.end.or(status.at_end.map(|_| owned.reader.next()));
            let caught_up = standing == Standing::Ended || owned.end.is_some_and(|end| owned.reader.next() > end);
            let waiting = owned.reader.waiting();
            let told = Told { watermark, standing, logical_max, waiting, caught_up };
            // Others need to know of whole ticks only.
            let end = |time: Option<Time>| time.map(|time| tick.end_of(time));
            let coarse = |told: &Told| {
                let ends = (end(told.logical_max), end(told.waiting));
                (tick.frontier(told.watermark), told.standing, ends, told.caught_up)
            };
            self.state.watermarks.hear(partition, told);
            if owned.told.as_ref().map(coarse) != Some(coarse(&told)) {
                owned.told = Some(told);
                self.control.tell(Message::Told(partition, told));
            }
            let taken = owned.reader.taken();
            let new = taken - std::mem::replace(&mut owned.noted, taken);
            self.metrics.partition(partition, new, &told, self.source.lag(partition));
        }
        if self.state.stopping.is_none() {
            self.propose();
        }
        if self.state.watermarks.count() < self.partitions {
            return;
        }
        if let Some(frontier) = self.state.watermarks.least().map(|least| tick.frontier(least))
            && frontier > *self.pipeline.events.time()
        {
            self.state.in_flight.advance(frontier);
            if frontier > self.resumed_at {
                // All events to come are behind the snapshot.
                self.pipeline.read_again = None;
            }
            self.pipeline.advance_to(frontier);
            self.state.unflushed = None;
            self.metrics.frontier(frontier);
            fault::point("worker.advanced");
        }
        if self.state.unflushed.is_some_and(|since| since.elapsed() >= REPORTS_WAIT_MAX) {
            self.pipeline.reports.flush();
            self.state.unflushed = None;
        }
    }

    fn propose(&mut self) {
        let clock = now_ms().saturating_sub(self.clockwork.lateness);
        let Clockwork { tick, window, .. } = self.clockwork;
        for (&partition, owned) in self.owned.iter_mut().filter(|(_, owned)| owned.proposed.is_none()) {
            let Some(watermark) = self.state.watermarks.target(partition, clock, tick, window) else { continue };
            let decision = Decision::Advance { partition, offset: owned.reader.next(), watermark };
            owned.proposed = Some(decision.clone());
            self.control.tell(Message::Proposed(decision));
        }
        if self.until_end {
            // The log has the partitions that it had when the run started.
            return;
        }
        // The inputs stand at a tick's end; the watermark just below the tick promises no more than they do.
        let watermark = self.pipeline.events.time().saturating_sub(tick.length());
        for partition in self.source.new_partitions().filter(|partition| *partition as usize % self.peers == self.index)
        {
            // From here on our inputs wait for it: what it brings once that is decided may be of the next tick.
            self.state.watermarks.hear(partition, Told::newcomer(watermark));
            self.control.tell(Message::Proposed(Decision::Partition { partition, watermark }));
        }
    }

    fn tell_positions(&mut self, request: Time) {
        fault::point("snapshot.asked");
        let frontier = self.clockwork.tick.start_of(request);
        let positions = self.owned.values().map(|owned| (request, owned.reader.position_at(frontier))).collect();
        self.pipeline.reports.send(Report { positions, ..Report::default() });
        self.pipeline.reports.flush();
    }

    fn forget(&mut self, frontier: Time) {
        let positions: Vec<_> = self
            .owned
            .values_mut()
            .map(|owned| {
                let position = owned.reader.position_at(frontier);
                owned.reader.forget_before(frontier);
                (position.partition, position.offset)
            })
            .collect();
        // For others to see; nothing of ours reads it.
        self.source.commit(&positions);
    }

    /// On worker 0, while anything may still come.
    fn note_whether_caught_up(&mut self) {
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.replaces()) else { return };
        let heard_of_all = self.state.watermarks.count() >= self.partitions;
        let Clockwork { tick, window, lateness, .. } = self.clockwork;
        let clock = now_ms().saturating_sub(lateness);
        if heard_of_all && self.pipeline.all_is_out() && self.state.watermarks.have_caught_up(clock, tick, window) {
            leader.caught_up();
        }
    }

    fn lead(&mut self) -> Result<(), RunError> {
        let Some(leader) = &mut self.leader else { return Ok(()) };
        match leader.step(&mut self.control, &mut self.pipeline, self.state.stopping) {
            // A sink that has failed ends the snapshots, too; it is that which is to be told.
            Err(RunError::SnapshotsStopped) => self.check().and(Err(RunError::SnapshotsStopped)),
            led => led,
        }
    }

    fn everything_has_ended(&self) -> bool {
        let heard_of_all = self.state.watermarks.count() >= self.partitions;
        heard_of_all && self.state.stopping.is_none() && self.state.watermarks.least().is_none()
    }

    /// Closes the inputs, and sees all results out.
    fn complete(mut self, worker: &mut Worker) -> Result<Ending, RunError> {
        self.pipeline.close();
        while !self.pipeline.complete.done() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(RunError::StoppedAtTheEnd);
            }
            self.lead()?;
            self.check()?;
            self.metrics.turn(self.index);
            worker.step_or_park(Some(PARK));
        }
        self.lead()?;
        self.check()?;
        Ok(Ending::Ended)
    }
}

/// The time of day, ms since 1970.
pub(super) fn now_ms() -> Time {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(Time::MAX))
}
