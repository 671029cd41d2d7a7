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
