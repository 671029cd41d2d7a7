//! The k best of a stream of scores, for many users at once.

use std::cmp::Ordering;

/// An item and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) score: f32,
    pub(crate) index: u32,
}

impl Entry {
    /// The order of results, best first: the larger score, NaN below all (also −∞); equal scores (also +0 and −0, and two
    /// NaN) by smaller index. Total, so that the k best are defined whatever the arithmetic gave.
    pub(crate) fn rank(self, other: Entry) -> Ordering {
        let by_score = match other.score.partial_cmp(&self.score) {
            Some(order) => order,
            None => self.score.is_nan().cmp(&other.score.is_nan()),
        };
        by_score.then(self.index.cmp(&other.index))
    }

    fn beats(self, other: Entry) -> bool {
        self.rank(other) == Ordering::Less
    }
}

/// For each user a heap of the k best entries so far, the worst at its root.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    k: usize,
    /// users × k, the first `lens[user]` of each in use.
    entries: Vec<Entry>,
    lens: Vec<usize>,
    /// The root's score once the heap is full, NaN before: an entry can only be wanted where not (score ≤ threshold).
    thresholds: Vec<f32>,
}

impl Selection {
    /// Empties it for `users` users and `k` ≥ 1 entries each; memory is kept.
    pub(crate) fn reset(&mut self, users: usize, k: usize) {
        assert!(k > 0, "a selection of nothing has no worst entry");
        self.k = k;
        self.entries.resize(users * k, Entry { score: 0.0, index: 0 });
        self.lens.clear();
        self.lens.resize(users, 0);
        self.thresholds.clear();
        self.thresholds.resize(users, f32::NAN);
    }

    pub(crate) fn threshold(&self, user: usize) -> f32 {
        self.thresholds[user]
    }

    pub(crate) fn thresholds(&self) -> &[f32] {
        &self.thresholds
    }

    /// The k-th best score so far: a lower bound of the final one; −∞ while there are fewer than k.
    pub(crate) fn lower_bound(&self, user: usize) -> f32 {
        if self.thresholds[user].is_nan() { f32::NEG_INFINITY } else { self.thresholds[user] }
    }

    /// Takes `entry` if it is among the user's k best so far; says whether it was.
    pub(crate) fn offer(&mut self, user: usize, entry: Entry) -> bool {
        let heap = &mut self.entries[user * self.k..][..self.k];
        let len = &mut self.lens[user];
        if *len < self.k {
            heap[*len] = entry;
            sift_up(&mut heap[..=*len]);
            *len += 1;
        } else if entry.beats(heap[0]) {
            heap[0] = entry;
            sift_down(heap);
        } else {
            return false;
        }
        if *len == self.k {
            self.thresholds[user] = heap[0].score;
        }
        true
    }

    /// Sorts the user's entries, best first, and gives them up; the heap is empty afterwards.
    pub(crate) fn drain_sorted(&mut self, user: usize) -> &[Entry] {
        let entries = &mut self.entries[user * self.k..][..self.lens[user]];
        entries.sort_unstable_by(|a, b| a.rank(*b));
        self.lens[user] = 0;
        self.thresholds[user] = f32::NAN;
        entries
    }
}

fn sift_up(heap: &mut [Entry]) {
    let mut child = heap.len() - 1;
    while child > 0 {
        let parent = (child - 1) / 2;
        if !heap[parent].beats(heap[child]) {
            return;
        }
        heap.swap(parent, child);
        child = parent;
    }
}

fn sift_down(heap: &mut [Entry]) {
    let mut parent = 0;
    loop {
        let (left, right) = (2 * parent + 1, 2 * parent + 2);
        let Some(&first) = heap.get(left) else { return };
        let child = if heap.get(right).is_some_and(|&second| first.beats(second)) { right } else { left };
        if !heap[parent].beats(heap[child]) {
            return;
        }
        heap.swap(parent, child);
        parent = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slow_rank(score: f32) -> (bool, f32) {
        (!score.is_nan(), if score.is_nan() { 0.0 } else { score })
    }

    proptest! {
        #[test]
        fn the_best_are_those_of_a_full_sort(
            scores in prop::collection::vec(
                prop_oneof![-3i8..3, Just(100), Just(101), Just(102)].prop_map(|s| match s {
                    100 => f32::NAN, 101 => f32::INFINITY, 102 => -0.0, s => f32::from(s),
                }), 0..60),
            k in 1usize..70,
        ) {
            let entries: Vec<Entry> =
                scores.iter().zip(0..).map(|(&score, index)| Entry { score, index }).collect();
            let mut selection = Selection::default();
            selection.reset(2, k);
            for &entry in &entries {
                let threshold = selection.threshold(1);
                let taken = selection.offer(1, entry);
                // An entry that the threshold shuts out is one that was not wanted.
                let shut_out = entry.score <= threshold;
                prop_assert!(!(taken && shut_out));
            }
            let mut sorted = entries;
            sorted.sort_by(|a, b| slow_rank(b.score).partial_cmp(&slow_rank(a.score)).expect("no NaN in a rank")
                .then(a.index.cmp(&b.index)));
            sorted.truncate(k);
            let got: Vec<u32> = selection.drain_sorted(1).iter().map(|entry| entry.index).collect();
            prop_assert_eq!(got, sorted.iter().map(|entry| entry.index).collect::<Vec<_>>());
            prop_assert!(selection.drain_sorted(0).is_empty());
        }
    }
}
