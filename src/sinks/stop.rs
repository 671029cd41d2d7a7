//! A word that ends every wait: of threads on conditions, and of clients on servers.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Once raised, raised for good. Clones are one.
#[derive(Clone, Default)]
pub struct Stop {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    raised: bool,
    wakers: Vec<Box<dyn Fn() + Send>>,
}

impl Stop {
    /// Ends all waits, now and from now on.
    pub fn raise(&self) {
        let wakers = {
            let mut state = self.lock();
            state.raised = true;
            std::mem::take(&mut state.wakers)
        };
        self.shared.changed.notify_all();
        wakers.iter().for_each(|wake| wake());
    }

    /// Whether it has been raised.
    pub fn is_raised(&self) -> bool {
        self.lock().raised
    }

    /// Calls `wake` when it is raised, at once if it has been, for those who wait for something else as well.
    pub fn on_raise(&self, wake: impl Fn() + Send + 'static) {
        let mut state = self.lock();
        if state.raised {
            drop(state);
            wake();
        } else {
            state.wakers.push(Box::new(wake));
        }
    }

    /// Waits, and says whether it was raised before `time` had passed.
    pub fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while !state.raised {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("raised", &self.is_raised()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread::spawn;

    #[test]
    fn it_ends_a_wait_and_wakes_those_who_asked() {
        let stop = Stop::default();
        let (woken, wakes) = channel();
        stop.on_raise(move || woken.send(()).unwrap());
        let sleeper = {
            let stop = stop.clone();
            spawn(move || stop.sleep(Duration::from_secs(600)))
        };
        assert!(!stop.sleep(Duration::from_millis(1)));
        stop.raise();
        assert!(sleeper.join().unwrap());
        wakes.recv().unwrap();
        let (woken, wakes) = channel();
        stop.on_raise(move || woken.send(()).unwrap());
        wakes.recv().unwrap();
    }
}
