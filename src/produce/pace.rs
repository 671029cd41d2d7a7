//! When a line is due.

use std::time::{Duration, Instant};

use dataflows::event::Time;

/// How fast lines are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as they go.
    Fastest,
    /// So many a second, more than 0.
    Rate(f64),
    /// As they happened, so many times as fast, more than 0.
    Speedup(f64),
}

/// A pace that has begun.
#[derive(Debug)]
pub(super) struct Pacer {
    pace: Pace,
    started: Instant,
    lines: u64,
    first: Option<Time>,
}

impl Pacer {
    pub(super) fn new(pace: Pace, now: Instant) -> Pacer {
        Pacer { pace, started: now, lines: 0, first: None }
    }

    /// When the next line is due, if it must wait at all; `clock` is how far time has come in its file, 0 if that is unknown.
    pub(super) fn next(&mut self, clock: Time) -> Option<Instant> {
        let seconds = match self.pace {
            Pace::Fastest => return None,
            Pace::Rate(rate) => self.lines as f64 / rate,
            Pace::Speedup(_) if clock == 0 => 0.0,
            Pace::Speedup(factor) => {
                let first = *self.first.get_or_insert(clock);
                clock.saturating_sub(first) as f64 / 1000.0 / factor
            }
        };
        self.lines += 1;
        Duration::try_from_secs_f64(seconds).ok().and_then(|after| self.started.checked_add(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_due_by_number_or_by_their_time() {
        let now = Instant::now();
        let after = |milliseconds| Some(now + Duration::from_millis(milliseconds));
        assert_eq!(Pacer::new(Pace::Fastest, now).next(7), None);
        let mut rate = Pacer::new(Pace::Rate(500.0), now);
        assert_eq!([rate.next(0), rate.next(9), rate.next(5)], [after(0), after(2), after(4)]);
        let mut speedup = Pacer::new(Pace::Speedup(10.0), now);
        let due = [0, 1_000, 3_000, 2_000].map(|clock| speedup.next(clock));
        assert_eq!(due, [after(0), after(0), after(200), after(100)]);
    }
}
