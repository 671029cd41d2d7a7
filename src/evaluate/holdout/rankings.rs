//! The cases, the lists that a method gives them, and the model's lists.

use std::sync::Arc;

use hashbrown::HashSet;

use super::Settings;
use crate::learn::Interactions;
use crate::model::philox::Draw;
use crate::model::rank::Model;
use crate::model::scorer::{Ranked, Requests, Scorer};

/// Requests that a model is asked at a time.
const BATCH: usize = 256;

/// A user that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// Its index in the log.
    pub(super) user: usize,
}

/// The users with a test part, in the order of their indices.
pub(super) fn cases(log: &Interactions) -> Vec<Case> {
    let users = 0..log.users.len();
    users.filter(|&user| !log.test(user).is_empty()).map(|user| Case { user }).collect()
}

/// One list for each case, best item first, at most k items and none twice. Items are indices of the log; those of a model
/// that the log does not have at all come after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rankings {
    items: Vec<u32>,
    ends: Vec<usize>,
}

/// What the lists of a method hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Holds {
    /// Cases without any item.
    pub(super) cases_without_list: u64,
    /// Items on lists, with repeats.
    pub(super) items: u64,
    /// Different items of the catalogue on lists.
    pub(super) distinct_items: u64,
    /// Mean −log2 of the share of all training events of an item on a list; `None` without such items.
    pub(super) novelty_bits: Option<f64>,
}

impl Rankings {
    /// Appends the list of the next case.
    pub(super) fn push(&mut self, list: impl IntoIterator<Item = u32>) {
        self.items.extend(list);
        self.ends.push(self.items.len());
    }

    /// The list of case `case`.
    pub(super) fn list(&self, case: usize) -> &[u32] {
        let start = case.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.items[start..self.ends[case]]
    }

    /// Appends the lists of `other`.
    fn append(&mut self, other: &Rankings) {
        let before = self.items.len();
        self.items.extend_from_slice(&other.items);
        self.ends.extend(other.ends.iter().map(|end| before + end));
    }

    /// The lists of all cases, made by up to `threads` threads; `make` gives those of a stretch of cases.
    pub(super) fn in_parallel(cases: &[Case], threads: usize, make: impl Fn(&[Case]) -> Rankings + Sync) -> Rankings {
        let share = cases.len().div_ceil(threads.max(1)).max(1);
        let mut rankings = Rankings::default();
        std::thread::scope(|scope| {
            let make = &make;
            let parts: Vec<_> = cases.chunks(share).map(|cases| scope.spawn(move || make(cases))).collect();
            for part in parts {
                match part.join() {
                    Ok(part) => rankings.append(&part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        rankings
    }

    /// What the lists hold. An item that no training event has is no part of the catalogue, and is left out of novelty.
    pub(super) fn holds(&self, log: &Interactions) -> Holds {
        let mut shown = vec![0_u64; log.catalogue];
        for &item in &self.items {
            if let Some(count) = shown.get_mut(item as usize) {
                *count += 1;
            }
        }
        let trained = trained(log);
        let all: u64 = trained.iter().sum();
        let known: u64 = shown.iter().sum();
        let bits = |(&trained, &shown): (&u64, &u64)| -(trained as f64 / all as f64).log2() * shown as f64;
        let bits: f64 = trained.iter().zip(&shown).filter(|(_, shown)| **shown > 0).map(bits).sum();
        let mut start = 0;
        let is_empty = |&end: &usize| std::mem::replace(&mut start, end) == end;
        Holds {
            cases_without_list: self.ends.iter().copied().filter(is_empty).count() as u64,
            items: self.items.len() as u64,
            distinct_items: shown.iter().filter(|&&count| count > 0).count() as u64,
            novelty_bits: (known > 0).then(|| bits / known as f64),
        }
    }
}

/// Training events of each item of the catalogue.
pub(super) fn trained(log: &Interactions) -> Vec<u64> {
    let mut trained = vec![0; log.catalogue];
    for user in 0..log.users.len() {
        log.item[log.train(user)].iter().for_each(|&item| trained[item as usize] += 1);
    }
    trained
}

/// The items of the last H rows of the case's training part, oldest first.
pub(super) fn history(log: &Interactions, case: Case, length: usize) -> &[u32] {
    let train = log.train(case.user);
    &log.item[train.end - length.min(train.len())..train.end]
}

/// The first `k` different items of `items`, without those of the history where these are excluded.
pub(super) fn first_k(
    items: impl IntoIterator<Item = u32>,
    log: &Interactions,
    case: Case,
    settings: &Settings,
) -> Vec<u32> {
    let excluded = if settings.exclude_history { history(log, case, settings.history) } else { &[] };
    let mut list: Vec<u32> = Vec::with_capacity(settings.k.min(log.catalogue));
    for item in items {
        if list.len() == settings.k {
            break;
        }
        // Lists are short: a search is cheaper than a set.
        if !excluded.contains(&item) && !list.contains(&item) {
            list.push(item);
        }
    }
    list
}

/// The model's best items for each case, by the built-in scorer. The list of a user that the model does not know is empty.
pub(super) fn rank_by_model(
    log: &Interactions,
    cases: &[Case],
    model: &Arc<Model>,
    settings: &Settings,
    threads: usize,
) -> Rankings {
    let items = ItemIndices::new(log, model);
    Rankings::in_parallel(cases, threads, |cases| {
        let mut scorer = Scorer::new(model.packed().clone());
        let (mut requests, mut ranked) = (Requests::new(model.packed()), Ranked::default());
        let mut rankings = Rankings::default();
        for batch in cases.chunks(BATCH) {
            requests.clear();
            let known: Vec<bool> = batch.iter().map(|&case| ask(log, case, model, &items, &mut requests)).collect();
            scorer.top_k(&requests, settings.k, settings.exclude_history, &mut ranked);
            let mut answer = 0;
            for known in known {
                let list: &[u32] = if known { ranked.indices(answer) } else { &[] };
                answer += usize::from(known);
                rankings.push(list.iter().map(|&index| items.of_model[index as usize]));
            }
        }
        rankings
    })
}

/// Between the log's item indices and the model's.
struct ItemIndices {
    /// By the log's; the model's padding index for an item that it does not know.
    of_log: Vec<u32>,
    /// By the model's; beyond the log's for an item that the log does not have.
    of_model: Vec<u32>,
}

impl ItemIndices {
    fn new(log: &Interactions, model: &Model) -> ItemIndices {
        let padding = model.items().len() as u32;
        let of_log: Vec<u32> = log.items.iter().map(|&id| model.items().index(id).unwrap_or(padding)).collect();
        let beyond = log.items.len() as u32;
        let mut of_model: Vec<u32> = (0..padding).map(|index| beyond.saturating_add(index)).collect();
        for (item, &index) in (0..).zip(&of_log) {
            if let Some(place) = of_model.get_mut(index as usize) {
                *place = item;
            }
        }
        ItemIndices { of_log, of_model }
    }
}

/// Adds the request of a case; whether the model knows the user.
fn ask(log: &Interactions, case: Case, model: &Model, items: &ItemIndices, requests: &mut Requests) -> bool {
    let raw = log.users[case.user];
    let Some(user) = model.users().index(raw) else { return false };
    let sequence: Vec<u32> =
        history(log, case, model.history()).iter().map(|&item| items.of_log[item as usize]).collect();
    let time_ms = log.time[log.train(case.user).end - 1] as u64;
    requests
        .push(user, &sequence, Draw { user: raw, time_ms })
        .expect("the maps hold indices of the tables, and sequences fit");
    true
}

/// How much of the log a model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Users with a test part.
    pub cases_all: usize,
    /// Those that the model knows.
    pub cases: usize,
    /// Items of the catalogue that the model knows.
    pub items: usize,
}

impl Known {
    /// What `model` knows of `log`.
    pub fn of(log: &Interactions, model: &Model) -> Known {
        let cases = cases(log);
        let items: HashSet<u64> = model.items().ids().iter().copied().collect();
        Known {
            cases_all: cases.len(),
            cases: cases.iter().filter(|case| model.users().index(log.users[case.user]).is_some()).count(),
            items: log.items[..log.catalogue].iter().filter(|id| items.contains(*id)).count(),
        }
    }
}
