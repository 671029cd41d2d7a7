//! The first few of many counts, while the counts change.

use crate::event::ItemId;
use crate::index::Index;
use std::cmp::Reverse;

/// An item's number while it is counted. It may become another item's when the count has gone down to 0.
pub(crate) type Slot = u32;

/// Counts by item, and the first `top` of them.
///
/// Only items at or above a threshold are candidates. Whether an item is one follows from its count alone, so a change
/// below the threshold is one addition. The threshold moves when the candidates become fewer than `top` (then all counts
/// are looked through once) or many times more; it is chosen so that both take many changes.
pub(crate) struct Leaders {
    top: usize,
    /// The slots of items. Items at 0 stay until they are many: most come back soon.
    slots: Index,
    /// By slot; 0 if it is free.
    counts: Vec<Count>,
    /// Slots without an item.
    free: Vec<Slot>,
    /// How many items are at 0.
    idle: usize,
    /// Least rank that makes a candidate.
    threshold: Rank,
    /// Every item whose rank is at least the threshold, and perhaps items that were.
    candidates: Vec<Slot>,
}

#[derive(Clone, Copy)]
struct Count {
    item: ItemId,
    count: u64,
}

/// Greater is further ahead: by count, then by smaller item.
type Rank = (u64, Reverse<ItemId>);

/// At or below every item in the window, and above every item that is not.
const LAST: Rank = (1, Reverse(ItemId(u64::MAX)));

impl Count {
    fn rank(self) -> Rank {
        (self.count, Reverse(self.item))
    }
}

impl Leaders {
    pub(crate) fn new(top: usize) -> Leaders {
        Leaders {
            top,
            slots: Index::default(),
            counts: Vec::new(),
            free: Vec::new(),
            idle: 0,
            threshold: LAST,
            candidates: Vec::new(),
        }
    }

    /// Adds to the counts of items, and appends their slots and what was added to `added`. A slot is the item's until all
    /// that was added has been taken away again.
    ///
    /// Between two looks at the first, what is added comes before what is taken away.
    pub(crate) fn add(&mut self, counts: &[(ItemId, u64)], added: &mut Vec<(Slot, u64)>) {
        // A look-up is a cache miss in the index and one among the counts. In two passes, those of many items overlap.
        let start = added.len();
        added.extend(counts.iter().map(|&(item, count)| (self.slots.likely_row(item.0).unwrap_or_default(), count)));
        for (&(item, count), (slot, _)) in counts.iter().zip(&mut added[start..]) {
            if self.counts.get(*slot as usize).is_none_or(|entry| entry.item != item || entry.count == 0) {
                *slot = self.slot(item);
            }
            let entry = &mut self.counts[*slot as usize];
            let before = *entry;
            entry.count += count;
            self.idle -= usize::from(before.count == 0 && count != 0);
            if before.rank() < self.threshold && entry.rank() >= self.threshold {
                self.candidates.push(*slot);
            }
        }
    }

    /// An item's slot.
    fn slot(&mut self, item: ItemId) -> Slot {
        let new = self.free.last().copied().unwrap_or(self.counts.len() as Slot);
        let slot = self.slots.row_or_insert(item.0, new, |slot| self.counts[slot as usize].item.0);
        if slot == new {
            self.idle += 1;
            match self.free.pop() {
                Some(_) => self.counts[slot as usize].item = item,
                None => self.counts.push(Count { item, count: 0 }),
            }
        }
        slot
    }

    /// Takes away from an item's count what was added to it before. Returns the item.
    pub(crate) fn subtract(&mut self, slot: Slot, count: u64) -> ItemId {
        let entry = &mut self.counts[slot as usize];
        self.idle += usize::from(entry.count == count && count != 0);
        entry.count -= count;
        entry.item
    }

    /// How many items have a count.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.idle
    }

    /// The first `top` items and their counts, by count descending, then by smaller item. Fewer if there are not so many.
    pub(crate) fn first(&mut self) -> Vec<(ItemId, u64)> {
        let mut ranks = self.candidate_ranks();
        self.forget_idle();
        if ranks.len() < self.top && ranks.len() < self.slots.len() - self.idle {
            let counted = self.counts.iter().zip(0..).filter(|(count, _)| count.count != 0);
            ranks = counted.map(|(count, slot)| (count.rank(), slot)).collect();
            self.keep(&mut ranks, 4 * self.top);
        } else if ranks.len() > 64 * self.top.max(16) {
            self.keep(&mut ranks, 16 * self.top);
        }
        if ranks.len() > self.top {
            ranks.select_nth_unstable_by_key(self.top, |&(rank, _)| Reverse(rank));
            ranks.truncate(self.top);
        }
        ranks.sort_unstable_by_key(|&(rank, _)| Reverse(rank));
        ranks.into_iter().map(|((count, Reverse(item)), _)| (item, count)).collect()
    }

    /// The ranks of the candidates; forgets those that are candidates no more.
    ///
    /// None stands twice: one that falls behind does so after the last addition, and is forgotten here before the next.
    fn candidate_ranks(&mut self) -> Vec<(Rank, Slot)> {
        let (counts, threshold) = (&self.counts, self.threshold);
        let mut ranks = Vec::with_capacity(self.candidates.len());
        self.candidates.retain(|&slot| {
            let rank = counts[slot as usize].rank();
            let stays = rank >= threshold;
            if stays {
                ranks.push((rank, slot));
            }
            stays
        });
        ranks
    }

    /// Frees the slots of items at 0, once they are many. None of them may be among the candidates.
    fn forget_idle(&mut self) {
        if self.idle > 1024.max(self.slots.len() / 2) {
            self.slots.clear();
            self.free.clear();
            self.idle = 0;
            for (slot, count) in (0..).zip(&self.counts) {
                if count.count == 0 {
                    self.free.push(slot);
                } else {
                    self.slots.row_or_insert(count.item.0, slot, |slot| self.counts[slot as usize].item.0);
                }
            }
        }
    }

    /// Sets the threshold so that the first `wanted` of `ranks` are the candidates.
    fn keep(&mut self, ranks: &mut Vec<(Rank, Slot)>, wanted: usize) {
        self.threshold = LAST;
        if ranks.len() > wanted {
            let (_, &mut (least, _), _) = ranks.select_nth_unstable_by_key(wanted - 1, |&(rank, _)| Reverse(rank));
            self.threshold = least;
            ranks.truncate(wanted);
        }
        self.candidates = ranks.iter().map(|&(_, slot)| slot).collect();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, VecDeque};

    #[test]
    fn who_is_a_candidate_follows_from_the_count_alone() {
        let mut leaders = Leaders::new(2);
        // So many that only the first 32 stay candidates: item 31 is at the threshold.
        let once: Vec<_> = (0..1100).map(|item| (ItemId(item), 1)).collect();
        let mut added = Vec::new();
        leaders.add(&once, &mut added);
        assert_eq!(leaders.first(), [(ItemId(0), 1), (ItemId(1), 1)]);
        leaders.add(&[(ItemId(31), 5)], &mut added);
        assert_eq!(leaders.first(), [(ItemId(31), 6), (ItemId(0), 1)]);
        leaders.add(&[(ItemId(32), 6)], &mut added);
        assert_eq!(leaders.first(), [(ItemId(32), 7), (ItemId(31), 6)]);
        // Fewer are left than are kept, and none of them was a candidate.
        let left = [500, 501, 502];
        let gone = once.iter().chain(&[(ItemId(31), 5), (ItemId(32), 6)]).zip(added);
        for ((_, _), (slot, count)) in gone.filter(|((item, _), _)| !left.contains(&item.0)) {
            leaders.subtract(slot, count);
        }
        assert_eq!(leaders.first(), [(ItemId(500), 1), (ItemId(501), 1)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]
        #[test]
        fn the_first_are_the_first_of_a_full_sort(
            top in 1usize..6,
            window in 1usize..5,
            rounds in prop::collection::vec(prop::collection::vec((0u64..9000, 1u64..4), 0..3000), 1..20),
            narrow in any::<bool>(),
        ) {
            let mut leaders = Leaders::new(top);
            let mut counts: BTreeMap<ItemId, u64> = BTreeMap::new();
            type Added = (Vec<(ItemId, u64)>, Vec<(Slot, u64)>);
            let mut entered: VecDeque<Added> = VecDeque::new();
            for round in rounds {
                // Few items, whose counts become large, or many that come and go.
                let item = |item| ItemId(if narrow { item % 300 } else { item });
                let round: Vec<_> = round.into_iter().map(|(id, count)| (item(id), count)).collect();
                let mut added = Vec::new();
                round.chunks(100).for_each(|part| leaders.add(part, &mut added));
                round.iter().for_each(|(item, count)| *counts.entry(*item).or_default() += count);
                entered.push_back((round, added));
                if entered.len() > window {
                    let (round, added) = entered.pop_front().unwrap();
                    for ((item, count), (slot, added)) in round.into_iter().zip(added) {
                        prop_assert_eq!(count, added);
                        prop_assert_eq!(leaders.subtract(slot, count), item);
                        *counts.entry(item).or_default() -= count;
                    }
                }
                counts.retain(|_, count| *count > 0);
                let mut expected: Vec<_> = counts.iter().map(|(&item, &count)| (item, count)).collect();
                expected.sort_by_key(|&(item, count)| (Reverse(count), item));
                expected.truncate(top);
                prop_assert_eq!(leaders.first(), expected);
                prop_assert_eq!(leaders.len(), counts.len());
                prop_assert!(leaders.slots.len() <= 2 * counts.len() + 1024 + 3000);
            }
        }
    }
}
