//! The custom operators against the same collections by differential's own operators: equal at every time.

use dataflows::event::{Behavior, Event, ItemId, Position, Time, UserId};
use dataflows::popular::{Popular, arrange_window_counts, popular};
use dataflows::recent::{Entry, Recent, recent};
use dataflows::time::{Steps, Window};
use differential_dataflow::AsCollection;
use differential_dataflow::consolidation::consolidate_updates;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::vec::{Map, ToStream};
use timely::dataflow::operators::{Input, Inspect, Operator};
use timely::dataflow::{InputHandle, StreamVec};

/// Updates of a collection, in order and added up.
type Updates<D> = Arc<Mutex<Vec<(D, Time, i64)>>>;

fn taken<D: Ord>(updates: &Updates<D>) -> Vec<(D, Time, i64)> {
    let mut updates = std::mem::take(&mut *updates.lock().unwrap());
    consolidate_updates(&mut updates);
    updates
}

/// Feeds the events to `build`'s dataflow, a few at a time, with the frontier that their logical times allow.
fn run(
    events: &[Event],
    tick: Steps,
    workers: usize,
    build: impl for<'s> Fn(StreamVec<'s, Time, Event>) + Send + Sync + 'static,
) {
    let events = Arc::new(events.to_vec());
    timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let mut input: InputHandle<Time, CapacityContainerBuilder<Vec<Event>>> = worker.dataflow(|scope| {
            let (input, stream) = scope.new_input();
            build(stream);
            input
        });
        for (at, &event) in events.iter().enumerate() {
            if at % peers == index {
                input.send(event);
            }
            let least = events[at + 1..].iter().map(|e| e.logical).min();
            input.advance_to(least.map_or(*input.time(), |least| tick.frontier(least)));
            worker.step();
        }
    })
    .unwrap();
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0u64..4, 0u64..6, 0u8..3, 0u64..40, 0u64..15);
    prop::collection::vec(event, 1..60).prop_map(|rows| {
        let mut clock = 0;
        let place = |(offset, (user, item, behavior, ahead, back)): (usize, (u64, u64, u8, Time, Time))| {
            clock += ahead / 6;
            let time = clock.saturating_sub(back);
            Event {
                user: UserId(user),
                item: ItemId(item),
                time,
                logical: clock,
                position: Position::new(0, offset as u64).unwrap(),
                behavior: Behavior(behavior),
                late: time < clock,
            }
        };
        rows.into_iter().enumerate().map(place).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// In differential's terms: each event is in the collection from one window end to another.
    #[test]
    fn window_counts_are_a_differential_count(events in events(), workers in 1usize..4) {
        let tick = Steps::new(4).unwrap();
        let options = Popular {
            window: Window::new(24, Steps::new(8).unwrap()).unwrap(),
            top: 3,
            weights: vec![1, 0, 2],
            differences: true,
            snapshots: false,
        };
        let (custom, differential) = (Updates::<ItemId>::default(), Updates::<ItemId>::default());
        let (a, b) = (custom.clone(), differential.clone());
        run(&events, tick, workers, move |stream| {
            let (a, b, window) = (a.clone(), b.clone(), options.window);
            let scope = stream.scope();
            let trending =
                popular(stream.clone(), None.to_stream(scope), None.to_stream(scope), &options, &Default::default());
            let counts = arrange_window_counts(trending.differences);
            counts.as_collection(|item, ()| *item).inner
                .inspect(move |(item, time, diff)| a.lock().unwrap().push((*item, *time, *diff)));
            let weights = options.weights.clone();
            stream.flat_map(move |event| {
                let weight = i64::from(weights[usize::from(event.behavior.0)]);
                let span = window.span(event.time, event.logical).into_iter();
                span.flat_map(move |(enters, leaves)| [(event.item, enters, weight), (event.item, leaves, -weight)])
            })
            .as_collection()
            .consolidate().inner
            .inspect(move |(item, time, diff)| b.lock().unwrap().push((*item, *time, *diff)));
        });
        prop_assert_eq!(taken(&custom), taken(&differential));
    }

    /// In differential's terms: of each user's entries, the last `length`.
    #[test]
    fn recent_is_a_differential_reduce(events in events(), workers in 1usize..4, length in 1usize..5) {
        let tick = Steps::new(4).unwrap();
        let (custom, differential) = (Updates::<(UserId, Entry)>::default(), Updates::<(UserId, Entry)>::default());
        let (a, b) = (custom.clone(), differential.clone());
        run(&events, tick, workers, move |stream| {
            let (a, b) = (a.clone(), b.clone());
            let options = Recent { tick, length, differences: true, snapshots: false };
            let scope = stream.scope();
            let (requests, restored) = (None.to_stream(scope), None.to_stream(scope));
            recent(stream.clone(), requests, restored, options, &Default::default()).differences
                .inspect(move |(entry, time, diff)| a.lock().unwrap().push((*entry, *time, *diff as i64)));
            let entries = stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "entries", |_, _| {
                move |input, output| input.for_each(|capability, events| {
                    output.session(&capability).give_iterator(events.drain(..).map(|event| {
                        let entry = Entry { time: event.time, position: event.position, item: event.item };
                        ((event.user, entry), tick.end_of(event.logical), 1isize)
                    }));
                })
            });
            entries.as_collection().reduce(move |_, entries, last| {
                let first = entries.len().saturating_sub(length);
                last.extend(entries[first..].iter().map(|(entry, _)| (**entry, 1isize)));
            }).inner
            .inspect(move |(entry, time, diff)| b.lock().unwrap().push((*entry, *time, *diff as i64)));
        });
        prop_assert_eq!(taken(&custom), taken(&differential));
    }
}
