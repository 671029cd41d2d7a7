//! Offsets and logical times for the rows of a chunk whose turn has come.

use super::FeedError;
use super::partition::{Parsed, Partition};
use crate::digest::RowHasher;
use crate::journal::Advances;
use crate::pipeline::Report;
use crate::sinks::{RejectReason, Rejected};
use crate::sources::{RejectedLine, Row};
use dataflows::event::{Event, Position, Time};
use dataflows::time::{LatePolicy, PartitionClock, Stamp, Steps};

/// The rules that rows are stamped by.
#[derive(Clone, Copy, Debug)]
pub(in crate::replay) struct Stamping {
    pub(in crate::replay) lateness: Time,
    pub(in crate::replay) late: LatePolicy,
    pub(in crate::replay) jump_max: Option<Time>,
    pub(in crate::replay) tick: Steps,
    /// A partition stops where its watermark reaches this, and events at or after it don't take part.
    pub(in crate::replay) until: Time,
    /// Whether reports carry rows.
    pub(in crate::replay) wants_rows: bool,
}

/// The time of one partition, line by line: its clock, the journal's part in it, and where it stops.
///
/// It stops at the first offset o with W_p(o) ≥ `until`. What stands before that offset is read and logged, whatever it is;
/// what stands at it or behind it is not, also where nobody could tell in advance that the chunk would hold it.
pub(super) struct Course {
    clock: PartitionClock,
    advances: Advances,
    until: Time,
    stop: Option<u64>,
}

impl Course {
    /// At the start of the partition.
    pub(super) fn new(stamping: &Stamping, advances: Advances) -> Course {
        let clock = PartitionClock::new(stamping.lateness);
        let mut course = Course { clock, advances, until: stamping.until, stop: None };
        course.note(0);
        course.reach(0);
        course
    }

    /// W_p at the place reached so far.
    pub(super) fn watermark(&self) -> Time {
        self.clock.watermark()
    }

    /// Whether the partition stops at the place reached so far, or before it.
    pub(super) fn has_stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// Whether some of its lines are no part of the run.
    pub(super) fn has_losses(&self) -> bool {
        self.advances.have_losses()
    }

    /// Moves to the line at `offset`, and says whether the partition stops there or before.
    #[inline]
    fn reach(&mut self, offset: u64) -> bool {
        while let Some(at) = self.advances.next_offset().filter(|at| *at <= offset) {
            self.advances.apply(at, &mut self.clock);
            self.note(at);
        }
        self.has_stopped()
    }

    #[inline]
    fn accept(&mut self, time: Time, offset: u64) -> Stamp {
        let stamp = self.clock.accept(time);
        self.note(offset + 1);
        stamp
    }

    /// Moves to `offset` over rows that somebody else stamps, of which `largest` is the largest accepted event time.
    pub(super) fn pass(&mut self, largest: Option<Time>, offset: u64) {
        self.clock.observe(largest);
        self.note(offset);
        self.reach(offset);
    }

    #[inline]
    fn note(&mut self, offset: u64) {
        if self.clock.watermark() >= self.until {
            self.stop.get_or_insert(offset);
        }
    }
}

/// Stamps the rows of partition `at`'s next chunk. Events that take part are added to `events`. Returns what there is to
/// report, and the largest time accepted.
pub(super) fn stamp(
    partition: &mut Partition,
    (at, input): (usize, &str),
    parsed: &Parsed,
    stamping: &Stamping,
    hasher: &mut RowHasher,
    events: &mut Vec<Event>,
) -> Result<(Report, Option<Time>), FeedError> {
    let (first_line, is_first) = (partition.lines, partition.folded == 0);
    let report = Report { bytes: parsed.bytes, ..Report::default() };
    let mut out = Stamper { report, largest: None, at: at as u32, input, first_line, stamping, hasher };
    let course = &mut partition.course;
    let mut rejected = parsed.chunk.rejected().peekable();
    for row in &parsed.chunk.rows {
        while let Some(line) = rejected.next_if(|line| line.line < row.line) {
            let offset = first_line + u64::from(line.line);
            if !course.reach(offset) && !course.advances.is_lost(offset) {
                out.reject(&line)?;
            }
        }
        let offset = first_line + u64::from(row.line);
        if course.reach(offset) {
            break;
        }
        if course.advances.is_lost(offset) {
            continue;
        }
        if stamping.jump_max.is_some_and(|jump_max| course.clock.leaps(row.time, jump_max)) {
            let record = parsed.record(is_first, row.line);
            out.reject(&RejectedLine { line: row.line, reason: RejectReason::Jump, record })?;
        } else {
            out.accept(row, course.accept(row.time, offset), events)?;
        }
    }
    for line in rejected {
        let offset = first_line + u64::from(line.line);
        if course.reach(offset) {
            break;
        }
        if !course.advances.is_lost(offset) {
            out.reject(&line)?;
        }
    }
    partition.lines += parsed.chunk.lines;
    course.reach(partition.lines);
    out.report.counts.lines = course.stop.unwrap_or(partition.lines) - first_line;
    Ok((out.report, out.largest))
}

struct Stamper<'a> {
    report: Report,
    largest: Option<Time>,
    at: u32,
    input: &'a str,
    first_line: u64,
    stamping: &'a Stamping,
    hasher: &'a mut RowHasher,
}

impl Stamper<'_> {
    fn position(&self, line: u32) -> Result<Position, FeedError> {
        let offset = self.first_line + u64::from(line);
        Position::new(self.at, offset).ok_or_else(|| FeedError::TooManyLines { input: self.input.to_owned() })
    }

    fn accept(&mut self, row: &Row, stamp: Stamp, events: &mut Vec<Event>) -> Result<(), FeedError> {
        let event = Event {
            user: row.user,
            item: row.item,
            time: row.time,
            logical: stamp.logical,
            position: self.position(row.line)?,
            behavior: row.behavior,
            late: stamp.late,
        };
        let (report, stamping) = (&mut self.report, self.stamping);
        self.largest = self.largest.max(Some(row.time));
        report.count_event(&event, self.hasher);
        if stamping.wants_rows {
            report.records.push(event);
        }
        if stamping.late.admits(stamp.late) && stamp.logical < stamping.until {
            report.logical_max = report.logical_max.max(Some(stamp.logical));
            events.push(event);
        }
        Ok(())
    }

    fn reject(&mut self, line: &RejectedLine<'_>) -> Result<(), FeedError> {
        let &RejectedLine { line, reason, record } = line;
        let rejected = Rejected { position: self.position(line)?, reason, record: record.to_vec() };
        self.report.count_rejected(&rejected, self.hasher);
        if self.stamping.wants_rows {
            self.report.rejections.push(rejected);
        }
        Ok(())
    }
}
