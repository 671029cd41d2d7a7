//! Digests that do not depend on the rows' order.

use xxhash_rust::xxh3::xxh3_128;

/// Row count, and the sum mod 2^128 of XXH3-128 of each row's fields as little-endian u64s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    rows: u64,
    sum: u128,
}

impl Digest {
    /// Adds a row of at most 32 fields.
    #[inline]
    pub fn add(&mut self, fields: &[u64]) {
        let mut bytes = [0; 32 * 8];
        for (field, bytes) in fields.iter().zip(bytes.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&field.to_le_bytes());
        }
        self.rows += 1;
        self.sum = self.sum.wrapping_add(xxh3_128(&bytes[..fields.len() * 8]));
    }

    pub fn to_json(self) -> String {
        format!("{{\"rows\":{},\"sum\":\"{:032x}\"}}", self.rows, self.sum)
    }
}
