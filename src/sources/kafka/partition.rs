//! How far a worker is in one partition: what it hands over, and whether that is all there is.

use std::time::Instant;

use super::super::live::{AtEnd, PartitionStatus};
use super::monitor::Answer;
use super::stall::Stall;

/// One partition's place.
#[derive(Debug)]
pub(super) struct Track {
    partition: u32,
    position: u64,
    /// Nothing at or after this is handed over.
    stop: Option<u64>,
    paused: bool,
    /// When the position was reached, or the last pause ended.
    since: Instant,
    stall: Stall,
}

impl Track {
    pub(super) fn new(partition: u32, position: u64, stop: Option<u64>, now: Instant) -> Track {
        Track { partition, position, stop, paused: false, since: now, stall: Stall::default() }
    }

    pub(super) fn partition(&self) -> u32 {
        self.partition
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether all is handed over that will ever be.
    pub(super) fn is_ended(&self) -> bool {
        self.stop.is_some_and(|stop| self.position >= stop)
    }

    /// Whether records are handed over now.
    pub(super) fn is_read(&self) -> bool {
        !self.paused && !self.is_ended()
    }

    pub(super) fn set_paused(&mut self, paused: bool, now: Instant) {
        let was_paused = std::mem::replace(&mut self.paused, paused);
        if was_paused && !paused {
            self.since = now;
        }
        if was_paused || paused {
            self.stall.excused();
        }
    }

    /// Whether the record at `offset` is to be handed over; the position then is behind it.
    pub(super) fn takes(&mut self, offset: u64, now: Instant) -> bool {
        // A consumer that was made anew may bring what was there before.
        if offset < self.position {
            return false;
        }
        let is_wanted = self.stop.is_none_or(|stop| offset < stop);
        self.reached(if is_wanted { offset + 1 } else { offset }, now);
        is_wanted
    }

    /// There is no record between the position and `offset`.
    pub(super) fn reached(&mut self, offset: u64, now: Instant) {
        self.stall.moved();
        let offset = self.stop.map_or(offset, |stop| offset.min(stop));
        if offset > self.position {
            (self.position, self.since) = (offset, now);
        }
    }

    /// The queue is empty. `true` if it has been so for too long, though the log has more.
    pub(super) fn waits(&mut self, answer: Option<Answer>, fetching: Option<i64>, now: Instant) -> bool {
        if answer.is_some_and(|answer| answer.end > self.position) {
            return self.stall.waits(fetching, now);
        }
        self.stall.excused();
        false
    }

    pub(super) fn status(&self, answer: Option<Answer>, end: Option<u64>) -> PartitionStatus {
        let at_end = answer
            .filter(|answer| !self.paused && answer.end == self.position)
            .map(|answer| AtEnd { since: answer.since.max(self.since), seen: answer.seen })
            .filter(|at_end| at_end.seen >= at_end.since);
        PartitionStatus { position: self.position, end, at_end, ended: self.is_ended() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_record_is_handed_over_once_and_none_behind_the_stop() {
        let now = Instant::now();
        let mut track = Track::new(0, 5, Some(9), now);
        let taken: Vec<u64> = [4, 5, 5, 7, 6, 8, 12].into_iter().filter(|&offset| track.takes(offset, now)).collect();
        assert_eq!((taken, track.position(), track.is_ended()), (vec![5, 7, 8], 9, true));
        let mut track = Track::new(0, 5, Some(9), now);
        assert!(track.takes(6, now) && !track.takes(20, now) && track.is_ended());
        // Markers stand before the stop.
        let mut track = Track::new(0, 7, Some(9), now);
        track.reached(9, now);
        assert!(track.is_ended());
        assert!(Track::new(0, 0, Some(0), now).is_ended() && !Track::new(0, 9, None, now).is_ended());
    }

    #[test]
    fn a_stall_is_seen_also_by_who_says_every_time_that_nothing_is_paused() {
        let start = Instant::now();
        let answer = Some(Answer { end: 9, since: start, seen: start });
        let mut track = Track::new(0, 5, None, start);
        let mut waits = |paused, second| {
            let now = start + Duration::from_secs(second);
            track.set_paused(paused, now);
            track.waits(answer, Some(5), now)
        };
        assert!((0..60).any(|second| waits(false, second)));
        assert!((60..120).all(|second| !waits(true, second)));
    }

    #[test]
    fn the_end_is_where_answers_and_the_position_meet() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let answer = |end, since, seen| Some(Answer { end, since: at(since), seen: at(seen) });
        let mut track = Track::new(0, 5, None, at(0));
        let at_end = |track: &Track, answer| track.status(answer, None).at_end;
        assert_eq!(at_end(&track, None), None);
        assert_eq!(at_end(&track, answer(6, 1, 2)), None);
        assert_eq!(at_end(&track, answer(5, 1, 4)), Some(AtEnd { since: at(1), seen: at(4) }));
        assert!(track.takes(5, at(7)));
        assert_eq!(at_end(&track, answer(6, 3, 5)), None, "the answer is older than the position");
        assert_eq!(at_end(&track, answer(6, 3, 9)), Some(AtEnd { since: at(7), seen: at(9) }));
        track.set_paused(true, at(10));
        assert_eq!(at_end(&track, answer(6, 3, 11)), None);
        track.set_paused(false, at(12));
        track.set_paused(false, at(20));
        assert_eq!(at_end(&track, answer(6, 3, 15)), Some(AtEnd { since: at(12), seen: at(15) }));
    }
}
