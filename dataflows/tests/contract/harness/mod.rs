//! Runs the three dataflows on any number of workers and gathers what they put out.

#![allow(unreachable_pub)]

use super::oracle::evaluation::{OFFERED, is_offered};
use super::oracle::{Model, Results, Rules};
use dataflows::evaluate::{Evaluate, evaluate};
use dataflows::evaluation::{Evaluation, Offered};
use dataflows::event::{Event, ItemId, Time, UserId};
use dataflows::lists::Lists;
use dataflows::popular::{Popular, popular};
use dataflows::recent::{Entry, Recent, Tick, arrange_recent, recent};
use dataflows::recommend::{Exclude, Recommend, Recommended, Scorer, recommend};
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use dataflows::time::{Steps, Window};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use timely::dataflow::operators::vec::ToStream;
use timely::dataflow::operators::{Input, Inspect, Probe};
use timely::dataflow::{Scope, StreamVec};

/// A model that is a plain function.
pub struct Plain(pub Option<Model>);

impl Scorer for Plain {
    fn rank(&mut self, tick: &Tick, rows: &[u32], n: usize, exclude: Exclude, ranked: &mut Lists<()>) {
        for &row in rows {
            let (key, sequence) = tick.sequences.row(row as usize);
            let mut items = self.0.map_or(vec![], |model| model(key.user, sequence, key.time));
            items.retain(|item| !(exclude == Exclude::Recent && sequence.contains(item)));
            items.truncate(n);
            ranked.push((), &items);
        }
    }
}

/// One step of the input: events, and the least watermark after them.
#[derive(Clone, Debug)]
pub struct Step {
    pub events: Vec<Event>,
    pub watermark: Time,
}

/// What a run put out.
#[derive(Debug, Default)]
pub struct Outcome {
    pub results: Results,
    pub evaluation: Evaluation,
    /// The sequences' differences, added up at the end.
    pub entries: Vec<((UserId, Entry), isize)>,
}

pub fn window(rules: &Rules) -> Window {
    Window::new(rules.window, Steps::new(rules.slide).unwrap()).unwrap()
}

type Row<K> = (K, Vec<ItemId>);
type Difference = ((UserId, Entry), isize);

#[derive(Clone, Default)]
struct Gathered {
    popular: Arc<Mutex<Vec<PopularList>>>,
    recent: Arc<Mutex<Vec<Row<SequenceKey>>>>,
    recommendations: Arc<Mutex<Vec<Row<RecommendationKey>>>>,
    entries: Arc<Mutex<Vec<Difference>>>,
    evaluation: Arc<Mutex<Vec<Evaluation>>>,
}

/// Runs everything over `steps`, whose events are dealt out to the workers in turn.
pub fn run(rules: &Rules, steps: Vec<Step>, workers: usize, model: Option<Model>) -> Outcome {
    let gathered = Gathered::default();
    let all_steps = Arc::new(steps);
    let (rules, steps, out) = (Arc::new(rules.clone()), all_steps.clone(), gathered.clone());
    let for_workers = rules.clone();
    timely::execute(timely::Config::process(workers), move |worker| {
        let rules = &for_workers;
        let tick = Steps::new(rules.tick).unwrap();
        let index = worker.index();
        let (mut input, probe) = worker.dataflow::<Time, _, _>(|scope| {
            let (input, events) = scope.new_input::<Vec<Event>>();
            (input, build(events, rules, model, out.clone()))
        });
        let mut dealt = 0;
        for step in steps.iter() {
            for &event in &step.events {
                dealt += 1;
                if (!event.late || rules.admit_late) && dealt % worker.peers() == index {
                    input.send(event);
                }
            }
            input.advance_to(tick.frontier(step.watermark));
            (0..dealt % 3).for_each(|_| {
                worker.step();
            });
        }
        input.close();
        while !probe.done() {
            worker.step();
        }
    })
    .expect("workers start");
    outcome(gathered, &all_steps)
}

fn build<'s>(
    events: StreamVec<'s, Time, Event>,
    rules: &Rules,
    model: Option<Model>,
    out: Gathered,
) -> timely::dataflow::operators::probe::Handle<Time> {
    let (scope, slide) = (events.scope(), Steps::new(rules.slide).unwrap());
    let index = scope.index();
    let options = popular_options(rules, false);
    let lists = popular(events.clone(), nothing(scope), nothing(scope), &options, &Default::default()).lists;
    let recent =
        recent(events.clone(), nothing(scope), nothing(scope), recent_options(rules, false), &Default::default());
    let recommended = recommend(recent.steps, lists.clone(), recommend_options(rules), Plain(model)).recommended;
    let (n, tick, rewards) = (rules.n, Steps::new(rules.tick).unwrap(), rules.rewards.clone());
    let offered = Offered::new(OFFERED as usize, is_offered);
    let options = Evaluate { n, tick, slide, rewards, offered };
    let evaluation = evaluate(events, recommended.clone(), lists.clone(), &options);
    // Every worker has every list; the same operators must stand on all of them.
    lists.inspect(move |list| {
        if index == 0 {
            out.popular.lock().unwrap().push(list.clone());
        }
    });
    recommended.inspect(move |done: &Rc<Recommended>| {
        out.recent.lock().unwrap().extend(owned(&done.tick.sequences));
        out.recommendations.lock().unwrap().extend(owned(&done.recommendations));
    });
    recent.differences.clone().inspect(move |(entry, _, diff)| out.entries.lock().unwrap().push((*entry, *diff)));
    arrange_recent(recent.differences);
    evaluation.inspect(move |e| out.evaluation.lock().unwrap().push(e.clone())).probe().0
}

pub fn popular_options(rules: &Rules, snapshots: bool) -> Popular {
    Popular { window: window(rules), top: rules.top, weights: rules.weights.clone(), differences: true, snapshots }
}

pub fn recent_options(rules: &Rules, snapshots: bool) -> Recent {
    Recent { tick: Steps::new(rules.tick).unwrap(), length: rules.length, differences: true, snapshots }
}

pub fn recommend_options(rules: &Rules) -> Recommend {
    Recommend {
        n: rules.n,
        min_history: rules.min_history,
        exclude: if rules.exclude_recent { Exclude::Recent } else { Exclude::None },
        slide: Steps::new(rules.slide).unwrap(),
        rewards: rules.rewards.clone(),
    }
}

fn nothing<'s, D: Clone + 'static>(scope: Scope<'s, Time>) -> StreamVec<'s, Time, D> {
    None.to_stream(scope)
}

pub fn owned<K: Copy>(lists: &Lists<K>) -> Vec<Row<K>> {
    lists.iter().map(|(key, items)| (*key, items.to_vec())).collect()
}

fn outcome(gathered: Gathered, steps: &[Step]) -> Outcome {
    fn taken<T: Default>(shared: Arc<Mutex<T>>) -> T {
        std::mem::take(&mut *shared.lock().unwrap())
    }
    fn sorted<T: Ord>(mut rows: Vec<T>) -> Vec<T> {
        rows.sort();
        rows
    }
    let mut entries = taken(gathered.entries);
    differential_dataflow::consolidation::consolidate(&mut entries);
    let late = steps.iter().flat_map(|s| &s.events).filter(|e| e.late).map(|e| e.position).collect();
    let evaluations = taken(gathered.evaluation);
    assert_eq!(evaluations.len(), 1, "one evaluation, from worker 0");
    Outcome {
        results: Results {
            popular: sorted(taken(gathered.popular)),
            recent: sorted(taken(gathered.recent)),
            recommendations: sorted(taken(gathered.recommendations)),
            late: sorted(late),
        },
        evaluation: evaluations.into_iter().next().unwrap(),
        entries,
    }
}

/// Deals a log's partitions out in steps: `choices` say from which partition the next row comes.
///
/// The least watermark after a step is that of the partitions that have rows left.
pub fn interleave(rules: &Rules, partitions: &[Vec<Event>], choices: &[u8], step: usize) -> Vec<Step> {
    let mut read = vec![0; partitions.len()];
    let watermark = |read: &[usize]| {
        let open = |p: &usize| read[*p] < partitions[*p].len();
        let of = |p: usize| {
            let largest = partitions[p][..read[p]].iter().map(|e| e.time).max().unwrap_or(0);
            largest.saturating_sub(rules.lateness)
        };
        (0..partitions.len()).filter(open).map(of).min()
    };
    let mut steps = vec![Step { events: vec![], watermark: 0 }];
    let mut choices = choices.iter().cycle();
    while let Some(least) = watermark(&read) {
        let last = steps.last_mut().unwrap();
        if last.events.len() >= step {
            last.watermark = least;
            steps.push(Step { events: vec![], watermark: least });
            continue;
        }
        let open: Vec<usize> = (0..read.len()).filter(|&p| read[p] < partitions[p].len()).collect();
        let from = open[usize::from(*choices.next().unwrap_or(&0)) % open.len()];
        last.events.push(partitions[from][read[from]]);
        read[from] += 1;
    }
    steps
}
