//! All rows of a small replay in plain maps, and the many ways to cut them into batches.

use dataflows::event::{Behavior, Event, ItemId, Position, Time, UserId};
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use eddyline::sinks::{Batch, End, RejectReason, Rejected};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(crate) const TICK: Time = 10;
pub(crate) const SLIDE: Time = 20;

/// The rows of a replay. Keys are in the order of the canonical files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replay {
    pub(crate) records: BTreeMap<Position, Event>,
    pub(crate) rejected: BTreeMap<Position, (RejectReason, Vec<u8>)>,
    pub(crate) popular: BTreeMap<Time, Vec<(u64, u64)>>,
    pub(crate) recent: BTreeMap<(Time, u64), Vec<u64>>,
    /// Items, `from_model`, `last_reward`.
    pub(crate) recommendations: BTreeMap<(Time, u64), (Vec<u64>, u32, i64)>,
    /// Which of the lists is the one to keep at the end.
    pub(crate) newest: Option<Time>,
}

impl Replay {
    /// All rows, cut at random ticks, the records in random order in random batches, an event at the latest in the one that
    /// completes its tick. The same for the same `cut`.
    pub(crate) fn batches(&self, cut: u64) -> Vec<Batch> {
        let mut random = Random(cut);
        let mut batches = Vec::new();
        for tick in 1..=15 {
            if random.below(3) == 0 {
                // At a tick's end, its rows come later; just behind it, they are there.
                let frontier = tick * TICK + random.below(2);
                batches.push(Batch { frontier, ..Batch::default() });
            }
        }
        batches.push(Batch { frontier: Time::MAX, ..Batch::default() });
        let count = batches.len() as u64;
        let at = |batches: &[Batch], time| batches.partition_point(|batch| batch.frontier <= time);
        for event in self.records.values() {
            let last = at(&batches, event.logical / TICK * TICK + TICK) as u64;
            insert(&mut batches[random.below(last + 1) as usize].records, *event, &mut random);
        }
        for (&position, (reason, record)) in &self.rejected {
            let rejected = Rejected { position, reason: *reason, record: record.clone() };
            insert(&mut batches[random.below(count) as usize].rejected, rejected, &mut random);
        }
        for &window_end in self.popular.keys() {
            let i = at(&batches, window_end);
            batches[i].popular.push(self.list(window_end));
        }
        for (&(time, user), items) in &self.recent {
            let i = at(&batches, time);
            batches[i].recent.push(SequenceKey { time, user: UserId(user) }, &ids(items));
        }
        for (&(time, user), (items, from_model, last_reward)) in &self.recommendations {
            let i = at(&batches, time);
            let key =
                RecommendationKey { time, user: UserId(user), from_model: *from_model, last_reward: *last_reward };
            batches[i].recommendations.push(key, &ids(items));
        }
        batches
    }

    pub(crate) fn end(&self) -> End {
        End { frontier: Time::MAX, popular: self.newest.map(|window_end| self.list(window_end)) }
    }

    pub(crate) fn list(&self, window_end: Time) -> PopularList {
        let items = self.popular[&window_end].iter().map(|&(item, count)| (ItemId(item), count)).collect();
        PopularList { window_end, items }
    }

    /// The rows of the dataflows before `frontier`, and all records.
    pub(crate) fn before(&self, frontier: Time) -> Replay {
        let mut before = self.clone();
        before.popular.retain(|&window_end, _| window_end < frontier);
        before.recent.retain(|key, _| key.0 < frontier);
        before.recommendations.retain(|key, _| key.0 < frontier);
        before.newest = before.popular.keys().next_back().copied().filter(|newest| newest + SLIDE >= frontier);
        before
    }

    /// A larger replay, the same every time.
    pub(crate) fn large(seed: u64) -> Replay {
        let mut random = Random(seed);
        let mut replay = Replay::default();
        for i in 0..3000 {
            let position = Position::new(random.below(3) as u32, i).unwrap();
            let time = i / 20;
            let event = (random.below(50), random.below(20), random.below(4) as u8, time, random.below(5) == 0);
            replay.records.insert(position, make_event(position, event));
            let key = (time / TICK * TICK + TICK, random.below(50));
            let items: Vec<u64> = (0..=random.below(9)).map(|_| random.below(1 << 40)).collect();
            replay.recent.insert(key, items.clone());
            replay.recommendations.insert(key, (items, 1, random.below(3) as i64 - 1));
            if i % 100 == 0 {
                replay.rejected.insert(position, (RejectReason::User, format!("row {i}").into_bytes()));
            }
        }
        replay.popular.extend((1..6).map(|e| (e * SLIDE, vec![(e, 9), (e + 1, 8), (e + 2, 8)])));
        replay.newest = Some(4 * SLIDE);
        replay
    }
}

fn insert<T>(rows: &mut Vec<T>, row: T, random: &mut Random) {
    let at = random.below(rows.len() as u64 + 1) as usize;
    rows.insert(at, row);
}

fn ids(items: &[u64]) -> Vec<ItemId> {
    items.iter().map(|&item| ItemId(item)).collect()
}

fn make_event(position: Position, (user, item, behavior, time, late): (u64, u64, u8, Time, bool)) -> Event {
    let (user, item, behavior) = (UserId(user), ItemId(item), Behavior(behavior));
    Event { user, item, time, logical: if late { time + 7 } else { time }, position, behavior, late }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// An id: often small, so that keys meet, at times the largest.
fn id() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0u64..6, 1 => Just((1 << 63) - 1)]
}

fn position() -> impl Strategy<Value = Position> {
    let partition = prop_oneof![9 => 0u32..3, 1 => Just(Position::PARTITION_MAX)];
    let offset = prop_oneof![9 => 0u64..60, 1 => Just(Position::OFFSET_MAX)];
    (partition, offset).prop_map(|(partition, offset)| Position::new(partition, offset).unwrap())
}

fn reason() -> impl Strategy<Value = RejectReason> {
    use RejectReason::*;
    proptest::sample::select(vec![TooLong, Encoding, Columns, User, Item, Behavior, Time, Jump])
}

/// A key of *recent* or of a recommendation.
fn key() -> impl Strategy<Value = (Time, u64)> {
    (1u64..16, id()).prop_map(|(tick, user)| (tick * TICK, user))
}

/// Small replays of all shapes, empty ones too.
pub(crate) fn replays() -> impl Strategy<Value = Replay> {
    (
        btree_map(position(), (id(), id(), 0u8..4, 0u64..200, any::<bool>()), 0..40),
        btree_map(position(), (reason(), vec(any::<u8>(), 0..20)), 0..10),
        btree_map((1u64..8).prop_map(|e| e * SLIDE), vec((id(), 1u64..100), 1..4), 0..6),
        btree_map(key(), vec(id(), 0..5), 0..40),
        btree_map(key(), (vec(id(), 1..5), 0u32..3, -1i64..5), 0..40),
        any::<proptest::sample::Index>(),
    )
        .prop_map(|(records, rejected, popular, recent, recommendations, newest)| {
            let records =
                records.into_iter().map(|(position, event)| (position, make_event(position, event))).collect();
            let choices: Vec<Option<Time>> = popular.keys().copied().map(Some).chain([None]).collect();
            let newest = *newest.get(&choices);
            Replay { records, rejected, popular, recent, recommendations, newest }
        })
}
