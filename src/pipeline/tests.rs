//! The pipeline's own part in snapshots: that requests reach all workers, that what comes of them reaches worker 0's sinks, and
//! that the rows are gone on from. What the rows must hold is tried in `dataflows/tests/contract/snapshots.rs`.

use super::recorder::{finish, recorder};
use super::*;
use crate::sinks::{Batch, PartitionPosition};
use dataflows::event::{Behavior, ItemId, Position, UserId};
use dataflows::lists::Lists;
use dataflows::recent::Tick;
use dataflows::recommend::Exclude;
use dataflows::rows::{RecommendationKey, SequenceKey};
use dataflows::time::Window;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

const TICK: Time = 20;
const SLIDE: Time = 40;

/// Fills every list, so that trending items do not matter.
struct Arithmetic;

impl Scorer for Arithmetic {
    fn rank(&mut self, tick: &Tick, rows: &[u32], n: usize, _: Exclude, ranked: &mut Lists<()>) {
        for &row in rows {
            let (key, sequence) = tick.sequences.row(row as usize);
            let from = key.user.0 + key.time / TICK + sequence.iter().map(|item| item.0).sum::<u64>();
            let items: Vec<_> = (0..n as u64).map(|i| ItemId((from + i) % 20)).collect();
            ranked.push((), &items);
        }
    }
}

fn settings() -> Settings {
    let (tick, slide) = (Steps::new(TICK).unwrap(), Steps::new(SLIDE).unwrap());
    Settings {
        tick,
        popular: Popular {
            window: Window::new(3 * SLIDE, slide).unwrap(),
            top: 5,
            weights: vec![],
            differences: false,
            snapshots: true,
        },
        popular_enabled: true,
        length: 4,
        recent_enabled: true,
        arrange: true,
        recommend: Recommend { n: 5, min_history: 2, exclude: Exclude::None, slide, rewards: vec![1, 2] },
        recommend_enabled: true,
        evaluate: None,
        until: Time::MAX,
        snapshots: true,
    }
}

fn events() -> Vec<Event> {
    let event = |offset: u64| {
        let time = offset + offset * 7919 % 13;
        Event {
            user: UserId(offset * 31 % 11),
            item: ItemId(offset * 17 % 20),
            time,
            logical: time,
            position: Position::new(0, offset).unwrap(),
            behavior: Behavior((offset % 2) as u8),
            late: false,
        }
    };
    (0..400).map(event).collect()
}

/// What a life of the pipeline starts from: the rows of snapshots up to F, users each once.
#[derive(Clone, Default)]
struct Restored {
    frontier: Time,
    users: BTreeMap<UserId, UserState>,
    panes: Vec<PaneState>,
}

/// A life of the pipeline: from a snapshot on, with snapshots of its own, a last one after the event `stops_at`, if there is
/// one. What its sinks got.
fn live(workers: usize, restored: &Restored, requests: &[Time], stops_at: Option<usize>) -> Vec<Batch> {
    let (sinks, batches, permits) = recorder(1 << 20);
    drop(permits);
    let for_workers = sinks.clone();
    let (restored, requests, told) = (restored.clone(), requests.to_vec(), AtomicU64::new(0));
    timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let sending = (index == 0).then(|| Sending::new(for_workers.clone()));
        let mut pipeline = build(worker, &settings(), Arithmetic, sending, true);
        let start = restored.frontier / SLIDE * SLIDE;
        pipeline.restored_panes.advance_to(start);
        if index == 0 {
            restored.users.values().for_each(|row| pipeline.restored_users.send(row.clone()));
            restored.panes.iter().for_each(|row| pipeline.restored_panes.send(*row));
        }
        pipeline.close_restored();
        let tell_position = |pipeline: &mut Pipeline, request| {
            let position = PartitionPosition { partition: index as u32, offset: request, largest: None, advanced: 0 };
            pipeline.reports.send(Report { positions: vec![(request, position)], ..Report::default() });
        };
        // In a life that is stopped, one worker tells its positions no sooner than then.
        let is_slow = stops_at.is_some() && index > 0 && index + 1 == peers;
        let mut late = Vec::new();
        let mut requests = requests.iter().copied().peekable();
        for event in events().into_iter().take(stops_at.unwrap_or(usize::MAX)).filter(|event| event.logical >= start) {
            if event.position.offset() % peers as u64 == index as u64 {
                match event.logical >= restored.frontier {
                    true => pipeline.events.send(event),
                    false => pipeline.read_again.as_mut().unwrap().send(event),
                }
            }
            // No event is further behind than this.
            let frontier = Steps::new(TICK).unwrap().frontier(event.time.saturating_sub(13));
            if frontier > *pipeline.events.time() {
                pipeline.advance_to(frontier);
                if requests.next_if(|asked| *asked == frontier).is_some() {
                    if index == 0 {
                        assert_eq!(pipeline.request_snapshot(peers), frontier);
                    }
                    match is_slow {
                        true => late.push(frontier),
                        false => tell_position(&mut pipeline, frontier),
                    }
                }
                worker.step();
            }
        }
        if stops_at.is_some() {
            late.into_iter().for_each(|request| tell_position(&mut pipeline, request));
            let frontier = *pipeline.events.time() - TICK;
            if index == 0 {
                // As long as a snapshot is on its way, no other is asked for.
                while !pipeline.all_is_out() || pipeline.let_out_snapshot() {
                    worker.step();
                }
                assert_eq!(pipeline.last_frontier(), Some(frontier));
                let request = pipeline.request_last_snapshot(peers);
                assert!(frontier < request && request < frontier + TICK);
                tell_position(&mut pipeline, request);
                told.store(request, Ordering::Release);
            } else {
                while told.load(Ordering::Acquire) == 0 {
                    pipeline.reports.flush();
                    worker.step();
                }
                tell_position(&mut pipeline, told.load(Ordering::Acquire));
            }
            pipeline.reports.flush();
            while index == 0 && (!pipeline.all_is_out() || pipeline.let_out_snapshot()) {
                worker.step();
            }
        }
        pipeline.close();
        while !pipeline.complete.done() {
            worker.step();
        }
    })
    .unwrap();
    finish(&sinks);
    let batches = batches.lock().unwrap();
    assert!(batches.is_sorted_by(|a, b| a.frontier < b.frontier || (a.frontier == b.frontier && b.snapshot.is_none())));
    batches.clone()
}

type Row<K> = (K, Vec<ItemId>);

/// The rows of complete ticks behind `from` and up to `to`.
#[derive(Debug, PartialEq, Eq)]
struct Rows {
    recent: Vec<Row<SequenceKey>>,
    recommendations: Vec<Row<RecommendationKey>>,
    popular: Vec<PopularList>,
}

impl Rows {
    fn between(from: Time, to: Time, batches: &[Batch]) -> Rows {
        fn owned<K: Copy>(lists: &Lists<K>) -> Vec<Row<K>> {
            lists.iter().map(|(key, items)| (*key, items.to_vec())).collect()
        }
        let is_between = |time: Time| from < time && time <= to;
        let mut recent: Vec<_> = batches.iter().flat_map(|batch| owned(&batch.recent)).collect();
        let mut recommendations: Vec<_> = batches.iter().flat_map(|batch| owned(&batch.recommendations)).collect();
        let mut popular: Vec<_> = batches.iter().flat_map(|batch| batch.popular.clone()).collect();
        recent.retain(|(key, _)| is_between(key.time));
        recommendations.retain(|(key, _)| is_between(key.time));
        popular.retain(|list| is_between(list.window_end));
        Rows { recent, recommendations, popular }
    }
}

#[test]
fn a_pipeline_goes_on_from_snapshots_on_any_number_of_workers() {
    let undisturbed = live(1, &Restored::default(), &[], None);
    let mut restored = Restored::default();
    for (workers, requests, stops_at) in [
        (2, &[40, 120][..], None),
        (1, &[180], None),
        (3, &[200, 220], Some(250)),
        (2, &[], Some(290)),
        (1, &[320, 360], None),
    ] {
        let from = restored.frontier;
        let batches = live(workers, &restored, requests, stops_at);
        let snapshots: Vec<_> =
            batches.iter().filter_map(|batch| Some((batch.frontier, batch.snapshot.clone()?))).collect();
        // What follows the end of a life that was stopped was not complete.
        let to = stops_at.map_or(Time::MAX, |_| snapshots.last().unwrap().1.frontier);
        let found = Rows::between(0, to, &batches);
        // The list of its slide's start is put out again.
        let again = from / SLIDE * SLIDE;
        let expected = Rows::between(from, to, &undisturbed);
        let popular = Rows::between(again.saturating_sub(1), to, &undisturbed).popular;
        assert!(!found.recommendations.is_empty() && !found.popular.is_empty());
        assert_eq!(found, Rows { popular, ..expected }, "{workers} workers, from {from}");
        let frontiers: Vec<Time> = snapshots.iter().map(|(_, snapshot)| snapshot.frontier).collect();
        assert!(frontiers.starts_with(requests));
        assert_eq!(frontiers.len() - requests.len(), usize::from(stops_at.is_some()));
        for (frontier, snapshot) in snapshots {
            assert!(frontier > snapshot.frontier);
            let positions: Vec<_> = snapshot.positions.iter().map(|position| position.partition as usize).collect();
            assert_eq!(positions, (0..workers).collect::<Vec<_>>());
            restored.frontier = snapshot.frontier;
            restored.users.extend(snapshot.users.into_iter().map(|user| (user.user, user)));
            restored.panes.extend(snapshot.panes);
        }
    }
    assert_eq!(restored.users.len(), 11);
    assert_eq!(restored.frontier, 360);
}

#[test]
fn a_pipeline_without_snapshots_holds_nothing_up() {
    timely::execute_directly(|worker| {
        let settings = Settings { snapshots: false, ..settings() };
        let mut pipeline = build(worker, &settings, Arithmetic, None, false);
        events().into_iter().for_each(|event| pipeline.events.send(event));
        pipeline.close();
        while !pipeline.complete.done() {
            worker.step();
        }
        assert_eq!((pipeline.sizes.users.get(), pipeline.sizes.waiting_events.get()), (11, 0));
    });
}
