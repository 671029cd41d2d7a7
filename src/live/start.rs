//! Where a run starts: what process 0 recovers, and all workers are told.

use super::Shared;
use super::control::{Control, Message, as_json};
use super::error::{RunError, shown};
use super::journaling::Journaling;
use super::leader::{Leader, Schedule};
use super::open::Durables;
use super::partition::{PartitionReader, Rules};
use super::worker::Owned;
use crate::checkpoint::Snapshot;
use crate::fault;
use crate::journal::{Advances, Decision, Journal};
use crate::pipeline::Pipeline;
use crate::sinks::PartitionPosition;
use crate::sources::live::{LiveError as SourceError, LiveSource, LogDescription};
use dataflows::event::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use timely::worker::Worker;

const PARK: Duration = Duration::from_millis(1);

/// After so many rows of a snapshot a worker lets the dataflows take them.
const RESTORE_ROWS: usize = 4096;

/// Where a run starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    /// The log, as process 0 found it.
    pub(super) log: LogDescription,
    /// The snapshot's frontier; 0 without one.
    pub(super) resumed_at: Time,
    /// Where the snapshot has its partitions.
    positions: Vec<PartitionPosition>,
    /// The decisions since.
    #[serde(with = "as_json")]
    decisions: Vec<Decision>,
}

impl Start {
    /// Waits until worker 0 has told.
    pub(super) fn hear(worker: &mut Worker, control: &mut Control, shared: &Shared) -> Result<Start, RunError> {
        loop {
            if let Some(start) = control.start() {
                return Ok(start);
            }
            if shared.plan.stop.load(Ordering::Relaxed) {
                return Err(RunError::StoppedAtTheStart);
            }
            shared.metrics.turn(worker.index());
            worker.step_or_park(Some(PARK));
        }
    }

    /// The partitions that the run reads.
    pub(super) fn partitions(&self) -> BTreeSet<u32> {
        let decided = self.decisions.iter().filter_map(|decision| match decision {
            Decision::Partition { partition, .. } => Some(*partition),
            _ => None,
        });
        self.positions.iter().map(|position| position.partition).chain(decided).collect()
    }

    /// This worker's partitions, assigned to its source, each where it is to be read on.
    pub(super) fn assign(
        &self,
        shared: &Shared,
        source: &mut dyn LiveSource,
        index: usize,
        peers: usize,
    ) -> Result<BTreeMap<u32, Owned>, RunError> {
        let journal = Journal::new(&self.decisions);
        let mut owned = BTreeMap::new();
        for partition in self.partitions().into_iter().filter(|partition| *partition as usize % peers == index) {
            let position = self.position(partition);
            let mut reader = reader(shared, &position, journal.advances(partition), self.resumed_at);
            reader.skip_to(self.after_losses(partition, position.offset));
            source.assign(partition, reader.next())?;
            let end = self.log.partitions.get(partition as usize).and_then(|extent| extent.end);
            owned.insert(partition, Owned::new(reader, end));
        }
        Ok(owned)
    }

    /// Where the snapshot has a partition; its beginning if it appeared later.
    fn position(&self, partition: u32) -> PartitionPosition {
        let found = self.positions.iter().find(|position| position.partition == partition);
        found.cloned().unwrap_or(PartitionPosition { partition, offset: 0, largest: None, advanced: 0 })
    }

    /// The first offset from `offset` on that was not lost.
    fn after_losses(&self, partition: u32, offset: u64) -> u64 {
        self.decisions.iter().fold(offset, |offset, decision| match *decision {
            Decision::Loss { partition: of, from, to } if of == partition && (from..to).contains(&offset) => to,
            _ => offset,
        })
    }

    /// A partition that has just appeared.
    pub(super) fn newcomer(&self, shared: &Shared, partition: u32, watermark: Time) -> PartitionReader {
        let position = PartitionPosition { partition, offset: 0, largest: None, advanced: watermark };
        reader(shared, &position, Advances::default(), self.resumed_at)
    }

    /// Partitions that nobody has heard of get their first watermark: at the very start none, and later `released`, before
    /// which results are out in some sink and can't change.
    fn new_partitions(&self, released: Time) -> Vec<Decision> {
        let known = self.partitions();
        let watermark = self.resumed_at.max(released);
        let new = (0..self.log.partitions.len() as u32).filter(|partition| !known.contains(partition));
        new.map(|partition| Decision::Partition { partition, watermark }).collect()
    }

    /// Records that were deleted before they were read. What was deleted before the first run ever is not part of its log.
    fn losses(&self, is_first_run: bool, accept: bool) -> Result<Vec<Decision>, RunError> {
        let mut losses = Vec::new();
        for (partition, extent) in (0..).zip(&self.log.partitions) {
            let from = self.after_losses(partition, self.position(partition).offset);
            let to = extent.begin;
            if from >= to {
                continue;
            }
            if !is_first_run && !accept {
                let topic = self.log.name.clone();
                return Err(SourceError::Lost { topic, partition, from, to }.into());
            }
            losses.push(Decision::Loss { partition, from, to });
        }
        Ok(losses)
    }
}

fn reader(shared: &Shared, position: &PartitionPosition, advances: Advances, resumed_at: Time) -> PartitionReader {
    let clockwork = &shared.clockwork;
    let (late, jump_max, slide) = (clockwork.late, clockwork.jump_max, clockwork.window.slide());
    let rules = Rules { late, jump_max, slide, resumed_at };
    PartitionReader::new(position, clockwork.lateness, advances, rules)
}

/// On worker 0: tells all where to start, fills the dataflows from the snapshot, and begins its further duties.
pub(super) fn lead(
    worker: &mut Worker,
    shared: &Shared,
    durables: Durables,
    control: &mut Control,
    pipeline: &mut Pipeline,
) -> Result<Leader, RunError> {
    let Durables { mut journal, snapshot, unbelieved, decisions, snapshots, durable, .. } = durables;
    let log = shared.log.description().clone();
    let mut start = Start { log, resumed_at: 0, positions: Vec::new(), decisions };
    if let Some(snapshot) = &snapshot {
        start.resumed_at = snapshot.frontier();
        start.positions = snapshot.positions().to_vec();
        tracing::info!("going on from the snapshot at {}", shown(start.resumed_at));
    }
    let known = start.partitions().len();
    if known > start.log.partitions.len() {
        return Err(RunError::PartitionsGone { found: start.log.partitions.len(), known });
    }
    // A journal without partitions is that of a first run, whatever stores hold.
    let released = if known == 0 { 0 } else { durable.furthest() };
    let new = start.new_partitions(released);
    if released == Time::MAX && !new.is_empty() {
        return Err(RunError::HasGrown { partitions: start.log.partitions.len(), known });
    }
    let lost = start.losses(known == 0, shared.plan.accept_loss)?;
    if let Some(unbelieved) = unbelieved {
        unbelieved.delete()?;
    }
    // In this order: a log of which a partition is known has been read from, and loses nothing unsaid any more.
    for decisions in [lost, new] {
        journal.append(&decisions)?;
        start.decisions.extend(decisions);
    }
    let (partitions, resumed_at) = (start.partitions().len(), start.resumed_at);
    control.tell(Message::Start(Box::new(start)));
    fault::point("start.told");
    if let Some(snapshot) = snapshot {
        control.tell(Message::Window(restore(worker, pipeline, &snapshot, shared)?));
    }
    let interval = Duration::from_millis(shared.plan.config.state.snapshot_interval.ms());
    let schedule = Schedule::new(interval, shared.clockwork.tick, Instant::now(), resumed_at);
    Ok(Leader::new(Journaling::start(journal)?, (snapshots, durable), schedule, partitions, shared.metrics.clone()))
}

/// Returns the first window end at which none of what was restored counts.
fn restore(
    worker: &mut Worker,
    pipeline: &mut Pipeline,
    snapshot: &Snapshot,
    shared: &Shared,
) -> Result<Time, RunError> {
    let started = Instant::now();
    if let Some(last) = snapshot.last() {
        pipeline.collected.borrow_mut().restore(last.clone());
    }
    let (mut users, mut panes, mut emptied) = (0, 0, 0);
    for user in snapshot.users() {
        pipeline.restored_users.send(user?);
        users += 1;
        if users == 1 {
            fault::point("restore.rows");
        }
        if users % RESTORE_ROWS == 0 {
            shared.metrics.turn(0);
            worker.step();
        }
    }
    // So that the list stands again which the ticks behind the snapshot ask for.
    pipeline.restored_panes.advance_to(shared.clockwork.window.slide().start_of(snapshot.frontier()));
    for pane in snapshot.panes() {
        let pane = pane?;
        emptied = emptied.max(pane.leaves);
        pipeline.restored_panes.send(pane);
        panes += 1;
        if panes % RESTORE_ROWS == 0 {
            shared.metrics.turn(0);
            worker.step();
        }
    }
    tracing::info!("restored {users} users and {panes} counts in {:.1} s", started.elapsed().as_secs_f64());
    Ok(emptied)
}
