//! Where the row of an id stands in a table that somebody else keeps.

use crate::hash::IdState;
use std::hash::BuildHasher;

/// An index of a table's rows by their ids: a row's number is a `u32`.
///
/// The ids themselves stand in the rows, which whoever looks one up is about to read anyway. So an id costs 8 bytes here,
/// at most half of the places being taken, and a look-up one cache miss.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Open addressing, linear probing; a power of two, or none at all.
    places: Vec<Place>,
    taken: usize,
    hasher: IdState,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Part of the id's hash: rows of other ids are hardly ever read in vain, and growing reads none.
    hash: u32,
    row: u32,
}

/// No row.
const FREE: Place = Place { hash: 0, row: u32::MAX };

const PLACES_MIN: usize = 64;

impl Index {
    /// The row of `id`, which is `new` from now on if it has none. `id_of` tells the ids of rows.
    #[inline]
    pub(crate) fn row_or_insert(&mut self, id: u64, new: u32, id_of: impl Fn(u32) -> u64) -> u32 {
        if self.taken * 2 >= self.places.len() {
            self.grow();
        }
        let hash = self.hash(id);
        let mask = self.places.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let place = self.places[at];
            if place.row == FREE.row {
                self.places[at] = Place { hash, row: new };
                self.taken += 1;
                return new;
            }
            if place.hash == hash && id_of(place.row) == id {
                return place.row;
            }
            at = (at + 1) & mask;
        }
    }

    /// The row of `id`, or, hardly ever, of another id of the same hash; `None` if there is none of its hash.
    ///
    /// It reads no rows. So many look-ups can be under way at the same time, and then the readings of their rows.
    #[inline]
    pub(crate) fn likely_row(&self, id: u64) -> Option<u32> {
        let hash = self.hash(id);
        let mask = self.places.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            let place = self.places.get(at)?;
            if place.row == FREE.row {
                return None;
            }
            if place.hash == hash {
                return Some(place.row);
            }
            at = (at + 1) & mask;
        }
    }

    /// Reads the place at which the look-up of `id` starts, and nothing follows from it: so many can be read at the same time.
    #[inline]
    pub(crate) fn first_place(&self, id: u64) -> u32 {
        self.places.get(self.hash(id) as usize & self.places.len().wrapping_sub(1)).map_or(0, |place| place.row)
    }

    /// Number of ids.
    pub(crate) fn len(&self) -> usize {
        self.taken
    }

    /// Forgets all ids, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.places.fill(FREE);
        self.taken = 0;
    }

    #[inline]
    fn hash(&self, id: u64) -> u32 {
        (self.hasher.hash_one(id) >> 32) as u32
    }

    #[cold]
    fn grow(&mut self) {
        let len = (2 * self.places.len()).max(PLACES_MIN);
        let old = std::mem::replace(&mut self.places, vec![FREE; len]);
        for place in old.into_iter().filter(|place| place.row != FREE.row) {
            let mut at = place.hash as usize & (len - 1);
            while self.places[at].row != FREE.row {
                at = (at + 1) & (len - 1);
            }
            self.places[at] = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{IdMap, route};
    use proptest::prelude::*;

    #[test]
    fn ids_of_one_hash_have_rows_of_their_own() {
        let mut index = Index::default();
        // Among so many a pair is as good as certain, as with birthdays.
        let mut by_hash = IdMap::default();
        let mut ids = (0..1_000_000u64).map(route);
        let alike = ids.find_map(|id| by_hash.insert(index.hash(id), id).map(|other| [other, id]));
        let ids = alike.expect("two ids of one hash");
        let mut row = |at: usize| index.row_or_insert(ids[at], at as u32, |row| ids[row as usize]);
        assert_eq!([row(0), row(1), row(0), row(1)], [0, 1, 0, 1]);
    }

    #[test]
    fn an_absent_id_has_hardly_ever_a_row() {
        let mut index = Index::default();
        let rows: Vec<u32> = (0..1000).map(|id| index.row_or_insert(id, id as u32, |row| row.into())).collect();
        assert!(rows.into_iter().eq(0..1000));
        assert!((1000..2000).filter(|&id| index.likely_row(id).is_some()).count() < 5);
    }

    proptest! {
        #[test]
        fn rows_are_those_of_a_plain_search(rounds in prop::collection::vec(prop::collection::vec(0u64..500, 0..400), 1..4)) {
            let mut index = Index::default();
            for ids in rounds {
                index.clear();
                let mut table: Vec<u64> = Vec::new();
                for id in ids {
                    // Ids of which only the high bits differ, too.
                    let id = id << (id % 2 * 50);
                    let likely = index.likely_row(id);
                    prop_assert!(likely.is_none_or(|row| (row as usize) < table.len()));
                    let row = index.row_or_insert(id, table.len() as u32, |row| table[row as usize]);
                    let expected = table.iter().position(|&other| other == id).unwrap_or(table.len());
                    prop_assert_eq!(row as usize, expected);
                    if expected == table.len() {
                        table.push(id);
                    }
                    prop_assert_eq!(index.len(), table.len());
                }
                let found = table.iter().zip(0..).filter(|(id, row)| index.likely_row(**id) == Some(*row)).count();
                prop_assert!(found + 1 >= table.len(), "two pairs of one hash are as good as impossible");
            }
        }
    }
}
