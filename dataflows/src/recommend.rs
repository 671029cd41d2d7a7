//! Recommendations for the users that changed (contract, section 3).
//!
//! ```text
//! steps (of recent) ──┐             ┌─ recommendations, and how each event met the list that stood for its user
//!                     ├─ recommend ─┤
//! popular lists ──────┘      │      └─ snapshots: the users of recent's, with their standing lists
//!                         Scorer: (users, sequences) → ranked items
//! ```
//!
//! A tick T is worked on when it is complete, and when the trending lists are final up to E = floor(T/slide)·slide, the one
//! that fills its gaps. All its users are scored in one batch. The events of the tick are counted against the lists that
//! stood before it, which are then replaced. A snapshot is passed on in its place among the ticks.
//!
//! State: per user the standing list, n items; of the trending lists only those that a later tick can ask for.

use crate::event::{ItemId, Time};
use crate::hold::Hold;
use crate::lists::Lists;
use crate::recent::{Slot, SnapshotPart, Step, Tick};
use crate::rows::{PopularList, RecommendationKey};
use crate::state::{StandingState, UserState};
use crate::time::Steps;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// Which items are left out of a recommendation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exclude {
    /// None.
    #[default]
    None,
    /// Those of the user's sequence.
    Recent,
}

/// How to recommend.
#[derive(Clone, Debug)]
pub struct Recommend {
    /// n, the length of a list, at least 1.
    pub n: usize,
    /// Users with fewer entries in their sequence get none.
    pub min_history: usize,
    /// What is left out.
    pub exclude: Exclude,
    /// The slide of the trending lists that fill the gaps.
    pub slide: Steps,
    /// What an event counts in the next list's `last_reward`, by behaviour; a behaviour beyond the end counts 1.
    pub rewards: Vec<i64>,
}

/// A trained policy, or none.
pub trait Scorer {
    /// Ranks items for the users of some rows of a tick.
    ///
    /// For each of `rows`, in order, appends a row to `ranked`: the best items for (user, sequence, T), best first, at most
    /// `n`, none twice, without those that `exclude` names; no items if the policy doesn't know the user. The answer for a
    /// row depends on that row alone.
    fn rank(&mut self, tick: &Tick, rows: &[u32], n: usize, exclude: Exclude, ranked: &mut Lists<()>);
}

/// No policy: everybody gets popular items.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoModel;

impl Scorer for NoModel {
    fn rank(&mut self, _: &Tick, rows: &[u32], _: usize, _: Exclude, ranked: &mut Lists<()>) {
        rows.iter().for_each(|_| ranked.push((), &[]));
    }
}

/// How an event met the list that stood for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// There was no list.
    NoList,
    /// The item was not on it.
    Miss,
    /// The item was on it, at this place, from 0.
    Hit(u32),
}

/// The recommendations of one tick on one worker.
#[derive(Clone, Debug, Default)]
pub struct Recommended {
    /// The tick, with the events and sequences that they were made from.
    pub tick: Rc<Tick>,
    /// The recommendations, in the order of the tick's rows.
    pub recommendations: Lists<RecommendationKey>,
    /// For each event of the tick, how it met the newest recommendation before the tick.
    pub met: Vec<Met>,
}

/// What follows from the steps of *recent*.
pub struct RecommendStreams<'s> {
    /// For each tick with events, in order. At most one record a tick and worker.
    pub recommended: StreamVec<'s, Time, Rc<Recommended>>,
    /// Users that changed since the snapshot before, by the request. Any number of records a snapshot and worker;
    /// each user in one of them.
    pub snapshots: StreamVec<'s, Time, (Time, Vec<UserState>)>,
}

/// A recommendation for each user of each tick who can have one.
pub fn recommend<'s>(
    steps: StreamVec<'s, Time, Step>,
    popular: StreamVec<'s, Time, PopularList>,
    options: Recommend,
    scorer: impl Scorer + 'static,
) -> RecommendStreams<'s> {
    let scope = steps.scope();
    scope.region_named("recommend", |inner| {
        use timely::dataflow::operators::{Enter, Leave};
        let streams = lists_of_ticks(steps.enter(inner), popular.enter(inner), options, scorer);
        let RecommendStreams { recommended, snapshots } = streams;
        RecommendStreams { recommended: recommended.leave(scope), snapshots: snapshots.leave(scope) }
    })
}

/// The operator.
fn lists_of_ticks<'s>(
    steps: StreamVec<'s, Time, Step>,
    popular: StreamVec<'s, Time, PopularList>,
    options: Recommend,
    scorer: impl Scorer + 'static,
) -> RecommendStreams<'s> {
    let mut builder = OperatorBuilder::new("recommend".to_string(), steps.scope());
    let mut steps = builder.new_input(steps, Pipeline);
    let mut popular = builder.new_input(popular, Pipeline);
    let (recommended_output, recommended) = builder.new_output();
    let (snapshots_output, snapshots) = builder.new_output();
    let mut recommended_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<_>>>::from(recommended_output);
    let mut snapshots_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<_>>>::from(snapshots_output);
    builder.build(move |capabilities| {
        drop(capabilities);
        let (mut hold, mut snapshots_hold) = (Hold::default(), Hold::default());
        let mut waiting: VecDeque<Step> = VecDeque::new();
        let mut lists = StandingLists::default();
        let slide = options.slide;
        let mut work = Recommending::new(options, scorer);
        move |frontiers| {
            let mut recommended_output = recommended_output.activate();
            let mut snapshots_output = snapshots_output.activate();
            steps.for_each(|capability, steps| {
                for step in steps.drain(..) {
                    match &step {
                        Step::Restored(_) => {}
                        Step::Tick(tick) => hold.cover(&capability, tick.time, 0),
                        Step::Snapshot(part) => snapshots_hold.cover(&capability, part.request, 1),
                    }
                    waiting.push_back(step);
                }
            });
            popular.for_each(|_, popular| lists.extend(popular.drain(..)));
            let mut recommended = hold.get().map(|held| recommended_output.session(held));
            let mut snapshots = snapshots_hold.get().map(|held| snapshots_output.session(held));
            let final_at = |time: Time| !frontiers[1].less_equal(&slide.start_of(time));
            while let Some(step) = waiting.pop_front_if(|step| step.tick().is_none_or(|tick| final_at(tick.time))) {
                match (step, &mut recommended, &mut snapshots) {
                    (Step::Restored(standing), _, _) => work.restore(standing),
                    (Step::Tick(tick), Some(session), _) => {
                        let popular = lists.at(slide.start_of(tick.time));
                        session.give(Rc::new(work.apply(tick, popular)));
                    }
                    (Step::Snapshot(part), _, Some(session)) => session.give(work.complete(part)),
                    (Step::Tick(_) | Step::Snapshot(_), ..) => {
                        unreachable!("an output is held while a step waits for it")
                    }
                }
            }
            drop((recommended, snapshots));
            // In front there is a tick now, if anything.
            let next = waiting.front().and_then(Step::tick).map(|tick| tick.time);
            hold.release(next);
            snapshots_hold.release(next);
            // Ticks to come are at or after the frontier, and ask for the list of the slide that they lie in.
            let asked = next.or_else(|| frontiers[0].frontier().first().copied());
            lists.forget_before(asked.map(|time| slide.start_of(time)));
        }
    });
    RecommendStreams { recommended, snapshots }
}

/// The same streams where nothing is recommended.
pub fn without_recommendations<'s>(steps: StreamVec<'s, Time, Step>) -> RecommendStreams<'s> {
    let mut builder = OperatorBuilder::new("without recommendations".to_string(), steps.scope());
    let mut steps = builder.new_input(steps, Pipeline);
    let (recommended_output, recommended) = builder.new_output();
    let (snapshots_output, snapshots) = builder.new_output();
    let mut recommended_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<_>>>::from(recommended_output);
    let mut snapshots_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<_>>>::from(snapshots_output);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_| {
            let mut recommended_output = recommended_output.activate();
            let mut snapshots_output = snapshots_output.activate();
            steps.for_each(|capability, steps| {
                let mut recommended = recommended_output.session(&capability);
                let mut snapshots = snapshots_output.session(&capability);
                for step in steps.drain(..) {
                    match step {
                        Step::Restored(_) => {}
                        Step::Tick(tick) => recommended.give(Rc::new(Recommended { tick, ..Recommended::default() })),
                        Step::Snapshot(part) => snapshots.give((part.request, part.users)),
                    }
                }
            });
        }
    });
    RecommendStreams { recommended, snapshots }
}

/// Trending lists by window end, for as long as somebody can ask for them.
#[derive(Default)]
pub(crate) struct StandingLists {
    by_end: BTreeMap<Time, Vec<ItemId>>,
}

impl StandingLists {
    pub(crate) fn extend(&mut self, lists: impl IntoIterator<Item = PopularList>) {
        for list in lists {
            self.by_end.insert(list.window_end, list.items.into_iter().map(|(item, _)| item).collect());
        }
    }

    /// The items of the list of window end `end`; none if its window is empty.
    pub(crate) fn at(&self, end: Time) -> &[ItemId] {
        self.by_end.get(&end).map_or(&[], Vec::as_slice)
    }

    /// Drops the lists that end before `end` (`None`: all).
    pub(crate) fn forget_before(&mut self, end: Option<Time>) {
        match end {
            Some(end) => self.by_end = self.by_end.split_off(&end),
            None => self.by_end.clear(),
        }
    }
}

/// The state of *recommend* on one worker.
struct Recommending<S> {
    options: Recommend,
    scorer: S,
    /// By slot.
    standing: Vec<Standing>,
    /// The items of the standing lists, n a slot.
    items: Vec<ItemId>,
    /// Reused from tick to tick.
    rows: Vec<u32>,
    ranked: Lists<()>,
    list: Vec<ItemId>,
}

/// A user's newest recommendation.
#[derive(Clone, Copy, Default)]
struct Standing {
    /// Its length; 0 if there was none yet.
    len: u32,
    /// The reward of the events since it whose item is on it.
    reward: i64,
}

impl<S: Scorer> Recommending<S> {
    fn new(options: Recommend, scorer: S) -> Self {
        Recommending {
            options,
            scorer,
            standing: Vec::new(),
            items: Vec::new(),
            rows: Vec::new(),
            ranked: Lists::default(),
            list: Vec::new(),
        }
    }

    /// Makes room for users with these slots.
    fn make_room(&mut self, slots: impl Iterator<Item = Slot>) {
        let users = slots.max().map_or(0, |slot| slot as usize + 1);
        if users > self.standing.len() {
            self.standing.resize(users, Standing::default());
            self.items.resize(users * self.options.n, ItemId::default());
        }
    }

    /// Lets lists of a snapshot stand. They are at most n long: a snapshot goes with its configuration.
    fn restore(&mut self, standing: Vec<(Slot, Option<StandingState>)>) {
        let n = self.options.n;
        self.make_room(standing.iter().map(|(slot, _)| *slot));
        for (slot, state) in standing {
            let slot = slot as usize;
            let (items, reward) = state.as_ref().map_or((&[][..], 0), |state| (&state.items[..], state.reward));
            let items = &items[..items.len().min(n)];
            self.standing[slot] = Standing { len: items.len() as u32, reward };
            self.items[slot * n..][..items.len()].copy_from_slice(items);
        }
    }

    /// Adds the lists that stand to a part of a snapshot.
    fn complete(&self, mut part: SnapshotPart) -> (Time, Vec<UserState>) {
        let n = self.options.n;
        for (state, &slot) in part.users.iter_mut().zip(&part.slots) {
            let slot = slot as usize;
            let standing = self.standing.get(slot).filter(|standing| standing.len > 0);
            state.standing = standing.map(|standing| StandingState {
                items: self.items[slot * n..][..standing.len as usize].to_vec(),
                reward: standing.reward,
            });
        }
        (part.request, part.users)
    }

    fn apply(&mut self, tick: Rc<Tick>, popular: &[ItemId]) -> Recommended {
        self.make_room(tick.slots.iter().copied());
        let met = self.meet(&tick);
        let recommendations = self.replace(&tick, popular);
        Recommended { tick, recommendations, met }
    }

    /// Counts the tick's events against the lists that stood before it.
    fn meet(&mut self, tick: &Tick) -> Vec<Met> {
        let n = self.options.n;
        let meet = |(event, &row): (&crate::event::Event, &u32)| {
            let slot = tick.slots[row as usize] as usize;
            let standing = &mut self.standing[slot];
            let list = &self.items[slot * n..][..standing.len as usize];
            match list.iter().position(|&item| item == event.item) {
                Some(place) => {
                    standing.reward += self.options.rewards.get(usize::from(event.behavior.0)).map_or(1, |&r| r);
                    Met::Hit(place as u32)
                }
                None if list.is_empty() => Met::NoList,
                None => Met::Miss,
            }
        };
        tick.events.iter().zip(&tick.rows).map(meet).collect()
    }

    /// Makes the tick's recommendations, which stand from now on.
    fn replace(&mut self, tick: &Tick, popular: &[ItemId]) -> Lists<RecommendationKey> {
        let Recommend { n, min_history, exclude, .. } = self.options;
        self.rows.clear();
        let long_enough = |&row: &u32| tick.sequences.row(row as usize).1.len() >= min_history.max(1);
        self.rows.extend((0..tick.slots.len() as u32).filter(long_enough));
        self.ranked.clear();
        self.scorer.rank(tick, &self.rows, n, exclude, &mut self.ranked);
        let mut recommendations = Lists::default();
        for (&row, (_, ranked)) in self.rows.iter().zip(self.ranked.iter()) {
            let (key, sequence) = tick.sequences.row(row as usize);
            fill(&mut self.list, ranked, popular, sequence, n, exclude);
            if self.list.is_empty() {
                continue;
            }
            let slot = tick.slots[row as usize] as usize;
            let standing = &mut self.standing[slot];
            let last_reward = if standing.len == 0 { -1 } else { standing.reward };
            *standing = Standing { len: self.list.len() as u32, reward: 0 };
            self.items[slot * n..][..self.list.len()].copy_from_slice(&self.list);
            let from_model = ranked.len().min(n) as u32;
            let key = RecommendationKey { time: key.time, user: key.user, from_model, last_reward };
            recommendations.push(key, &self.list);
        }
        recommendations
    }
}

/// Up to n items: the model's, then popular ones that are not among them.
fn fill(
    list: &mut Vec<ItemId>,
    ranked: &[ItemId],
    popular: &[ItemId],
    sequence: &[ItemId],
    n: usize,
    exclude: Exclude,
) {
    list.clear();
    list.extend(ranked.iter().take(n));
    for item in popular {
        if list.len() == n {
            break;
        }
        let excluded = exclude == Exclude::Recent && sequence.contains(item);
        if !excluded && !list.contains(item) {
            list.push(*item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_model_every_row_has_an_empty_list() {
        let mut ranked = Lists::default();
        NoModel.rank(&Tick::default(), &[0, 2, 1], 5, Exclude::None, &mut ranked);
        assert_eq!(ranked.iter().map(|(_, items)| items.len()).collect::<Vec<_>>(), [0; 3]);
    }

    #[test]
    fn lists_that_nobody_can_ask_for_take_no_room() {
        let list = |window_end| PopularList { window_end, items: vec![(ItemId(window_end), 1)] };
        let mut lists = StandingLists::default();
        lists.extend([10, 20, 30].map(list));
        lists.forget_before(Some(20));
        assert_eq!(lists.by_end.keys().copied().collect::<Vec<_>>(), [20, 30]);
        assert_eq!((lists.at(20), lists.at(25)), (&[ItemId(20)][..], &[][..]));
        lists.forget_before(None);
        assert!(lists.by_end.is_empty());
    }
}
