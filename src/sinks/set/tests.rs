use super::*;
use crate::sinks::canonical::CanonicalError;
use crate::sinks::embedded::StoreError;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Reports every call, and waits for a permit before each write; an error permit makes the write fail.
struct Probe {
    calls: Sender<String>,
    permits: Receiver<Result<(), SinkError>>,
    written: Time,
    durable: Time,
}

impl Sink for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let _ = self.calls.send(format!("write {}", batch.frontier));
        self.permits.recv().unwrap_or(Ok(()))?;
        self.written = batch.frontier;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let _ = self.calls.send("flush".into());
        self.durable = self.written;
        Ok(())
    }

    fn durable(&self) -> Time {
        self.durable
    }

    fn promote(&mut self) -> Result<(), SinkError> {
        let _ = self.calls.send("promote".into());
        Ok(())
    }

    fn finish(&mut self, end: &End) -> Result<(), SinkError> {
        let _ = self.calls.send(format!("finish {}", end.frontier));
        Ok(())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.calls.send("drop".into());
    }
}

/// The other side of a probe.
struct Rig {
    calls: Receiver<String>,
    permits: Sender<Result<(), SinkError>>,
}

impl Rig {
    fn calls(&self) -> Vec<String> {
        self.calls.try_iter().collect()
    }

    fn expect(&self, call: &str) {
        assert_eq!(self.calls.recv_timeout(Duration::from_secs(60)).unwrap(), call);
    }
}

fn probe() -> (Box<dyn Sink>, Rig) {
    let (calls_in, calls) = channel();
    let (permits, permits_out) = channel();
    (Box::new(Probe { calls: calls_in, permits: permits_out, written: 0, durable: 0 }), Rig { calls, permits })
}

fn set(sinks: Vec<Box<dyn Sink>>, pace: Pace, bytes_max: usize) -> SinkSet {
    SinkSet::spawn(sinks, pace, bytes_max, &Stop::default()).unwrap()
}

fn single(pace: Pace, bytes_max: usize) -> (SinkSet, Rig) {
    let (sink, rig) = probe();
    (set(vec![sink], pace, bytes_max), rig)
}

fn batch(frontier: u64) -> Batch {
    Batch { frontier, ..Batch::default() }
}

fn fatal() -> SinkError {
    CanonicalError::NotADirectory("out".into()).into()
}

fn passing() -> SinkError {
    StoreError::Full("store".into()).into()
}

const END: End = End { frontier: 9, popular: None };

#[test]
fn batches_come_in_order_and_finish_waits_for_them() {
    let (set, rig) = single(Pace::Replay, usize::MAX);
    drop(rig.permits);
    for frontier in 0..4 {
        set.send(batch(frontier)).unwrap();
    }
    set.finish(END).unwrap();
    let calls: Vec<String> = rig.calls.try_iter().collect();
    assert_eq!(calls, ["write 0", "write 1", "write 2", "write 3", "finish 9", "drop"]);
}

#[test]
fn what_waits_is_bounded_and_any_one_batch_is_admitted() {
    // Room for nothing at all, so for one batch at a time.
    let (set, rig) = single(Pace::Replay, 0);
    assert!(set.try_send(batch(0)).unwrap().is_none());
    rig.expect("write 0");
    // In work, not queued: its memory still counts.
    let back = set.try_send(batch(1)).unwrap().expect("there is no room");
    assert_eq!(set.gauges()[0].queue_bytes(), back.bytes());
    rig.permits.send(Ok(())).unwrap();
    // Waits until there is.
    set.send(back).unwrap();
    rig.expect("write 1");
    rig.permits.send(Ok(())).unwrap();
    set.finish(END).unwrap();
}

#[test]
fn the_slowest_sink_holds_back_a_batch_from_all() {
    let (slow, slow_rig) = probe();
    let (fast, fast_rig) = probe();
    let set = set(vec![fast, slow], Pace::Replay, 0);
    fast_rig.permits.send(Ok(())).unwrap();
    set.send(batch(0)).unwrap();
    fast_rig.expect("write 0");
    slow_rig.expect("write 0");
    let back = set.try_send(batch(1)).unwrap().expect("the slow one has no room");
    assert_eq!(fast_rig.calls(), Vec::<String>::new());
    fast_rig.permits.send(Ok(())).unwrap();
    slow_rig.permits.send(Ok(())).unwrap();
    set.send(back).unwrap();
    fast_rig.expect("write 1");
    slow_rig.expect("write 1");
    drop((fast_rig.permits, slow_rig.permits));
    set.finish(END).unwrap();
}

#[test]
fn an_error_reaches_a_sender_that_waits_and_stops_the_sink() {
    for pace in [Pace::Replay, Pace::Live] {
        let (set, rig) = single(pace, 0);
        set.send(batch(0)).unwrap();
        rig.permits.send(Err(fatal())).unwrap();
        let error = set.send(batch(1)).unwrap_err();
        assert!(matches!(error, SinkError::Canonical(_)), "{error}");
        assert!(matches!(set.try_send(batch(2)), Err(SinkError::Stopped)));
        assert!(matches!(set.finish(END), Err(SinkError::Stopped)));
        assert_eq!(rig.calls(), ["write 0", "drop"]);
    }
}

#[test]
fn an_error_after_the_last_send_reaches_the_end() {
    let ends: [fn(SinkSet) -> Result<(), SinkError>; 2] =
        [|set| set.finish(END), |set| set.suspend(Instant::now(), Duration::from_secs(60))];
    for end in ends {
        let (set, rig) = single(Pace::Replay, usize::MAX);
        set.send(batch(0)).unwrap();
        rig.permits.send(Err(passing())).unwrap();
        let error = end(set).unwrap_err();
        assert!(matches!(error, SinkError::Store(_)), "{error}");
        assert_eq!(rig.calls(), ["write 0", "drop"]);
    }
}

#[test]
fn an_error_of_one_sink_keeps_the_others_from_finishing() {
    let (first, first_rig) = probe();
    let (second, second_rig) = probe();
    let set = set(vec![first, second], Pace::Replay, usize::MAX);
    drop(first_rig.permits);
    set.send(batch(0)).unwrap();
    second_rig.permits.send(Err(fatal())).unwrap();
    let error = set.finish(END).unwrap_err();
    assert!(matches!(error, SinkError::Canonical(_)), "{error}");
    assert_eq!(first_rig.calls.try_iter().collect::<Vec<_>>(), ["write 0", "drop"]);
}

#[test]
fn dropping_aborts_without_writing_what_is_queued() {
    let (sink, rig) = probe();
    let stop = Stop::default();
    let set = SinkSet::spawn(vec![sink], Pace::Live, usize::MAX, &stop).unwrap();
    for frontier in 0..3 {
        set.send(batch(frontier)).unwrap();
    }
    rig.expect("write 0");
    // The sink is let go only once it has been told to stop.
    stop.on_raise(move || drop(rig.permits.send(Err(passing()))));
    drop(set);
    assert_eq!(rig.calls.try_iter().collect::<Vec<_>>(), ["drop"]);
}

#[test]
fn what_a_retry_may_cure_is_retried_until_it_is_cured() {
    let (set, rig) = single(Pace::Live, usize::MAX);
    set.send(batch(3)).unwrap();
    rig.permits.send(Err(passing())).unwrap();
    rig.permits.send(Err(passing())).unwrap();
    for _ in 0..3 {
        rig.expect("write 3");
    }
    let gauges = &set.gauges()[0];
    assert_eq!((gauges.retries(), gauges.is_connected()), (2, false));
    assert!(gauges.last_error().unwrap().contains("the disk is full"));
    rig.permits.send(Ok(())).unwrap();
    set.durable().wait(3).unwrap();
    assert_eq!((gauges.durable(), gauges.is_connected()), (3, true));
    set.suspend(Instant::now(), Duration::from_secs(60)).unwrap();
    assert_eq!(rig.calls(), ["flush", "flush", "drop"]);
}

#[test]
fn a_flush_comes_when_nothing_waits_or_when_somebody_waits_for_it() {
    let (set, rig) = single(Pace::Live, usize::MAX);
    for frontier in 1..=4 {
        set.send(batch(frontier)).unwrap();
    }
    let waiter = {
        let durable = set.durable();
        std::thread::spawn(move || durable.wait(2))
    };
    while !set.durable().is_wanted(0, 2) {
        std::thread::yield_now();
    }
    rig.permits.send(Ok(())).unwrap();
    rig.permits.send(Ok(())).unwrap();
    waiter.join().unwrap().unwrap();
    set.promote();
    drop(rig.permits);
    set.suspend(Instant::now(), Duration::from_secs(60)).unwrap();
    let calls: Vec<String> = rig.calls.try_iter().collect();
    let expected =
        ["write 1", "write 2", "flush", "write 3", "write 4", "flush", "promote", "flush", "drop"].map(String::from);
    assert_eq!(calls, expected);
}

#[test]
fn a_suspension_loses_patience_with_a_sink_that_fails() {
    let (set, rig) = single(Pace::Live, usize::MAX);
    set.send(batch(1)).unwrap();
    set.send(batch(2)).unwrap();
    for _ in 0..9 {
        rig.permits.send(Err(passing())).unwrap();
    }
    rig.expect("write 1");
    let error = set.suspend(Instant::now(), Duration::from_millis(300)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "probe has not taken all results within 0 s (cannot write the store store: the disk is full; free some space and \
         run again); they are sent again when the run goes on"
    );
    assert_eq!(rig.calls().last().unwrap(), "drop");
}

#[test]
fn a_panicking_sink_neither_blocks_nor_passes_for_success() {
    struct Broken;
    impl Sink for Broken {
        fn name(&self) -> &'static str {
            "broken"
        }
        fn write(&mut self, _: &Batch) -> Result<(), SinkError> {
            panic!("broken sink")
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
    let set = set(vec![Box::new(Broken)], Pace::Live, 0);
    set.send(batch(0)).unwrap();
    while set.send(batch(1)).is_ok() {}
    assert!(set.durable().wait(1).is_err());
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| set.finish(END))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"broken sink"));
}

#[test]
fn a_sink_that_lost_rows_can_not_be_gone_on_with() {
    let (sink, _rig) = probe();
    assert_eq!(
        check_resume(&[sink], 1_511_544_080_000).unwrap_err().to_string(),
        "probe holds no results, but the run goes on from its snapshot at 2017-11-24T17:21:20Z: probe is new, or was \
         emptied or set back since; put its newer state back, or run with --from-start, which reads the log again and adds \
         what is missing"
    );
}
