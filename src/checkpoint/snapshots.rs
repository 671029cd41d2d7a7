//! Publishing snapshots, and merging their chunks in the background.
//!
//! ```text
//! rows ── chunk ─ sync ─┬─ directory sync ── manifest.new ─ sync ─ rename ── directory sync ── sweep
//!      merged chunk ────┘                                                    (now it counts)
//! ```
//!
//! What is there already is not touched before the new manifest is on the disk. A crash at any point leaves the old snapshot or
//! the new one, and besides files that no manifest names, which the next opening removes.

use super::chunk::{ChunkRef, ChunkWriter, Head};
use super::error::CheckpointError;
use super::files::Directory;
use super::lock::Lock;
use super::manifest::{Manifest, VERSION};
use super::merge::{Order, merge};
use super::names::{NEW, PURGING, REPLACING, chunk_name, generation_name, manifest_name};
use super::open::{delete_generations, generations};
use super::plan::{self, garbage, keep_newest};
use super::rows::{pane_key, put_user};
use crate::fault;
use crate::journal::scan::Place;
use crate::sinks::SnapshotRows;
use dataflows::event::Time;
use dataflows::state::PaneState;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// The most snapshots that pass after a merge has failed before it is tried again.
const PAUSE_MAX: u32 = 64;

/// Writes the snapshots of a state directory.
#[derive(Debug)]
pub struct SnapshotWriter {
    root: Directory,
    generation: u64,
    /// The generation's.
    directory: Directory,
    /// The pipeline's.
    fingerprint: String,
    epoch: u64,
    journal_end: Arc<Mutex<Place>>,
    /// For the next file.
    number: u64,
    newest: Option<Newest>,
    /// What the next snapshot builds on, oldest first: the newest one's chunks, merged or not.
    chunks: Vec<ChunkRef>,
    /// The newest manifests, and the chunks of each.
    manifests: BTreeMap<u64, Vec<u64>>,
    merging: Option<Merging>,
    /// Snapshots still to pass before the next merge, and how many there will be if that fails too.
    pause: (u32, u32),
    is_stopped: bool,
    _lock: Arc<Lock>,
}

/// The newest snapshot.
#[derive(Clone, Copy, Debug)]
struct Newest {
    number: u64,
    frontier: Time,
}

/// A merge that goes on in the background.
#[derive(Debug)]
struct Merging {
    thread: JoinHandle<Result<Option<ChunkRef>, CheckpointError>>,
    stop: Arc<AtomicBool>,
    /// The place of its chunks in [`SnapshotWriter::chunks`].
    range: Range<usize>,
    /// The chunk that it makes.
    number: u64,
}

/// What opening a directory found out, of use to its writer.
pub(super) struct Found {
    pub(super) root: Directory,
    pub(super) generation: u64,
    pub(super) fingerprint: String,
    pub(super) epoch: u64,
    pub(super) journal_end: Arc<Mutex<Place>>,
    /// Higher than that of every file there is.
    pub(super) number: u64,
    pub(super) newest: Option<Manifest>,
    /// The manifests that are kept.
    pub(super) manifests: BTreeMap<u64, Vec<u64>>,
    pub(super) lock: Arc<Lock>,
}

impl SnapshotWriter {
    pub(super) fn new(found: Found) -> SnapshotWriter {
        let Found { root, generation, fingerprint, epoch, journal_end, number, newest, manifests, lock } = found;
        SnapshotWriter {
            directory: root.within(&generation_name(generation)),
            root,
            generation,
            fingerprint,
            epoch,
            journal_end,
            number,
            newest: newest.as_ref().map(|newest| Newest { number: newest.manifest, frontier: newest.frontier }),
            chunks: newest.map(|newest| newest.chunks).unwrap_or_default(),
            manifests,
            merging: None,
            pause: (0, 1),
            is_stopped: false,
            _lock: lock,
        }
    }

    /// Publishes a snapshot: `rows` over the one before. It is durable when this returns, and a crash before leaves the one
    /// before. The journal must hold all that the rows know of.
    ///
    /// # Errors
    /// After an error that [is retryable](CheckpointError::is_retryable) the snapshot before stands, and the same rows may be
    /// published again, or must be in the next ones. After any other, nothing is written any more.
    pub fn publish(&mut self, rows: &SnapshotRows) -> Result<(), CheckpointError> {
        if self.is_stopped {
            return Err(CheckpointError::Stopped(self.directory.path().to_owned()));
        }
        let published = self.adopt(false).and_then(|()| self.write(rows));
        match &published {
            Ok(()) => {
                self.sweep();
                self.begin_merge();
            }
            Err(error) if error.is_retryable() => self.give_way(),
            Err(_) => self.is_stopped = true,
        }
        published
    }

    /// F of the newest snapshot, ms; `None` if there is none.
    pub fn frontier(&self) -> Option<Time> {
        self.newest.map(|newest| newest.frontier)
    }

    /// Waits for the merge that goes on in the background, if there is one. What it makes is part of the next snapshot.
    ///
    /// # Errors
    /// If it failed for good: see [`Self::publish`].
    pub fn wait_for_merge(&mut self) -> Result<(), CheckpointError> {
        self.adopt(true).inspect_err(|_| self.is_stopped = true)
    }

    /// A run builds results in these stores beside those of an earlier pipeline, whose state goes when they have taken its place.
    ///
    /// # Errors
    /// If that can't be written down.
    pub fn replacing(&self, stores: &[&str]) -> Result<(), CheckpointError> {
        let earlier = self.replaced_in()?;
        let names: BTreeSet<&str> = earlier.iter().map(String::as_str).chain(stores.iter().copied()).collect();
        if names.len() == earlier.len() {
            return Ok(());
        }
        self.directory.replace(REPLACING, names.into_iter().collect::<Vec<_>>().join("\n").as_bytes())?;
        self.directory.sync()
    }

    /// The stores of the last [`Self::replacing`], in this run or an earlier one, while the older state is still there.
    ///
    /// # Errors
    /// If that can't be read.
    pub fn replaced_in(&self) -> Result<Vec<String>, CheckpointError> {
        if !self.directory.has(REPLACING)? {
            return Ok(Vec::new());
        }
        let path = self.directory.file(REPLACING);
        let text = self.directory.read(REPLACING, 1 << 10).map_err(CheckpointError::io("read", &path))?;
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// See [`super::StateDirectory::purged`].
    pub(super) fn purged(&self) -> Result<(), CheckpointError> {
        if self.directory.has(PURGING)? {
            self.directory.remove(PURGING)?;
            self.directory.sync()?;
        }
        Ok(())
    }

    /// What the files of the newest snapshot take, in bytes, without its manifest.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    /// Deletes what earlier pipelines have left, once all sinks show this one's results. A later one that is still being built
    /// stays. Returns how many generations there were.
    ///
    /// # Errors
    /// If a file can't be removed.
    pub fn delete_older_generations(&self) -> Result<usize, CheckpointError> {
        let mut older = generations(&self.root)?;
        older.retain(|&number| number < self.generation);
        delete_generations(&self.root, &older)?;
        if self.directory.has(REPLACING)? {
            self.directory.remove(REPLACING)?;
            self.directory.sync()?;
        }
        Ok(older.len())
    }

    /// The chunk that a merge in the background makes.
    #[cfg(test)]
    pub(super) fn merging_number(&self) -> Option<u64> {
        self.merging.as_ref().map(|merging| merging.number)
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number - 1
    }

    fn head(&mut self, frontier: Time) -> Head {
        Head {
            fingerprint: hashed(&self.fingerprint),
            epoch: self.epoch,
            number: self.next_number(),
            parent: self.newest.map_or(0, |newest| newest.number),
            frontier,
        }
    }

    fn write(&mut self, rows: &SnapshotRows) -> Result<(), CheckpointError> {
        let SnapshotRows { frontier, ref users, ref panes, ref positions, ref last } = *rows;
        if let Some(newest) = self.newest.filter(|newest| newest.frontier > frontier) {
            return Err(CheckpointError::Backwards { frontier, newest: newest.frontier });
        }
        let mut chunks = self.chunks.clone();
        if !(users.is_empty() && panes.is_empty()) {
            let head = self.head(frontier);
            let chunk = write_chunk(&self.directory, &head, rows);
            chunks.push(chunk.inspect_err(|_| self.discard(&chunk_name(head.number)))?);
        }
        fault::point("snapshot.chunks");
        // A manifest must not outlast the names of its chunks.
        self.directory.sync()?;
        let number = self.next_number();
        let manifest = Manifest {
            manifest: number,
            version: VERSION,
            pipeline: self.fingerprint.clone(),
            epoch: self.epoch,
            frontier,
            journal: *self.journal_end.lock().unwrap_or_else(PoisonError::into_inner),
            positions: positions.clone(),
            last: last.clone(),
            chunks,
        };
        let (partial, name) = (manifest_name(number) + NEW, manifest_name(number));
        let written = || {
            let mut file = self.directory.create(&partial)?;
            file.append(&manifest.to_bytes())?;
            file.sync()?;
            fault::point("snapshot.manifest");
            self.directory.rename(&partial, &name)
        };
        written().inspect_err(|_| {
            self.discard(&partial);
            manifest.chunks.iter().filter(|chunk| !self.chunks.contains(chunk)).for_each(|chunk| {
                self.discard(&chunk_name(chunk.chunk));
            });
        })?;
        self.directory.sync()?;
        self.newest = Some(Newest { number, frontier });
        self.manifests.insert(number, manifest.chunk_numbers());
        self.chunks = manifest.chunks;
        Ok(())
    }

    /// Removes a file that was not completed. If it can't be now, the next snapshot sweeps it away.
    fn discard(&self, name: &str) {
        let _ = self.directory.remove(name);
    }

    /// Removes all that the newest manifests don't name.
    fn sweep(&mut self) {
        keep_newest(&mut self.manifests);
        let own = self.chunks.iter().map(|chunk| chunk.chunk);
        let in_use: BTreeSet<u64> = own.chain(self.merging.as_ref().map(|merging| merging.number)).collect();
        let swept = self.directory.names_everywhere().and_then(|names| {
            let garbage = garbage(names, &self.manifests, &in_use);
            self.directory.remove_all(&garbage)
        });
        if let Err(error) = swept {
            tracing::warn!("{error}; older snapshots take up room until that works");
        }
    }

    /// Starts a merge if one is due.
    fn begin_merge(&mut self) {
        self.pause.0 = self.pause.0.saturating_sub(1);
        let bytes: Vec<u64> = self.chunks.iter().map(|chunk| chunk.bytes).collect();
        let Some(newest) = self.newest.filter(|_| self.merging.is_none() && self.pause.0 == 0) else { return };
        let Some(range) = plan::merge(&bytes) else { return };
        let head = self.head(newest.frontier);
        let chunks = self.chunks[range.clone()].to_vec();
        let order = Order { directory: self.directory.clone(), head, chunks, are_oldest: range.start == 0 };
        let stop = Arc::new(AtomicBool::new(false));
        let for_thread = stop.clone();
        let thread = Builder::new().name("merge".into()).spawn(move || merge(&order, &for_thread));
        match thread {
            Ok(thread) => self.merging = Some(Merging { thread, stop, range, number: head.number }),
            Err(error) => self.merge_failed(&CheckpointError::Thread(error)),
        }
    }

    /// Takes in what a merge has made, if it is done or one is to wait for it.
    fn adopt(&mut self, wait: bool) -> Result<(), CheckpointError> {
        let merging = self.merging.take_if(|merging| wait || merging.thread.is_finished());
        let Some(merging) = merging else { return Ok(()) };
        let merged = merging.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match merged {
            Ok(Some(chunk)) => {
                self.chunks.splice(merging.range, [chunk]);
                self.pause = (0, 1);
            }
            Ok(None) => {}
            Err(error) if error.is_retryable() => self.merge_failed(&error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn merge_failed(&mut self, error: &CheckpointError) {
        tracing::warn!("{error}; the snapshot's files are merged later");
        self.pause = (self.pause.1, (self.pause.1 * 2).min(PAUSE_MAX));
    }

    /// Ends a merge that may be what takes up the room or the files that a snapshot needs.
    fn give_way(&mut self) {
        if let Some(merging) = self.merging.take() {
            merging.stop.store(true, Ordering::Relaxed);
            let made = merging.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if let Ok(Some(chunk)) = made {
                self.discard(&chunk_name(chunk.chunk));
            }
            self.pause = (self.pause.1, (self.pause.1 * 2).min(PAUSE_MAX));
        }
    }
}

impl Drop for SnapshotWriter {
    /// Ends the merge that goes on.
    fn drop(&mut self) {
        if let Some(merging) = self.merging.take() {
            merging.stop.store(true, Ordering::Relaxed);
            // Whatever it says, nobody builds on it any more.
            let _ = merging.thread.join();
        }
    }
}

/// What a chunk has in the place of a pipeline's fingerprint, which may be any text.
pub(super) fn hashed(fingerprint: &str) -> [u8; 32] {
    *blake3::hash(fingerprint.as_bytes()).as_bytes()
}

fn write_chunk(directory: &Directory, head: &Head, rows: &SnapshotRows) -> Result<ChunkRef, CheckpointError> {
    let mut writer = ChunkWriter::create(directory, head)?;
    let mut order: Vec<(u64, usize)> = rows.users.iter().enumerate().map(|(at, user)| (user.user.0, at)).collect();
    order.sort_unstable();
    let mut body = Vec::new();
    for (at, &(user, row)) in order.iter().enumerate() {
        // Each comes once; if not, the last one stands.
        if order.get(at + 1).is_some_and(|next| next.0 == user) {
            continue;
        }
        body.clear();
        put_user(&mut body, &rows.users[row]);
        writer.user(user, &body)?;
    }
    let mut panes: Vec<&PaneState> = rows.panes.iter().collect();
    panes.sort_unstable_by_key(|pane| pane_key(pane));
    for equal in panes.chunk_by(|a, b| pane_key(a) == pane_key(b)) {
        let count = equal.iter().fold(0_u64, |sum, pane| sum.wrapping_add(pane.count));
        writer.pane(&PaneState { count, ..*equal[0] })?;
    }
    writer.finish()
}
