//! How long to wait before a call is tried again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);

/// The longest.
const LONGEST: Duration = Duration::from_secs(10);

/// Waits that double, each shortened by up to a half at random, so that clients of a server that comes back do not all come
/// at once.
pub(super) struct Backoff {
    next: Duration,
    random: RandomState,
    count: u64,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { next: FIRST, random: RandomState::new(), count: 0 }
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        self.count += 1;
        let share = (self.random.hash_one(self.count) >> 40) as u32;
        whole - whole / 2 * (share >> 12) / (1 << 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ() {
        let mut backoff = Backoff::new();
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        let mut whole = FIRST;
        for wait in &waits {
            assert!(*wait <= whole && *wait >= whole / 2, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(LONGEST);
        }
        assert!(waits[10..].windows(2).any(|pair| pair[0] != pair[1]));
    }
}
