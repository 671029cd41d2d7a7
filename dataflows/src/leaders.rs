//! The first few of many counts, while the counts change.

use crate::event::ItemId;
use crate::hash::IdMap;
use std::cmp::Reverse;

/// Counts by item, and the first `top` of them.
///
/// Only items at or above a threshold are candidates. Whether an item is one follows from its count alone, so a change
/// below the threshold is one addition. The threshold moves when the candidates become fewer than `top` (then all counts
/// are looked through once) or many times more; it is chosen so that both take many changes.
pub(crate) struct Leaders {
    top: usize,
    /// Items that have left the window stay, at 0, until they are many: most come back soon.
    counts: IdMap<ItemId, i64>,
    /// How many are at 0.
    idle: usize,
    /// Least rank that makes a candidate.
    threshold: Rank,
    /// Every item whose rank is at least the threshold, and perhaps items that were.
    candidates: Vec<ItemId>,
}

/// Greater is further ahead: by count, then by smaller item.
type Rank = (i64, Reverse<ItemId>);

/// At or below every item in the window, and above every item that is not.
const LAST: Rank = (1, Reverse(ItemId(u64::MAX)));

impl Leaders {
    pub(crate) fn new(top: usize) -> Leaders {
        Leaders { top, counts: IdMap::default(), idle: 0, threshold: LAST, candidates: Vec::new() }
    }

    /// Adds to an item's count.
    pub(crate) fn add(&mut self, item: ItemId, count: i64) {
        let entry = self.counts.entry(item).or_insert_with(|| {
            self.idle += 1;
            0
        });
        let before = (*entry, Reverse(item));
        *entry += count;
        let after = (*entry, Reverse(item));
        self.idle += usize::from(after.0 == 0);
        self.idle -= usize::from(before.0 == 0);
        if before < self.threshold && after >= self.threshold {
            self.candidates.push(item);
        }
    }

    /// The first `top` items and their counts, by count descending, then by smaller item. Fewer if there are not so many.
    pub(crate) fn first(&mut self) -> Vec<(ItemId, u64)> {
        if self.idle > 1024.max(self.counts.len() / 2) {
            self.counts.retain(|_, count| *count != 0);
            self.idle = 0;
        }
        let mut ranks = self.candidate_ranks();
        if ranks.len() < self.top && ranks.len() < self.counts.len() - self.idle {
            let counted = self.counts.iter().filter(|(_, count)| **count != 0);
            ranks = counted.map(|(&item, &count)| (count, Reverse(item))).collect();
            self.keep(&mut ranks, 4 * self.top);
        } else if ranks.len() > 64 * self.top.max(16) {
            self.keep(&mut ranks, 16 * self.top);
        }
        ranks.sort_unstable_by_key(|&rank| Reverse(rank));
        ranks.truncate(self.top);
        ranks.into_iter().map(|(count, Reverse(item))| (item, count as u64)).collect()
    }

    /// The ranks of the candidates; forgets those that are candidates no more.
    fn candidate_ranks(&mut self) -> Vec<Rank> {
        // An item that left and came back stands twice.
        self.candidates.sort_unstable();
        self.candidates.dedup();
        let (counts, threshold) = (&self.counts, self.threshold);
        let mut ranks = Vec::with_capacity(self.candidates.len());
        self.candidates.retain(|&item| match counts.get(&item) {
            Some(&count) if (count, Reverse(item)) >= threshold => {
                ranks.push((count, Reverse(item)));
                true
            }
            _ => false,
        });
        ranks
    }

    /// Sets the threshold so that the first `wanted` of `ranks` are the candidates.
    fn keep(&mut self, ranks: &mut Vec<Rank>, wanted: usize) {
        self.threshold = LAST;
        if ranks.len() > wanted {
            let (_, &mut least, _) = ranks.select_nth_unstable_by_key(wanted - 1, |&rank| Reverse(rank));
            self.threshold = least;
            ranks.truncate(wanted);
        }
        self.candidates = ranks.iter().map(|&(_, Reverse(item))| item).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_first_are_the_first_of_a_full_sort(
            top in 1usize..6,
            rounds in prop::collection::vec(prop::collection::vec((0u64..400, 0i64..4), 0..300), 1..20),
        ) {
            let mut leaders = Leaders::new(top);
            let mut counts: BTreeMap<u64, i64> = BTreeMap::new();
            for round in rounds {
                for (item, target) in round {
                    // Set the item's count to `target`: up, down, or to nothing.
                    let count = counts.entry(item).or_insert(0);
                    leaders.add(ItemId(item), target - *count);
                    *count = target;
                }
                let mut expected: Vec<_> =
                    counts.iter().filter(|c| *c.1 > 0).map(|(&item, &count)| (ItemId(item), count as u64)).collect();
                expected.sort_by_key(|&(item, count)| (Reverse(count), item));
                expected.truncate(top);
                prop_assert_eq!(leaders.first(), expected);
            }
        }
    }
}
