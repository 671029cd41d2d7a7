//! Logical time: the one place that owns watermarks, lateness, ticks, panes and the journal's part in them
//! (contract, sections 2 and 3).
//!
//! Every partition p has a watermark before each offset o,
//! `W_p(o) = max(largest event time accepted in p before o − lateness ; A_p(o))`,
//! and an event's logical time is `L = max(time, W_p(o))`. Both depend on the partition's own rows and on the journal
//! alone: not on the clock, on other partitions, or on who reads the partition, in which pieces, how fast. A replay and a
//! live source call the same three methods of [`PartitionClock`], so they can't differ.
//!
//! Times are unsigned: a watermark that would lie before the epoch is 0, which is the same thing, as no event is earlier.

use crate::event::Time;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Largest event time that is accepted: 9999-12-31T23:59:59.999Z.
pub const TIME_MAX: Time = 253_402_300_799_999;

/// What becomes of an event that is older than its partition's watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LatePolicy {
    /// It goes to the behaviour log only.
    #[default]
    Drop,
    /// It takes part from its logical time on.
    Admit,
}

impl LatePolicy {
    /// Whether an event takes part in the aggregates.
    pub fn admits(self, late: bool) -> bool {
        !late || self == LatePolicy::Admit
    }
}

/// The time of one partition, row by row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionClock {
    lateness: Time,
    /// Largest event time accepted so far.
    largest: Option<Time>,
    /// A_p: largest journalled advance so far.
    advanced: Time,
}

/// The logical time of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// L = max(time, W_p(o)).
    pub logical: Time,
    /// Whether time < W_p(o).
    pub late: bool,
}

impl PartitionClock {
    /// The clock of a partition of which nothing has been read.
    pub fn new(lateness: Time) -> PartitionClock {
        PartitionClock { lateness, largest: None, advanced: 0 }
    }

    /// The clock of a partition that is read on from a place before which `largest` was its largest accepted event time,
    /// and `advanced` its largest journalled advance.
    pub fn resumed(lateness: Time, largest: Option<Time>, advanced: Time) -> PartitionClock {
        PartitionClock { lateness, largest, advanced }
    }

    /// W_p at the place reached so far.
    pub fn watermark(&self) -> Time {
        self.largest.unwrap_or(0).saturating_sub(self.lateness).max(self.advanced)
    }

    /// Largest event time accepted so far.
    pub fn largest(&self) -> Option<Time> {
        self.largest
    }

    /// A_p: the largest journalled advance so far; 0 if there was none.
    pub fn advanced(&self) -> Time {
        self.advanced
    }

    /// Whether an event at `time` would leap more than `jump_max` beyond the largest time so far: it is then to be
    /// rejected, and must not be [accepted](Self::accept). The first event of a partition leaps from nowhere.
    pub fn leaps(&self, time: Time, jump_max: Time) -> bool {
        self.largest.is_some_and(|largest| time > largest.saturating_add(jump_max))
    }

    /// Stamps the next event, and moves the watermark behind it.
    pub fn accept(&mut self, time: Time) -> Stamp {
        let watermark = self.watermark();
        self.observe(Some(time));
        Stamp { logical: time.max(watermark), late: time < watermark }
    }

    /// Moves past rows that somebody else stamps, of which `largest` is the largest accepted event time.
    pub fn observe(&mut self, largest: Option<Time>) {
        self.largest = self.largest.max(largest);
    }

    /// Repeats a journalled advance to `watermark` at this place.
    pub fn advance(&mut self, watermark: Time) {
        self.advanced = self.advanced.max(watermark);
    }
}

/// Steps of equal length on the time axis: ticks, slides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Steps(Time);

impl Steps {
    /// Steps of `length` ms; `None` if it is 0.
    pub fn new(length: Time) -> Option<Steps> {
        (length > 0).then_some(Steps(length))
    }

    /// Their length, ms.
    pub fn length(self) -> Time {
        self.0
    }

    /// The end of the step that `time` lies in: (floor(time/length)+1)·length. An event with logical time L belongs to
    /// the tick that ends at `end_of(L)` and enters the window that ends there, for steps of a tick and of a slide.
    pub fn end_of(self, time: Time) -> Time {
        self.start_of(time) + self.0
    }

    /// The start of the step that `time` lies in: floor(time/length)·length.
    pub fn start_of(self, time: Time) -> Time {
        time - time % self.0
    }

    /// The first step end that can still get an event, when every partition's watermark has reached `watermark`.
    ///
    /// Logical times to come are ≥ `watermark`, hence ticks to come are ≥ this: it is the dataflow's frontier.
    pub fn frontier(self, watermark: Time) -> Time {
        self.end_of(watermark)
    }
}

/// A sliding window: `length` long, moved by `slide`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    length: Time,
    slide: Steps,
}

impl Window {
    /// A window of `length` ms, moved by `slide`; `None` unless `length` is a positive multiple of it.
    pub fn new(length: Time, slide: Steps) -> Option<Window> {
        (length > 0 && length.is_multiple_of(slide.length())).then_some(Window { length, slide })
    }

    /// Its length, ms.
    pub fn length(self) -> Time {
        self.length
    }

    /// Its slide.
    pub fn slide(self) -> Steps {
        self.slide
    }

    /// The window ends at which an event counts: from the first result to before the second, in steps of the slide.
    /// `None` if it never does, as an event that was admitted very late.
    ///
    /// It counts at E if L < E and time ≥ E − length. `slide` divides `length`, so the first E beyond the second
    /// condition is the end of the slide that `time` lies in, plus `length`.
    pub fn span(self, time: Time, logical: Time) -> Option<(Time, Time)> {
        let enters = self.slide.end_of(logical);
        let leaves = self.slide.end_of(time) + self.length;
        (enters < leaves).then_some((enters, leaves))
    }
}

/// [`Window::span`] of one event after another: most lie in the same slide as the one before, which costs no division.
#[derive(Clone, Debug)]
pub struct Spans {
    window: Window,
    /// A slide.
    slide: Range<Time>,
}

impl Spans {
    /// For events in any order.
    pub fn new(window: Window) -> Spans {
        Spans { window, slide: 0..window.slide.length() }
    }

    /// [`Window::span`].
    #[inline]
    pub fn of(&mut self, time: Time, logical: Time) -> Option<(Time, Time)> {
        if !self.slide.contains(&logical) {
            self.slide = self.window.slide.start_of(logical)..self.window.slide.end_of(logical);
        }
        match self.slide.contains(&time) {
            true => Some((self.slide.end, self.slide.end + self.window.length)),
            false => self.window.span(time, logical),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Section 2's formula, word for word.
    fn watermark_by_definition(rows: &[Time], advances: &[(usize, Time)], offset: usize, lateness: Time) -> i128 {
        let seen = rows[..offset].iter().map(|&t| i128::from(t) - i128::from(lateness)).max().unwrap_or(i128::MIN);
        let advanced = advances.iter().filter(|a| a.0 <= offset).map(|a| i128::from(a.1)).max().unwrap_or(i128::MIN);
        seen.max(advanced)
    }

    proptest! {
        #[test]
        fn stamps_follow_the_definition(
            rows in prop::collection::vec(0u64..1000, 0..50),
            advances in prop::collection::vec((0usize..50, 0u64..1000), 0..5),
            lateness in 0u64..300,
        ) {
            let mut clock = PartitionClock::new(lateness);
            for (offset, &time) in rows.iter().enumerate() {
                advances.iter().filter(|a| a.0 == offset).for_each(|a| clock.advance(a.1));
                let watermark = watermark_by_definition(&rows, &advances, offset, lateness);
                prop_assert_eq!(i128::from(clock.watermark()), watermark.max(0));
                let stamp = clock.accept(time);
                prop_assert_eq!(i128::from(stamp.logical), watermark.max(i128::from(time)));
                prop_assert_eq!(stamp.late, i128::from(time) < watermark);
            }
        }

        #[test]
        fn skipping_rows_leaves_the_same_clock(rows in prop::collection::vec(0u64..1000, 0..50), cut in 0usize..50) {
            let cut = cut.min(rows.len());
            let (mut all, mut skipped) = (PartitionClock::new(10), PartitionClock::new(10));
            rows.iter().for_each(|&time| { all.accept(time); });
            skipped.observe(rows[..cut].iter().copied().max());
            rows[cut..].iter().for_each(|&time| { skipped.accept(time); });
            prop_assert_eq!(all, skipped);
        }

        #[test]
        fn spans_are_those_of_single_events(
            times in prop::collection::vec((0u64..500, 0u64..60), 0..100), slide in 1u64..40, slides in 1u64..8,
        ) {
            let window = Window::new(slide * slides, Steps::new(slide).unwrap()).unwrap();
            let mut spans = Spans::new(window);
            for (time, ahead) in times {
                prop_assert_eq!(spans.of(time, time + ahead), window.span(time, time + ahead));
            }
        }

        #[test]
        fn a_span_holds_just_the_windows_that_count_the_event(
            time in 0u64..500, ahead in 0u64..300, slide in 1u64..40, slides in 1u64..8,
        ) {
            let logical = time + ahead;
            let window = Window::new(slide * slides, Steps::new(slide).unwrap()).unwrap();
            let span = window.span(time, logical);
            for end in (0..2000).step_by(slide as usize) {
                let counts = logical < end && time + window.length >= end;
                prop_assert_eq!(counts, span.is_some_and(|(enters, leaves)| enters <= end && end < leaves), "E = {}", end);
            }
            prop_assert!(span.is_none_or(|(enters, leaves)| enters < leaves), "no span is empty");
        }
    }

    #[test]
    fn an_event_at_its_watermark_is_not_late() {
        let mut clock = PartitionClock::new(10);
        clock.accept(100);
        assert_eq!(clock.accept(90), Stamp { logical: 90, late: false });
        assert_eq!(clock.accept(89), Stamp { logical: 90, late: true });
    }

    #[test]
    fn a_clock_goes_on_from_what_it_tells() {
        let mut clock = PartitionClock::new(10);
        assert_eq!((clock.largest(), clock.advanced()), (None, 0));
        clock.accept(100);
        clock.advance(95);
        assert_eq!((clock.largest(), clock.advanced()), (Some(100), 95));
        assert_eq!(PartitionClock::resumed(10, clock.largest(), clock.advanced()), clock);
    }

    #[test]
    fn a_leap_is_measured_from_the_largest_time() {
        let mut clock = PartitionClock::new(0);
        assert!(!clock.leaps(1_000_000, 10), "there is nothing to leap from");
        clock.accept(100);
        clock.accept(50);
        assert!(!clock.leaps(110, 10));
        assert!(clock.leaps(111, 10));
        assert!(!clock.leaps(Time::MAX, Time::MAX));
    }

    #[test]
    fn steps_have_their_start_and_not_their_end() {
        let tick = Steps::new(20).unwrap();
        assert_eq!((tick.end_of(0), tick.end_of(19), tick.end_of(20)), (20, 20, 40));
        assert_eq!((tick.start_of(0), tick.start_of(19), tick.start_of(20)), (0, 0, 20));
        assert_eq!((tick.frontier(19), tick.frontier(20)), (20, 40), "reaching 20 completes the tick that ends there");
        assert_eq!(Steps::new(0), None);
        assert_eq!(Window::new(30, tick), None);
        assert_eq!(Window::new(0, tick), None);
        assert_eq!(Window::new(40, tick).map(|window| (window.length(), window.slide())), Some((40, tick)));
    }

    #[test]
    fn policies() {
        assert!(LatePolicy::Drop.admits(false) && !LatePolicy::Drop.admits(true));
        assert!(LatePolicy::Admit.admits(false) && LatePolicy::Admit.admits(true));
    }
}
