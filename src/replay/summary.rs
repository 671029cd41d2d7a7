//! What a replay says when it is done.

use super::ReplayPlan;
use crate::pipeline::{Collected, Counts, Digests};
use crate::sources::files::FileLog;
use dataflows::event::Time;
use serde::Serialize;
use std::time::Duration;

/// Files that a warning names.
const INPUTS_SHOWN: usize = 3;

/// Lines read up to some moments of a run, for a plot of its speed.
pub type Throughput = Vec<(f64, u64)>;

/// What a replay says when it is done; the form of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Files read, in the order of partitions.
    pub inputs: Vec<String>,
    /// The log's id.
    pub log: u64,
    /// Lines read, headers and blank lines included.
    pub lines: u64,
    /// Records that are events.
    pub events: u64,
    /// Late events among them.
    pub late: u64,
    /// Rejected records.
    pub rejected: u64,
    /// Rejected records by reason; only reasons that occur.
    pub rejected_by_reason: Vec<(&'static str, u64)>,
    /// The least and the largest event time, ms.
    pub times: Option<(Time, Time)>,
    /// Row counts and digests of all outputs.
    pub digests: Digests,
    /// Worker threads in this process.
    pub workers: usize,
    /// Hash of the model, if there is one.
    pub model: Option<String>,
    /// From opening the log to the end of all outputs, s.
    pub elapsed_s: f64,
    /// Events by that.
    pub events_per_s: f64,
}

impl Summary {
    pub(super) fn new(
        plan: &ReplayPlan,
        log: &FileLog,
        collected: &Collected,
        model: Option<String>,
        elapsed: Duration,
    ) -> Summary {
        let Counts { lines, accepted, late, .. } = collected.report.counts;
        let reasons = crate::sinks::RejectReason::ALL.iter().zip(collected.report.counts.rejected);
        Summary {
            inputs: log.partitions().iter().map(|partition| partition.input().to_owned()).collect(),
            log: log.id(),
            lines,
            events: accepted,
            late,
            rejected: collected.report.counts.rejected_all(),
            rejected_by_reason: reasons.filter(|(_, count)| *count > 0).map(|(r, count)| (r.name(), count)).collect(),
            times: collected.report.times,
            digests: collected.digests,
            workers: plan.peers(),
            model,
            elapsed_s: elapsed.as_secs_f64(),
            events_per_s: accepted as f64 / elapsed.as_secs_f64(),
        }
    }

    /// What to tell of a log without a single event.
    pub(super) fn no_events(&self) -> Option<String> {
        if self.events > 0 {
            return None;
        }
        let shown = self.inputs.iter().take(INPUTS_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = self.inputs.len().saturating_sub(INPUTS_SHOWN);
        let inputs = if more > 0 { format!("{shown} and {more} more") } else { shown };
        let most = self.rejected_by_reason.iter().max_by_key(|(_, count)| count);
        Some(match (self.lines, most) {
            (0, _) if self.inputs.len() == 1 => format!("{inputs} is empty"),
            (0, _) => format!("{inputs} are empty"),
            (lines, None) => format!("{inputs}: none of {lines} lines is an event (there is only a header, or blanks)"),
            (lines, Some((reason, _))) => format!(
                "{inputs}: none of {lines} lines is an event (most were rejected as {reason}; check source.delimiter, \
                 source.columns, source.format)"
            ),
        })
    }
}
