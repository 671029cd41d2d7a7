//! A thread that looks at the gauges: for the progress bar, and for the plot of the run's speed.

use super::{Gauges, ReplayPlan, Throughput};
use crate::progress::{Progress, Update};
use crate::sources::files::FileLog;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(100);

/// So many moments make the plot; then every other one is forgotten, and the interval doubles.
const MOMENTS_MAX: usize = 512;

/// The watching thread; it ends when this is dropped.
pub(super) struct Watch {
    end: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    seen: Arc<Mutex<Throughput>>,
    progress: Progress,
    gauges: Arc<Gauges>,
    started: Instant,
}

impl Watch {
    pub(super) fn start(plan: &ReplayPlan, log: &FileLog, gauges: &Arc<Gauges>) -> Watch {
        let (end, ended) = sync_channel::<()>(0);
        // Process 0 shows the progress of all.
        let progress = if plan.is_first_process() { plan.progress.clone() } else { Progress::hidden() };
        let seen = Arc::<Mutex<Throughput>>::default();
        let bytes_total = log.partitions().iter().map(|partition| partition.size_bytes()).sum();
        let (started, shown, moments, seen_gauges) = (Instant::now(), progress.clone(), seen.clone(), gauges.clone());
        let look = move || {
            let mut every = 1;
            for count in 1_u64.. {
                if ended.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
                let update = update(&seen_gauges, bytes_total);
                shown.update(&update);
                if count % every == 0 {
                    let mut moments = moments.lock().unwrap_or_else(PoisonError::into_inner);
                    moments.push((started.elapsed().as_secs_f64(), update.events));
                    if moments.len() >= MOMENTS_MAX {
                        every *= 2;
                        let mut keep = false;
                        moments.retain(|_| {
                            keep = !keep;
                            keep
                        });
                    }
                }
            }
        };
        // Without the thread the run is the same, only unwatched.
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(look).ok();
        Watch { end: Some(end), thread, seen, progress, gauges: gauges.clone(), started }
    }

    /// Takes the bar away; the lines read over time.
    pub(super) fn finish(mut self) -> Throughput {
        self.stop();
        let mut moments = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let now = self.started.elapsed().as_secs_f64();
        // A rate over less time than that is noise.
        if moments.last().is_some_and(|(last, _)| now - last < INTERVAL.as_secs_f64() / 2.0) {
            moments.pop();
        }
        moments.push((now, self.gauges.accepted.load(Relaxed)));
        moments
    }

    fn stop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic of its own has been told.
            let _ = thread.join();
        }
        self.progress.finish();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

fn update(gauges: &Gauges, bytes_total: Option<u64>) -> Update {
    let frontier = gauges.frontier.load(Relaxed);
    Update {
        done: gauges.bytes.load(Relaxed),
        total: bytes_total,
        events: gauges.accepted.load(Relaxed),
        rejected: Some(gauges.rejected.load(Relaxed)),
        late: Some(gauges.late.load(Relaxed)),
        event_time: (frontier > 0).then_some(frontier),
    }
}
