use super::*;
use crate::sinks::canonical::CanonicalError;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Reports every call, and waits for a permit before each write; an error permit makes the write fail.
struct Probe {
    calls: Sender<String>,
    permits: Receiver<Result<(), SinkError>>,
}

impl Sink for Probe {
    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let _ = self.calls.send(format!("write {}", batch.frontier));
        self.permits.recv().unwrap_or(Ok(()))
    }

    fn finish(self: Box<Self>, end: &End) -> Result<(), SinkError> {
        let _ = self.calls.send(format!("finish {}", end.frontier));
        Ok(())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.calls.send("drop".into());
    }
}

struct Rig {
    thread: SinkThread,
    calls: Receiver<String>,
    permits: Sender<Result<(), SinkError>>,
}

fn rig(bytes_max: usize) -> Rig {
    let (calls_in, calls) = channel();
    let (permits, permits_out) = channel();
    let probe = Probe { calls: calls_in, permits: permits_out };
    Rig { thread: SinkThread::spawn(vec![Box::new(probe)], bytes_max).unwrap(), calls, permits }
}

fn batch(frontier: u64) -> Batch {
    Batch { frontier, ..Batch::default() }
}

fn failure() -> SinkError {
    CanonicalError::NotADirectory("out".into()).into()
}

const END: End = End { frontier: 9, popular: None };

#[test]
fn batches_come_in_order_and_finish_waits_for_them() {
    let rig = rig(usize::MAX);
    drop(rig.permits);
    for frontier in 0..4 {
        rig.thread.send(batch(frontier)).unwrap();
    }
    rig.thread.finish(END).unwrap();
    let calls: Vec<String> = rig.calls.try_iter().collect();
    assert_eq!(calls, ["write 0", "write 1", "write 2", "write 3", "finish 9", "drop"]);
}

#[test]
fn what_waits_is_bounded_and_any_one_batch_is_admitted() {
    // Room for nothing at all, so for one batch at a time.
    let rig = rig(0);
    assert!(rig.thread.try_send(batch(0)).unwrap().is_none());
    assert_eq!(rig.calls.recv().unwrap(), "write 0");
    // In work, not queued: its memory still counts.
    let back = rig.thread.try_send(batch(1)).unwrap().expect("there is no room");
    rig.permits.send(Ok(())).unwrap();
    // Waits until there is.
    rig.thread.send(back).unwrap();
    assert_eq!(rig.calls.recv().unwrap(), "write 1");
    rig.permits.send(Ok(())).unwrap();
    rig.thread.finish(END).unwrap();
}

#[test]
fn an_error_reaches_a_sender_that_waits_and_stops_the_sinks() {
    let rig = rig(0);
    rig.thread.send(batch(0)).unwrap();
    rig.permits.send(Err(failure())).unwrap();
    let error = rig.thread.send(batch(1)).unwrap_err();
    assert!(matches!(error, SinkError::Canonical(_)), "{error}");
    assert!(matches!(rig.thread.try_send(batch(2)), Err(SinkError::Stopped)));
    assert!(matches!(rig.thread.finish(END), Err(SinkError::Stopped)));
    assert_eq!(rig.calls.try_iter().collect::<Vec<_>>(), ["write 0", "drop"]);
}

#[test]
fn an_error_after_the_last_send_reaches_finish() {
    let rig = rig(usize::MAX);
    rig.thread.send(batch(0)).unwrap();
    rig.permits.send(Err(failure())).unwrap();
    assert!(matches!(rig.thread.finish(END), Err(SinkError::Canonical(_))));
    assert_eq!(rig.calls.try_iter().collect::<Vec<_>>(), ["write 0", "drop"]);
}

#[test]
fn dropping_aborts_without_writing_what_is_queued() {
    let rig = rig(usize::MAX);
    for frontier in 0..3 {
        rig.thread.send(batch(frontier)).unwrap();
    }
    assert_eq!(rig.calls.recv().unwrap(), "write 0");
    // The abort is asked for while the sink is busy; it is let go only then.
    rig.thread.queue.lock().ending = Some(Ending::Abort);
    rig.permits.send(Ok(())).unwrap();
    drop(rig.thread);
    assert_eq!(rig.calls.try_iter().collect::<Vec<_>>(), ["drop"]);
}

#[test]
fn a_panicking_sink_neither_blocks_nor_passes_for_success() {
    struct Broken;
    impl Sink for Broken {
        fn write(&mut self, _: &Batch) -> Result<(), SinkError> {
            panic!("broken sink")
        }
        fn finish(self: Box<Self>, _: &End) -> Result<(), SinkError> {
            Ok(())
        }
    }
    let thread = SinkThread::spawn(vec![Box::new(Broken)], 0).unwrap();
    thread.send(batch(0)).unwrap();
    while thread.send(batch(1)).is_ok() {}
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| thread.finish(END))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"broken sink"));
}

#[test]
fn several_sinks_see_every_batch_and_an_error_aborts_them_all() {
    let (calls_in, calls) = channel();
    let (permits, permits_out) = channel();
    let (_, ready) = channel();
    let first = Probe { calls: calls_in.clone(), permits: ready };
    let second = Probe { calls: calls_in, permits: permits_out };
    let thread = SinkThread::spawn(vec![Box::new(first), Box::new(second)], usize::MAX).unwrap();
    thread.send(batch(0)).unwrap();
    permits.send(Ok(())).unwrap();
    thread.send(batch(1)).unwrap();
    permits.send(Err(failure())).unwrap();
    assert!(thread.finish(END).is_err());
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), ["write 0", "write 0", "write 1", "write 1", "drop", "drop"]);
}
