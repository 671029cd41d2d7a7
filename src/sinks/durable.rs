//! What all sinks hold durably, for those who must wait for it: a snapshot counts only when every sink holds all before it
//! (contract, section 5).

use dataflows::event::Time;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The durable frontiers of a set of sinks. Clones are one.
#[derive(Clone)]
pub struct Durable {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    sinks: Vec<Progress>,
    /// Rows below it may have been out when the sinks were opened.
    reached: Time,
    /// The furthest frontier that somebody waits for: sinks that have it in hand make it durable without delay.
    wanted: Time,
    interrupted: bool,
}

#[derive(Clone, Copy)]
struct Progress {
    frontier: Time,
    ended: bool,
}

/// Why a frontier has not become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDurable {
    /// [`Durable::interrupt`] was called.
    #[error("nobody waits any more for results to be durable")]
    Interrupted,
    /// A sink ended before it had got there; its error comes from [`super::set::SinkSet`].
    #[error("a sink has ended before all results were durable")]
    Ended,
}

impl Durable {
    /// `frontiers`: of each sink, [`super::Sink::durable`]; `reached`: the furthest [`super::Sink::reached`].
    pub(super) fn new(frontiers: impl Iterator<Item = Time>, reached: Time) -> Durable {
        let sinks = frontiers.map(|frontier| Progress { frontier, ended: false }).collect();
        let state = Mutex::new(State { sinks, reached, wanted: 0, interrupted: false });
        Durable { shared: Arc::new(Shared { state, changed: Condvar::new() }) }
    }

    /// Rows with T or E below this one are durable in every sink. `Time::MAX` if there is no sink.
    pub fn frontier(&self) -> Time {
        self.lock().frontier()
    }

    /// What the sink holds that is furthest: rows with T or E at or beyond this one are out nowhere. 0 if there is no sink.
    pub fn furthest(&self) -> Time {
        let state = self.lock();
        state.sinks.iter().map(|sink| sink.frontier).fold(state.reached, Time::max)
    }

    /// Waits until [`Durable::frontier`] is `frontier` or more.
    ///
    /// # Errors
    /// If that will not come.
    pub fn wait(&self, frontier: Time) -> Result<(), NotDurable> {
        let mut state = self.lock();
        state.wanted = state.wanted.max(frontier);
        loop {
            if state.frontier() >= frontier {
                return Ok(());
            }
            if state.interrupted {
                return Err(NotDurable::Interrupted);
            }
            if state.sinks.iter().any(|sink| sink.ended && sink.frontier < frontier) {
                return Err(NotDurable::Ended);
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends all waits, now and from now on.
    pub fn interrupt(&self) {
        self.lock().interrupted = true;
        self.shared.changed.notify_all();
    }

    /// Sink number `sink` holds all before `frontier`.
    pub(super) fn publish(&self, sink: usize, frontier: Time) {
        let mut state = self.lock();
        if state.sinks[sink].frontier < frontier {
            state.sinks[sink].frontier = frontier;
            self.shared.changed.notify_all();
        }
    }

    /// Sink number `sink` will hold no more.
    pub(super) fn end(&self, sink: usize) {
        self.lock().sinks[sink].ended = true;
        self.shared.changed.notify_all();
    }

    /// Whether somebody waits for what a sink has in hand, which has written up to `written` and holds up to `durable`.
    pub(super) fn is_wanted(&self, durable: Time, written: Time) -> bool {
        let wanted = self.lock().wanted;
        durable < wanted && wanted <= written
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn frontier(&self) -> Time {
        self.sinks.iter().map(|sink| sink.frontier).min().unwrap_or(Time::MAX)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::thread::spawn;

    #[test]
    fn a_wait_ends_when_the_last_sink_is_there() {
        let durable = Durable::new([5, 7].into_iter(), 9);
        assert_eq!((durable.frontier(), durable.furthest()), (5, 9));
        durable.wait(5).unwrap();
        let waiter = {
            let durable = durable.clone();
            spawn(move || durable.wait(20))
        };
        while durable.lock().wanted != 20 {
            std::thread::yield_now();
        }
        assert!(durable.is_wanted(7, 30) && !durable.is_wanted(7, 19) && !durable.is_wanted(20, 30));
        durable.publish(1, 30);
        assert!(!waiter.is_finished());
        durable.publish(0, 20);
        waiter.join().unwrap().unwrap();
        assert_eq!(Durable::new([].into_iter(), 0).frontier(), Time::MAX);
    }

    #[test]
    fn a_wait_for_what_will_not_come_ends() {
        let durable = Durable::new([5, 7].into_iter(), 0);
        let waiter = {
            let durable = durable.clone();
            spawn(move || durable.wait(20))
        };
        durable.end(1);
        assert_eq!(waiter.join().unwrap(), Err(NotDurable::Ended));
        // What it holds, it holds.
        durable.wait(5).unwrap();
        durable.interrupt();
        assert_eq!(durable.wait(6), Err(NotDurable::Interrupted));
    }
}
