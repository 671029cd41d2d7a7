//! The baseline *repeat-recent*: every user's last n distinct items, as of each tick (contract, section 6).
//!
//! ```text
//! recommended (ticks, by user) ── repeat-recent ── how each event met the list that stood, and the lists that stand then
//! ```
//!
//! A sequence does not tell it: its `length` entries may be one item, `length` times. So a user costs n items here, each with its
//! newest event by (time, partition, offset), the order of sequences. That is enough, in whatever order events come: an item
//! that is not among the n is behind all of them, they only move further up, and an older event of it could not bring it back.

use crate::event::{Event, ItemId, Position, Time};
use crate::lists::Lists;
use crate::recommend::{Met, Recommended};
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

/// A tick, with the baseline's part in it.
#[derive(Clone, Debug)]
pub(crate) struct Repeated {
    pub(crate) done: Rc<Recommended>,
    /// For each event of the tick, how it met the list that stood before the tick.
    pub(crate) met: Vec<Met>,
    /// For each row of the tick's sequences, the user's list as of the tick.
    pub(crate) lists: Lists<()>,
}

/// Adds the baseline to each tick. `recommended` comes in the order of ticks.
pub(crate) fn repeat_recent<'s>(
    recommended: StreamVec<'s, Time, Rc<Recommended>>,
    n: usize,
) -> StreamVec<'s, Time, Rc<Repeated>> {
    recommended.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "evaluate: repeat-recent", move |_, _| {
        let mut newest = Newest { n, users: Vec::new() };
        move |input, output| {
            input.for_each(|capability, recommended| {
                let mut session = output.session(&capability);
                recommended.drain(..).for_each(|done| session.give(Rc::new(newest.apply(done))));
            });
        }
    })
}

/// An item, by its newest event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Last {
    time: Time,
    position: Position,
    item: ItemId,
}

/// The state on one worker.
struct Newest {
    n: usize,
    /// By slot: the n newest items, newest first.
    users: Vec<Vec<Last>>,
}

impl Newest {
    fn apply(&mut self, done: Rc<Recommended>) -> Repeated {
        let tick = &done.tick;
        let users = tick.slots.iter().max().map_or(0, |&slot| slot as usize + 1);
        self.users.resize(self.users.len().max(users), Vec::new());
        let events = || tick.events.iter().zip(&tick.rows).map(|(event, &row)| (event, tick.slots[row as usize]));
        let met = events().map(|(event, slot)| self.meet(slot as usize, event.item)).collect();
        for (event, slot) in events() {
            self.take(slot as usize, event);
        }
        let mut lists = Lists::default();
        for &slot in &tick.slots {
            lists.push_with((), |items| items.extend(self.users[slot as usize].iter().map(|last| last.item)));
        }
        Repeated { met, lists, done }
    }

    fn meet(&self, slot: usize, item: ItemId) -> Met {
        let list = &self.users[slot];
        match list.iter().position(|last| last.item == item) {
            Some(place) => Met::Hit(place as u32),
            None if list.is_empty() => Met::NoList,
            None => Met::Miss,
        }
    }

    fn take(&mut self, slot: usize, event: &Event) {
        let (list, new) = (&mut self.users[slot], Last::of(event));
        match list.iter().position(|last| last.item == new.item) {
            Some(place) if list[place] > new => return,
            Some(place) => drop(list.remove(place)),
            None => {}
        }
        let place = list.partition_point(|last| *last > new);
        if place < self.n {
            list.truncate(self.n - 1);
            list.insert(place, new);
        }
    }
}

impl Last {
    fn of(event: &Event) -> Last {
        Last { time: event.time, position: event.position, item: event.item }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event::{Behavior, UserId};

    fn event(time: Time, offset: u64, item: u64) -> Event {
        Event {
            user: UserId(7),
            item: ItemId(item),
            time,
            logical: time,
            position: Position::new(0, offset).unwrap(),
            behavior: Behavior(0),
            late: false,
        }
    }

    fn list(newest: &Newest) -> Vec<u64> {
        newest.users[0].iter().map(|last| last.item.0).collect()
    }

    fn taken(n: usize, events: &[(Time, u64, u64)]) -> Newest {
        let mut newest = Newest { n, users: vec![Vec::new()] };
        events.iter().for_each(|&(time, offset, item)| newest.take(0, &event(time, offset, item)));
        newest
    }

    #[test]
    fn an_item_is_known_however_often_another_came_after_it() {
        let mut events: Vec<(Time, u64, u64)> = (1..=5).map(|item| (item, item, item)).collect();
        events.extend((6..=15).map(|at| (at, at, 9)));
        let newest = taken(8, &events);
        assert_eq!(list(&newest), [9, 5, 4, 3, 2, 1]);
        assert_eq!(newest.meet(0, ItemId(3)), Met::Hit(3));
        assert_eq!(newest.meet(0, ItemId(8)), Met::Miss);
        assert_eq!(taken(8, &[]).meet(0, ItemId(3)), Met::NoList);
    }

    #[test]
    fn lists_are_those_of_all_events_in_any_order() {
        let mut events: Vec<(Time, u64, u64)> =
            (0..60).map(|at: u64| (at * 37 % 20, at, at * at % 11 + at % 3)).collect();
        let mut sorted = events.clone();
        sorted.sort();
        let mut expected: Vec<u64> = Vec::new();
        for (.., item) in sorted.iter().rev() {
            if !expected.contains(item) {
                expected.push(*item);
            }
        }
        for n in [1, 2, 5, 20] {
            for turn in 0..events.len() {
                events.rotate_left(1 + turn % 3);
                assert_eq!(list(&taken(n, &events)), expected[..n.min(expected.len())]);
            }
        }
    }
}
