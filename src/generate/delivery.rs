//! The way into the log: events arrive a little out of order, and some of them late.
//!
//! Every event is held back for a while of its own and then let go. So none stands further behind the newest event
//! before it than it was held back.

use super::options::Options;
use super::random::{Chance, Random, Stream};
use super::sessions::Drawn;
use super::wheel::Wheel;

/// Events on their way, and the millisecond within the second at which each arrives.
pub(crate) struct Delivery {
    disorder_ms: u64,
    late: Chance,
    late_ms: u64,
    random: Random,
    under_way: Wheel<(u32, Drawn)>,
    arriving: Vec<(u32, Drawn)>,
    /// Events held back for being late so far.
    pub(crate) held_back: u64,
}

impl Delivery {
    pub(crate) fn new(options: &Options) -> Delivery {
        Delivery {
            disorder_ms: options.disorder_ms,
            late: Chance::new(options.late),
            late_ms: options.late_ms,
            random: Random::new(options.seed, Stream::Delivery),
            under_way: Wheel::new(),
            arriving: Vec::new(),
            held_back: 0,
        }
    }

    /// Whether nothing is under way.
    pub(crate) fn is_over(&self) -> bool {
        self.under_way.held() == 0
    }

    /// Sends off a second's events, which it takes out of `sent`, and lets those go that arrive within the same second.
    pub(crate) fn next_second(&mut self, sent: &mut Vec<Drawn>, arrived: &mut Vec<Drawn>) {
        if self.disorder_ms == 0 && self.late == Chance::default() {
            arrived.append(sent);
            return;
        }
        for event in sent.drain(..) {
            let arrives_ms = event.since_start_ms + self.delay_ms();
            self.under_way.put(arrives_ms / 1000, ((arrives_ms % 1000) as u32, event));
        }
        self.under_way.take(&mut self.arriving);
        // Stable: what arrives in the same millisecond keeps the order in which it was sent.
        self.arriving.sort_by_key(|&(millisecond, _)| millisecond);
        arrived.extend(self.arriving.drain(..).map(|(_, event)| event));
    }

    fn delay_ms(&mut self) -> u64 {
        if self.random.happens(self.late) {
            self.held_back += 1;
            return self.late_ms + self.random.below(self.late_ms + 1);
        }
        self.random.below(self.disorder_ms + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sessions::Act;
    use super::*;

    /// Sends ten events a second for ten minutes and returns the arrivals' times.
    fn arrivals(options: &Options) -> (Vec<u64>, u64) {
        let mut delivery = Delivery::new(options);
        let mut arrived = Vec::new();
        for second in 0..800 {
            let count = if second < 600 { 10 } else { 0 };
            let event = |i: u64| Drawn { since_start_ms: second * 1000 + i * 100, user: 0, item: 0, act: Act::View };
            delivery.next_second(&mut (0..count).map(event).collect(), &mut arrived);
        }
        assert!(delivery.is_over());
        (arrived.iter().map(|event| event.since_start_ms).collect(), delivery.held_back)
    }

    fn behind(times: &[u64]) -> Vec<u64> {
        let mut newest = 0;
        times.iter().map(|&time| (newest = time.max(newest), newest - time).1).collect()
    }

    #[test]
    fn nothing_is_lost_and_order_is_kept_without_disorder() {
        let (times, _) = arrivals(&Options { disorder_ms: 0, ..Options::default() });
        assert_eq!(times, (0..6000).map(|i| i * 100).collect::<Vec<u64>>());
    }

    #[test]
    fn disorder_is_there_and_bounded() {
        let (mut times, held_back) = arrivals(&Options { disorder_ms: 3_000, ..Options::default() });
        let most = behind(&times).into_iter().max().expect("events");
        assert!((2_500..=3_000).contains(&most), "{most}");
        assert_eq!(held_back, 0);
        times.sort_unstable();
        assert_eq!(times, (0..6000).map(|i| i * 100).collect::<Vec<u64>>());
    }

    #[test]
    fn the_late_ones_are_as_many_and_as_late_as_asked_for() {
        let options = Options { disorder_ms: 3_000, late: 0.1, late_ms: 30_000, ..Options::default() };
        let (times, held_back) = arrivals(&options);
        assert!((520..680).contains(&held_back), "{held_back}");
        let behind = behind(&times);
        let late = behind.iter().filter(|&&ms| ms > 10_000).count() as u64;
        // The last ones meet nothing that is newer.
        assert!(late <= held_back && late + 60 > held_back, "{late} of {held_back}");
        assert!(behind.iter().all(|&ms| ms <= 60_000));
    }
}
