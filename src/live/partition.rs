//! One partition of a live log, on the worker that owns it: records → events with logical times, and where a run that
//! starts from a snapshot has to read on.

use crate::digest::RowHasher;
use crate::journal::Advances;
use crate::pipeline::Report;
use crate::sinks::{PartitionPosition, RejectReason, Rejected};
use crate::sources::Row;
use crate::sources::format::RECORD_BYTES_MAX;
use dataflows::event::{Event, Position, Time};
use dataflows::time::{LatePolicy, PartitionClock, Steps};
use std::collections::VecDeque;

/// The rules that records are stamped by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// What becomes of late events.
    pub(super) late: LatePolicy,
    /// `source.max_jump`.
    pub(super) jump_max: Option<Time>,
    /// The slide, from whose start on a run reads that goes on from a snapshot within it.
    pub(super) slide: Steps,
    /// The frontier of the snapshot that the run goes on from: what is before its slide is in the state already.
    pub(super) resumed_at: Time,
}

/// A partition, as far as it has been read.
pub(super) struct PartitionReader {
    partition: u32,
    clock: PartitionClock,
    advances: Advances,
    next: u64,
    taken: u64,
    logical_max: Option<Time>,
    waiting: Option<Time>,
    /// The first events of the slides that have begun since the one that the last snapshot lies in, that one's too.
    begun: VecDeque<Begun>,
    rules: Rules,
    hasher: RowHasher,
}

/// The first record with a logical time in a slide or behind it. A record that is no event counts as one at the watermark:
/// it is handed over after the frontier has passed that, so a snapshot can't rely on it.
struct Begun {
    /// The slide's start.
    slide: Time,
    offset: u64,
    /// As it was before the record.
    clock: PartitionClock,
}

impl PartitionReader {
    /// A partition to be read from `position` on, with the journal's `advances` of it.
    pub(super) fn new(position: &PartitionPosition, lateness: Time, mut advances: Advances, rules: Rules) -> Self {
        let mut clock = PartitionClock::resumed(lateness, position.largest, position.advanced);
        advances.apply(position.offset, &mut clock);
        PartitionReader {
            partition: position.partition,
            clock,
            advances,
            next: position.offset,
            taken: 0,
            logical_max: None,
            waiting: None,
            begun: VecDeque::new(),
            rules,
            hasher: RowHasher::default(),
        }
    }

    /// The least offset that the next record can have.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How many records were taken in.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// W_p at the place reached.
    pub(super) fn watermark(&self) -> Time {
        self.clock.watermark()
    }

    /// The largest logical time so far.
    pub(super) fn logical_max(&self) -> Option<Time> {
        self.logical_max
    }

    /// The largest time that the frontier has to pass before all that was read so far is out: also late events and rejected
    /// records wait for it.
    pub(super) fn waiting(&self) -> Option<Time> {
        self.waiting
    }

    /// Applies a decision that is durable: from here on, the watermark is at least `watermark`.
    pub(super) fn advance(&mut self, watermark: Time) {
        self.clock.advance(watermark);
    }

    /// Passes over records that were lost before they could be read; `to` is the next that there is.
    pub(super) fn skip_to(&mut self, to: u64) {
        self.next = self.next.max(to);
        self.advances.apply(self.next, &mut self.clock);
    }

    /// Takes the record at `offset` in, as `read` understood it. Event and rows go to `events` and `report`.
    ///
    /// # Panics
    /// If `offset` does not fit a [`Position`]; whoever opens a log sees to that.
    pub(super) fn take(
        &mut self,
        offset: u64,
        record: &[u8],
        read: Result<Option<Row>, RejectReason>,
        events: &mut Vec<Event>,
        report: &mut Report,
    ) {
        self.advances.apply(offset, &mut self.clock);
        self.begin(offset, self.clock.watermark());
        self.next = offset + 1;
        self.taken += 1;
        if !matches!(read, Ok(None)) {
            self.waiting = self.waiting.max(Some(self.clock.watermark()));
        }
        report.counts.lines += 1;
        report.bytes += record.len() as u64;
        match read {
            Ok(None) => {}
            Err(reason) => self.reject(offset, reason, record, report),
            Ok(Some(row)) if self.leaps(row.time) => self.reject(offset, RejectReason::Jump, record, report),
            Ok(Some(row)) => self.accept(offset, &row, events, report),
        }
        // What the journal says of the place reached holds before anything comes there.
        self.advances.apply(self.next, &mut self.clock);
    }

    /// The record at `offset`, which is next, has a logical time of at least `logical`.
    fn begin(&mut self, offset: u64, logical: Time) {
        let slide = self.rules.slide.start_of(logical);
        match self.begun.back_mut() {
            Some(begun) if begun.slide >= slide => {}
            Some(begun) if begun.offset == offset => begun.slide = slide,
            _ => self.begun.push_back(Begun { slide, offset, clock: self.clock.clone() }),
        }
    }

    fn leaps(&self, time: Time) -> bool {
        self.rules.jump_max.is_some_and(|jump_max| self.clock.leaps(time, jump_max))
    }

    fn position(&self, offset: u64) -> Position {
        Position::new(self.partition, offset).expect("an opened log has only places that fit")
    }

    fn accept(&mut self, offset: u64, row: &Row, events: &mut Vec<Event>, report: &mut Report) {
        self.begin(offset, row.time);
        let stamp = self.clock.accept(row.time);
        self.waiting = self.waiting.max(Some(stamp.logical));
        let event = Event {
            user: row.user,
            item: row.item,
            time: row.time,
            logical: stamp.logical,
            position: self.position(offset),
            behavior: row.behavior,
            late: stamp.late,
        };
        report.count_event(&event, &mut self.hasher);
        report.records.push(event);
        if self.rules.late.admits(stamp.late) {
            self.logical_max = self.logical_max.max(Some(stamp.logical));
            report.logical_max = report.logical_max.max(Some(stamp.logical));
            let end = self.rules.slide.end_of(stamp.logical);
            if report.slide_ends.last() != Some(&end) {
                report.slide_ends.push(end);
            }
            if stamp.logical >= self.rules.slide.start_of(self.rules.resumed_at) {
                events.push(event);
            }
        }
    }

    fn reject(&mut self, offset: u64, reason: RejectReason, record: &[u8], report: &mut Report) {
        let record = record[..record.len().min(RECORD_BYTES_MAX)].to_vec();
        let rejected = Rejected { position: self.position(offset), reason, record };
        report.count_rejected(&rejected, &mut self.hasher);
        report.rejections.push(rejected);
    }

    /// Where to read on from with a snapshot at `frontier`: at the first record with L ≥ S, the start of the slide that `frontier`
    /// lies in, or at the next one if there was none yet (contract, section 5; [`dataflows::state`] says why S).
    ///
    /// Right for frontiers not before the last one that was [told](Self::forget_before).
    pub(super) fn position_at(&self, frontier: Time) -> PartitionPosition {
        let start = self.rules.slide.start_of(frontier);
        let first = self.begun.iter().find(|begun| begun.slide >= start);
        let (offset, clock) = first.map_or((self.next, &self.clock), |begun| (begun.offset, &begun.clock));
        let (largest, advanced) = (clock.largest(), clock.advanced());
        PartitionPosition { partition: self.partition, offset, largest, advanced }
    }

    /// No snapshot before `frontier` will be asked for any more.
    pub(super) fn forget_before(&mut self, frontier: Time) {
        let start = self.rules.slide.start_of(frontier);
        while self.begun.front().is_some_and(|begun| begun.slide < start) {
            self.begun.pop_front();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::journal::{Decision, Journal};
    use dataflows::event::{Behavior, ItemId, UserId};
    use proptest::prelude::*;

    const TICK: Time = 20;
    const SLIDE: Time = 40;
    const LATENESS: Time = 15;

    fn rules(resumed_at: Time) -> Rules {
        let slide = Steps::new(SLIDE).unwrap();
        Rules { late: LatePolicy::Admit, jump_max: Some(200), slide, resumed_at }
    }

    fn start() -> PartitionPosition {
        PartitionPosition { partition: 3, offset: 0, largest: None, advanced: 0 }
    }

    /// Reads records from `reader`'s place on; a `None` is no event.
    fn read(reader: &mut PartitionReader, records: &[Option<Time>]) -> (Vec<Event>, Report) {
        let (mut events, mut report) = (Vec::new(), Report::default());
        for (offset, time) in (0..).zip(records).skip(reader.next() as usize) {
            let row = |time| Row { line: 0, behavior: Behavior(0), user: UserId(1), item: ItemId(2), time };
            let read = time.map(|time| Some(row(time))).ok_or(RejectReason::Time);
            reader.take(offset, b"x", read, &mut events, &mut report);
        }
        (events, report)
    }

    /// The first record with L ≥ `frontier`, by the definition.
    fn first_at(records: &[Option<Time>], advances: &Advances, frontier: Time) -> u64 {
        let (mut clock, mut advances) = (PartitionClock::new(LATENESS), advances.clone());
        for (offset, time) in (0..).zip(records) {
            advances.apply(offset, &mut clock);
            let time = time.filter(|time| !clock.leaps(*time, 200));
            if time.unwrap_or(0).max(clock.watermark()) >= frontier {
                return offset;
            }
            clock.observe(time);
        }
        records.len() as u64
    }

    proptest! {
        /// What a snapshot at F and a run from its position have together is what one run has.
        #[test]
        fn a_run_from_a_snapshot_sees_what_is_left(
            records in prop::collection::vec(prop::option::weighted(0.9, 0u64..600), 0..60),
            advances in prop::collection::vec((0u64..60, 0u64..600), 0..4),
            seen in 0usize..60,
            forgotten in 0u64..16,
            later in 0u64..20,
        ) {
            let seen = seen.min(records.len());
            let advance = |(offset, watermark)| Decision::Advance { partition: 3, offset, watermark };
            let advances = Journal::new(&advances.into_iter().map(advance).collect::<Vec<_>>()).advances(3);
            let mut reader = PartitionReader::new(&start(), LATENESS, advances.clone(), rules(0));
            let (mut events, mut report) = read(&mut reader, &records[..seen]);
            let (forgotten, frontier) = (forgotten * TICK, (forgotten + later) * TICK);
            let start = frontier / SLIDE * SLIDE;
            reader.forget_before(forgotten);
            let position = reader.position_at(frontier);
            let (rest, more) = read(&mut reader, &records);
            events.extend(rest);
            report.records.extend(more.records);

            prop_assert_eq!(position.offset, first_at(&records[..seen], &advances, start));
            let mut resumed = PartitionReader::new(&position, LATENESS, advances, rules(frontier));
            let (again, report_again) = read(&mut resumed, &records);
            let left: Vec<Event> = events.iter().copied().filter(|event| event.logical >= start).collect();
            prop_assert_eq!(again, left);
            let logged: Vec<Event> =
                report.records.iter().copied().filter(|event| event.position.offset() >= position.offset).collect();
            prop_assert_eq!(report_again.records, logged);
            prop_assert_eq!(resumed.watermark(), reader.watermark());
        }
    }
}
