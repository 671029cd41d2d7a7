//! The result of an evaluation: every metric of every method with its interval, and the differences between methods.

use super::bootstrap::{Population, Resample, quantile};
use super::metrics::{self, METRICS, Scores, Sets, Sums};
use dataflows::evaluation::{Evaluation, METHODS, Tally};
use serde::Serialize;
use std::num::NonZero;

/// Resamples of the bootstrap (contract, section 6).
pub(super) const RESAMPLES: usize = 1000;
/// Share of the resamples that lie within an interval (contract, section 6).
pub(super) const CONFIDENCE: f64 = 0.95;

/// The whole result; serialised, it is the `evaluation` object of `--json`, whose keys are stable (`docs/evaluation.md`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Length of the lists.
    pub n: usize,
    /// Users with an event.
    pub users: u64,
    /// Events.
    pub events: u64,
    /// Different items in the log or the model.
    pub catalogue: u64,
    /// How the intervals were made.
    pub intervals: Intervals,
    /// In the order of [`METHODS`].
    pub methods: [MethodSummary; METHODS.len()],
    /// The first method less each of the others.
    pub differences: [Difference; METHODS.len() - 1],
}

/// How the intervals were made: percentiles of bootstrap resamples of users.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Intervals {
    /// Share of the resamples within an interval.
    pub confidence: f64,
    /// Number of resamples; 0 without users.
    pub resamples: usize,
    /// What the draws depend on, besides the counts.
    pub seed: u64,
}

/// One method's result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MethodSummary {
    /// One of [`METHODS`].
    pub method: &'static str,
    /// Events for which a list stood.
    pub events_with_list: u64,
    /// Events whose item was in the list.
    pub hits: u64,
    /// Over each set of events.
    #[serde(flatten)]
    pub scores: Sets<Scores<Option<Estimate>>>,
    /// Lists put out.
    pub lists: u64,
    /// Items on them, with repeats.
    pub items: u64,
    /// Different items on them.
    pub distinct_items: u64,
    /// See [`metrics::coverage`].
    pub coverage: Option<f64>,
    /// See [`metrics::novelty_bits`].
    pub novelty_bits: Option<f64>,
}

/// One method less another one, paired: in each resample both are computed from the same users.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// One of [`METHODS`].
    pub method: &'static str,
    /// Another one.
    pub baseline: &'static str,
    /// Over each set of events; with lists, the two sets may differ.
    #[serde(flatten)]
    pub scores: Sets<Scores<Option<Estimate>>>,
}

/// A number and its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// From all users.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Estimate {
    /// Whether the interval lies on one side of zero.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// Metrics, intervals and paired differences; a pure function of the counts and the seed.
///
/// Uses all of the machine's threads for the bootstrap.
pub fn summarise(evaluation: &Evaluation, seed: u64) -> Summary {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    summarise_on(evaluation, seed, threads)
}

fn summarise_on(evaluation: &Evaluation, seed: u64, threads: usize) -> Summary {
    let totals = totals(evaluation);
    let observed: Resample = std::array::from_fn(|method| Sums::of(&totals[method]));
    let resamples = Population::new(&evaluation.users).resample(seed, RESAMPLES, threads);
    let estimates = Estimates { observed, resamples: &resamples };
    Summary {
        n: evaluation.n,
        users: evaluation.users.len() as u64,
        events: totals[0].events,
        catalogue: evaluation.catalogue,
        intervals: Intervals { confidence: CONFIDENCE, resamples: resamples.len(), seed },
        methods: std::array::from_fn(|method| {
            summarise_method(evaluation, method, &totals[method], estimates.scores(|sums| sums[method].scores()))
        }),
        differences: std::array::from_fn(|index| {
            let baseline = index + 1;
            Difference {
                method: METHODS[0],
                baseline: METHODS[baseline],
                scores: estimates.scores(|sums| less(sums[0].scores(), sums[baseline].scores())),
            }
        }),
    }
}

fn summarise_method(
    evaluation: &Evaluation,
    method: usize,
    total: &Tally,
    scores: Sets<Scores<Option<Estimate>>>,
) -> MethodSummary {
    let lists = &evaluation.lists[method];
    MethodSummary {
        method: METHODS[method],
        events_with_list: total.with_list,
        hits: total.hits.iter().sum(),
        scores,
        lists: lists.lists,
        items: lists.items,
        distinct_items: lists.distinct_items,
        coverage: metrics::coverage(lists, evaluation.catalogue),
        novelty_bits: metrics::novelty_bits(lists),
    }
}

/// The tallies of all users together, by method.
pub(super) fn totals(evaluation: &Evaluation) -> [Tally; METHODS.len()] {
    std::array::from_fn(|method| {
        let mut total = Tally { hits: vec![0; evaluation.n], ..Tally::default() };
        evaluation.users.iter().for_each(|user| metrics::add(&mut total, &user.methods[method]));
        total
    })
}

fn less(a: Sets<Option<Scores<f64>>>, b: Sets<Option<Scores<f64>>>) -> Sets<Option<Scores<f64>>> {
    let less = |a: Option<Scores<f64>>, b: Option<Scores<f64>>| {
        let (a, b) = (a?.into_array(), b?.into_array());
        Some(Scores::from_array(std::array::from_fn(|metric| a[metric] - b[metric])))
    };
    Sets { all_events: less(a.all_events, b.all_events), with_list: less(a.with_list, b.with_list) }
}

/// The observed sums, and those of each resample.
struct Estimates<'a> {
    observed: Resample,
    resamples: &'a [Resample],
}

impl Estimates<'_> {
    /// What `statistic` makes of the sums, each number with its interval.
    ///
    /// A resample for which a number is undefined (none of its events had a list) is left out of that number's interval.
    fn scores(&self, statistic: impl Fn(&Resample) -> Sets<Option<Scores<f64>>>) -> Sets<Scores<Option<Estimate>>> {
        let observed = statistic(&self.observed);
        let resampled: Vec<_> = self.resamples.iter().map(&statistic).collect();
        Sets {
            all_events: intervals(observed.all_events, resampled.iter().filter_map(|sets| sets.all_events)),
            with_list: intervals(observed.with_list, resampled.iter().filter_map(|sets| sets.with_list)),
        }
    }
}

fn intervals(observed: Option<Scores<f64>>, resampled: impl Iterator<Item = Scores<f64>>) -> Scores<Option<Estimate>> {
    let Some(observed) = observed else { return Scores::default() };
    let mut columns: [Vec<f64>; METRICS] = Default::default();
    for scores in resampled {
        for (column, value) in columns.iter_mut().zip(scores.into_array()) {
            column.push(value);
        }
    }
    let mut columns = columns.into_iter();
    observed.map(|value| {
        let mut column = columns.next().unwrap_or_default();
        column.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - CONFIDENCE) / 2.0;
        Some(Estimate { value, low: quantile(&column, tail)?, high: quantile(&column, 1.0 - tail)? })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::evaluate::random::Stream;
    use dataflows::evaluation::UserTally;
    use dataflows::event::UserId;

    fn evaluation(users: Vec<[Tally; 3]>) -> Evaluation {
        let users =
            (0..).zip(users).map(|(id, methods)| UserTally { user: UserId(id), methods }).collect::<Vec<UserTally>>();
        Evaluation { n: 2, users, catalogue: 10, ..Evaluation::default() }
    }

    fn tally(events: u64, with_list: u64, hits: [u64; 2]) -> Tally {
        Tally { events, with_list, reward: (hits[0] + hits[1]) as i64, hits: hits.to_vec() }
    }

    #[test]
    fn an_empty_log_has_no_metrics() {
        let summary = summarise(&Evaluation::default(), 1);
        assert_eq!((summary.events, summary.users, summary.intervals.resamples), (0, 0, 0));
        for method in &summary.methods {
            assert_eq!(method.scores, Sets::default());
            assert_eq!((method.coverage, method.novelty_bits), (None, None));
        }
        assert!(serde_json::to_string(&summary).unwrap().contains("\"hit_rate\":null"));
    }

    #[test]
    fn one_user_has_intervals_of_no_width() {
        let summary = summarise(&evaluation(vec![[tally(4, 2, [1, 0]), tally(4, 4, [0, 1]), tally(4, 0, [0, 0])]]), 1);
        let exactly = |value| Some(Estimate { value, low: value, high: value });
        assert_eq!(summary.methods[0].scores.all_events.hit_rate, exactly(0.25));
        assert_eq!(summary.methods[0].scores.with_list.hit_rate, exactly(0.5));
        assert_eq!(summary.methods[1].scores.all_events.mrr, exactly(0.125));
        assert_eq!(summary.methods[2].scores.all_events.ndcg, exactly(0.0));
        assert_eq!(summary.methods[2].scores.with_list, Scores::default());
        assert_eq!(summary.differences[0].scores.all_events.mrr, exactly(0.125));
        assert_eq!(summary.differences[1].scores.with_list, Scores::default());
    }

    #[test]
    fn differences_are_paired() {
        // The methods agree but for one hit in a hundred events of every user: the difference hardly scatters, though
        // the hit rates do.
        let users = (0..200)
            .map(|id| [tally(100, 100, [id % 50 + 1, 0]), tally(100, 100, [id % 50, 0]), tally(100, 0, [0, 0])])
            .collect();
        let summary = summarise(&evaluation(users), 1);
        let difference = summary.differences[0].scores.all_events.hit_rate.unwrap();
        assert!((difference.low - 0.01).abs() < 1e-12 && (difference.high - 0.01).abs() < 1e-12, "{difference:?}");
        let rate = summary.methods[0].scores.all_events.hit_rate.unwrap();
        assert!(rate.high - rate.low > 0.02);
        assert!(difference.excludes_zero());
    }

    #[test]
    fn threads_change_nothing() {
        let users = (0..300).map(|id| [tally(id + 1, id, [id % 3, 0]), tally(id + 1, 1, [0, 1]), tally(1, 1, [1, 0])]);
        let evaluation = evaluation(users.collect());
        let alone = summarise_on(&evaluation, 7, 1);
        for threads in [2, 5, 64] {
            assert_eq!(summarise_on(&evaluation, 7, threads), alone);
        }
    }

    /// Of 150 synthetic logs whose users' hit rates are known in expectation, about 95 % of the intervals hold the truth.
    #[test]
    fn intervals_cover_the_truth_as_often_as_they_say() {
        let mut stream = Stream::new(99, 0);
        let mut covered = 0;
        for log in 0..150 {
            let users = (0..40)
                .map(|_| {
                    // 20 events a user; each user's own rate is 0.1, 0.2, … 0.5 (0.3 on average), so events correlate.
                    let tenths = stream.below(5) + 1;
                    let hits = (0..20).filter(|_| stream.below(10) < tenths).count() as u64;
                    [tally(20, 20, [hits, 0]), tally(20, 20, [0, 0]), tally(20, 20, [0, 0])]
                })
                .collect();
            let rate = summarise(&evaluation(users), log).methods[0].scores.all_events.hit_rate.unwrap();
            covered += u32::from((rate.low..=rate.high).contains(&0.3));
        }
        // Binomial(150, 0.95): mean 142, standard deviation 2.7; with 40 users the percentile method is slightly narrow.
        assert!((130..=149).contains(&covered), "{covered} of 150 intervals hold the truth");
    }

    #[test]
    fn json_keys_are_stable() {
        let summary = summarise(&evaluation(vec![[tally(4, 2, [1, 0]), tally(4, 4, [0, 1]), tally(4, 0, [0, 0])]]), 1);
        let json = serde_json::to_value(&summary).unwrap();
        let keys = |value: &serde_json::Value| {
            value.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>()
        };
        let expect = |names: &str| names.split(' ').map(String::from).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(keys(&json), expect("n users events catalogue intervals methods differences"));
        assert_eq!(keys(&json["intervals"]), expect("confidence resamples seed"));
        assert_eq!(
            keys(&json["methods"][0]),
            expect(
                "method events_with_list hits all_events with_list lists items distinct_items coverage novelty_bits"
            )
        );
        assert_eq!(keys(&json["methods"][0]["all_events"]), expect("hit_rate ndcg mrr reward"));
        assert_eq!(keys(&json["methods"][0]["all_events"]["ndcg"]), expect("value low high"));
        assert_eq!(keys(&json["differences"][0]), expect("method baseline all_events with_list"));
    }
}
