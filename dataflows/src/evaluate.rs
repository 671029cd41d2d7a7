//! Prequential evaluation as a dataflow: every event is first predicted, then learnt from (contract, section 6).
//!
//! ```text
//! recommended ─ repeat-recent ─┬─ tallies ───────────────────────────────┐
//! popular ─────────────────────┼─ (the list that stood)                  ├─ gather, on worker 0 ─ one Evaluation, at the end
//!                              └─ listed items ─┬─ by item ─ novelty ────┤
//! events ─── items per tick ────────────────────┴─ totals per tick ──────┘
//! ```
//!
//! All sums are of integers, so the result does not depend on the number of workers.

use crate::evaluation::{Bucket, Evaluation, ListTally, METHODS, Offered, Tally, UserTally};
use crate::event::{Event, ItemId, Time, UserId};
use crate::hash::{IdMap, route};
use crate::recommend::{Met, Recommended, StandingLists};
use crate::repeat::{Repeated, repeat_recent};
use crate::rows::PopularList;
use crate::time::Steps;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::{Concat, Operator};

/// What is evaluated.
#[derive(Clone, Debug)]
pub struct Evaluate {
    /// n, the length of every method's lists.
    pub n: usize,
    /// The tick.
    pub tick: Steps,
    /// The slide of the popular lists.
    pub slide: Steps,
    /// Reward weights by behaviour; a behaviour beyond the end counts 1.
    pub rewards: Vec<i64>,
    /// What can be recommended although the log may never show it.
    pub offered: Offered,
}

/// Number of methods compared.
const N_METHODS: usize = METHODS.len();
const RECOMMENDED: usize = 0;
const POPULAR: usize = 1;
const REPEAT_RECENT: usize = 2;

/// Novelty is summed in units of 2^−32 bit.
const BIT: f64 = (1u64 << 32) as f64;

/// At most so many buckets make the metrics over time; then two become one.
const BUCKETS_MAX: usize = 256;

/// What workers send to worker 0 at the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Part {
    Users(Vec<UserTally>),
    Buckets(Buckets),
    /// By method, and the number of different items seen that are not on offer.
    Lists([ListTally; N_METHODS], u64),
    /// Σ over listed items of log2(all events so far), by method.
    Totals([i128; N_METHODS]),
}

/// An item that a method put on `count` lists at `time`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Listed {
    time: Time,
    item: ItemId,
    method: u8,
    count: u64,
}

/// Compares what was recommended with what came, in one record on worker 0 at the end of the input.
///
/// `events` are all that take part; `popular` is in full on every worker.
pub fn evaluate<'s>(
    events: StreamVec<'s, Time, Event>,
    recommended: StreamVec<'s, Time, Rc<Recommended>>,
    popular: StreamVec<'s, Time, PopularList>,
    options: &Evaluate,
) -> StreamVec<'s, Time, Evaluation> {
    let scope = events.scope();
    scope.region_named("evaluate", |inner| {
        use timely::dataflow::operators::{Enter, Leave};
        let (events, recommended, popular) = (events.enter(inner), recommended.enter(inner), popular.enter(inner));
        let seen = seen_items(events, options.tick);
        let repeated = repeat_recent(recommended, options.n);
        let listed = listed_items(repeated.clone()).concat(listed_popular(
            popular.clone(),
            inner.index() as u64,
            inner.peers() as u64,
            options,
        ));
        let totals = totals(seen.clone(), listed.clone());
        let novelty = novelty(seen, listed, options.offered.clone());
        let parts = tallies(repeated, popular, options.clone()).concat(novelty).concat(totals);
        gather(parts, options.n, options.offered.count()).leave(scope)
    })
}

/// How each user's events met the three lists.
fn tallies<'s>(
    repeated: StreamVec<'s, Time, Rc<Repeated>>,
    popular: StreamVec<'s, Time, PopularList>,
    options: Evaluate,
) -> StreamVec<'s, Time, Part> {
    repeated.binary_frontier::<_, CapacityContainerBuilder<Vec<Part>>, _, _, _, _>(
        popular,
        Pipeline,
        Pipeline,
        "evaluate: tallies",
        |capability, _| {
            let mut at_the_end = Some(capability);
            let slide = options.slide;
            let mut lists = StandingLists::default();
            let mut waiting: VecDeque<Rc<Repeated>> = VecDeque::new();
            let mut tallies = Tallies::new(options);
            move |(repeated, repeated_frontier), (popular, popular_frontier), output| {
                repeated.for_each(|_, repeated| waiting.extend(repeated.drain(..)));
                popular.for_each(|_, popular| lists.extend(popular.drain(..)));
                let stood = |time: Time| slide.start_of(time - 1);
                let time = |repeated: &Repeated| repeated.done.tick.time;
                while let Some(r) = waiting.pop_front_if(|r| !popular_frontier.less_equal(&stood(time(r)))) {
                    tallies.apply(&r, lists.at(stood(time(&r))));
                }
                let next = waiting.front().map(|r| time(r));
                let asked = next.or_else(|| repeated_frontier.frontier().first().copied());
                lists.forget_before(asked.map(|time| slide.start_of(time.saturating_sub(1))));
                if repeated_frontier.is_empty()
                    && waiting.is_empty()
                    && let Some(capability) = at_the_end.take()
                {
                    let mut session = output.session(&capability);
                    tallies.finish().into_iter().for_each(|part| session.give(part));
                }
            }
        },
    )
}

/// The state of *tallies* on one worker.
struct Tallies {
    options: Evaluate,
    /// By slot.
    users: Vec<UserTally>,
    buckets: Buckets,
}

impl Tallies {
    fn new(options: Evaluate) -> Tallies {
        let buckets = Buckets { width: options.slide.length(), by_start: BTreeMap::new() };
        Tallies { options, users: Vec::new(), buckets }
    }

    fn apply(&mut self, repeated: &Repeated, popular: &[ItemId]) {
        let Repeated { done, met: met_repeat, .. } = repeated;
        let (tick, n) = (&done.tick, self.options.n);
        if let Some(&last) = tick.slots.iter().max() {
            let empty = UserTally { user: UserId(0), methods: [0; N_METHODS].map(|_| Tally::of(n)) };
            self.users.resize(self.users.len().max(last as usize + 1), empty);
        }
        let bucket = self.buckets.at(tick.time - self.options.tick.length(), n);
        let met = done.met.iter().zip(met_repeat);
        for ((event, &row), (&met, &repeat)) in tick.events.iter().zip(&tick.rows).zip(met) {
            let slot = tick.slots[row as usize] as usize;
            let popular = meet(&popular[..popular.len().min(n)], event.item);
            let reward = self.options.rewards.get(usize::from(event.behavior.0)).map_or(1, |&reward| reward);
            self.users[slot].user = event.user;
            for (method, met) in [(RECOMMENDED, met), (POPULAR, popular), (REPEAT_RECENT, repeat)] {
                self.users[slot].methods[method].add(met, reward);
                bucket[method].add(met, reward);
            }
        }
    }

    fn finish(&mut self) -> [Part; 2] {
        let buckets = Buckets { width: self.buckets.width, by_start: std::mem::take(&mut self.buckets.by_start) };
        [Part::Users(std::mem::take(&mut self.users)), Part::Buckets(buckets)]
    }
}

/// How an event with `item` meets `list`.
fn meet(list: &[ItemId], item: ItemId) -> Met {
    match list.iter().position(|&listed| listed == item) {
        Some(place) => Met::Hit(place as u32),
        None if list.is_empty() => Met::NoList,
        None => Met::Miss,
    }
}

impl Tally {
    /// Nothing yet, for lists of `n` items.
    fn of(n: usize) -> Tally {
        Tally { hits: vec![0; n], ..Tally::default() }
    }

    fn add(&mut self, met: Met, reward: i64) {
        self.events += 1;
        self.with_list += u64::from(met != Met::NoList);
        if let Met::Hit(place) = met {
            self.hits[place as usize] += 1;
            self.reward += reward;
        }
    }

    fn merge(&mut self, other: &Tally) {
        self.events += other.events;
        self.with_list += other.with_list;
        self.reward += other.reward;
        self.hits.iter_mut().zip(&other.hits).for_each(|(a, b)| *a += b);
    }
}

/// Spans of time that people think in, ms.
const ROUND_SPANS: [Time; 17] = {
    const MINUTE: Time = 60_000;
    const HOUR: Time = 60 * MINUTE;
    const DAY: Time = 24 * HOUR;
    [
        MINUTE,
        2 * MINUTE,
        4 * MINUTE,
        5 * MINUTE,
        10 * MINUTE,
        20 * MINUTE,
        30 * MINUTE,
        HOUR,
        2 * HOUR,
        4 * HOUR,
        6 * HOUR,
        12 * HOUR,
        DAY,
        2 * DAY,
        7 * DAY,
        14 * DAY,
        28 * DAY,
    ]
};

/// The next larger width that buckets of `width` can be merged to: a round span if one is near, else the double.
fn wider(width: Time) -> Time {
    let near = |span: &Time| *span > width && *span <= 6 * width && span.is_multiple_of(width);
    ROUND_SPANS.into_iter().find(near).unwrap_or(2 * width)
}

/// Tallies by spans of equal width; it grows when there would be too many, and so depends on the span of the log alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Buckets {
    width: Time,
    by_start: BTreeMap<Time, [Tally; N_METHODS]>,
}

impl Buckets {
    fn at(&mut self, time: Time, n: usize) -> &mut [Tally; N_METHODS] {
        self.widen_for(time);
        let start = time - time % self.width;
        self.by_start.entry(start).or_insert_with(|| [0; N_METHODS].map(|_| Tally::of(n)))
    }

    /// Widens until the buckets from the first to `time` are not too many.
    fn widen_for(&mut self, time: Time) {
        let ends = |b: &Buckets| Some((*b.by_start.keys().next()?, *b.by_start.keys().next_back()?));
        while let Some((first, last)) = ends(self) {
            let (from, to) = (first.min(time) / self.width, last.max(time) / self.width);
            if to - from < BUCKETS_MAX as Time {
                break;
            }
            self.widen(wider(self.width));
        }
    }

    fn widen(&mut self, width: Time) {
        self.width = width;
        for (start, tallies) in std::mem::take(&mut self.by_start) {
            self.add(start, tallies);
        }
    }

    fn add(&mut self, start: Time, tallies: [Tally; N_METHODS]) {
        match self.by_start.entry(start - start % self.width) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(tallies);
            }
            std::collections::btree_map::Entry::Occupied(mut place) => {
                place.get_mut().iter_mut().zip(&tallies).for_each(|(a, b)| a.merge(b));
            }
        }
    }

    fn merge(&mut self, other: Buckets) {
        if other.width > self.width {
            // Both have come up the same steps.
            self.widen(other.width);
        }
        for (start, tallies) in other.by_start {
            self.widen_for(start);
            self.add(start, tallies);
        }
    }
}

/// The number of events of each item in each tick.
fn seen_items<'s>(events: StreamVec<'s, Time, Event>, tick: Steps) -> StreamVec<'s, Time, (Time, ItemId, u64)> {
    events.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "evaluate: items per tick", move |_, _| {
        move |input, output| {
            input.for_each(|capability, events| {
                let mut counts: BTreeMap<(Time, ItemId), u64> = BTreeMap::new();
                for event in events.drain(..) {
                    *counts.entry((tick.end_of(event.logical), event.item)).or_insert(0) += 1;
                }
                let counts = counts.into_iter().map(|((time, item), count)| (time, item, count));
                output.session(&capability).give_iterator(counts);
            });
        }
    })
}

/// The items on the recommendations, and on the lists of repeat-recent.
fn listed_items<'s>(repeated: StreamVec<'s, Time, Rc<Repeated>>) -> StreamVec<'s, Time, Listed> {
    repeated.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "evaluate: listed items", |_, _| {
        |input, output| {
            input.for_each(|capability, repeated| {
                for repeated in repeated.drain(..) {
                    let done = &repeated.done;
                    let mut counts: BTreeMap<(u8, ItemId), u64> = BTreeMap::new();
                    for item in done.recommendations.iter().flat_map(|(_, items)| items) {
                        *counts.entry((RECOMMENDED as u8, *item)).or_insert(0) += 1;
                    }
                    for item in repeated.lists.iter().flat_map(|(_, items)| items) {
                        *counts.entry((REPEAT_RECENT as u8, *item)).or_insert(0) += 1;
                    }
                    let time = done.tick.time;
                    let lists = [(RECOMMENDED, done.recommendations.len()), (REPEAT_RECENT, repeated.lists.len())];
                    let mut session = output.session(&capability);
                    // A list itself counts as the item that no list can hold.
                    for (method, count) in lists.into_iter().filter(|(_, count)| *count > 0) {
                        session.give(Listed { time, item: A_LIST, method: method as u8, count: count as u64 });
                    }
                    for ((method, item), count) in counts {
                        session.give(Listed { time, item, method, count });
                    }
                }
            });
        }
    })
}

/// Stands for the list as such among the listed items: no raw id is as large.
const A_LIST: ItemId = ItemId(u64::MAX);

/// The items on the popular lists, from the one worker whose turn it is.
fn listed_popular<'s>(
    popular: StreamVec<'s, Time, PopularList>,
    index: u64,
    peers: u64,
    options: &Evaluate,
) -> StreamVec<'s, Time, Listed> {
    let (slide, n) = (options.slide, options.n);
    popular.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "evaluate: listed popular", move |_, _| {
        move |input, output| {
            input.for_each(|capability, lists| {
                let mut session = output.session(&capability);
                for list in lists.drain(..).filter(|list| list.window_end / slide.length() % peers == index) {
                    let items = list.items.iter().take(n).map(|&(item, _)| item).chain([A_LIST]);
                    let listed = |item| Listed { time: list.window_end, item, method: POPULAR as u8, count: 1 };
                    items.map(listed).for_each(|listed| session.give(listed));
                }
            });
        }
    })
}

/// Σ −log2 of the number of events so far of the listed items, and how many different ones were listed and seen.
fn novelty<'s>(
    seen: StreamVec<'s, Time, (Time, ItemId, u64)>,
    listed: StreamVec<'s, Time, Listed>,
    offered: Offered,
) -> StreamVec<'s, Time, Part> {
    seen.binary_frontier::<_, CapacityContainerBuilder<Vec<Part>>, _, _, _, _>(
        listed,
        Exchange::new(|(_, item, _): &(Time, ItemId, u64)| route(item.0)),
        Exchange::new(|listed: &Listed| route(listed.item.0)),
        "evaluate: novelty",
        |capability, _| {
            let mut at_the_end = Some(capability);
            let mut waiting: BTreeMap<Time, AtOnce> = BTreeMap::new();
            let mut counts: IdMap<ItemId, (u64, [bool; N_METHODS])> = IdMap::default();
            let mut lists = [0; N_METHODS].map(|_| ListTally::default());
            move |(seen, seen_frontier), (listed, listed_frontier), output| {
                seen.for_each(|_, seen| {
                    for (time, item, count) in seen.drain(..) {
                        waiting.entry(time).or_default().0.push((item, count));
                    }
                });
                listed.for_each(|_, listed| {
                    listed.drain(..).for_each(|l| waiting.entry(l.time).or_default().1.push(l));
                });
                let open = |time: &Time| seen_frontier.less_equal(time) || listed_frontier.less_equal(time);
                while let Some(entry) = waiting.first_entry().filter(|entry| !open(entry.key())) {
                    let (seen, listed) = entry.remove();
                    seen.into_iter().for_each(|(item, count)| counts.entry(item).or_default().0 += count);
                    for listed in listed {
                        let tally = &mut lists[usize::from(listed.method)];
                        if listed.item == A_LIST {
                            tally.lists += listed.count;
                            continue;
                        }
                        let (count, was_listed) = counts.entry(listed.item).or_default();
                        tally.items += listed.count;
                        tally.distinct_items += u64::from(!was_listed[usize::from(listed.method)]);
                        was_listed[usize::from(listed.method)] = true;
                        tally.novelty_sum -= log2(*count) * i128::from(listed.count);
                    }
                }
                if seen_frontier.is_empty()
                    && listed_frontier.is_empty()
                    && let Some(capability) = at_the_end.take()
                {
                    let only_seen = counts.iter().filter(|(item, (count, _))| *count > 0 && !offered.holds(**item));
                    output.session(&capability).give(Part::Lists(lists.clone(), only_seen.count() as u64));
                }
            }
        },
    )
}

/// What was seen and listed in one tick.
type AtOnce = (Vec<(ItemId, u64)>, Vec<Listed>);

/// log2 in units of 2^−32 bit; of 0 as of 1.
fn log2(count: u64) -> i128 {
    ((count.max(1) as f64).log2() * BIT).round() as i128
}

/// Σ log2(all events so far) over the listed items, on worker 0.
fn totals<'s>(
    seen: StreamVec<'s, Time, (Time, ItemId, u64)>,
    listed: StreamVec<'s, Time, Listed>,
) -> StreamVec<'s, Time, Part> {
    seen.binary_frontier::<_, CapacityContainerBuilder<Vec<Part>>, _, _, _, _>(
        per_tick(listed),
        Exchange::new(|_: &(Time, ItemId, u64)| 0),
        Exchange::new(|_: &(Time, u8, u64)| 0),
        "evaluate: totals",
        |capability, _| {
            let mut at_the_end = Some(capability);
            let mut waiting: BTreeMap<Time, (u64, [u64; N_METHODS])> = BTreeMap::new();
            let (mut events, mut sums) = (0, [0; N_METHODS]);
            move |(seen, seen_frontier), (listed, listed_frontier), output| {
                seen.for_each(|_, seen| seen.drain(..).for_each(|s| waiting.entry(s.0).or_default().0 += s.2));
                listed.for_each(|_, listed| {
                    listed.drain(..).for_each(|l| waiting.entry(l.0).or_default().1[usize::from(l.1)] += l.2);
                });
                let open = |time: &Time| seen_frontier.less_equal(time) || listed_frontier.less_equal(time);
                while let Some(entry) = waiting.first_entry().filter(|entry| !open(entry.key())) {
                    let (seen, listed) = entry.remove();
                    events += seen;
                    sums.iter_mut().zip(listed).for_each(|(sum, items)| *sum += log2(events) * i128::from(items));
                }
                if seen_frontier.is_empty()
                    && listed_frontier.is_empty()
                    && let Some(capability) = at_the_end.take()
                {
                    output.session(&capability).give(Part::Totals(sums));
                }
            }
        },
    )
}

/// Adds up the listed items of each tick and method, before they all cross to one worker.
fn per_tick<'s>(listed: StreamVec<'s, Time, Listed>) -> StreamVec<'s, Time, (Time, u8, u64)> {
    listed.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "evaluate: listed per tick", |_, _| {
        |input, output| {
            input.for_each(|capability, listed| {
                let mut counts: BTreeMap<(Time, u8), u64> = BTreeMap::new();
                for listed in listed.drain(..).filter(|listed| listed.item != A_LIST) {
                    *counts.entry((listed.time, listed.method)).or_insert(0) += listed.count;
                }
                let counts = counts.into_iter().map(|((time, method), count)| (time, method, count));
                output.session(&capability).give_iterator(counts);
            });
        }
    })
}

/// Puts all parts together, on worker 0.
fn gather<'s>(parts: StreamVec<'s, Time, Part>, n: usize, offered: u64) -> StreamVec<'s, Time, Evaluation> {
    let index = parts.scope().index();
    parts.unary_frontier::<CapacityContainerBuilder<Vec<Evaluation>>, _, _, _>(
        Exchange::new(|_: &Part| 0),
        "evaluate: gather",
        |capability, _| {
            let mut at_the_end = Some(capability).filter(|_| index == 0);
            let mut evaluation = Evaluation { n, catalogue: offered, ..Evaluation::default() };
            let mut buckets: Option<Buckets> = None;
            move |(input, frontier), output| {
                input.for_each(|_, parts| {
                    for part in parts.drain(..) {
                        take(part, &mut evaluation, &mut buckets);
                    }
                });
                if frontier.is_empty()
                    && let Some(capability) = at_the_end.take()
                {
                    evaluation.users.sort_unstable_by_key(|tally| tally.user);
                    if let Some(buckets) = buckets.take() {
                        evaluation.bucket_width = buckets.width;
                        let bucket = |(start, methods)| Bucket { start, methods };
                        evaluation.buckets = buckets.by_start.into_iter().map(bucket).collect();
                    }
                    output.session(&capability).give(std::mem::take(&mut evaluation));
                }
            }
        },
    )
}

fn take(part: Part, evaluation: &mut Evaluation, buckets: &mut Option<Buckets>) {
    match part {
        Part::Users(users) => evaluation.users.extend(users),
        Part::Buckets(more) => match buckets {
            Some(buckets) => buckets.merge(more),
            None => *buckets = Some(more),
        },
        Part::Lists(lists, only_seen) => {
            evaluation.catalogue += only_seen;
            for (sum, tally) in evaluation.lists.iter_mut().zip(lists) {
                sum.lists += tally.lists;
                sum.items += tally.items;
                sum.distinct_items += tally.distinct_items;
                sum.novelty_sum += tally.novelty_sum;
            }
        }
        Part::Totals(sums) => {
            evaluation.lists.iter_mut().zip(sums).for_each(|(tally, sum)| tally.novelty_sum += sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_round_where_they_can_be() {
        let widths: Vec<Time> = std::iter::successors(Some(80_000), |&width| Some(wider(width))).take(6).collect();
        assert_eq!(widths, [80, 240, 1_200, 3_600, 7_200, 14_400].map(|seconds| seconds * 1_000));
        assert_eq!(wider(7), 14);
        // At most six times as wide, and a multiple.
        assert_eq!([10, 5, 9, 240].map(|seconds| wider(seconds * 1_000)), [60, 10, 18, 1_200].map(|s| s * 1_000));
        let minutes = [1, 2, 4, 5, 10, 20, 30, 60, 120, 240, 360, 720, 1_440, 2_880, 10_080, 20_160, 40_320];
        assert_eq!(ROUND_SPANS, minutes.map(|minutes| minutes * 60_000));
    }

    #[test]
    fn buckets_of_several_workers_are_those_of_one() {
        const WIDTH: Time = 80_000;
        let of = |times: &[Time]| {
            let mut buckets = Buckets { width: WIDTH, by_start: BTreeMap::new() };
            for &time in times {
                buckets.at(time, 3);
            }
            buckets
        };
        let shape = |buckets: &Buckets| (buckets.width, buckets.by_start.keys().copied().collect::<Vec<_>>());
        let most = BUCKETS_MAX as Time;
        assert_eq!(of(&[0, WIDTH * (most - 1)]).width, WIDTH, "as many as there may be");
        assert_eq!(of(&[0, WIDTH * most]).width, 3 * WIDTH);
        // The last one's start is rounded down, so that it no longer tells why buckets had to become wider.
        assert_ne!(most % 3, 0);
        let (near, far) = ([0, WIDTH, 7 * WIDTH], [0, WIDTH * most]);
        let one = shape(&of(&[&near[..], &far].concat()));
        for (mut all, others) in [(of(&near), of(&far)), (of(&far), of(&near))] {
            all.merge(others);
            assert_eq!(shape(&all), one);
        }
    }

    #[test]
    fn an_event_meets_a_list_or_none() {
        let list = [ItemId(1)];
        assert_eq!(meet(&list, ItemId(1)), Met::Hit(0));
        assert_eq!(meet(&list, ItemId(2)), Met::Miss);
        assert_eq!(meet(&[], ItemId(2)), Met::NoList);
    }

    #[test]
    fn buckets_widen_until_they_are_few_and_lose_nothing() {
        let mut one = Buckets { width: 80, by_start: BTreeMap::new() };
        let mut parts = [one.clone(), one.clone()];
        for tick in 0..10_000 {
            let time = 1_000_000 + tick * 20;
            one.at(time, 1)[0].add(Met::Hit(0), 1);
            parts[usize::from(tick > 3_000)].at(time, 1)[0].add(Met::Hit(0), 1);
        }
        let [mut merged, part] = parts;
        merged.merge(part);
        assert_eq!((one.width, one.by_start.len()), (1280, 157), "200,000 ms in at most 256 buckets");
        assert_eq!(one.by_start.values().map(|tallies| tallies[0].events).sum::<u64>(), 10_000);
        assert_eq!((merged.width, merged.by_start), (one.width, one.by_start));
    }
}
