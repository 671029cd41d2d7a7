//! Snapshots of the trending lists on random logs: a run restored from one within any slide puts out, from that slide's start on,
//! what the contract says of the whole log, and its counts are those of the whole log, too.

use crate::harness::{Step, interleave, popular_options};
use crate::logs::{partitions, requests, rules, wanted};
use crate::oracle::{Rules, results, stamp};
use dataflows::event::{Event, ItemId, Time};
use dataflows::popular::{arrange_window_counts, popular};
use dataflows::rows::PopularList;
use dataflows::state::PaneState;
use dataflows::time::Steps;
use differential_dataflow::consolidation::consolidate_updates;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::operators::{Input, Inspect, Probe};
use timely::worker::Worker;

/// One run over a log.
#[derive(Clone)]
struct Life {
    rules: Rules,
    steps: Vec<Step>,
    workers: usize,
    /// The start of a slide. Only events with L at or beyond this are fed, and `restored` is sent at it.
    from: Time,
    restored: Vec<PaneState>,
    requests: Vec<Time>,
}

#[derive(Clone, Default)]
struct Found {
    lists: Arc<Mutex<Vec<PopularList>>>,
    panes: Arc<Mutex<Vec<(Time, PaneState)>>>,
    counts: Arc<Mutex<Vec<(ItemId, Time, i64)>>>,
}

fn live(worker: &mut Worker, life: &Life, found: &Found) {
    let (index, peers) = (worker.index(), worker.peers());
    let tick = Steps::new(life.rules.tick).unwrap();
    let probe = Handle::new();
    let (mut events, mut requests, mut restored) = worker.dataflow::<Time, _, _>(|scope| {
        let (events_handle, events) = scope.new_input::<Vec<Event>>();
        let (requests_handle, requests) = scope.new_input::<Vec<Time>>();
        let (restored_handle, restored) = scope.new_input::<Vec<PaneState>>();
        let options = popular_options(&life.rules, true);
        let trending = popular(events, requests.broadcast(), restored, &options, &Default::default());
        let (lists, panes, counts) = (found.lists.clone(), found.panes.clone(), found.counts.clone());
        let lists_of = move |list: &PopularList| {
            if index == 0 {
                lists.lock().unwrap().push(list.clone());
            }
        };
        trending.lists.inspect(lists_of).probe_with(&probe);
        let rows = move |(end, rows): &(Time, Vec<PaneState>)| {
            panes.lock().unwrap().extend(rows.iter().map(|row| (*end, *row)));
        };
        trending.snapshots.inspect(rows).probe_with(&probe);
        let arranged = arrange_window_counts(trending.differences);
        let count = move |(item, time, diff): &(ItemId, Time, i64)| counts.lock().unwrap().push((*item, *time, *diff));
        arranged.as_collection(|item, ()| *item).inner.inspect(count).probe_with(&probe);
        let handles: (Handles<Event>, Handles<Time>, Handles<PaneState>) =
            (events_handle, requests_handle, restored_handle);
        handles
    });
    restored.advance_to(life.from);
    life.restored.iter().filter(|_| index == 0).for_each(|row| restored.send(*row));
    drop(restored);
    let mut asked = life.requests.iter().copied().filter(|_| index == 0).peekable();
    let mut dealt = 0;
    for step in &life.steps {
        for &event in &step.events {
            dealt += 1;
            let takes_part = (!event.late || life.rules.admit_late) && event.logical >= life.from;
            if takes_part && dealt % peers == index {
                events.send(event);
            }
        }
        let frontier = tick.frontier(step.watermark);
        while let Some(request) = asked.next_if(|request| *request < frontier) {
            requests.send(request);
        }
        events.advance_to(frontier);
        requests.advance_to(frontier);
        (0..dealt % 3).for_each(|_| {
            worker.step();
        });
    }
    asked.for_each(|request| requests.send(request));
    drop((events, requests));
    while !probe.done() {
        worker.step();
    }
}

type Handles<D> = InputHandle<Time, CapacityContainerBuilder<Vec<D>>>;

/// Runs, compares with the contract, and returns the snapshots' rows.
fn check(life: &Life, events: &[Event]) -> Vec<(Time, PaneState)> {
    let found = Found::default();
    let (shared, out) = (Arc::new(life.clone()), found.clone());
    timely::execute(timely::Config::process(life.workers), move |worker| live(worker, &shared, &out)).unwrap();
    let expected: Vec<PopularList> = results(&life.rules, events, None).popular;
    let expected: Vec<_> = expected.into_iter().filter(|list| list.window_end >= life.from.max(1)).collect();
    let mut lists = std::mem::take(&mut *found.lists.lock().unwrap());
    lists.sort_by_key(|list| list.window_end);
    assert_eq!(lists, expected, "lists from {} on", life.from);
    assert_eq!(counts(&found), expected_counts(life, events), "counts from {} on", life.from);
    std::mem::take(&mut *found.panes.lock().unwrap())
}

fn counts(found: &Found) -> Vec<(ItemId, Time, i64)> {
    let mut counts = std::mem::take(&mut *found.counts.lock().unwrap());
    consolidate_updates(&mut counts);
    counts
}

/// Each event is in the collection from one window end to another; what entered before `from` enters at it.
fn expected_counts(life: &Life, events: &[Event]) -> Vec<(ItemId, Time, i64)> {
    let window = crate::harness::window(&life.rules);
    let mut counts = Vec::new();
    for event in events.iter().filter(|event| !event.late || life.rules.admit_late) {
        let Some((enters, leaves)) = window.span(event.time, event.logical) else { continue };
        if leaves > life.from {
            let weight = i64::from(life.rules.weights.get(usize::from(event.behavior.0)).map_or(1, |&weight| weight));
            counts.extend([(event.item, enters.max(life.from), weight), (event.item, leaves, -weight)]);
        }
    }
    consolidate_updates(&mut counts);
    counts
}

proptest! {
    #[test]
    fn a_restored_window_goes_on_as_if_it_had_never_stopped(
        rules in rules(),
        rows in partitions(),
        order in prop::collection::vec(any::<u8>(), 1..20),
        step in 1usize..30,
        lives in prop::collection::vec((1usize..4, wanted(), any::<usize>(), any::<bool>()), 2..5),
    ) {
        let stamped: Vec<Vec<Event>> = (0..).zip(&rows).map(|(p, rows)| stamp(&rules, p, rows)).collect();
        let steps = interleave(&rules, &stamped, &order, step);
        let events = stamped.concat();
        let last = events.iter().map(|event| event.logical).max().unwrap_or(0);
        let mut chunks: BTreeMap<Time, Vec<PaneState>> = BTreeMap::new();
        let slide = Steps::new(rules.slide).unwrap();
        let mut newest = 0;
        for (workers, wanted, next, cleaned) in lives {
            let from = slide.start_of(newest);
            let requests = requests(&rules, newest, last + rules.window + 2 * rules.slide, &wanted);
            let mut restored: Vec<PaneState> = chunks.values().flatten().copied().collect();
            restored.retain(|pane| !cleaned || pane.leaves > from);
            let life = Life { rules: rules.clone(), steps: steps.clone(), workers, from, restored, requests };
            let panes = check(&life, &events);
            if !life.requests.is_empty() {
                newest = life.requests[next % life.requests.len()];
                panes.into_iter().filter(|(request, _)| *request <= newest).for_each(|(request, pane)| {
                    chunks.entry(request).or_default().push(pane);
                });
            }
        }
    }
}
