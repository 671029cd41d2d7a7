//! The state directory of a live run: the journal and the snapshots that it goes on from (contract, sections 2 and 5).
//! `docs/checkpoints.md` tells users what is in it.
//!
//! ```text
//!  decisions ──▶ JournalWriter::append ──▶ journal.jsonl ─────────────┐ its length and checksum
//!                                                                     ▼
//!  SnapshotRows ▶ SnapshotWriter::publish ▶ chunk ──▶ chunk ──▶ manifest, manifest, manifest
//!                                           chunk, chunk, … ─ merge ─▶ chunk     (in the background)
//!
//!  StateDirectory::open ──▶ epoch, decisions, the newest snapshot that is whole ──▶ its users, its panes
//! ```
//!
//! Invariants, and what holds them:
//! - One run at a time: a lock, held for life (`lock`). Each has an epoch above all before, in the journal before it is told.
//! - What was acknowledged is there after any crash; what was not is there or not, as a whole (`snapshots`, `writer`; the
//!   tests stop at each file operation).
//! - Nothing is believed whose checksum is wrong, that belongs to another place, pipeline or time (`chunk`, `manifest`, the
//!   journal's chain), and a snapshot never without all decisions that it knows of (`plan::journal_fault`).
//! - Memory is bounded by the rows of one snapshot, and one block a chunk when reading and merging (`merge`).
//! - What is decided is apart from what is done: `plan` touches no file; `files` is all that does.
//! - Where there is a copy in an object store, that is told first, and one order of steps there keeps runs apart (`remote`).

mod chunk;
mod code;
mod error;
mod files;
mod lock;
mod manifest;
mod merge;
mod names;
mod open;
mod plan;
mod probe;
mod remote;
mod rows;
mod snapshots;
mod writer;

pub use crate::sinks::{LastWindow, PartitionPosition, SnapshotRows};
pub use error::{CheckpointError, Skipped};
pub use merge::{Panes, Users};
pub use remote::RemoteOptions;
pub use snapshots::SnapshotWriter;
pub use writer::JournalWriter;

use crate::journal::Decision;
use crate::sinks::identity::{OtherPipeline, Pipeline};
use chunk::Chunk;
use dataflows::event::Time;
use files::Directory;
use manifest::Manifest;
use open::Trust;
use probe::Probe;
use remote::Remote;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where state is kept.
#[derive(Clone, Debug)]
pub struct StatePlace {
    /// The state directory.
    pub dir: PathBuf,
    /// Where a copy of it is kept, which holds where the two differ.
    pub remote: Option<RemoteOptions>,
}

impl StatePlace {
    /// A directory alone.
    pub fn local(dir: impl Into<PathBuf>) -> StatePlace {
        StatePlace { dir: dir.into(), remote: None }
    }

    /// What the copy holds, in words, if there is to be one. Nothing is changed.
    ///
    /// # Errors
    /// If its settings are wrong, or it can't be read.
    pub fn inspect_remote(&self) -> Option<Result<String, CheckpointError>> {
        let remote = self.remote.as_ref()?;
        Some(Remote::new(remote).and_then(|remote| remote.describe()))
    }
}

/// A state directory that is ours until this, and both its writers, are dropped.
#[derive(Debug)]
pub struct StateDirectory {
    journal: JournalWriter,
    snapshots: SnapshotWriter,
}

/// What a run goes on from.
#[derive(Debug)]
pub struct Recovered {
    /// Of this run, from 1: it is in the journal already.
    pub epoch: u64,
    /// The journal's decisions, in its order, without those that the snapshot has passed: they are in its positions' clocks.
    /// Without a snapshot, all.
    pub decisions: Vec<Decision>,
    /// The newest snapshot that is whole; `None` if there never was one.
    pub snapshot: Option<Snapshot>,
    /// Snapshots that are newer, and not whole. A warning of each has been logged, and they are gone.
    pub skipped: Vec<Skipped>,
    /// Of a run that trusts the journal alone, all snapshots.
    pub unbelieved: Option<Unbelieved>,
}

/// Snapshots that are there, and that a run does not go by. They are to be deleted before it makes its first decision, which may
/// hold for records that they have passed; and not before it is sure that it can begin.
#[derive(Debug)]
pub struct Unbelieved {
    directory: Directory,
}

impl Unbelieved {
    /// Deletes them.
    ///
    /// # Errors
    /// If a file can't be removed.
    pub fn delete(self) -> Result<(), CheckpointError> {
        open::delete_snapshots(&self.directory)
    }
}

/// A snapshot, all of which was found whole. It stays readable while others are published.
#[derive(Clone, Debug)]
pub struct Snapshot {
    manifest: Manifest,
    /// Oldest first.
    chunks: Vec<Arc<Chunk>>,
}

impl StateDirectory {
    /// Opens the state directory at `place`, or makes it, for the pipeline `pipeline`. `choice`: what if it holds the state of
    /// another one; with [`OtherPipeline::NewGeneration`] that stays until [`SnapshotWriter::delete_older_generations`].
    ///
    /// # Errors
    /// If another run uses it, it is another pipeline's, it can't be read or written, or something in it is damaged that must not
    /// be passed over; the same of its copy.
    pub fn open(
        place: &StatePlace,
        pipeline: &Pipeline,
        choice: OtherPipeline,
    ) -> Result<(StateDirectory, Recovered), CheckpointError> {
        open::open(place, pipeline, (choice, Trust::Snapshots), Probe::none())
    }

    /// The same for a run that reads its log from the start: the journal holds, and no snapshot is believed; they stay until
    /// [`Unbelieved::delete`].
    ///
    /// # Errors
    /// As [`StateDirectory::open`], but for damage to snapshots.
    pub fn open_from_start(
        place: &StatePlace,
        pipeline: &Pipeline,
        choice: OtherPipeline,
    ) -> Result<(StateDirectory, Recovered), CheckpointError> {
        open::open(place, pipeline, (choice, Trust::Journal), Probe::none())
    }

    /// All stores are purged, too, if that was asked for. Until then only another purge can open the directory.
    ///
    /// # Errors
    /// If that can't be written down.
    pub fn purged(&self) -> Result<(), CheckpointError> {
        self.snapshots.purged()
    }

    /// The journal's file, for `replay --journal`.
    pub fn journal_path(&self) -> &Path {
        self.journal.path()
    }

    /// [`JournalWriter::append`].
    ///
    /// # Errors
    /// As there.
    pub fn append(&mut self, decisions: &[Decision]) -> Result<(), CheckpointError> {
        self.journal.append(decisions)
    }

    /// [`SnapshotWriter::publish`].
    ///
    /// # Errors
    /// As there.
    pub fn publish(&mut self, rows: &SnapshotRows) -> Result<(), CheckpointError> {
        self.snapshots.publish(rows)
    }

    /// The two writers, for a thread each: an append need not wait for a snapshot.
    pub fn into_writers(self) -> (JournalWriter, SnapshotWriter) {
        (self.journal, self.snapshots)
    }
}

impl Snapshot {
    /// F: the state of the events with L < F, ms.
    pub fn frontier(&self) -> Time {
        self.manifest.frontier
    }

    /// The epoch of the run that published it.
    pub fn epoch(&self) -> u64 {
        self.manifest.epoch
    }

    /// Where each partition is read on from.
    pub fn positions(&self) -> &[PartitionPosition] {
        &self.manifest.positions
    }

    /// E* of the events with L < F, if there are any.
    pub fn last(&self) -> Option<&LastWindow> {
        self.manifest.last.as_ref()
    }

    /// How many bytes its files have.
    pub fn bytes(&self) -> u64 {
        self.manifest.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    /// All users, by ascending id.
    pub fn users(&self) -> Users {
        Users::new(&self.chunks)
    }

    /// The panes that leave after F, by item, then by time. Those of one item and one span are one.
    pub fn panes(&self) -> Panes {
        Panes::new(&self.chunks, self.frontier())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
