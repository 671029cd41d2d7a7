//! Recent sequences: ten items a user, and the events of the seconds that are still open.

use crate::clock::{Clock, LATENESS_S};
use crate::digest::Digest;

const TICK_S: u64 = 20;
const LENGTH: usize = 10;
/// Seconds that can be open at a time, rounded up to a power of two.
const SECONDS: usize = 16;
const _: () = assert!(SECONDS as u64 > LATENESS_S + 1);

/// The last items, in a ring.
#[derive(Clone, Default)]
struct User {
    items: [u32; LENGTH],
    /// End of the tick it last had an event in, in ticks.
    tick: u32,
    /// Where the next item goes.
    next: u8,
    len: u8,
}

pub struct Recent {
    clock: Clock,
    ticks: Ticks,
}

struct Ticks {
    users: Vec<User>,
    /// Events by second, mod [`SECONDS`], in the log's order.
    seconds: [Vec<(u32, u32)>; SECONDS],
    /// Users with an event in the tick that is being filled.
    changed: Vec<u32>,
    digest: Digest,
}

impl Recent {
    pub fn new(users: usize) -> Recent {
        let seconds = std::array::from_fn(|_| Vec::new());
        let ticks =
            Ticks { users: vec![User::default(); users], seconds, changed: Vec::new(), digest: Digest::default() };
        Recent { clock: Clock::new(1), ticks }
    }

    #[inline]
    pub fn event(&mut self, user: u64, item: u64, time: u64) {
        self.clock.advance(time, |second| self.ticks.close(second));
        self.ticks.seconds[time as usize % SECONDS].push((user as u32, item as u32));
    }

    /// Closes all ticks.
    pub fn end(mut self) -> Digest {
        for second in self.clock.open()..self.clock.open() + SECONDS as u64 {
            self.ticks.close(second);
        }
        let open = self.clock.open() + SECONDS as u64;
        self.ticks.emit((open / TICK_S + 1) * TICK_S);
        self.ticks.digest
    }
}

impl Ticks {
    fn close(&mut self, second: u64) {
        let tick = (second / TICK_S + 1) as u32;
        let mut events = std::mem::take(&mut self.seconds[second as usize % SECONDS]);
        for (id, item) in events.drain(..) {
            let user = &mut self.users[id as usize];
            if user.tick != tick {
                user.tick = tick;
                self.changed.push(id);
            }
            user.items[usize::from(user.next)] = item;
            user.next = if usize::from(user.next) + 1 == LENGTH { 0 } else { user.next + 1 };
            user.len = (user.len + 1).min(LENGTH as u8);
        }
        self.seconds[second as usize % SECONDS] = events;
        if (second + 1).is_multiple_of(TICK_S) {
            self.emit(second + 1);
        }
    }

    fn emit(&mut self, tick: u64) {
        for &id in &self.changed {
            let user = &self.users[id as usize];
            let (len, next) = (usize::from(user.len), usize::from(user.next));
            let mut row = [0; 3 + LENGTH];
            row[..3].copy_from_slice(&[len as u64, tick * 1000, u64::from(id)]);
            let (newer, older) = user.items[..len.max(next)].split_at(next);
            for (field, item) in row[3..].iter_mut().zip(older.iter().chain(newer)) {
                *field = u64::from(*item);
            }
            self.digest.add(&row[..3 + len]);
        }
        self.changed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Log;
    use crate::read::for_each_row;
    use std::collections::{BTreeMap, BTreeSet};

    fn slow(events: &[(u64, u64, u64)]) -> Digest {
        let mut digest = Digest::default();
        let mut by_tick: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for (user, _, time) in events {
            by_tick.entry((time / TICK_S + 1) * TICK_S).or_default().insert(*user);
        }
        for (tick, users) in by_tick {
            for user in users {
                let mut of_user: Vec<_> = events.iter().filter(|(id, _, time)| *id == user && *time < tick).collect();
                of_user.sort_by_key(|(_, _, time)| *time);
                let last = &of_user[of_user.len().saturating_sub(LENGTH)..];
                let mut row = vec![last.len() as u64, tick * 1000, user];
                row.extend(last.iter().map(|(_, item, _)| item));
                digest.add(&row);
            }
        }
        digest
    }

    #[test]
    fn sequences_are_those_of_a_slow_reference() {
        for (users, disorder_s) in [(3, 0), (3, 5), (60, 5)] {
            let log = Log { events: 2000, users, items: 1000, span_s: 1777, disorder_s, seed: users };
            let mut text = Vec::new();
            log.write_to(&mut text).unwrap();
            let (mut events, mut recent) = (Vec::new(), Recent::new(users as usize));
            for_each_row(&mut text.as_slice(), |user, item, time| {
                events.push((user, item, time));
                recent.event(user, item, time);
            })
            .unwrap();
            assert_eq!(recent.end(), slow(&events));
        }
    }
}
