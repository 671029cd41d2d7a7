//! Section 6's prequential evaluation, word for word.

use super::{Results, Rules};
use dataflows::evaluation::{Bucket, Evaluation, ListTally, Tally, UserTally};
use dataflows::event::{Event, ItemId, Time, UserId};
use std::collections::{BTreeMap, BTreeSet};

/// How many items are on offer, whether or not the log shows them.
pub const OFFERED: u64 = 3;

/// Whether an item is on offer.
pub fn is_offered(item: ItemId) -> bool {
    item.0 < OFFERED
}

/// More buckets than this are merged.
const BUCKETS_MAX: u64 = 256;

/// The evaluation of all events of all partitions, of which `results` are the results.
pub fn evaluation(rules: &Rules, events: &[Event], results: &Results) -> Evaluation {
    let part: Vec<Event> = events.iter().copied().filter(|e| !e.late || rules.admit_late).collect();
    let nothing = || [0; 3].map(|_| Tally { hits: vec![0; rules.n], ..Tally::default() });
    let starts: Vec<Time> = part.iter().map(|e| e.logical / rules.tick * rules.tick).collect();
    let width = bucket_width(rules, &starts);
    let (mut users, mut buckets): (BTreeMap<UserId, _>, BTreeMap<Time, _>) = (BTreeMap::new(), BTreeMap::new());
    for (event, start) in part.iter().zip(&starts) {
        for (method, list) in standing(rules, &part, results, event).into_iter().enumerate() {
            add(&mut users.entry(event.user).or_insert_with(nothing)[method], rules, &list, event);
            add(&mut buckets.entry(start / width * width).or_insert_with(nothing)[method], rules, &list, event);
        }
    }
    let unoffered: BTreeSet<ItemId> = part.iter().map(|e| e.item).filter(|item| !is_offered(*item)).collect();
    Evaluation {
        n: rules.n,
        users: users.into_iter().map(|(user, methods)| UserTally { user, methods }).collect(),
        buckets: buckets.into_iter().map(|(start, methods)| Bucket { start, methods }).collect(),
        bucket_width: width,
        lists: lists(rules, &part, results),
        catalogue: OFFERED + unoffered.len() as u64,
    }
}

/// Buckets begin as slides. No round span is near the widths of these tests, so they are doubled until they are few.
fn bucket_width(rules: &Rules, starts: &[Time]) -> Time {
    let (first, last) = (starts.iter().min().unwrap_or(&0), starts.iter().max().unwrap_or(&0));
    let mut width = rules.slide;
    while last / width - first / width >= BUCKETS_MAX {
        width *= 2;
    }
    width
}

/// The three lists that stand for an event's user.
fn standing(rules: &Rules, part: &[Event], results: &Results, event: &Event) -> [Vec<ItemId>; 3] {
    let before = results.recommendations.iter().filter(|(key, _)| key.user == event.user && key.time <= event.logical);
    let newest = before.max_by_key(|(key, _)| key.time).map(|(_, items)| items.clone());
    let end = event.logical / rules.slide * rules.slide;
    let popular = results.popular.iter().find(|list| list.window_end == end);
    let popular = popular.map(|list| list.items.iter().map(|(item, _)| *item).take(rules.n).collect());
    let repeat = last_distinct(rules, part, event.user, event.logical / rules.tick * rules.tick);
    [newest.unwrap_or_default(), popular.unwrap_or_default(), repeat]
}

/// A user's last n distinct items of all events with L < `tick`, newest first.
fn last_distinct(rules: &Rules, part: &[Event], user: UserId, tick: Time) -> Vec<ItemId> {
    let mut mine: Vec<&Event> = part.iter().filter(|e| e.user == user && e.logical < tick).collect();
    mine.sort_by_key(|e| (e.time, e.position.partition(), e.position.offset()));
    let mut items: Vec<ItemId> = Vec::new();
    for event in mine.iter().rev() {
        if !items.contains(&event.item) {
            items.push(event.item);
        }
    }
    items.truncate(rules.n);
    items
}

fn add(tally: &mut Tally, rules: &Rules, list: &[ItemId], event: &Event) {
    tally.events += 1;
    if !list.is_empty() {
        tally.with_list += 1;
    }
    if let Some(rank) = list.iter().position(|item| *item == event.item) {
        tally.hits[rank] += 1;
        tally.reward += rules.rewards.get(usize::from(event.behavior.0)).copied().unwrap_or(1);
    }
}

/// The lists of each method, at the times at which they are put out.
fn lists(rules: &Rules, part: &[Event], results: &Results) -> [ListTally; 3] {
    let recommended = results.recommendations.iter().map(|(key, items)| (key.time, items.clone())).collect();
    let first = |list: &dataflows::rows::PopularList| list.items.iter().map(|(item, _)| *item).take(rules.n).collect();
    let popular = results.popular.iter().map(|list| (list.window_end, first(list))).collect();
    let repeat =
        results.recent.iter().map(|(key, _)| (key.time, last_distinct(rules, part, key.user, key.time))).collect();
    [recommended, popular, repeat].map(|lists: Vec<(Time, Vec<ItemId>)>| {
        let mut tally = ListTally { lists: lists.len() as u64, ..ListTally::default() };
        let mut distinct: BTreeSet<ItemId> = BTreeSet::new();
        for (time, items) in lists {
            let so_far = || part.iter().filter(|e| e.logical < time);
            for item in items {
                let of_item = so_far().filter(|e| e.item == item).count();
                tally.items += 1;
                tally.novelty_sum += log2(so_far().count()) - log2(of_item.max(1));
                distinct.insert(item);
            }
        }
        tally.distinct_items = distinct.len() as u64;
        tally
    })
}

/// In units of 2^−32 bit, rounded.
fn log2(count: usize) -> i128 {
    ((count as f64).log2() * 4_294_967_296.0).round() as i128
}
