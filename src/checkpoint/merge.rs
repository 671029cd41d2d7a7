//! Several chunks as one: rows of all of them in order, in the memory of one block a chunk.
//!
//! A user's newest row stands. Panes of one key add up, and those that have left are gone. So what comes out depends on what was
//! published alone, and not on when chunks were merged.

use super::chunk::{Chunk, ChunkRef, ChunkWriter, Head, PaneRows, UserRows};
use super::error::CheckpointError;
use super::files::Directory;
use super::names::chunk_name;
use super::rows::{self, NOTHING, pane_key};
use dataflows::event::{ItemId, Time, UserId};
use dataflows::state::{PaneState, UserState};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows in ascending order of distinct keys.
trait Rows {
    type Key: Ord + Copy;

    /// Goes to the next row; `false` at the end.
    fn advance(&mut self) -> Result<bool, CheckpointError>;

    /// The key of the row that it stands at.
    fn key(&self) -> Self::Key;
}

impl Rows for UserRows {
    type Key = u64;

    fn advance(&mut self) -> Result<bool, CheckpointError> {
        UserRows::advance(self)
    }

    fn key(&self) -> u64 {
        self.user()
    }
}

impl Rows for PaneRows {
    type Key = (ItemId, Time, Time);

    fn advance(&mut self) -> Result<bool, CheckpointError> {
        PaneRows::advance(self)
    }

    fn key(&self) -> Self::Key {
        pane_key(self.pane())
    }
}

/// Rows of several sources by key.
struct Merge<R: Rows> {
    /// Oldest first.
    sources: Vec<R>,
    heap: BinaryHeap<Reverse<(R::Key, usize)>>,
    /// The sources that stand at the key that was handed out last; at first, all.
    at_key: Vec<usize>,
}

impl<R: Rows> Merge<R> {
    fn new(sources: Vec<R>) -> Merge<R> {
        let at_key = (0..sources.len()).collect();
        Merge { heap: BinaryHeap::with_capacity(sources.len()), sources, at_key }
    }

    /// Goes to the next key; `false` at the end.
    fn advance(&mut self) -> Result<bool, CheckpointError> {
        for source in self.at_key.drain(..) {
            if self.sources[source].advance()? {
                self.heap.push(Reverse((self.sources[source].key(), source)));
            }
        }
        let Some(Reverse((key, source))) = self.heap.pop() else { return Ok(false) };
        self.at_key.push(source);
        // Of equal keys the older source comes first.
        while let Some(&Reverse((next, source))) = self.heap.peek().filter(|next| next.0.0 == key) {
            debug_assert!(next == key);
            self.heap.pop();
            self.at_key.push(source);
        }
        Ok(true)
    }

    /// The rows of the key, oldest first.
    fn rows(&self) -> impl DoubleEndedIterator<Item = &R> {
        self.at_key.iter().map(|&source| &self.sources[source])
    }
}

/// The users of a snapshot, by ascending id. After an error there are no more.
pub struct Users {
    merge: Option<Merge<UserRows>>,
}

impl Users {
    /// `chunks`: oldest first.
    pub(super) fn new(chunks: &[Arc<Chunk>]) -> Users {
        let sources = chunks.iter().map(|chunk| UserRows::new(chunk.clone())).collect();
        Users { merge: Some(Merge::new(sources)) }
    }

    fn advance(merge: &mut Merge<UserRows>) -> Result<Option<UserState>, CheckpointError> {
        while merge.advance()? {
            let Some(newest) = merge.rows().next_back() else { continue };
            if newest.body() != NOTHING {
                let user = rows::user(UserId(newest.user()), newest.body());
                return user.map(Some).ok_or_else(|| newest.unreadable());
            }
        }
        Ok(None)
    }
}

impl Iterator for Users {
    type Item = Result<UserState, CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = Users::advance(self.merge.as_mut()?).transpose();
        if !matches!(next, Some(Ok(_))) {
            self.merge = None;
        }
        next
    }
}

/// The panes of a snapshot that have not left at its frontier, by item, then by time. After an error there are no more.
pub struct Panes {
    merge: Option<Merge<PaneRows>>,
    frontier: Time,
}

impl Panes {
    /// `chunks`: oldest first.
    pub(super) fn new(chunks: &[Arc<Chunk>], frontier: Time) -> Panes {
        let sources = chunks.iter().map(|chunk| PaneRows::new(chunk.clone())).collect();
        Panes { merge: Some(Merge::new(sources)), frontier }
    }

    fn advance(merge: &mut Merge<PaneRows>, frontier: Time) -> Result<Option<PaneState>, CheckpointError> {
        while merge.advance()? {
            let mut rows = merge.rows().map(PaneRows::pane);
            let Some(mut pane) = rows.next().cloned() else { continue };
            rows.for_each(|more| pane.count = pane.count.wrapping_add(more.count));
            if is_kept(&pane, frontier) {
                return Ok(Some(pane));
            }
        }
        Ok(None)
    }
}

impl Iterator for Panes {
    type Item = Result<PaneState, CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = Panes::advance(self.merge.as_mut()?, self.frontier).transpose();
        if !matches!(next, Some(Ok(_))) {
            self.merge = None;
        }
        next
    }
}

/// Whether a pane is still of use at the frontier.
pub(super) fn is_kept(pane: &PaneState, frontier: Time) -> bool {
    pane.leaves > frontier && pane.count != 0
}

/// What a merge is to do.
pub(super) struct Order {
    pub(super) directory: Directory,
    /// Of the chunk to be made. Panes that have left at its frontier are dropped.
    pub(super) head: Head,
    /// The chunks to be merged, oldest first.
    pub(super) chunks: Vec<ChunkRef>,
    /// Whether there is no older chunk, in which a user of whom nothing is left may have a row.
    pub(super) are_oldest: bool,
}

/// Merges chunks into one; `None` if it was stopped. Otherwise than in success it leaves no file.
pub(super) fn merge(order: &Order, stop: &AtomicBool) -> Result<Option<ChunkRef>, CheckpointError> {
    let open = |named| Chunk::open(&order.directory, named, &order.head.fingerprint).map(Arc::new);
    let chunks = order.chunks.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let writer = ChunkWriter::create(&order.directory, &order.head)?;
    let merged = write_merged(order, &chunks, writer, stop);
    if !matches!(merged, Ok(Some(_))) {
        // What can't be removed now is swept away with the next snapshot.
        let _ = order.directory.remove(&chunk_name(order.head.number));
    }
    merged
}

fn write_merged(
    order: &Order,
    chunks: &[Arc<Chunk>],
    mut writer: ChunkWriter,
    stop: &AtomicBool,
) -> Result<Option<ChunkRef>, CheckpointError> {
    let is_stopped = || stop.load(Ordering::Relaxed);
    let mut users = Merge::new(chunks.iter().map(|chunk| UserRows::new(chunk.clone())).collect());
    while users.advance()? {
        let Some(newest) = users.rows().next_back() else { continue };
        if is_stopped() {
            return Ok(None);
        }
        if !(order.are_oldest && newest.body() == NOTHING) {
            writer.user(newest.user(), newest.body())?;
        }
    }
    for pane in Panes::new(chunks, order.head.frontier) {
        if is_stopped() {
            return Ok(None);
        }
        writer.pane(&pane?)?;
    }
    writer.finish().map(Some)
}
