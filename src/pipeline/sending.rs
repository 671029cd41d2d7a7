//! The way of batches to the sinks. Worker 0 never waits on it.
//!
//! What finds no room is kept, in order, and offered again. Meanwhile `collect` holds the frontier, so that the sources, which
//! read on only while the frontier follows them, bring no more than is in flight already.

use crate::sinks::set::SinkSet;
use crate::sinks::{Batch, SinkError};
use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// The sinks, until somebody takes them to finish or to drop them.
pub type Sinks = Arc<Mutex<Option<SinkSet>>>;

/// The way to the sinks, and what became of it.
pub struct Sending {
    sinks: Sinks,
    /// Who gets, of the batches that the sinks have taken, those with a snapshot.
    to_snapshots: Option<Sender<Arc<Batch>>>,
    kept: VecDeque<Arc<Batch>>,
    error: Option<SinkError>,
}

impl Sending {
    /// A way to `sinks`.
    pub fn new(sinks: Sinks) -> Sending {
        Sending { sinks, to_snapshots: None, kept: VecDeque::new(), error: None }
    }

    /// A way to `sinks`; batches with a snapshot go to `to_snapshots`, too.
    pub fn live(sinks: Sinks, to_snapshots: Sender<Arc<Batch>>) -> Sending {
        Sending { to_snapshots: Some(to_snapshots), ..Sending::new(sinks) }
    }

    /// What the sinks said when they failed, once.
    pub(super) fn take_error(&mut self) -> Option<SinkError> {
        self.error.take()
    }

    /// Whether batches are kept that the sinks have no room for.
    pub(super) fn is_held_up(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Adds a batch to those that are to be handed over.
    pub(super) fn push(&mut self, batch: Batch) {
        self.kept.push_back(Arc::new(batch));
    }

    /// Hands over what there is room for. Whether that is all.
    ///
    /// Once the sinks have failed, or have been taken away, nothing is handed over any more, and nothing kept.
    pub(super) fn send(&mut self) -> bool {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sinks) = sinks.as_ref().filter(|_| self.error.is_none()) else {
            self.kept.clear();
            return true;
        };
        while let Some(batch) = self.kept.pop_front() {
            match sinks.try_send(batch.clone()) {
                Ok(None) => {
                    let to_snapshots = self.to_snapshots.as_ref().filter(|_| batch.snapshot.is_some());
                    // Who listens there has an error of its own to tell when it stops.
                    to_snapshots.map(|to_snapshots| to_snapshots.send(batch));
                }
                Ok(Some(refused)) => {
                    self.kept.push_front(refused);
                    return false;
                }
                Err(error) => {
                    self.error = Some(error);
                    self.kept.clear();
                }
            }
        }
        true
    }
}
