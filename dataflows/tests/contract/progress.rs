//! Outputs keep up with inputs: what is complete comes out while more is owed for later times, and so do the frontiers, which
//! let whoever comes behind go on.

use dataflows::event::{Behavior, Event, ItemId, Position, Time, UserId};
use dataflows::popular::{Popular, arrange_window_counts, popular};
use dataflows::recent::{Recent, arrange_recent, recent};
use dataflows::recommend::{Exclude, NoModel, Recommend, recommend};
use dataflows::sizes::Sizes;
use dataflows::time::{Steps, Window};
use std::cell::Cell;
use std::rc::Rc;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::{Input, Inspect, Probe};

const TICK: Time = 10;
const SLIDE: Time = 20;
/// Far more than there are operators in a row.
const STEPS_MAX: usize = 100;

#[test]
fn what_is_complete_comes_out_while_more_is_owed() {
    timely::execute_directly(|worker| {
        let slide = Steps::new(SLIDE).unwrap();
        let window = Window::new(50 * SLIDE, slide).unwrap();
        let sizes = Rc::new(Sizes::default());
        let (lists_out, ticks_out, snapshots_out) =
            (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let probe = Handle::new();
        let (mut events, mut requests) = worker.dataflow::<Time, _, _>(|scope| {
            let (events_handle, events) = scope.new_input::<Vec<Event>>();
            let (requests_handle, requests) = scope.new_input::<Vec<Time>>();
            let restored_panes = scope.new_input::<Vec<_>>().1;
            let restored_users = scope.new_input::<Vec<_>>().1;
            let options = Popular { window, top: 3, weights: vec![], differences: true, snapshots: true };
            let trending = popular(events.clone(), requests.clone(), restored_panes, &options, &sizes);
            let options = Recent { tick: Steps::new(TICK).unwrap(), length: 4, differences: true, snapshots: true };
            let recent = recent(events, requests, restored_users, options, &sizes);
            let options = Recommend { n: 2, min_history: 1, exclude: Exclude::None, slide, rewards: vec![] };
            let recommended = recommend(recent.steps, trending.lists.clone(), options, NoModel);
            let count = |cell: &Rc<Cell<u64>>| {
                let cell = cell.clone();
                move || cell.set(cell.get() + 1)
            };
            let (list, tick, panes, users) =
                (count(&lists_out), count(&ticks_out), count(&snapshots_out), count(&snapshots_out));
            trending.lists.inspect(move |_| list()).probe_with(&probe);
            trending.snapshots.inspect(move |_| panes()).probe_with(&probe);
            recommended.recommended.inspect(move |_| tick()).probe_with(&probe);
            recommended.snapshots.inspect(move |_| users()).probe_with(&probe);
            arrange_window_counts(trending.differences).stream.probe_with(&probe);
            arrange_recent(recent.differences).stream.probe_with(&probe);
            (events_handle, requests_handle)
        });
        let mut times: Vec<Time> = Vec::new();
        for tick in 0..100 {
            // One event a tick, and one of the next tick already; each item is new.
            for time in [tick * TICK + 1, (tick + 1) * TICK + 2] {
                times.push(time);
                let (item, position) = (ItemId(time), Position::new(0, time).unwrap());
                events.send(Event {
                    user: UserId(tick % 7),
                    item,
                    time,
                    logical: time,
                    position,
                    behavior: Behavior(0),
                    late: false,
                });
            }
            let frontier = (tick + 2) * TICK;
            if frontier.is_multiple_of(SLIDE) {
                requests.send(frontier);
            }
            events.advance_to(frontier);
            requests.advance_to(frontier);
            for _ in 0..STEPS_MAX {
                worker.step();
            }
            assert!(!probe.less_than(&frontier), "the outputs are not at {frontier}, where the inputs are");
            // Complete is what ends before the frontier.
            let (ticks, lists) = (frontier / TICK - 1, (frontier - 1) / SLIDE);
            assert_eq!((ticks_out.get(), lists_out.get()), (ticks, lists), "ticks and lists before {frontier}");
            assert_eq!(snapshots_out.get(), 2 * lists, "parts of snapshots before {frontier}");
            assert_eq!((sizes.users.get(), sizes.waiting_events.get()), ((tick + 1).min(7), 1));
            let end = lists * SLIDE;
            let in_window = times.iter().filter(|&&time| time < end && time + window.length() >= end);
            assert_eq!(sizes.window_items.get(), in_window.count() as u64, "items in the window that ends at {end}");
        }
    });
}
