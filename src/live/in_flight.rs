//! How many events a worker has handed over whose results are not out yet: what bounds the memory of a run (contract,
//! section 5: while a sink is down, input pauses).

use dataflows::event::{Event, Time};
use dataflows::time::Steps;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Events of complete ticks that may wait for their results to get out. Beyond this nothing is read.
const COMPLETE_MAX: u64 = 1 << 17;

/// Events of open ticks beyond which only the partitions with the least watermark are read. They alone complete a tick, so
/// they are read whatever its size.
const OPEN_MAX: u64 = 1 << 20;

/// What may be read at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// All partitions.
    All,
    /// Those with the least watermark.
    Least,
    /// None.
    None,
}

/// Events handed over, by the end of their tick, until that has been put out.
#[derive(Debug)]
pub(super) struct InFlight {
    tick: Steps,
    waiting: BTreeMap<Time, u64>,
    /// When the first event of each tick was handed over, until the tick's results are in all sinks.
    since: BTreeMap<Time, Instant>,
    /// Before this all sinks hold everything.
    arrived: Time,
    /// The sum of all.
    events: u64,
    /// Those of ticks before the frontier handed over.
    complete: u64,
    frontier: Time,
}

impl InFlight {
    /// Nothing.
    pub(super) fn new(tick: Steps) -> InFlight {
        InFlight {
            tick,
            waiting: BTreeMap::new(),
            since: BTreeMap::new(),
            arrived: 0,
            events: 0,
            complete: 0,
            frontier: 0,
        }
    }

    /// Events are handed over.
    pub(super) fn add(&mut self, events: &[Event]) {
        let now = Instant::now();
        for run in events.chunk_by(|a, b| self.tick.end_of(a.logical) == self.tick.end_of(b.logical)) {
            let end = self.tick.end_of(run[0].logical);
            *self.waiting.entry(end).or_insert(0) += run.len() as u64;
            // What a run that goes on reads again is out already.
            if end >= self.arrived {
                self.since.entry(end).or_insert(now);
            }
        }
        self.events += events.len() as u64;
    }

    /// All sinks hold what is before `frontier`. The ticks with events that this is new for, and how long ago the first event of
    /// each was handed over.
    pub(super) fn arrived(&mut self, frontier: Time) -> impl Iterator<Item = (Time, Duration)> {
        self.arrived = self.arrived.max(frontier);
        let open = self.since.split_off(&frontier);
        let now = Instant::now();
        std::mem::replace(&mut self.since, open)
            .into_iter()
            .map(move |(tick, since)| (tick, now.saturating_duration_since(since)))
    }

    /// Ticks before `frontier` are complete.
    pub(super) fn advance(&mut self, frontier: Time) {
        self.complete += self.waiting.range(self.frontier..frontier).map(|(_, count)| count).sum::<u64>();
        self.frontier = frontier;
    }

    /// Results are out as far as `is_out` says.
    pub(super) fn release(&mut self, is_out: impl Fn(Time) -> bool) {
        while let Some(entry) = self.waiting.first_entry().filter(|entry| *entry.key() < self.frontier) {
            if !is_out(*entry.key()) {
                break;
            }
            let count = entry.remove();
            self.complete -= count;
            self.events -= count;
        }
    }

    /// What may be read.
    pub(super) fn room(&self) -> Room {
        match (self.complete, self.events - self.complete) {
            (COMPLETE_MAX.., _) => Room::None,
            (_, OPEN_MAX..) => Room::Least,
            _ => Room::All,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use dataflows::event::{Behavior, ItemId, Position, UserId};

    fn events(logical: Time, count: u64) -> Vec<Event> {
        let event = Event {
            user: UserId(1),
            item: ItemId(1),
            time: logical,
            logical,
            position: Position::new(0, 0).unwrap(),
            behavior: Behavior(0),
            late: false,
        };
        vec![event; count as usize]
    }

    #[test]
    fn a_large_open_tick_is_read_on_and_a_backlog_is_not() {
        let mut in_flight = InFlight::new(Steps::new(10).unwrap());
        assert_eq!(in_flight.room(), Room::All);
        in_flight.add(&events(5, OPEN_MAX));
        assert_eq!(in_flight.room(), Room::Least);
        in_flight.add(&events(15, 7));
        in_flight.advance(11);
        assert_eq!(in_flight.room(), Room::None);
        in_flight.release(|_| false);
        assert_eq!(in_flight.room(), Room::None);
        in_flight.release(|_| true);
        assert_eq!(in_flight.room(), Room::All);
        in_flight.advance(30);
        in_flight.release(|time| time < 20);
        in_flight.release(|time| time <= 20);
        assert_eq!((in_flight.events, in_flight.complete), (0, 0));
        let arrived = [10, 11, 21].map(|frontier| in_flight.arrived(frontier).count());
        assert_eq!(arrived, [0, 1, 1]);
    }
}
