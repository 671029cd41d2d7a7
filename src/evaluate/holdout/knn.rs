//! Item-based nearest neighbours (Deshpande and Karypis, "Item-based top-N recommendation algorithms", 2004).
//!
//! An item is the set of users that have it in their training part; the similarity of two items is the cosine
//! |A ∩ B| / √(|A|·|B|). Of each item the N most similar others are kept. A user's score of an item is the sum of its
//! similarities to the different items of the user's whole training part, as far as it is among their neighbours.
//!
//! Exact: the counts of common users are counted, not sampled, one item at a time. With S_v the set of user v this takes
//! Σ |S_v|² steps, and 8 bytes for each user's item, 8·N for each item, and one row of counts a thread; never items × items.

use super::Settings;
use super::rankings::{Case, Rankings, first_k};
use crate::learn::Interactions;

/// The lists of item-kNN; popularity fills up where too few items have a score.
pub(super) fn item_knn(log: &Interactions, cases: &[Case], settings: &Settings, threads: usize) -> Rankings {
    let sets = Sets::new(log);
    let neighbours = sets.neighbours(settings.neighbours, threads);
    Rankings::in_parallel(cases, threads, |cases| {
        let mut scores = vec![0.0_f64; log.catalogue];
        let mut scored: Vec<u32> = Vec::new();
        let mut rankings = Rankings::default();
        for &case in cases {
            for &item in sets.of_users.row(case.user) {
                for &(other, similarity) in &neighbours[item as usize] {
                    let score = &mut scores[other as usize];
                    if *score == 0.0 {
                        scored.push(other);
                    }
                    *score += similarity;
                }
            }
            let by_score = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
            // Exclusion may take a history's worth of the best.
            let wanted = settings.k + settings.history;
            if scored.len() > wanted {
                scored.select_nth_unstable_by(wanted, by_score);
                let best = &mut scored[..wanted];
                best.sort_unstable_by(by_score);
                rankings.push(first_k(best.iter().copied(), log, case, settings));
            } else {
                scored.sort_unstable_by(by_score);
                let filled = scored.iter().copied().chain(0..log.catalogue as u32);
                rankings.push(first_k(filled, log, case, settings));
            }
            scored.iter().for_each(|&item| scores[item as usize] = 0.0);
            scored.clear();
        }
        rankings
    })
}

/// Rows of different lengths in one vector.
struct Ragged {
    values: Vec<u32>,
    starts: Vec<usize>,
}

impl Ragged {
    fn row(&self, at: usize) -> &[u32] {
        &self.values[self.starts[at]..self.starts[at + 1]]
    }

    fn rows(&self) -> usize {
        self.starts.len() - 1
    }
}

/// The different items of each user's training part, ascending, and the users of each item, ascending.
struct Sets {
    of_users: Ragged,
    of_items: Ragged,
}

impl Sets {
    fn new(log: &Interactions) -> Sets {
        let mut of_users = Ragged { values: Vec::new(), starts: vec![0] };
        let mut set = Vec::new();
        for user in 0..log.users.len() {
            set.clear();
            set.extend_from_slice(&log.item[log.train(user)]);
            set.sort_unstable();
            set.dedup();
            of_users.values.extend_from_slice(&set);
            of_users.starts.push(of_users.values.len());
        }
        let mut starts = vec![0; log.catalogue + 1];
        of_users.values.iter().for_each(|&item| starts[item as usize + 1] += 1);
        for item in 0..log.catalogue {
            starts[item + 1] += starts[item];
        }
        let mut next = starts.clone();
        let mut values = vec![0; of_users.values.len()];
        for user in 0..of_users.rows() {
            for &item in of_users.row(user) {
                let place = &mut next[item as usize];
                values[*place] = user as u32;
                *place += 1;
            }
        }
        Sets { of_users, of_items: Ragged { values, starts } }
    }

    /// The `count` most similar others of each item, most similar first, of equal ones the smaller index.
    fn neighbours(&self, count: usize, threads: usize) -> Vec<Vec<(u32, f64)>> {
        let mut neighbours: Vec<Vec<(u32, f64)>> = vec![Vec::new(); self.of_items.rows()];
        // Popular items are the costly ones, and come first: they are dealt out in turn.
        let threads = threads.max(1);
        let mut shares: Vec<Vec<(usize, &mut Vec<(u32, f64)>)>> = (0..threads).map(|_| Vec::new()).collect();
        for (item, place) in neighbours.iter_mut().enumerate() {
            shares[item % threads].push((item, place));
        }
        std::thread::scope(|scope| {
            for share in shares {
                scope.spawn(move || {
                    let (mut common, mut met) = (vec![0_u32; self.of_items.rows()], Vec::new());
                    for (item, place) in share {
                        *place = self.neighbours_of(item, count, &mut common, &mut met);
                    }
                });
            }
        });
        neighbours
    }

    fn neighbours_of(&self, item: usize, count: usize, common: &mut [u32], met: &mut Vec<u32>) -> Vec<(u32, f64)> {
        for &user in self.of_items.row(item) {
            for &other in self.of_users.row(user as usize) {
                let count = &mut common[other as usize];
                if *count == 0 {
                    met.push(other);
                }
                *count += 1;
            }
        }
        let users = self.of_items.row(item).len() as f64;
        let similarity = |other: u32| {
            let others = self.of_items.row(other as usize).len() as f64;
            f64::from(common[other as usize]) / (users * others).sqrt()
        };
        let others = met.iter().copied().filter(|&other| other as usize != item);
        let mut similar: Vec<(u32, f64)> = others.map(|other| (other, similarity(other))).collect();
        let by_similarity = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if similar.len() > count {
            similar.select_nth_unstable_by(count, by_similarity);
            similar.truncate(count);
        }
        similar.sort_unstable_by(by_similarity);
        similar.shrink_to_fit();
        met.drain(..).for_each(|other| common[other as usize] = 0);
        similar
    }
}
