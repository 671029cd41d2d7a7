//! How a sink is doing, for whoever exports metrics.

use dataflows::event::Time;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What other threads may know of a sink. Each value is right by itself; together they need not be of one instant.
#[derive(Debug)]
pub struct SinkGauges {
    name: &'static str,
    pub(super) queue_bytes: AtomicUsize,
    pub(super) queue_batches: AtomicUsize,
    pub(super) rows: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) durable: AtomicU64,
    pub(super) promoted: AtomicBool,
    failing: AtomicBool,
    last_error: Mutex<Option<String>>,
}

impl SinkGauges {
    pub(super) fn new(name: &'static str, durable: Time) -> SinkGauges {
        SinkGauges {
            name,
            queue_bytes: AtomicUsize::new(0),
            queue_batches: AtomicUsize::new(0),
            rows: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            durable: AtomicU64::new(durable),
            promoted: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            last_error: Mutex::new(None),
        }
    }

    /// [`super::Sink::name`].
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes of the batches that wait or are being written.
    pub fn queue_bytes(&self) -> usize {
        self.queue_bytes.load(Ordering::Relaxed)
    }

    /// How many batches wait.
    pub fn queue_batches(&self) -> usize {
        self.queue_batches.load(Ordering::Relaxed)
    }

    /// Rows that the sink has taken, whatever it made of them.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Batches that the sink has taken; with [`SinkGauges::rows`], how large they are.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Whether [`super::Sink::promote`] has been called, and has worked.
    pub fn is_promoted(&self) -> bool {
        self.promoted.load(Ordering::Relaxed)
    }

    /// Calls that failed and were tried again.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Rows with T or E below this one are durable, event time in ms.
    pub fn durable(&self) -> Time {
        self.durable.load(Ordering::Relaxed)
    }

    /// Whether the last call succeeded: the store can be reached.
    pub fn is_connected(&self) -> bool {
        !self.failing.load(Ordering::Relaxed)
    }

    /// What the last call that failed said, however long ago.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn failed(&self, error: String) {
        self.failing.store(true, Ordering::Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(super) fn succeeded(&self) {
        self.failing.store(false, Ordering::Relaxed);
    }
}
