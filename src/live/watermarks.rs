//! How far all partitions are, as one worker knows it, and when an idle one may be moved on (contract, section 2).
//!
//! Every worker hears of every partition. What it hears may be old, and then is too low, never too high; so the least
//! watermark heard is a promise that all workers can keep.

use dataflows::event::Time;
use dataflows::time::{Steps, Window};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a partition does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    /// It has records to come, as far as anybody knows.
    Active,
    /// It has been at the end of its log for long enough.
    Idle,
    /// Its log has an end, and that has been reached.
    Ended,
}

/// What the owner of a partition tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// W_p at the place reached.
    pub(super) watermark: Time,
    /// What it does.
    pub(super) standing: Standing,
    /// The largest logical time of its events.
    pub(super) logical_max: Option<Time>,
    /// The largest time that the frontier has to pass before all of its records are out, late and rejected ones too.
    pub(super) waiting: Option<Time>,
    /// It has records that were not yet in its log when the run started, and they have been taken in; or it has ended.
    pub(super) caught_up: bool,
}

impl Told {
    /// What holds of a partition that has just appeared, and is to begin with this watermark.
    pub(super) fn newcomer(watermark: Time) -> Told {
        Told { watermark, standing: Standing::Active, logical_max: None, waiting: None, caught_up: false }
    }
}

/// All partitions, as far as one worker has heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Watermarks {
    partitions: BTreeMap<u32, Told>,
    /// The first window end at which none of the events counts that a snapshot has restored.
    emptied: Time,
}

impl Watermarks {
    /// Takes in what an owner tells.
    pub(super) fn hear(&mut self, partition: u32, told: Told) {
        self.partitions.insert(partition, told);
    }

    /// A snapshot has restored events that count at window ends before `emptied`.
    pub(super) fn restored(&mut self, emptied: Time) {
        self.emptied = emptied;
    }

    /// How many partitions there are.
    pub(super) fn count(&self) -> usize {
        self.partitions.len()
    }

    /// Whether all that was in the log when the run started has been taken in, and time waits for no partition that is at its
    /// end: it has newer records, or is idle and was [moved on](Self::target) as far as it can be. A log of which nothing is
    /// known yet has not caught up.
    pub(super) fn have_caught_up(&self, clock: Time, tick: Steps, window: Window) -> bool {
        let has = |(&partition, told): (&u32, &Told)| {
            told.caught_up || told.standing == Standing::Idle && self.target(partition, clock, tick, window).is_none()
        };
        self.partitions.iter().all(has) && self.partitions.values().any(|told| told.watermark > 0)
    }

    /// What is known of one.
    pub(super) fn get(&self, partition: u32) -> Option<&Told> {
        self.partitions.get(&partition)
    }

    /// The least watermark of those that have not ended; `None` if all have.
    pub(super) fn least(&self) -> Option<Time> {
        let open = self.partitions.values().filter(|told| told.standing != Standing::Ended);
        open.map(|told| told.watermark).min()
    }

    /// Where an idle partition is to be moved on to, if anywhere: to the least watermark of those that are active, or, if
    /// none is, to `clock`, the time of day less the lateness, or to the largest watermark of all, if that is further: a log
    /// may be ahead of the clock, and where all are silent it does not matter which of them was so first.
    ///
    /// It is moved on only where somebody waits for that: a tick with events or other records, or, in steps of the slide, a
    /// window that still holds some. A log that has fallen silent for longer makes no entries in the journal.
    pub(super) fn target(&self, partition: u32, clock: Time, tick: Steps, window: Window) -> Option<Time> {
        let own = self.get(partition).filter(|told| told.standing == Standing::Idle)?;
        let active = self.partitions.values().filter(|told| told.standing == Standing::Active);
        let largest =
            self.partitions.values().filter(|told| told.standing == Standing::Idle).map(|told| told.watermark);
        let silent = clock.max(largest.max().unwrap_or(0));
        let target = active.map(|told| told.watermark).min().unwrap_or(silent);
        let waiting = self.partitions.values().filter_map(|told| told.waiting).max();
        let slide = window.slide();
        let (waits, step) = if waiting.is_some_and(|waiting| tick.end_of(waiting) >= tick.frontier(own.watermark)) {
            (true, tick)
        } else {
            // The first window end at which no event counts, which clears the newest list.
            let newest = self.partitions.values().filter_map(|told| told.logical_max).max();
            let emptied = newest.map_or(0, |newest| slide.end_of(newest).saturating_add(window.length()));
            (own.watermark < emptied.max(self.emptied), slide)
        };
        (waits && step.frontier(target) > step.frontier(own.watermark)).then_some(target)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn steps(length: Time) -> Steps {
        Steps::new(length).unwrap()
    }

    fn window() -> Window {
        Window::new(400, steps(40)).unwrap()
    }

    fn told(watermark: Time, standing: Standing) -> Told {
        Told { watermark, standing, logical_max: None, waiting: None, caught_up: false }
    }

    fn watermarks(partitions: &[(Time, Standing, Option<Time>)]) -> Watermarks {
        let mut watermarks = Watermarks::default();
        for (partition, &(watermark, standing, logical_max)) in (0..).zip(partitions) {
            watermarks.hear(partition, Told { logical_max, waiting: logical_max, ..told(watermark, standing) });
        }
        watermarks
    }

    #[test]
    fn the_least_is_of_those_that_have_not_ended() {
        let all = watermarks(&[(5, Standing::Ended, None), (9, Standing::Active, None), (7, Standing::Idle, None)]);
        assert_eq!(all.least(), Some(7));
        assert_eq!(watermarks(&[(5, Standing::Ended, None)]).least(), None);
    }

    #[test]
    fn a_log_has_caught_up_when_all_its_partitions_have() {
        let has = |all: &Watermarks| all.have_caught_up(0, steps(10), window());
        let mut all = watermarks(&[(5, Standing::Active, None), (9, Standing::Active, None)]);
        for (partition, expected) in [(0, false), (1, true)] {
            all.hear(partition, Told { caught_up: true, ..told(10, Standing::Active) });
            assert_eq!(has(&all), expected);
        }
    }

    #[test]
    fn a_partition_that_holds_time_up_has_not_caught_up() {
        let has = |all: &Watermarks| all.have_caught_up(0, steps(10), window());
        let idle = |watermark| Told { logical_max: Some(99), waiting: Some(99), ..told(watermark, Standing::Idle) };
        let mut all = Watermarks::default();
        all.hear(0, idle(95));
        all.hear(1, told(0, Standing::Active));
        assert!(!has(&all), "it may be at its end, but is not known to be idle");
        all.hear(1, told(0, Standing::Idle));
        assert!(!has(&all), "it is to be moved on first");
        all.hear(1, told(95, Standing::Idle));
        assert!(has(&all));
        let empty = watermarks(&[(0, Standing::Idle, None)]);
        assert!(!has(&empty), "nothing is known");
    }

    #[test]
    fn an_idle_partition_follows_the_active_ones_and_not_the_clock() {
        let all = watermarks(&[
            (10, Standing::Idle, Some(12)),
            (95, Standing::Active, Some(99)),
            (300, Standing::Active, None),
            (3, Standing::Ended, None),
            (20, Standing::Idle, None),
        ]);
        assert_eq!(all.target(0, 10_000, steps(10), window()), Some(95));
        assert_eq!(all.target(1, 10_000, steps(10), window()), None, "it is not idle");
    }

    #[test]
    fn the_clock_moves_partitions_where_all_are_idle() {
        let all = watermarks(&[(10, Standing::Idle, Some(12)), (30, Standing::Idle, None)]);
        assert_eq!(all.target(0, 37, steps(10), window()), Some(37));
        assert_eq!(all.target(1, 37, steps(10), window()), None, "the next tick has not come");
        let silent = watermarks(&[(10, Standing::Idle, None)]);
        assert_eq!(silent.target(0, 37, steps(10), window()), None, "nothing waits");
    }

    #[test]
    fn where_all_are_idle_the_furthest_takes_the_others_along() {
        let all =
            watermarks(&[(10, Standing::Idle, Some(12)), (95, Standing::Idle, Some(99)), (999, Standing::Ended, None)]);
        assert_eq!(all.target(0, 37, steps(10), window()), Some(95));
        assert_eq!(all.target(1, 37, steps(10), window()), None);
    }

    #[test]
    fn records_that_no_tick_has_wait_for_the_frontier_too() {
        let mut all = watermarks(&[(30, Standing::Idle, None)]);
        all.hear(0, Told { waiting: Some(30), ..told(30, Standing::Idle) });
        assert_eq!(all.target(0, 41, steps(10), window()), Some(41));
        all.hear(0, Told { waiting: Some(30), ..told(41, Standing::Idle) });
        assert_eq!(all.target(0, 100, steps(10), window()), None, "they are out, and no window has them");
    }

    #[test]
    fn a_window_that_was_restored_is_emptied_too() {
        let mut all = watermarks(&[(30, Standing::Idle, None)]);
        all.restored(120);
        assert_eq!(all.target(0, 41, steps(10), window()), Some(41));
        all.restored(30);
        assert_eq!(all.target(0, 41, steps(10), window()), None);
    }

    #[test]
    fn with_no_tick_open_time_moves_by_slides_until_the_window_is_empty() {
        // The event at 12 counts at window ends from 40 to 400.
        let idle = |watermark| watermarks(&[(watermark, Standing::Idle, Some(12))]);
        assert_eq!(idle(25).target(0, 39, steps(10), window()), None);
        assert_eq!(idle(25).target(0, 41, steps(10), window()), Some(41));
        assert_eq!(idle(439).target(0, 1000, steps(10), window()), Some(1000));
        assert_eq!(idle(440).target(0, 1000, steps(10), window()), None);
    }
}
