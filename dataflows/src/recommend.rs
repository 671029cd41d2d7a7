//! Recommendations for the users that changed (contract, section 3).
//!
//! ```text
//! ticks (of recent) ──┐
//!                     ├─ recommend ─ recommendations, and how each event met the list that stood for its user
//! popular lists ──────┘      │
//!                         Scorer: (users, sequences) → ranked items
//! ```
//!
//! A tick T is worked on when it is complete, and when the trending lists are final up to E = floor(T/slide)·slide, the one
//! that fills its gaps. All its users are scored in one batch. The events of the tick are counted against the lists that
//! stood before it, which are then replaced.
//!
//! State: per user the standing list, n items; of the trending lists only those that a later tick can ask for.

use crate::event::{ItemId, Time};
use crate::hold::Hold;
use crate::lists::Lists;
use crate::recent::Tick;
use crate::rows::{PopularList, RecommendationKey};
use crate::time::Steps;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

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

/// A recommendation for each user of each tick who can have one.
pub fn recommend<'s>(
    ticks: StreamVec<'s, Time, Rc<Tick>>,
    popular: StreamVec<'s, Time, PopularList>,
    options: Recommend,
    scorer: impl Scorer + 'static,
) -> StreamVec<'s, Time, Rc<Recommended>> {
    ticks.binary_frontier::<_, CapacityContainerBuilder<Vec<Rc<Recommended>>>, _, _, _, _>(
        popular,
        Pipeline,
        Pipeline,
        "recommend",
        |_, _| {
            let mut hold = Hold::default();
            let mut waiting: VecDeque<Rc<Tick>> = VecDeque::new();
            let mut lists = StandingLists::default();
            let slide = options.slide;
            let mut work = Recommending::new(options, scorer);
            move |(ticks, ticks_frontier), (popular, popular_frontier), output| {
                ticks.for_each(|capability, ticks| {
                    for tick in ticks.drain(..) {
                        hold.cover(&capability, tick.time, output.output_index());
                        waiting.push_back(tick);
                    }
                });
                popular.for_each(|_, popular| lists.extend(popular.drain(..)));
                if let Some(capability) = hold.get() {
                    let mut session = output.session(capability);
                    let final_at = |time: Time| !popular_frontier.less_equal(&slide.start_of(time));
                    while let Some(tick) = waiting.pop_front_if(|tick| final_at(tick.time)) {
                        let popular = lists.at(slide.start_of(tick.time));
                        session.give(Rc::new(work.apply(tick, popular)));
                    }
                }
                let next = waiting.front().map(|tick| tick.time);
                hold.release(next);
                // Ticks to come are at or after the frontier, and ask for the list of the slide that they lie in.
                let asked = next.or_else(|| ticks_frontier.frontier().first().copied());
                lists.forget_before(asked.map(|time| slide.start_of(time)));
            }
        },
    )
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

    fn apply(&mut self, tick: Rc<Tick>, popular: &[ItemId]) -> Recommended {
        let users = tick.slots.iter().max().map_or(0, |&slot| slot as usize + 1);
        if users > self.standing.len() {
            self.standing.resize(users, Standing::default());
            self.items.resize(users * self.options.n, ItemId::default());
        }
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
