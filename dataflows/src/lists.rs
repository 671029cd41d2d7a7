//! Keyed lists of items, stored flat: many rows, three allocations.

use crate::event::ItemId;
use serde::{Deserialize, Serialize};

/// Rows of a key and a list of items each, in the order they were pushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lists<K> {
    keys: Vec<K>,
    /// Row `i` holds `items[ends[i-1]..ends[i]]`.
    ends: Vec<usize>,
    items: Vec<ItemId>,
}

impl<K> Default for Lists<K> {
    fn default() -> Self {
        Lists { keys: Vec::new(), ends: Vec::new(), items: Vec::new() }
    }
}

impl<K> Lists<K> {
    /// Appends a row.
    pub fn push(&mut self, key: K, items: &[ItemId]) {
        self.push_with(key, |all| all.extend_from_slice(items));
    }

    /// Appends a row whose items `fill` appends to the vector it is given (and touches nothing before them).
    pub fn push_with(&mut self, key: K, fill: impl FnOnce(&mut Vec<ItemId>)) {
        fill(&mut self.items);
        self.keys.push(key);
        self.ends.push(self.items.len());
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Row `i`: its key and its items.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, i: usize) -> (&K, &[ItemId]) {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        (&self.keys[i], &self.items[start..self.ends[i]])
    }

    /// All rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &[ItemId])> {
        (0..self.len()).map(|i| self.row(i))
    }

    /// The keys, in order.
    pub fn keys(&self) -> &[K] {
        &self.keys
    }

    /// Removes all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.ends.clear();
        self.items.clear();
    }

    /// Appends the rows of `other`.
    pub fn append(&mut self, other: Lists<K>) {
        let base = self.items.len();
        self.keys.extend(other.keys);
        self.ends.extend(other.ends.into_iter().map(|end| base + end));
        self.items.extend(other.items);
    }
}

impl<K: Ord> Lists<K> {
    /// The same rows, sorted by key (stable).
    pub fn sorted(&self) -> Lists<K>
    where
        K: Clone,
    {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(|&a, &b| self.keys[a].cmp(&self.keys[b]));
        let mut sorted = Lists::default();
        for i in order {
            let (key, items) = self.row(i);
            sorted.push(key.clone(), items);
        }
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(rows: &[(u64, &[u64])]) -> Lists<u64> {
        let mut lists = Lists::default();
        rows.iter()
            .for_each(|(key, items)| lists.push(*key, &items.iter().map(|&item| ItemId(item)).collect::<Vec<_>>()));
        lists
    }

    fn rows(lists: &Lists<u64>) -> Vec<(u64, Vec<u64>)> {
        lists.iter().map(|(key, items)| (*key, items.iter().map(|item| item.0).collect())).collect()
    }

    #[test]
    fn rows_come_back_as_they_were_pushed() {
        let mut all = lists(&[(3, &[1, 2]), (1, &[]), (3, &[5])]);
        assert_eq!(rows(&all), [(3, vec![1, 2]), (1, vec![]), (3, vec![5])]);
        assert_eq!((all.len(), all.is_empty(), all.keys()), (3, false, &[3, 1, 3][..]));
        all.clear();
        assert_eq!((all.len(), all.is_empty(), rows(&all)), (0, true, vec![]));
        all.push(7, &[ItemId(8)]);
        assert_eq!(rows(&all), [(7, vec![8])]);
    }

    #[test]
    fn appended_rows_stand_behind_those_that_were_there() {
        let mut all = lists(&[(1, &[1, 2]), (2, &[3])]);
        all.append(lists(&[(3, &[4]), (4, &[]), (5, &[5, 6])]));
        assert_eq!(rows(&all), [(1, vec![1, 2]), (2, vec![3]), (3, vec![4]), (4, vec![]), (5, vec![5, 6])]);
    }

    #[test]
    fn rows_of_a_key_keep_their_order_when_sorted() {
        let sorted = lists(&[(3, &[1, 2]), (1, &[7]), (3, &[5]), (2, &[])]).sorted();
        assert_eq!(rows(&sorted), [(1, vec![7]), (2, vec![]), (3, vec![1, 2]), (3, vec![5])]);
    }
}
