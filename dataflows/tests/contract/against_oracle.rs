//! The dataflows against the contract read literally, on random logs: disorder, late and equal times, several partitions,
//! both late policies, odd ticks, slides and windows, any number of workers, any interleaving.

use crate::harness::{interleave, run};
use crate::logs::{model, partitions, rules};
use crate::oracle;
use crate::oracle::evaluation::evaluation;
use crate::oracle::{Row, Rules, results, stamp, worked_example_rules};
use dataflows::event::{Event, ItemId, Time, UserId};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]
    #[test]
    fn results_are_those_of_the_contract(
        rules in rules(),
        rows in partitions(),
        choices in prop::collection::vec(any::<u8>(), 1..20),
        step in 1usize..30,
        workers in 1usize..4,
        with_model in any::<bool>(),
        // Now and then a log of so many slides that the buckets of the evaluation are merged.
        spread in prop::sample::select(vec![1, 1, 1, 1, 1, 1, 1, 20]),
    ) {
        let spread = |&(user, item, behavior, time): &Row| (user, item, behavior, time * spread);
        let rows: Vec<Vec<Row>> = rows.iter().map(|rows| rows.iter().map(spread).collect()).collect();
        let model = with_model.then_some(model as oracle::Model);
        let stamped: Vec<Vec<Event>> = (0..).zip(&rows).map(|(p, rows)| stamp(&rules, p, rows)).collect();
        let expected = results(&rules, &stamped.concat(), model);
        let outcome = run(&rules, interleave(&rules, &stamped, &choices, step), workers, model);
        prop_assert_eq!(&outcome.results, &expected);
        prop_assert_eq!(&outcome.evaluation, &evaluation(&rules, &stamped.concat(), &expected));
        // The differences add up to the final sequences.
        let part: Vec<Event> = stamped.concat().into_iter().filter(|e| !e.late || rules.admit_late).collect();
        let mut entries = Vec::new();
        for user in (0..5).map(UserId) {
            entries.extend(oracle::sequence_at(&rules, &part, user, Time::MAX).into_iter().map(|item| (user, item)));
        }
        entries.sort();
        let mut found: Vec<_> = outcome.entries.iter().map(|((user, entry), diff)| {
            assert_eq!(*diff, 1);
            (*user, entry.item)
        }).collect();
        found.sort();
        prop_assert_eq!(found, entries);
    }
}

fn worked_example(admit_late: bool) -> oracle::Results {
    let rules = Rules { admit_late, ..worked_example_rules() };
    let rows: Vec<Row> = [
        (1, 100, 0, 0),
        (1, 101, 3, 5),
        (2, 100, 0, 19),
        (2, 102, 1, 20),
        (1, 100, 0, 79),
        (3, 103, 2, 80),
        (3, 100, 0, 3),
        (2, 100, 0, 95),
        (1, 104, 0, 3700),
    ]
    .map(|(user, item, behavior, seconds)| (user, item, behavior, seconds * 1000))
    .to_vec();
    let stamped = stamp(&rules, 0, &rows);
    let expected = results(&rules, &stamped, None);
    for workers in [1, 2, 3] {
        let outcome = run(&rules, interleave(&rules, std::slice::from_ref(&stamped), &[0], 2), workers, None);
        assert_eq!(outcome.results, expected, "{workers} workers");
    }
    expected
}

fn recommendation(results: &oracle::Results, seconds: u64, user: u64) -> Option<(Vec<u64>, i64)> {
    let is =
        |r: &&(dataflows::rows::RecommendationKey, Vec<ItemId>)| r.0.time == seconds * 1000 && r.0.user == UserId(user);
    results.recommendations.iter().find(is).map(|(key, items)| (items.iter().map(|i| i.0).collect(), key.last_reward))
}

/// The figures are those printed in section 3 of the contract.
#[test]
fn the_worked_example_with_late_events_dropped() {
    let results = worked_example(false);
    let recent: Vec<(u64, u64, Vec<u64>)> = results
        .recent
        .iter()
        .map(|(key, items)| (key.time / 1000, key.user.0, items.iter().map(|i| i.0).collect()))
        .collect();
    assert_eq!(
        recent,
        [
            (20, 1, vec![100, 101]),
            (20, 2, vec![100]),
            (40, 2, vec![100, 102]),
            (80, 1, vec![100, 101, 100]),
            (100, 2, vec![100, 102, 100]),
            (100, 3, vec![103]),
            (3720, 1, vec![100, 101, 100, 104]),
        ]
    );
    let list = |i: usize| {
        let list: &dataflows::rows::PopularList = &results.popular[i];
        (list.window_end / 1000, list.items.iter().map(|(item, count)| (item.0, *count)).collect::<Vec<_>>())
    };
    assert_eq!(results.popular.len(), 91);
    assert_eq!(list(0), (80, vec![(100, 3), (101, 1), (102, 1)]));
    assert_eq!(list(1), (160, vec![(100, 4), (101, 1), (102, 1), (103, 1)]));
    assert_eq!(list(90), (7280, vec![(104, 1)]));
    assert_eq!(results.recommendations.len(), 4);
    assert_eq!(recommendation(&results, 80, 1), Some((vec![100, 101, 102], -1)));
    assert_eq!(recommendation(&results, 100, 2), Some((vec![100, 101, 102], -1)));
    assert_eq!(recommendation(&results, 100, 3), Some((vec![100, 101, 102], -1)));
    assert_eq!(recommendation(&results, 3720, 1), Some((vec![100, 103], 0)));
    assert_eq!(results.late.len(), 1);
}

#[test]
fn the_worked_example_with_late_events_admitted() {
    let results = worked_example(true);
    let of = |seconds: u64| {
        results
            .recent
            .iter()
            .find(|(key, _)| key.time == seconds * 1000 && key.user == UserId(3))
            .map(|(_, items)| items.iter().map(|i| i.0).collect::<Vec<_>>())
    };
    assert_eq!(of(80), Some(vec![100]));
    assert_eq!(of(100), Some(vec![100, 103]));
}

/// Sequences are ten long here, and hold nothing but item 9 when item 3 comes again.
#[test]
fn repeat_recent_knows_items_that_left_the_sequence() {
    let rules = worked_example_rules();
    let items = [1, 2, 3, 4, 5].into_iter().chain([9; 10]).chain([3]);
    let rows: Vec<Row> = items.zip(0..).map(|(item, at)| (1, item, 0, at * 20_000)).collect();
    let stamped = stamp(&rules, 0, &rows);
    let expected = results(&rules, &stamped, None);
    let sequence = &expected.recent[expected.recent.len() - 2].1;
    assert_eq!(sequence, &[ItemId(9); 10]);
    for workers in [1, 2] {
        let outcome = run(&rules, interleave(&rules, std::slice::from_ref(&stamped), &[0], 2), workers, None);
        assert_eq!(outcome.evaluation, evaluation(&rules, &stamped, &expected), "{workers} workers");
        // Item 9 nine times at the first place; item 3 behind 9, 5 and 4.
        assert_eq!(outcome.evaluation.users[0].methods[2].hits, [9, 0, 0, 1, 0, 0, 0, 0]);
    }
}
