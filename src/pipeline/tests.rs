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

/// A life of the pipeline: from a snapshot on, with snapshots of its own. What its sinks got.
fn live(workers: usize, from: Time, restored: &[UserState], requests: &[Time]) -> Vec<Batch> {
    let (sinks, batches, permits) = recorder(1 << 20);
    drop(permits);
    let for_workers = sinks.clone();
    let (restored, requests) = (restored.to_vec(), requests.to_vec());
    timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let sending = (index == 0).then(|| Sending::new(for_workers.clone()));
        let mut pipeline = build(worker, &settings(), Arithmetic, sending, true);
        if index == 0 {
            restored.iter().for_each(|row| pipeline.restored_users.send(row.clone()));
        }
        pipeline.close_restored();
        let mut requests = requests.iter().copied().peekable();
        let ours = events().into_iter().filter(|event| event.logical >= from);
        for event in ours {
            if event.position.offset() % peers as u64 == index as u64 {
                pipeline.events.send(event);
            }
            // No event is further behind than this.
            let frontier = Steps::new(TICK).unwrap().frontier(event.time.saturating_sub(13));
            while let Some(asked) = requests.next_if(|asked| *asked < frontier) {
                if index == 0 {
                    pipeline.request_snapshot(asked, peers);
                }
                let position = PartitionPosition { partition: index as u32, offset: asked, largest: None, advanced: 0 };
                pipeline.reports.send(Report { positions: vec![(asked, position)], ..Report::default() });
            }
            if frontier > *pipeline.events.time() {
                pipeline.advance_to(frontier);
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

fn rows_beyond(from: Time, batches: &[Batch]) -> (Vec<Row<SequenceKey>>, Vec<Row<RecommendationKey>>) {
    fn owned<K: Copy>(lists: &Lists<K>) -> Vec<Row<K>> {
        lists.iter().map(|(key, items)| (*key, items.to_vec())).collect()
    }
    let mut recent: Vec<_> = batches.iter().flat_map(|batch| owned(&batch.recent)).collect();
    let mut recommendations: Vec<_> = batches.iter().flat_map(|batch| owned(&batch.recommendations)).collect();
    recent.retain(|(key, _)| key.time > from);
    recommendations.retain(|(key, _)| key.time > from);
    (recent, recommendations)
}

#[test]
fn a_pipeline_goes_on_from_snapshots_on_any_number_of_workers() {
    let undisturbed = live(1, 0, &[], &[]);
    let mut from = 0;
    let mut state: BTreeMap<UserId, UserState> = BTreeMap::new();
    for (workers, requests) in [(2, &[40, 120][..]), (1, &[200]), (3, &[240, 320, 360])] {
        let restored: Vec<UserState> = state.values().cloned().collect();
        let batches = live(workers, from, &restored, requests);
        let found = rows_beyond(0, &batches);
        assert!(!found.1.is_empty());
        assert_eq!(found, rows_beyond(from, &undisturbed), "{workers} workers, from {from}");
        let snapshots: Vec<_> =
            batches.iter().filter_map(|batch| Some((batch.frontier, batch.snapshot.clone()?))).collect();
        assert_eq!(snapshots.iter().map(|(_, snapshot)| snapshot.frontier).collect::<Vec<_>>(), requests);
        for (frontier, snapshot) in snapshots {
            assert!(frontier > snapshot.frontier);
            let partitions: Vec<_> = snapshot.positions.iter().map(|p| (p.partition as usize, p.offset)).collect();
            assert_eq!(partitions, (0..workers).map(|p| (p, snapshot.frontier)).collect::<Vec<_>>());
            from = snapshot.frontier;
            state.extend(snapshot.users.into_iter().map(|user| (user.user, user)));
        }
    }
    assert_eq!(state.len(), 11);
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
