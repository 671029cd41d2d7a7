//! The canonical files (`replay --out DIR`; contract, section 5): JSON Lines, the same bytes for every run of the same logs.
//!
//! ```text
//!   popular, recent, recommendations ── come sorted ─────▶ DIR/.eddyline-partial/NAME.jsonl ─┐
//!   late, rejected ── come in any order ── LineSorter ───▶ DIR/.eddyline-partial/NAME.jsonl ─┴─ at the end ─▶ DIR/NAME.jsonl
//! ```
//!
//! All five files are written in a directory of their own and get their names at [`Sink::finish`], once they are whole and
//! on the disk. Files of an earlier run stay until then; they are removed before the first of the new ones gets its name, so
//! that DIR never holds files of two runs side by side: a kill in that instant leaves some of the five missing. An aborted run
//! removes what it wrote; what a killed one left is removed by the next run. A lock on DIR keeps a second run out.
//!
//! They are for logs that have an end: nothing is durable before, and a call that fails is not to be made again.

mod directory;
mod error;
mod sorter;

pub use error::CanonicalError;

use super::json::{push_base64, push_i64, push_list, push_u64};
use super::{Batch, End, Rejected, Sink, SinkError};
use dataflows::event::{Event, Time};
use dataflows::lists::Lists;
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use directory::{LineFile, PartialDirectory};
use sorter::LineSorter;
use std::path::Path;

/// The files' names, in the order in which they get them.
pub const FILE_NAMES: [&str; 5] =
    ["popular.jsonl", "recent.jsonl", "recommendations.jsonl", "late.jsonl", "rejected.jsonl"];

/// How many bytes of late events, and as many of rejected records, are sorted in memory at a time.
const SORT_BYTES: usize = 32 << 20;

/// The canonical files of one run, being written.
pub struct CanonicalFiles {
    /// `None` after an error: a line may be there in part.
    files: Option<Files>,
    /// That of the end, once everything is whole.
    durable: Time,
}

struct Files {
    popular: LineFile,
    recent: LineFile,
    recommendations: LineFile,
    late: LineSorter,
    rejected: LineSorter,
    /// Each behaviour's name, quoted.
    behaviors: Vec<Vec<u8>>,
    // Last, so that it goes after the files in it.
    directory: PartialDirectory,
}

impl CanonicalFiles {
    /// Starts writing the canonical files of `directory`, which is made if need be (its parent must be there).
    ///
    /// `behaviors`: the behaviours' names, by index.
    ///
    /// # Errors
    /// If the directory can't be made or written to, or another run is writing to it.
    pub fn create(directory: &Path, behaviors: &[String]) -> Result<CanonicalFiles, CanonicalError> {
        CanonicalFiles::with_sort_bytes(directory, behaviors, SORT_BYTES)
    }

    fn with_sort_bytes(
        directory: &Path,
        behaviors: &[String],
        sort_bytes: usize,
    ) -> Result<CanonicalFiles, CanonicalError> {
        let directory = PartialDirectory::create(directory)?;
        let files = Files {
            popular: directory.file("popular.jsonl")?,
            recent: directory.file("recent.jsonl")?,
            recommendations: directory.file("recommendations.jsonl")?,
            late: LineSorter::new(directory.path(), "late", sort_bytes),
            rejected: LineSorter::new(directory.path(), "rejected", sort_bytes),
            behaviors: behaviors.iter().map(|name| serde_json::Value::from(&**name).to_string().into_bytes()).collect(),
            directory,
        };
        Ok(CanonicalFiles { files: Some(files), durable: 0 })
    }
}

impl Files {
    fn write_rows(&mut self, batch: &Batch) -> Result<(), CanonicalError> {
        for list in &batch.popular {
            push_popular(self.popular.line()?, list);
        }
        write_recent(&mut self.recent, &batch.recent)?;
        write_recommendations(&mut self.recommendations, &batch.recommendations)?;
        for event in batch.records.iter().filter(|event| event.late) {
            let behavior = &self.behaviors[usize::from(event.behavior.0)];
            push_late(self.late.line(event.position)?, event, behavior);
        }
        for rejected in &batch.rejected {
            push_rejected(self.rejected.line(rejected.position)?, rejected);
        }
        Ok(())
    }

    fn finish_files(self) -> Result<(), CanonicalError> {
        let Files { popular, recent, recommendations, late, rejected, behaviors: _, directory } = self;
        for file in [popular, recent, recommendations] {
            file.finish()?;
        }
        let mut file = directory.file("late.jsonl")?;
        late.write_to(&mut file)?;
        file.finish()?;
        let mut file = directory.file("rejected.jsonl")?;
        rejected.write_to(&mut file)?;
        file.finish()?;
        directory.publish(&FILE_NAMES)
    }
}

impl Sink for CanonicalFiles {
    fn name(&self) -> &'static str {
        "canonical"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let files = self.files.as_mut().ok_or(SinkError::Stopped)?;
        if let Err(error) = files.write_rows(batch) {
            self.files = None;
            return Err(error.into());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn durable(&self) -> Time {
        self.durable
    }

    fn finish(&mut self, end: &End) -> Result<(), SinkError> {
        self.files.take().ok_or(SinkError::Stopped)?.finish_files()?;
        self.durable = end.frontier;
        Ok(())
    }
}

fn push_popular(out: &mut Vec<u8>, list: &PopularList) {
    out.extend_from_slice(b"{\"window_end\":");
    push_u64(out, list.window_end);
    out.extend_from_slice(b",\"items\":");
    push_list(out, list.items.iter().map(|(item, _)| item.0));
    out.extend_from_slice(b",\"counts\":");
    push_list(out, list.items.iter().map(|&(_, count)| count));
    out.extend_from_slice(b"}\n");
}

/// The start of a line of `recent` or `recommendations`, up to the user. Its time is that of thousands of lines in a row.
#[derive(Default)]
struct LineStart {
    time: Option<Time>,
    text: Vec<u8>,
}

impl LineStart {
    fn at(&mut self, time: Time) -> &[u8] {
        if self.time != Some(time) {
            self.time = Some(time);
            self.text.clear();
            self.text.extend_from_slice(b"{\"time\":");
            push_u64(&mut self.text, time);
            self.text.extend_from_slice(b",\"user\":");
        }
        &self.text
    }
}

fn write_recent(file: &mut LineFile, rows: &Lists<SequenceKey>) -> Result<(), CanonicalError> {
    let mut start = LineStart::default();
    for (key, items) in rows.iter() {
        let out = file.line()?;
        out.extend_from_slice(start.at(key.time));
        push_u64(out, key.user.0);
        out.extend_from_slice(b",\"items\":");
        push_list(out, items.iter().map(|item| item.0));
        out.extend_from_slice(b"}\n");
    }
    Ok(())
}

fn write_recommendations(file: &mut LineFile, rows: &Lists<RecommendationKey>) -> Result<(), CanonicalError> {
    let mut start = LineStart::default();
    for (key, items) in rows.iter() {
        let out = file.line()?;
        out.extend_from_slice(start.at(key.time));
        push_u64(out, key.user.0);
        out.extend_from_slice(b",\"items\":");
        push_list(out, items.iter().map(|item| item.0));
        out.extend_from_slice(b",\"from_model\":");
        push_u64(out, u64::from(key.from_model));
        out.extend_from_slice(b",\"last_reward\":");
        push_i64(out, key.last_reward);
        out.extend_from_slice(b"}\n");
    }
    Ok(())
}

fn push_late(out: &mut Vec<u8>, event: &Event, behavior: &[u8]) {
    out.extend_from_slice(b"{\"partition\":");
    push_u64(out, u64::from(event.position.partition()));
    out.extend_from_slice(b",\"offset\":");
    push_u64(out, event.position.offset());
    out.extend_from_slice(b",\"user\":");
    push_u64(out, event.user.0);
    out.extend_from_slice(b",\"item\":");
    push_u64(out, event.item.0);
    out.extend_from_slice(b",\"behavior\":");
    out.extend_from_slice(behavior);
    out.extend_from_slice(b",\"time\":");
    push_u64(out, event.time);
    out.extend_from_slice(b"}\n");
}

fn push_rejected(out: &mut Vec<u8>, rejected: &Rejected) {
    out.extend_from_slice(b"{\"partition\":");
    push_u64(out, u64::from(rejected.position.partition()));
    out.extend_from_slice(b",\"offset\":");
    push_u64(out, rejected.position.offset());
    out.extend_from_slice(b",\"reason\":\"");
    out.extend_from_slice(rejected.reason.name().as_bytes());
    out.extend_from_slice(b"\",\"record\":\"");
    push_base64(out, &rejected.record);
    out.extend_from_slice(b"\"}\n");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
