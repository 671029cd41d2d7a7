//! Which events are kept: the earliest of each (user, item, behaviour), of users that have neither too few nor too many.

use hashbrown::HashSet;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::learn::Interactions;

/// Users with so many events, and how many of these users to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The fewest events, at least 1.
    pub events_min: u64,
    /// The most.
    pub events_max: u64,
    /// Users to draw; all, if there are fewer.
    pub users_max: u64,
}

impl Group {
    /// What the contract says: 6 to 50 events, 60,000 users.
    pub const LIGHT: Group = Group { events_min: 6, events_max: 50, users_max: 60_000 };
    /// What the contract says: 51 to 200 events, 20,000 users.
    pub const HEAVY: Group = Group { events_min: 51, events_max: 200, users_max: 20_000 };

    fn holds(&self, events: u64) -> bool {
        (self.events_min..=self.events_max).contains(&events)
    }
}

/// How many users have how many events, repeats left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Users in all.
    pub users: u64,
    /// With fewer events than the first group's users.
    pub users_below: u64,
    /// With more than the first group's and fewer than the second's.
    pub users_between: u64,
    /// With more than the second group's.
    pub users_above: u64,
    /// In the first group.
    pub users_light: u64,
    /// In the second group.
    pub users_heavy: u64,
    /// Drawn from the first group.
    pub kept_light: u64,
    /// Drawn from the second group.
    pub kept_heavy: u64,
}

/// What is kept of a log.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// User indices, ascending.
    pub(super) users: Vec<u32>,
    /// (user index, row), by user and row.
    pub(super) rows: Vec<(u32, usize)>,
}

impl Kept {
    /// The events by (time, raw user id, order of the user's events).
    pub(super) fn by_time(&self, log: &Interactions) -> Vec<(u32, usize)> {
        let mut rows = self.rows.clone();
        rows.sort_unstable_by_key(|&(user, row)| (log.time[row], log.users[user as usize], row));
        rows
    }
}

/// Chooses users and events; also says how many events were repeats.
pub(super) fn select(log: &Interactions, groups: &[Group; 2], seed: u64) -> (Kept, u64, Counted) {
    let mut counted = Counted { users: log.users.len() as u64, ..Counted::default() };
    let (mut duplicates, mut seen) = (0, HashSet::new());
    let mut members: [Vec<u32>; 2] = Default::default();
    for user in 0..log.users.len() {
        let events = first_rows(log, user, &mut seen).count() as u64;
        duplicates += log.rows(user).len() as u64 - events;
        match groups.iter().position(|group| group.holds(events)) {
            Some(group) => members[group].push(user as u32),
            None if events < groups[0].events_min => counted.users_below += 1,
            None if events > groups[1].events_max => counted.users_above += 1,
            None => counted.users_between += 1,
        }
    }
    [counted.users_light, counted.users_heavy] = [members[0].len() as u64, members[1].len() as u64];
    let drawn = [0, 1].map(|group| draw(log, std::mem::take(&mut members[group]), groups[group].users_max, seed));
    [counted.kept_light, counted.kept_heavy] = [drawn[0].len() as u64, drawn[1].len() as u64];
    let mut kept = Kept { users: drawn.concat(), rows: Vec::new() };
    kept.users.sort_unstable();
    for &user in &kept.users {
        kept.rows.extend(first_rows(log, user as usize, &mut seen).map(|row| (user, row)));
    }
    (kept, duplicates, counted)
}

/// The rows of a user without those that repeat the item and behaviour of an earlier one.
fn first_rows<'a>(
    log: &'a Interactions,
    user: usize,
    seen: &'a mut HashSet<(u32, u8)>,
) -> impl Iterator<Item = usize> + 'a {
    seen.clear();
    log.rows(user).filter(move |&row| seen.insert((log.item[row], log.behavior[row])))
}

/// `count` of `users`, or all: those with the smallest hash of their raw id. So whether a user is drawn does not depend on the
/// order of the log, and a larger count keeps those that a smaller one has.
fn draw(log: &Interactions, mut users: Vec<u32>, count: u64, seed: u64) -> Vec<u32> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if users.len() > count {
        let key = |&user: &u32| {
            let id = log.users[user as usize];
            (xxh3_64_with_seed(&id.to_le_bytes(), seed), id)
        };
        users.sort_by_cached_key(key);
        users.truncate(count);
    }
    users
}
