//! Snapshots on random logs: what they hold, and that a run restored from them goes on as if it had never stopped.
//!
//! A log is lived through several times, on another number of workers each time: a life starts from the chunks that the
//! lives before it left up to some F, gets the events with L ≥ F, and takes snapshots of its own. Everything that it puts out
//! is compared with the oracle's results for times beyond F, and its snapshots with the oracle's state. Trending lists come
//! from the oracle, too, so that *recent* and *recommend* are tried alone.

use crate::harness::{Plain, Step, interleave, owned, recent_options, recommend_options};
use crate::logs::{Wanted, model, partitions, requests, rules, wanted};
use crate::oracle::{Model, Results, Rules, results, stamp};
use dataflows::event::{Event, ItemId, Time, UserId};
use dataflows::recent::{Entry, arrange_recent, recent};
use dataflows::recommend::{RecommendStreams, Recommended, recommend, without_recommendations};
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use dataflows::sizes::Sizes;
use dataflows::state::{StandingState, UserState};
use dataflows::time::Steps;
use differential_dataflow::consolidation::consolidate;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::operators::{Input, Inspect, Probe};
use timely::worker::Worker;

/// What a life starts from and is asked for.
#[derive(Clone)]
struct Life {
    rules: Rules,
    steps: Vec<Step>,
    lists: Vec<PopularList>,
    workers: usize,
    model: Option<Model>,
    recommends: bool,
    /// Only events with L at or beyond this are fed.
    from: Time,
    /// The chunks' rows, the oldest first.
    restored: Vec<UserState>,
    /// Ascending. A snapshot stands at the last end of a tick up to its request.
    requests: Vec<Time>,
    /// How long before its time a request is sent, at least.
    early: Time,
    /// Requests are sent and their frontier moves every so many steps only, so that many come at the last moment.
    lag: usize,
    /// The rows are handed over in the course of so many steps, and trending lists become final every so many.
    slowness: usize,
}

#[derive(Clone, Default)]
struct Found {
    recent: Shared<(SequenceKey, Vec<ItemId>)>,
    recommendations: Shared<(RecommendationKey, Vec<ItemId>)>,
    snapshots: Shared<(Time, UserState)>,
    entries: Shared<((UserId, Entry), isize)>,
    users: Arc<Mutex<u64>>,
}

/// What all workers add to.
type Shared<T> = Arc<Mutex<Vec<T>>>;

fn taken<T: Ord + Clone>(rows: &Mutex<Vec<T>>) -> Vec<T> {
    let mut rows = std::mem::take(&mut *rows.lock().unwrap());
    rows.sort();
    rows
}

type Handles<D> = InputHandle<Time, CapacityContainerBuilder<Vec<D>>>;

struct Inputs {
    events: Handles<Event>,
    requests: Handles<Time>,
    restored: Handles<UserState>,
    lists: Handles<PopularList>,
    probe: Handle<Time>,
    sizes: Rc<Sizes>,
}

fn build(worker: &mut Worker, life: &Life, found: Found) -> Inputs {
    let sizes = Rc::new(Sizes::default());
    worker.dataflow::<Time, _, _>(|scope| {
        let (events_handle, events) = scope.new_input::<Vec<Event>>();
        let (requests_handle, requests) = scope.new_input::<Vec<Time>>();
        let (restored_handle, restored) = scope.new_input::<Vec<UserState>>();
        let (lists_handle, lists) = scope.new_input::<Vec<PopularList>>();
        let streams = recent(events, requests.broadcast(), restored, recent_options(&life.rules, true), &sizes);
        let RecommendStreams { recommended, snapshots } = match life.recommends {
            true => recommend(streams.steps, lists, recommend_options(&life.rules), Plain(life.model)),
            false => without_recommendations(streams.steps),
        };
        let (probe, out) = (Handle::new(), found.clone());
        recommended
            .inspect(move |done: &Rc<Recommended>| {
                out.recent.lock().unwrap().extend(owned(&done.tick.sequences));
                out.recommendations.lock().unwrap().extend(owned(&done.recommendations));
            })
            .probe_with(&probe);
        let out = found.clone();
        snapshots
            .inspect_core(move |event| {
                let Ok((stamp, parts)) = event else { return };
                for (request, users) in parts {
                    assert!(stamp.iter().all(|time| time <= request), "{request} in a message at {stamp:?}");
                    out.snapshots.lock().unwrap().extend(users.iter().map(|user| (*request, user.clone())));
                }
            })
            .probe_with(&probe);
        let differences = streams.differences;
        differences.clone().inspect(move |(entry, _, diff)| found.entries.lock().unwrap().push((*entry, *diff)));
        arrange_recent(differences);
        let (events, requests, restored) = (events_handle, requests_handle, restored_handle);
        Inputs { events, requests, restored, lists: lists_handle, probe, sizes: sizes.clone() }
    })
}

fn live(worker: &mut Worker, life: &Life, found: &Found) {
    let (index, peers) = (worker.index(), worker.peers());
    let tick = Steps::new(life.rules.tick).unwrap();
    let Inputs { mut events, mut requests, restored, mut lists, probe, sizes } = build(worker, life, found.clone());
    let mut restored = Some(restored);
    let mut rows = life.restored.iter().filter(|_| index == 0).cloned().collect::<Vec<_>>().into_iter();
    let mut asked = life.requests.iter().copied().filter(|_| index == 0).peekable();
    life.lists.iter().for_each(|list| lists.send(list.clone()));
    let mut dealt = 0;
    for (at, step) in life.steps.iter().enumerate() {
        if let Some(restored) = restored.as_mut() {
            rows.by_ref().take(1 + life.restored.len() / life.slowness).for_each(|row| restored.send(row));
        }
        if at >= life.slowness {
            restored = None;
        }
        for &event in &step.events {
            dealt += 1;
            let takes_part = (!event.late || life.rules.admit_late) && event.logical >= life.from;
            if takes_part && dealt % peers == index {
                events.send(event);
            }
        }
        let frontier = tick.frontier(step.watermark);
        events.advance_to(frontier);
        if at.is_multiple_of(life.slowness) {
            lists.advance_to(frontier);
        }
        if at.is_multiple_of(life.lag) {
            while let Some(request) = asked.next_if(|request| *request < frontier + life.early) {
                requests.send(request);
            }
            requests.advance_to(frontier);
        }
        (0..dealt % 3).for_each(|_| {
            worker.step();
        });
    }
    if let Some(restored) = restored.as_mut() {
        rows.for_each(|row| restored.send(row));
    }
    asked.for_each(|request| requests.send(request));
    drop((events, requests, restored, lists));
    while !probe.done() {
        worker.step();
    }
    assert_eq!(sizes.waiting_events.get(), 0);
    *found.users.lock().unwrap() += sizes.users.get();
}

/// What the contract says about a log, and about its state at any F.
struct Truth {
    rules: Rules,
    part: Vec<Event>,
    results: Results,
}

impl Truth {
    fn new(rules: &Rules, events: &[Event], model: Option<Model>, recommends: bool) -> Truth {
        let mut results = results(rules, events, model);
        if !recommends {
            results.recommendations.clear();
        }
        let part = events.iter().copied().filter(|e| !e.late || rules.admit_late).collect();
        Truth { rules: rules.clone(), part, results }
    }

    /// Users with an event with L from `from` to before `to`.
    fn users(&self, from: Time, to: Time) -> BTreeSet<UserId> {
        self.part.iter().filter(|e| from <= e.logical && e.logical < to).map(|e| e.user).collect()
    }

    fn state(&self, user: UserId, frontier: Time) -> UserState {
        let entry = |e: &Event| Entry { time: e.time, position: e.position, item: e.item };
        let before = |e: &&Event| e.user == user && e.logical < frontier;
        let mut entries: Vec<Entry> = self.part.iter().filter(before).map(entry).collect();
        entries.sort_by_key(|e| (e.time, e.position.partition(), e.position.offset()));
        entries.drain(..entries.len().saturating_sub(self.rules.length));
        let newest = |(key, _): &&(RecommendationKey, Vec<ItemId>)| key.user == user && key.time <= frontier;
        let standing = self.results.recommendations.iter().rev().find(newest).map(|(key, items)| {
            let hit = |e: &&Event| before(e) && e.logical >= key.time && items.contains(&e.item);
            let reward = self.part.iter().filter(hit).map(|e| self.rules.rewards[usize::from(e.behavior.0)]).sum();
            StandingState { items: items.clone(), reward }
        });
        UserState { user, entries, standing }
    }
}

/// Lives through a log, and compares everything. Returns the snapshots taken.
fn check(life: &Life, truth: &Truth) -> Vec<(Time, UserState)> {
    let found = Found::default();
    let (shared, out) = (Arc::new(life.clone()), found.clone());
    timely::execute(timely::Config::process(life.workers), move |worker| live(worker, &shared, &out)).unwrap();
    let beyond = |time: Time| time > life.from;
    let expected: Vec<_> = truth.results.recent.iter().filter(|(key, _)| beyond(key.time)).cloned().collect();
    assert_eq!(taken(&found.recent), expected, "sequences beyond {}", life.from);
    let expected: Vec<_> = truth.results.recommendations.iter().filter(|(key, _)| beyond(key.time)).cloned().collect();
    assert_eq!(taken(&found.recommendations), expected, "recommendations beyond {}", life.from);

    let mut snapshots = std::mem::take(&mut *found.snapshots.lock().unwrap());
    snapshots.sort_by_key(|(request, state)| (*request, state.user));
    let tick = Steps::new(truth.rules.tick).unwrap();
    let mut expected = Vec::new();
    let mut since = life.from;
    for &request in &life.requests {
        let frontier = tick.start_of(request);
        let users = truth.users(since, frontier).into_iter();
        expected.extend(users.map(|user| (request, truth.state(user, frontier))));
        since = frontier;
    }
    assert_eq!(snapshots, expected, "snapshots since {}", life.from);

    let mut entries = std::mem::take(&mut *found.entries.lock().unwrap());
    consolidate(&mut entries);
    let all = truth.users(0, Time::MAX);
    let last = |user: UserId| truth.state(user, Time::MAX).entries.into_iter().map(move |entry| ((user, entry), 1));
    assert_eq!(entries, all.iter().flat_map(|&user| last(user)).collect::<Vec<_>>(), "entries");
    assert_eq!(*found.users.lock().unwrap(), all.len() as u64);
    snapshots
}

/// One life's choices.
#[derive(Clone, Debug)]
struct Choice {
    workers: usize,
    /// Which of the possible snapshots are taken.
    requests: Vec<Wanted>,
    /// Which of those taken the next life starts from.
    next: usize,
    early: Time,
    lag: usize,
    slowness: usize,
    /// Whether the chunks are merged before they are handed over.
    merged: bool,
}

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    let choice = (
        (1usize..4, wanted(), any::<usize>()),
        (prop_oneof![Just(0u64), 1u64..60], 1usize..4, 1usize..4, any::<bool>()),
    );
    let choice = choice.prop_map(|((workers, requests, next), (early, lag, slowness, merged))| Choice {
        workers,
        requests,
        next,
        early,
        lag,
        slowness,
        merged,
    });
    prop::collection::vec(choice, 2..5)
}

fn live_on(
    rules: &Rules,
    stamped: &[Vec<Event>],
    steps: Vec<Step>,
    model: Option<Model>,
    recommends: bool,
    lives: &[Choice],
) {
    let truth = Truth::new(rules, &stamped.concat(), model, recommends);
    let last = truth.part.iter().map(|e| e.logical).max().unwrap_or(0);
    let mut chunks: BTreeMap<Time, Vec<UserState>> = BTreeMap::new();
    let (tick, slide) = (Steps::new(rules.tick).unwrap(), Steps::new(rules.slide).unwrap());
    let mut from = 0;
    for choice in lives {
        let requests = requests(rules, from, last + 2 * rules.slide, &choice.requests);
        let mut restored: Vec<UserState> = chunks.values().flatten().cloned().collect();
        if choice.merged {
            let newest: BTreeMap<UserId, UserState> = restored.into_iter().map(|row| (row.user, row)).collect();
            restored = newest.into_values().collect();
        }
        let life = Life {
            rules: rules.clone(),
            steps: steps.clone(),
            lists: truth
                .results
                .popular
                .iter()
                .filter(|list| list.window_end >= slide.start_of(from))
                .cloned()
                .collect(),
            workers: choice.workers,
            model,
            recommends,
            from,
            restored,
            requests: requests.clone(),
            early: choice.early,
            lag: choice.lag,
            slowness: choice.slowness,
        };
        let snapshots = check(&life, &truth);
        if !requests.is_empty() {
            let newest = requests[choice.next % requests.len()];
            let durable = snapshots.into_iter().filter(|(request, _)| *request <= newest);
            durable.for_each(|(request, state)| chunks.entry(request).or_default().push(state));
            from = tick.start_of(newest);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]
    #[test]
    fn a_restored_run_goes_on_as_if_it_had_never_stopped(
        rules in rules(),
        rows in partitions(),
        order in prop::collection::vec(any::<u8>(), 1..20),
        step in 1usize..30,
        with_model in any::<bool>(),
        recommends in prop::bool::weighted(0.8),
        lives in choices(),
    ) {
        let model = with_model.then_some(model as Model);
        let stamped: Vec<Vec<Event>> = (0..).zip(&rows).map(|(p, rows)| stamp(&rules, p, rows)).collect();
        let steps = interleave(&rules, &stamped, &order, step);
        live_on(&rules, &stamped, steps, model, recommends, &lives);
    }
}
