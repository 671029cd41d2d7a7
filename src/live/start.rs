//! Where a run starts: what process 0 recovers, and all workers are told.

use super::control::{Control, Message};
use super::error::{LiveError, shown};
use super::journaling::Journaling;
use super::leader::{Leader, Schedule};
use super::open::Durables;
use super::partition::{PartitionReader, Rules};
use super::snapshots::Snapshots;
use super::worker::Owned;
use super::Shared;
use crate::journal::{Advances, Decision, Journal};
use crate::pipeline::Pipeline;
use crate::sinks::PartitionPosition;
use dataflows::event::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use timely::worker::Worker;

const PARK: Duration = Duration::from_millis(1);

/// Rows of a snapshot that are handed to the dataflows at a time.
const RESTORE_ROWS: usize = 4096;

/// Where a run starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    /// The snapshot's frontier; 0 without one.
    pub(super) resumed_at: Time,
    /// Where the snapshot has its partitions.
    pub(super) positions: Vec<PartitionPosition>,
    /// All decisions so far.
    pub(super) decisions: Vec<Decision>,
}

impl Start {
    /// Waits until worker 0 has told.
    pub(super) fn hear(worker: &mut Worker, control: &mut Control, shared: &Shared) -> Result<Start, LiveError> {
        loop {
            if let Some(start) = control.start() {
                return Ok(start);
            }
            if shared.plan.stop.load(Ordering::Relaxed) {
                return Err(LiveError::StoppedAtTheStart);
            }
            worker.step_or_park(Some(PARK));
        }
    }

    /// The partitions that the run reads.
    pub(super) fn partitions(&self) -> usize {
        self.decisions.iter().filter(|decision| matches!(decision, Decision::Partition { .. })).count()
    }

    /// This worker's partitions, each where it is to be read on.
    pub(super) fn owned(&self, shared: &Shared, index: usize, peers: usize) -> BTreeMap<u32, Owned> {
        let journal = Journal::from_decisions(&self.decisions);
        let ours = (0..self.partitions() as u32).filter(|partition| *partition as usize % peers == index);
        ours.map(|partition| {
            let position = self.position(partition);
            let mut reader = reader(shared, &position, journal.advances(partition), self.resumed_at);
            reader.skip_to(self.after_losses(partition, position.offset));
            let end = shared.plan.until_end.then(|| shared.source.end(partition));
            (partition, Owned::new(reader, end))
        })
        .collect()
    }

    /// Where the snapshot has a partition; its beginning if it appeared later.
    pub(super) fn position(&self, partition: u32) -> PartitionPosition {
        let found = self.positions.iter().find(|position| position.partition == partition);
        found.cloned().unwrap_or(PartitionPosition { partition, offset: 0, largest: None, advanced: 0 })
    }

    /// The first offset from `offset` on that was not lost.
    pub(super) fn after_losses(&self, partition: u32, mut offset: u64) -> u64 {
        for decision in &self.decisions {
            if let Decision::Loss { partition: of, from, to } = *decision
                && of == partition
                && (from..to).contains(&offset)
            {
                offset = to;
            }
        }
        offset
    }

    /// A partition that has just appeared.
    pub(super) fn newcomer(&self, shared: &Shared, partition: u32, watermark: Time) -> PartitionReader {
        let position = PartitionPosition { partition, offset: 0, largest: None, advanced: watermark };
        reader(shared, &position, Advances::default(), self.resumed_at)
    }
}

fn reader(shared: &Shared, position: &PartitionPosition, advances: Advances, resumed_at: Time) -> PartitionReader {
    let rules = Rules {
        late: shared.clockwork.late,
        jump_max: shared.clockwork.jump_max,
        slide: shared.clockwork.window.slide(),
        resumed_at,
    };
    PartitionReader::new(position, shared.clockwork.lateness, advances, rules)
}

/// On worker 0: tells all where to start, fills the dataflows from the snapshot, and begins its further duties.
pub(super) fn lead(
    worker: &mut Worker,
    shared: &Shared,
    durables: Durables,
    control: &mut Control,
    pipeline: &mut Pipeline,
) -> Result<Leader, LiveError> {
    let Durables { mut journal, snapshot, decisions, snapshots, published, sinks, .. } = durables;
    let mut start = Start { decisions, ..Start::default() };
    if let Some(snapshot) = &snapshot {
        start.resumed_at = snapshot.frontier();
        start.positions = snapshot.positions().to_vec();
        tracing::info!("going on from the snapshot at {}", shown(start.resumed_at));
    }
    let new = new_partitions(&start, shared)?;
    start.decisions.extend(new.iter().cloned());
    let lost = losses(&start, shared)?;
    journal.append(&[new, lost.clone()].concat())?;
    start.decisions.extend(lost);
    let partitions = start.partitions();
    control.tell(Message::Start(start));
    if let Some(snapshot) = snapshot {
        restore(worker, pipeline, &snapshot)?;
    }
    let interval = Duration::from_millis(shared.plan.config.state.snapshot_interval.ms());
    let schedule = Schedule::new(interval, shared.clockwork.window.slide(), Instant::now());
    let snapshots = Snapshots::attach(published, sinks, snapshots);
    Ok(Leader::new(Journaling::start(journal)?, snapshots, schedule, partitions, shared.metrics.clone()))
}
