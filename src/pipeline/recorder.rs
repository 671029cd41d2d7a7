//! A sink for tests: remembers what it was given, and takes it when it may.

use super::Sinks;
use crate::sinks::set::{Pace, SinkSet};
use crate::sinks::stop::Stop;
use crate::sinks::{Batch, End, Sink, SinkError};
use dataflows::event::Time;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

struct Recorder {
    batches: Arc<Mutex<Vec<Batch>>>,
    permits: Receiver<()>,
}

impl Sink for Recorder {
    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        // When nobody gives permits any more, none are wanted.
        let _ = self.permits.recv();
        self.batches.lock().unwrap().push(batch.clone());
        Ok(())
    }

    fn name(&self) -> &'static str {
        "recorder"
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn durable(&self) -> Time {
        0
    }

    fn finish(&mut self, _: &End) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Sinks with room for `bytes_max`, or one batch. A batch is written for each permit; all, once the sender is dropped.
pub(super) fn recorder(bytes_max: usize) -> (Sinks, Arc<Mutex<Vec<Batch>>>, Sender<()>) {
    let (give, permits) = channel();
    let batches = Arc::<Mutex<Vec<Batch>>>::default();
    let sink = Recorder { batches: batches.clone(), permits };
    let thread = SinkSet::spawn(vec![Box::new(sink)], Pace::Replay, bytes_max, &Stop::default()).unwrap();
    (Arc::new(Mutex::new(Some(thread))), batches, give)
}

/// Waits until all is written.
pub(super) fn finish(sinks: &Sinks) {
    let thread = sinks.lock().unwrap().take().unwrap();
    thread.finish(End { frontier: u64::MAX, popular: None }).unwrap();
}
