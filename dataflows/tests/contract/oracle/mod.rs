//! The contract's sections 2, 3 and 6 (evaluation), word for word and as slow as that is: what the dataflows are compared with.
//!
//! Nothing here is incremental, and nothing is shared with the code under test but the types of its input and output.

#![allow(unreachable_pub)]

pub mod evaluation;

use dataflows::event::{Behavior, Event, ItemId, Position, Time, UserId};
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};

/// Everything that changes results.
#[derive(Clone, Debug)]
pub struct Rules {
    pub lateness: Time,
    pub admit_late: bool,
    pub tick: Time,
    pub slide: Time,
    pub window: Time,
    pub top: usize,
    pub weights: Vec<u32>,
    pub length: usize,
    pub n: usize,
    pub min_history: usize,
    pub exclude_recent: bool,
    pub rewards: Vec<i64>,
}

/// The worked example's configuration, in ms.
pub fn worked_example_rules() -> Rules {
    Rules {
        lateness: 10_000,
        admit_late: false,
        tick: 20_000,
        slide: 80_000,
        window: 3_600_000,
        top: 10,
        weights: vec![],
        length: 10,
        n: 8,
        min_history: 1,
        exclude_recent: false,
        rewards: vec![1; 4],
    }
}

/// A row as it was read: user, item, behaviour, time.
pub type Row = (u64, u64, u8, Time);

/// What the contract asks for, each sorted by its key.
#[derive(Debug, Default, PartialEq)]
pub struct Results {
    pub popular: Vec<PopularList>,
    pub recent: Vec<(SequenceKey, Vec<ItemId>)>,
    pub recommendations: Vec<(RecommendationKey, Vec<ItemId>)>,
    pub late: Vec<Position>,
}

/// Ranks a user's items: (user, sequence, T) → best first.
pub type Model = fn(UserId, &[ItemId], Time) -> Vec<ItemId>;

/// L and lateness of every row of one partition (all rows accepted; the offset is the index).
pub fn stamp(rules: &Rules, partition: u32, rows: &[Row]) -> Vec<Event> {
    let watermark = |offset: usize| {
        let largest = rows[..offset].iter().map(|row| row.3).max();
        largest.map_or(i128::MIN, |t| i128::from(t) - i128::from(rules.lateness))
    };
    let event = |(offset, &(user, item, behavior, time)): (usize, &Row)| Event {
        user: UserId(user),
        item: ItemId(item),
        time,
        logical: i128::from(time).max(watermark(offset)) as Time,
        position: Position::new(partition, offset as u64).unwrap(),
        behavior: Behavior(behavior),
        late: i128::from(time) < watermark(offset),
    };
    rows.iter().enumerate().map(event).collect()
}

/// All results for the given events of all partitions.
pub fn results(rules: &Rules, events: &[Event], model: Option<Model>) -> Results {
    let late = events.iter().filter(|e| e.late).map(|e| e.position).collect();
    let part: Vec<Event> = events.iter().copied().filter(|e| !e.late || rules.admit_late).collect();
    let mut results = Results { late, ..Results::default() };
    results.late.sort();
    let Some(last) = part.iter().map(|e| e.logical).max() else { return results };
    let horizon = last + rules.window + 2 * rules.slide;
    for end in (0..=horizon).step_by(rules.slide as usize).skip(1) {
        let items = popular_at(rules, &part, end);
        if !items.is_empty() {
            results.popular.push(PopularList { window_end: end, items });
        }
    }
    let mut newest: Vec<(UserId, Time, Vec<ItemId>)> = Vec::new();
    for tick in (0..=horizon).step_by(rules.tick as usize).skip(1) {
        let in_tick = |e: &&Event| e.logical < tick && e.logical + rules.tick >= tick;
        let mut users: Vec<UserId> = part.iter().filter(in_tick).map(|e| e.user).collect();
        users.sort();
        users.dedup();
        for user in users {
            let sequence = sequence_at(rules, &part, user, tick);
            results.recent.push((SequenceKey { time: tick, user }, sequence.clone()));
            if sequence.len() < rules.min_history {
                continue;
            }
            let (items, from_model) = recommend(rules, &part, user, &sequence, tick, model);
            if items.is_empty() {
                continue;
            }
            let before = newest.iter().rev().find(|r| r.0 == user);
            let last_reward = before.map_or(-1, |(_, since, list)| {
                let counts =
                    |e: &&Event| e.user == user && e.logical >= *since && e.logical < tick && list.contains(&e.item);
                part.iter().filter(counts).map(|e| rules.rewards[usize::from(e.behavior.0)]).sum()
            });
            let key = RecommendationKey { time: tick, user, from_model, last_reward };
            results.recommendations.push((key, items.clone()));
            newest.push((user, tick, items));
        }
    }
    results
}

/// The first `top` items of the window that ends at `end`.
pub fn popular_at(rules: &Rules, part: &[Event], end: Time) -> Vec<(ItemId, u64)> {
    let in_window = |e: &&Event| e.logical < end && e.time + rules.window >= end;
    let mut counts: Vec<(ItemId, u64)> = Vec::new();
    for event in part.iter().filter(in_window) {
        let weight = u64::from(rules.weights.get(usize::from(event.behavior.0)).copied().unwrap_or(1));
        match counts.iter_mut().find(|c| c.0 == event.item) {
            Some(count) => count.1 += weight,
            None => counts.push((event.item, weight)),
        }
    }
    counts.retain(|c| c.1 > 0);
    counts.sort_by_key(|&(item, count)| (std::cmp::Reverse(count), item));
    counts.truncate(rules.top);
    counts
}

/// A user's last items of the events with L < `tick`.
pub fn sequence_at(rules: &Rules, part: &[Event], user: UserId, tick: Time) -> Vec<ItemId> {
    let mut mine: Vec<&Event> = part.iter().filter(|e| e.user == user && e.logical < tick).collect();
    mine.sort_by_key(|e| (e.time, e.position.partition(), e.position.offset()));
    mine[mine.len().saturating_sub(rules.length)..].iter().map(|e| e.item).collect()
}

fn recommend(
    rules: &Rules,
    part: &[Event],
    user: UserId,
    sequence: &[ItemId],
    tick: Time,
    model: Option<Model>,
) -> (Vec<ItemId>, u32) {
    let mut items = model.map_or(vec![], |model| model(user, sequence, tick));
    items.retain(|item| !(rules.exclude_recent && sequence.contains(item)));
    items.truncate(rules.n);
    let from_model = items.len() as u32;
    for (item, _) in popular_at(rules, part, tick / rules.slide * rules.slide) {
        let excluded = rules.exclude_recent && sequence.contains(&item);
        if items.len() < rules.n && !excluded && !items.contains(&item) {
            items.push(item);
        }
    }
    (items, from_model)
}
