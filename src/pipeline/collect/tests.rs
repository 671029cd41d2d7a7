use super::super::Input;
use super::super::recorder::{finish, recorder};
use super::*;
use crate::sinks::{PartitionPosition, SnapshotRows};
use dataflows::event::{ItemId, UserId};
use proptest::prelude::*;
use std::sync::mpsc::channel;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::vec::ToStream;
use timely::dataflow::operators::{Input as _, Probe};
use timely::worker::Worker;

const TICK: Time = 20;
const SLIDE: Time = 100;

fn slide() -> Steps {
    Steps::new(SLIDE).unwrap()
}

fn position(partition: u32) -> PartitionPosition {
    PartitionPosition { partition, offset: 7, largest: Some(3), advanced: 0 }
}

fn user(id: u64) -> UserState {
    UserState { user: UserId(id), entries: vec![], standing: None }
}

fn list(window_end: Time) -> PopularList {
    PopularList { window_end, items: vec![(ItemId(1), 1)] }
}

/// The batches, as (frontier, window ends, F of the snapshot), that are released at `frontier`.
fn released(waiting: &mut Waiting, snapshots: &mut Snapshots, frontier: Time) -> Vec<(Time, Vec<Time>, Option<Time>)> {
    let mut batches = Vec::new();
    waiting.release(frontier, snapshots, |batch| {
        let ends = batch.popular.iter().map(|list| list.window_end).collect();
        batches.push((batch.frontier, ends, batch.snapshot.map(|snapshot| snapshot.frontier)));
    });
    batches
}

/// Snapshots at these frontiers, whole as soon as their frontiers have been passed.
fn whole(frontiers: &[Time]) -> Snapshots {
    let mut snapshots = Snapshots::default();
    for &frontier in frontiers {
        snapshots.expect(frontier, frontier, 1);
        snapshots.add_position(frontier, position(0));
    }
    snapshots
}

#[test]
fn a_snapshot_leaves_when_its_frontier_has_been_passed() {
    let (mut waiting, mut snapshots) = (Waiting::new(slide()), whole(&[200]));
    waiting.popular = vec![list(100), list(200)];
    assert_eq!(released(&mut waiting, &mut snapshots, 200), [(200, vec![100], None)]);
    assert_eq!(released(&mut waiting, &mut snapshots, 220), [(220, vec![200], Some(200))]);
    assert_eq!(released(&mut waiting, &mut snapshots, 240), []);
}

#[test]
fn a_snapshot_may_be_asked_for_when_its_tick_is_over() {
    let (mut waiting, mut snapshots) = (Waiting::new(slide()), Snapshots::default());
    snapshots.expect(201, 200, 1);
    snapshots.add_position(201, position(0));
    assert_eq!(released(&mut waiting, &mut snapshots, 201), [(201, vec![], None)], "the rows are not all there");
    assert_eq!(released(&mut waiting, &mut snapshots, 220), [(220, vec![], Some(200))]);
}

#[test]
fn snapshots_that_are_due_together_leave_in_batches_of_their_own() {
    let (mut waiting, mut snapshots) = (Waiting::new(slide()), whole(&[100, 200, 300]));
    waiting.popular = vec![list(100), list(200), list(300)];
    let batches = [(200, vec![100], Some(100)), (320, vec![200, 300], Some(200))];
    snapshots.expect(300, 300, 2);
    assert_eq!(released(&mut waiting, &mut snapshots, 320), batches, "the third is not whole");
    snapshots.add_position(300, position(1));
    assert_eq!(
        released(&mut waiting, &mut snapshots, 320),
        [],
        "a durable 320 would not say that this is durable, too"
    );
    assert_eq!(released(&mut waiting, &mut snapshots, 340), [(340, vec![], Some(300))]);
}

#[test]
fn a_snapshot_waits_for_all_partitions_and_for_those_before_it() {
    let (mut waiting, mut snapshots) = (Waiting::new(slide()), whole(&[200]));
    snapshots.expect(100, 100, 2);
    snapshots.add_position(100, position(1));
    // The same again is no other; and nobody has asked for 150.
    snapshots.add_position(100, position(1));
    snapshots.add_position(150, position(0));
    snapshots.add_users(100, vec![user(5)]);
    assert_eq!(released(&mut waiting, &mut snapshots, 220), [(220, vec![], None)], "only the ends of windows");
    snapshots.add_position(100, position(0));
    let mut rows = Vec::new();
    waiting.release(240, &mut snapshots, |batch| rows.push((batch.frontier, batch.snapshot.unwrap())));
    assert_eq!((rows[0].0, rows[0].1.frontier, &rows[0].1.users), (240, 100, &vec![user(5)]));
    assert_eq!(rows[0].1.positions, [position(0), position(1)]);
    assert_eq!(rows.len(), 1);
    assert_eq!(released(&mut waiting, &mut snapshots, 260), [(260, vec![], Some(200))]);
}

#[test]
fn sinks_hear_of_ends_of_windows_without_a_list_and_of_nothing_else() {
    let (mut waiting, mut snapshots) = (Waiting::new(slide()), Snapshots::default());
    let mut frontiers = |frontier| released(&mut waiting, &mut snapshots, frontier);
    assert_eq!(frontiers(0), []);
    assert_eq!(frontiers(1020), [(1020, vec![], None)]);
    assert_eq!(frontiers(1040), []);
    assert_eq!(frontiers(1100), [], "the list of 1100 may yet come");
    assert_eq!(frontiers(1120), [(1120, vec![], None)]);
    assert_eq!(frontiers(Time::MAX), [], "the end tells that");
}

proptest! {
    /// The last window of a snapshot is that of the events before its slide, however far the log has been read meanwhile.
    #[test]
    fn a_snapshot_has_the_last_window_before_it(
        mut events in prop::collection::vec(0u64..6_000, 1..12),
        asked in prop::collection::btree_set(1u64..300, 1..5),
        slides in 1u64..6,
        ahead in 0u64..3_000,
    ) {
        events.sort_unstable();
        let window = Window::new(slides * SLIDE, slide()).unwrap();
        let ends = (1..=80).map(|n| n * SLIDE);
        let holds = |end: Time| events.iter().any(|&at| at < end && at + slides * SLIDE >= end);
        let mut lists = ends.filter(|&end| holds(end)).peekable();
        let mut last = Last { window, newest: VecDeque::new(), ends: BTreeSet::new() };
        for frontier in asked.into_iter().map(|n| n * TICK) {
            let start = slide().start_of(frontier);
            while let Some(end) = lists.next_if(|&end| end < frontier) {
                last.add(&list(end), None);
            }
            while let Some(end) = lists.next_if(|&end| end < frontier + ahead) {
                last.add(&list(end), Some(frontier));
            }
            last.ends.extend(events.iter().filter(|&&at| at < frontier + ahead).map(|&at| slide().end_of(at)));
            let before = events.iter().copied().filter(|&at| at < start).max().map(|at| slide().end_of(at));
            let expected = before.map(|end| LastWindow { end, list: (end < start).then(|| list(end)) });
            prop_assert_eq!(last.at(frontier), expected);
            prop_assert!(last.newest.len() as u64 <= 2 * slides + 6 + ahead / SLIDE);
        }
    }
}

struct Ends {
    reports: Input<Report>,
    lists: Input<PopularList>,
    users: Input<(Time, Vec<UserState>)>,
    probe: ProbeHandle<Time>,
}

impl Ends {
    fn build(worker: &mut Worker, collected: &Rc<RefCell<Collected>>) -> Ends {
        let probe = ProbeHandle::new();
        worker.dataflow::<Time, _, _>(|scope| {
            let (reports_handle, reports) = scope.new_input::<Vec<Report>>();
            let (lists_handle, lists) = scope.new_input::<Vec<PopularList>>();
            let (users_handle, users) = scope.new_input::<Vec<(Time, Vec<UserState>)>>();
            let (rows, panes) = (None.to_stream(scope), None.to_stream(scope));
            collect(Incoming { reports, lists, rows, users, panes }, Time::MAX, collected).probe_with(&probe);
            Ends { reports: reports_handle, lists: lists_handle, users: users_handle, probe }
        })
    }

    fn advance_to(&mut self, time: Time) {
        self.reports.advance_to(time);
        self.lists.advance_to(time);
        self.users.advance_to(time);
    }
}

fn step_until(worker: &mut Worker, mut done: impl FnMut() -> bool) {
    while !done() {
        worker.step_or_park(Some(TRY_AGAIN));
    }
}

#[test]
fn a_sink_without_room_holds_the_frontier_and_not_the_worker() {
    // Room for one batch, from when it is handed over until it is written.
    let (sinks, batches, permits) = recorder(0);
    let for_worker = sinks.clone();
    timely::execute_directly(move |worker| {
        let (to_snapshots, with_snapshots) = channel();
        let sending = Sending::live(for_worker, to_snapshots);
        let collected = Rc::new(RefCell::new(Collected::new(Window::new(SLIDE, slide()).unwrap(), Some(sending))));
        let mut ends = Ends::build(worker, &collected);
        collected.borrow_mut().expect_positions(200, 200, 1);
        ends.lists.send(list(100));
        ends.lists.send(list(200));
        ends.users.send((200, vec![user(1)]));
        ends.reports.send(Report { positions: vec![(200, position(0))], ..Report::default() });
        ends.advance_to(120);
        step_until(worker, || !ends.probe.less_than(&120));
        ends.advance_to(220);
        (0..100).for_each(|_| {
            worker.step();
        });
        assert!(ends.probe.less_than(&121), "the second batch found no room");
        assert!(with_snapshots.try_recv().is_err());
        permits.send(()).unwrap();
        step_until(worker, || !ends.probe.less_than(&220));
        assert_eq!(with_snapshots.try_recv().unwrap().frontier, 220);
    });
    finish(&sinks);
    let batches = batches.lock().unwrap();
    let told: Vec<_> = batches.iter().map(|b| (b.frontier, b.popular.len(), b.snapshot.clone())).collect();
    let (users, positions) = (vec![user(1)], vec![position(0)]);
    let snapshot = SnapshotRows { frontier: 200, users, panes: vec![], positions, last: None };
    assert_eq!(told, [(120, 1, None), (220, 1, Some(snapshot))]);
}
