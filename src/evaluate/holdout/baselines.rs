//! What a model has to beat: popularity, recent popularity, and chance.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::super::random::Stream;
use super::Settings;
use super::rankings::{Case, Rankings, first_k};
use crate::learn::Interactions;

/// The items with the most training events; of equal ones the smaller id. The catalogue is in that order.
pub(super) fn popularity(log: &Interactions, cases: &[Case], settings: &Settings) -> Rankings {
    let mut rankings = Rankings::default();
    for &case in cases {
        rankings.push(first_k(0..log.catalogue as u32, log, case, settings));
    }
    rankings
}

/// The items with the most training events, of all users, in the window before the case's first test event at t: times in
/// [t − window, t); of equal ones the smaller index. Popularity fills up where the window has too few items.
///
/// One sweep over the training events by time. Memory: 8 bytes a training event, and some 50 an item in the window.
pub(super) fn recent_popularity(log: &Interactions, cases: &[Case], settings: &Settings) -> Rankings {
    let mut events: Vec<usize> = (0..log.users.len()).flat_map(|user| log.train(user)).collect();
    events.sort_unstable_by_key(|&row| (log.time[row], row));
    let asked_at = |case: Case| log.time[log.test(case.user).start];
    let mut by_time: Vec<usize> = (0..cases.len()).collect();
    by_time.sort_unstable_by_key(|&case| (asked_at(cases[case]), case));

    let mut window = Window { counts: vec![0; log.catalogue], ranked: BTreeSet::new() };
    let (mut entered, mut left) = (0, 0);
    let mut lists: Vec<Vec<u32>> = vec![Vec::new(); cases.len()];
    for index in by_time {
        let time = asked_at(cases[index]);
        let start = time.saturating_sub(settings.recent_window_ms);
        while events.get(entered).is_some_and(|&row| log.time[row] < time) {
            window.change(log.item[events[entered]], 1);
            entered += 1;
        }
        while left < entered && log.time[events[left]] < start {
            window.change(log.item[events[left]], -1);
            left += 1;
        }
        let recent = window.ranked.iter().map(|&(_, item)| item);
        lists[index] = first_k(recent.chain(0..log.catalogue as u32), log, cases[index], settings);
    }
    let mut rankings = Rankings::default();
    lists.into_iter().for_each(|list| rankings.push(list));
    rankings
}

/// The items of a window, by their counts.
struct Window {
    counts: Vec<i64>,
    ranked: BTreeSet<(Reverse<i64>, u32)>,
}

impl Window {
    fn change(&mut self, item: u32, by: i64) {
        let count = &mut self.counts[item as usize];
        if *count > 0 {
            self.ranked.remove(&(Reverse(*count), item));
        }
        *count += by;
        if *count > 0 {
            self.ranked.insert((Reverse(*count), item));
        }
    }
}

/// k different items, each equally likely. The draws of a case depend on the seed and its user's raw id alone.
pub(super) fn random(log: &Interactions, cases: &[Case], settings: &Settings) -> Rankings {
    let catalogue = log.catalogue as u64;
    let mut rankings = Rankings::default();
    for &case in cases {
        let mut stream = Stream::new(settings.seed, log.users[case.user]);
        // Enough draws for k different items that are not excluded; the rest of a shuffle where that is nearly all there is.
        let wanted = (settings.k + if settings.exclude_history { settings.history } else { 0 }) as u64;
        let list = if wanted * 2 <= catalogue {
            first_k(std::iter::repeat_with(|| stream.below(catalogue) as u32), log, case, settings)
        } else {
            first_k(shuffled(&mut stream, log.catalogue), log, case, settings)
        };
        rankings.push(list);
    }
    rankings
}

fn shuffled(stream: &mut Stream, count: usize) -> Vec<u32> {
    let mut items: Vec<u32> = (0..count as u32).collect();
    for at in (1..count).rev() {
        items.swap(at, stream.below(at as u64 + 1) as usize);
    }
    items
}
