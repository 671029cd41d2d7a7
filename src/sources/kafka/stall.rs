//! Whether a consumer that hands nothing over has stalled.
//!
//! librdkafka's consumers have been seen to stop fetching after a broker's restart, without an error, though the broker
//! answers. What then shows is: the log's end is beyond the position, the queue is empty, and the fetcher stays where it
//! is. That last condition tells a stall from a long way through markers or records of aborted transactions, of which
//! nothing is handed over either, but over which the fetcher moves.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// How long a partition may stand still, at first.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long at most; it doubles with each attempt that brings nothing.
const PATIENCE_MAX: Duration = Duration::from_secs(600);

/// Watches one partition.
#[derive(Debug)]
pub(super) struct Stall {
    since: Option<Instant>,
    /// Where the fetcher was then.
    fetching: Option<i64>,
    patience: Duration,
}

impl Default for Stall {
    fn default() -> Stall {
        Stall { since: None, fetching: None, patience: PATIENCE }
    }
}

impl Stall {
    /// Something was handed over, or the end was reached.
    pub(super) fn moved(&mut self) {
        *self = Stall::default();
    }

    /// There is nothing to wait for: the position is at the end, the partition is paused, or the log does not answer.
    pub(super) fn excused(&mut self) {
        self.since = None;
    }

    /// The queue is empty though the log's end is beyond the position. `true` if that has lasted too long.
    pub(super) fn waits(&mut self, fetching: Option<i64>, now: Instant) -> bool {
        if self.since.is_none() || self.fetching != fetching {
            (self.since, self.fetching) = (Some(now), fetching);
            return false;
        }
        let is_stalled = self.since.is_some_and(|since| now.saturating_duration_since(since) >= self.patience);
        if is_stalled {
            self.since = None;
            self.patience = PATIENCE_MAX.min(self.patience * 2);
        }
        is_stalled
    }
}

/// Where the fetchers of all partitions are, from librdkafka's statistics.
pub(super) fn fetch_positions(statistics: &[u8]) -> Option<BTreeMap<i32, i64>> {
    #[derive(Deserialize)]
    struct Statistics {
        topics: HashMap<String, Topic>,
    }
    #[derive(Deserialize)]
    struct Topic {
        partitions: HashMap<i32, Partition>,
    }
    #[derive(Deserialize)]
    struct Partition {
        next_offset: i64,
    }
    let statistics: Statistics = serde_json::from_slice(statistics).ok()?;
    let partitions = statistics.topics.into_values().flat_map(|topic| topic.partitions);
    Some(partitions.map(|(partition, at)| (partition, at.next_offset)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standing_still_beside_data_is_a_stall() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::default();
        assert!(!stall.waits(Some(7), after(0)));
        assert!(!stall.waits(Some(7), after(9)));
        assert!(stall.waits(Some(7), after(10)));
        // The next attempt has twice the time.
        assert!(!stall.waits(Some(7), after(11)));
        assert!(!stall.waits(Some(7), after(30)));
        assert!(stall.waits(Some(7), after(31)));
        stall.moved();
        assert!(!stall.waits(Some(7), after(40)));
        assert!(stall.waits(Some(7), after(50)));
    }

    #[test]
    fn markers_that_are_passed_over_and_silence_are_none() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::default();
        assert!((0..100).all(|second| !stall.waits(Some(second as i64 / 5), after(second))));
        assert!(!stall.waits(Some(50), after(200)));
        stall.excused();
        assert!(!stall.waits(Some(50), after(300)));
    }

    #[test]
    fn positions_are_found_among_the_statistics() {
        let statistics = br#"{"name":"x","topics":{"t":{"topic":"t","partitions":{"0":{"next_offset":12,"x":[]},"-1":{"next_offset":-1001}}}}}"#;
        assert_eq!(fetch_positions(statistics), Some(BTreeMap::from([(-1, -1001), (0, 12)])));
        assert_eq!(fetch_positions(b"{}"), None);
    }
}
