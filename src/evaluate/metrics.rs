//! Ranking metrics from integer counts (contract, section 6).
//!
//! Each event asks for one item, the one that came. A list of n items that holds it at rank r (from 1) earns a hit of 1, a
//! gain of 1/log2(r+1) (NDCG: with one relevant item the ideal gain is 1), a reciprocal rank of 1/r, and the reward weight
//! of the event's behaviour. A metric is the mean of these over a set of events: all of them, where an event without a list
//! earns nothing, or those for which a list stood.

use dataflows::evaluation::{ListTally, Tally};
use serde::Serialize;

/// The gain of a hit at index `rank` (rank − 1) of a list.
pub(super) fn gain(rank: usize) -> f64 {
    1.0 / (rank as f64 + 2.0).log2()
}

/// The reciprocal rank of a hit at index `rank` (rank − 1) of a list.
pub(super) fn reciprocal(rank: usize) -> f64 {
    1.0 / (rank as f64 + 1.0)
}

/// One number for each metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Scores<T> {
    /// Share of the events whose item was in the list, 0 … 1.
    pub hit_rate: T,
    /// Mean of 1/log2(rank+1), 0 … 1.
    pub ndcg: T,
    /// Mean of 1/rank, 0 … 1.
    pub mrr: T,
    /// Mean reward weight earned by an event.
    pub reward: T,
}

/// How many metrics [`Scores`] holds.
pub(super) const METRICS: usize = 4;

impl<T> Scores<T> {
    /// The metrics in the order of the fields.
    pub fn into_array(self) -> [T; METRICS] {
        [self.hit_rate, self.ndcg, self.mrr, self.reward]
    }

    /// The inverse of [`Self::into_array`].
    pub fn from_array([hit_rate, ndcg, mrr, reward]: [T; METRICS]) -> Scores<T> {
        Scores { hit_rate, ndcg, mrr, reward }
    }

    /// Each metric, changed.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Scores<U> {
        Scores::from_array(self.into_array().map(change))
    }
}

/// One number for each set of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sets<T> {
    /// Over all events; one without a list earns nothing.
    pub all_events: T,
    /// Over the events for which the method had a list. Two methods may have lists for different events.
    pub with_list: T,
}

/// How many numbers a [`Sums`] holds.
pub(super) const COLUMNS: usize = 6;

/// Sums over a set of events for one method, from which every metric is a ratio.
///
/// All but `gain` and `reciprocal` are whole numbers, exact below 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    events: f64,
    with_list: f64,
    hits: f64,
    gain: f64,
    reciprocal: f64,
    reward: f64,
}

impl Sums {
    /// The sums of a tally.
    pub fn of(tally: &Tally) -> Sums {
        let by_rank = |value: fn(usize) -> f64| -> f64 {
            tally.hits.iter().enumerate().filter(|(_, hits)| **hits > 0).map(|(r, &hits)| hits as f64 * value(r)).sum()
        };
        Sums {
            events: tally.events as f64,
            with_list: tally.with_list as f64,
            hits: tally.hits.iter().sum::<u64>() as f64,
            gain: by_rank(gain),
            reciprocal: by_rank(reciprocal),
            reward: tally.reward as f64,
        }
    }

    pub(super) fn into_array(self) -> [f64; COLUMNS] {
        [self.events, self.with_list, self.hits, self.gain, self.reciprocal, self.reward]
    }

    pub(super) fn from_array([events, with_list, hits, gain, reciprocal, reward]: [f64; COLUMNS]) -> Sums {
        Sums { events, with_list, hits, gain, reciprocal, reward }
    }

    /// The metrics; `None` where the set holds no event.
    pub fn scores(&self) -> Sets<Option<Scores<f64>>> {
        let earned = Scores { hit_rate: self.hits, ndcg: self.gain, mrr: self.reciprocal, reward: self.reward };
        let over = |events: f64| (events > 0.0).then(|| earned.map(|sum| sum / events));
        Sets { all_events: over(self.events), with_list: over(self.with_list) }
    }
}

/// Adds `from` to `into`; ranks beyond the end of `into` are appended.
pub(super) fn add(into: &mut Tally, from: &Tally) {
    into.events += from.events;
    into.with_list += from.with_list;
    into.reward += from.reward;
    if into.hits.len() < from.hits.len() {
        into.hits.resize(from.hits.len(), 0);
    }
    for (into, from) in into.hits.iter_mut().zip(&from.hits) {
        *into += from;
    }
}

/// Distinct items on the lists / items that the log shows or the model has, 0 … 1; `None` where there are none.
pub fn coverage(lists: &ListTally, catalogue: u64) -> Option<f64> {
    (catalogue > 0).then(|| lists.distinct_items as f64 / catalogue as f64)
}

/// Mean −log2 of the share of all events so far of an item on a list, in bits; `None` where there is no list.
pub fn novelty_bits(lists: &ListTally) -> Option<f64> {
    const UNITS_PER_BIT: f64 = (1_u64 << 32) as f64;
    (lists.items > 0).then(|| lists.novelty_sum as f64 / UNITS_PER_BIT / lists.items as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What one event met: the rank of its item from 1, if it was on the list; `None` if no list stood.
    type Met = Option<Option<usize>>;

    /// The metrics as the contract words them, event by event.
    fn slowly(events: &[(Met, i64)], only_with_list: bool) -> Option<[f64; METRICS]> {
        let counted: Vec<_> = events.iter().filter(|(met, _)| met.is_some() || !only_with_list).collect();
        if counted.is_empty() {
            return None;
        }
        let mut sums = [0.0; METRICS];
        for (met, weight) in &counted {
            if let Some(Some(rank)) = met {
                sums[0] += 1.0;
                sums[1] += 1.0 / ((1 + rank) as f64).log2();
                sums[2] += 1.0 / *rank as f64;
                sums[3] += *weight as f64;
            }
        }
        Some(sums.map(|sum| sum / counted.len() as f64))
    }

    fn tallied(n: usize, events: &[(Met, i64)]) -> Tally {
        let mut tally = Tally { hits: vec![0; n], ..Tally::default() };
        for (met, weight) in events {
            tally.events += 1;
            tally.with_list += u64::from(met.is_some());
            if let Some(Some(rank)) = met {
                tally.hits[rank - 1] += 1;
                tally.reward += weight;
            }
        }
        tally
    }

    fn close(fast: Option<Scores<f64>>, slow: Option<[f64; METRICS]>) -> bool {
        match (fast, slow) {
            (None, None) => true,
            (Some(fast), Some(slow)) => fast.into_array().iter().zip(slow).all(|(f, s)| (f - s).abs() < 1e-12),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn metrics_are_the_means_over_events(
            events in prop::collection::vec((prop::option::of(prop::option::of(1..=8_usize)), 1..4_i64), 0..60),
        ) {
            let scores = Sums::of(&tallied(8, &events)).scores();
            prop_assert!(close(scores.all_events, slowly(&events, false)));
            prop_assert!(close(scores.with_list, slowly(&events, true)));
        }

        #[test]
        fn adding_tallies_is_tallying_both(
            a in prop::collection::vec((prop::option::of(prop::option::of(1..=3_usize)), 1..4_i64), 0..20),
            b in prop::collection::vec((prop::option::of(prop::option::of(1..=5_usize)), 1..4_i64), 0..20),
        ) {
            let mut sum = tallied(3, &a);
            add(&mut sum, &tallied(5, &b));
            prop_assert_eq!(sum, tallied(5, &[a, b].concat()));
        }
    }

    #[test]
    fn a_hit_at_rank_three_earns_one_half() {
        let tally = Tally { events: 2, with_list: 1, reward: 3, hits: vec![0, 0, 1] };
        let scores = Sums::of(&tally).scores();
        let earned = Scores { hit_rate: 1.0, ndcg: 0.5, mrr: 1.0 / 3.0, reward: 3.0 };
        assert_eq!(scores.with_list, Some(earned));
        assert_eq!(scores.all_events, Some(earned.map(|x| x / 2.0)));
    }

    #[test]
    fn list_metrics() {
        let lists = ListTally { lists: 2, items: 4, distinct_items: 3, novelty_sum: 14 << 32 };
        assert_eq!(coverage(&lists, 12), Some(0.25));
        assert_eq!(novelty_bits(&lists), Some(3.5));
        assert_eq!(coverage(&lists, 0), None);
        assert_eq!(novelty_bits(&ListTally::default()), None);
    }
}
