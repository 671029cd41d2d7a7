//! Hashing of ids: which worker owns an id, and maps keyed by ids.

use std::hash::{BuildHasher, Hasher};

/// The number whose remainder names the worker that owns an id: the same in every process.
///
/// The finaliser of MurmurHash3: a bijection that lets every input bit reach the low bits, which timely routes by.
pub fn route(id: u64) -> u64 {
    let mut x = id;
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// Which of `peers` workers owns an id: the one that timely's exchange by [`route`] sends it to.
#[inline]
pub fn owner(id: u64, peers: usize) -> usize {
    let peers = peers as u64;
    // A mask, where it does, costs a tenth of a division.
    let owner = if peers.is_power_of_two() { route(id) & (peers - 1) } else { route(id) % peers };
    owner as usize
}

/// A map keyed by ids or times.
///
/// Its order is random and differs from run to run: look up in it, never iterate over it where the order could reach a
/// result.
#[expect(clippy::disallowed_types, reason = "the one map whose order is random, with a seed of ours")]
pub type IdMap<K, V> = std::collections::HashMap<K, V, IdState>;

/// Seeds hashers at random, once per map, so that nobody can prepare ids that all collide.
#[derive(Clone, Debug)]
pub struct IdState {
    seed: u64,
}

impl Default for IdState {
    #[expect(clippy::disallowed_types, reason = "the one use of chance: places in a map, which no result depends on")]
    fn default() -> Self {
        IdState { seed: std::hash::RandomState::new().hash_one(0u64) }
    }
}

impl BuildHasher for IdState {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher { state: self.seed }
    }
}

/// Multiplies to 128 bits and folds, a word at a time.
#[derive(Clone, Debug)]
pub struct IdHasher {
    state: u64,
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn routes_are_murmurs_finaliser() {
        // From its definition, by arithmetic on integers without bounds.
        let by_definition = |id: u128| {
            let word = u128::from(u64::MAX);
            let x = ((id ^ (id >> 33)) * 0xff51_afd7_ed55_8ccd) & word;
            let x = ((x ^ (x >> 33)) * 0xc4ce_b9fe_1a85_ec53) & word;
            x ^ (x >> 33)
        };
        for id in [0, 1, 2, 99, 1 << 33, u64::MAX >> 1, u64::MAX] {
            assert_eq!(u128::from(route(id)), by_definition(u128::from(id)), "{id}");
        }
        assert_eq!(route(1), 0xb456_bcfc_34c2_cb2c);
    }

    #[test]
    fn an_owner_is_the_worker_that_timely_routes_to() {
        for peers in 1..20 {
            for id in 0..100 {
                assert_eq!(owner(id, peers) as u64, route(id) % peers as u64, "{id} of {peers}");
            }
        }
    }

    #[test]
    fn ids_that_differ_anywhere_fall_into_different_places() {
        let state = IdState::default();
        for shift in [0, 8, 20, 40, 52] {
            for place in [|hash: u64| hash >> 52, |hash: u64| hash & 0xfff] {
                let places: BTreeSet<u64> = (0u64..4096).map(|id| place(state.hash_one(id << shift))).collect();
                // At random, 2589 of 4096 places are taken.
                assert!(places.len() > 1500, "ids << {shift} take {} places", places.len());
            }
        }
    }

    #[test]
    fn every_map_has_a_seed_of_its_own() {
        let hashes: BTreeSet<u64> = (0..100).map(|_| IdState::default().hash_one(1u64)).collect();
        assert_eq!(hashes.len(), 100);
    }

    #[test]
    fn words_of_any_length_are_hashed() {
        let state = IdState::default();
        let of = |write: &dyn Fn(&mut IdHasher)| {
            let mut hasher = state.build_hasher();
            write(&mut hasher);
            hasher.finish()
        };
        let words = of(&|hasher| hasher.write_u64(7));
        assert_eq!([of(&|h| h.write_u8(7)), of(&|h| h.write_u32(7)), of(&|h| h.write_usize(7))], [words; 3]);
        assert_eq!(of(&|h| h.write(&[7])), words);
        assert_ne!(of(&|h| h.write(&[7, 8])), of(&|h| h.write(&[8, 7])));
        assert_ne!(of(&|_| ()), words);
    }
}
