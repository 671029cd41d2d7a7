//! Digests of outputs that don't depend on the order of rows, so that runs can be compared without writing anything.
//!
//! The digest of an output is its row count and the sum mod 2^128 of the XXH3-128 (seed 0) of each row; a row is hashed
//! as its fields' bytes, each field a little-endian u64, in this order (contract, section 6):
//!
//! | output | fields |
//! |---|---|
//! | recent | number of items, time, user, items… |
//! | recommendations | number of items, time, user, from_model, last_reward (two's complement), items… |
//! | popular | number of items, window_end, items…, counts… |
//! | late | partition, offset, user, item, behaviour (its index), time |
//! | records (behaviour log) | partition, offset, user, item, behaviour, time, logical time, late (0 or 1) |
//! | rejected | partition, offset, reason (its index in section 1's order), the record's length in bytes, low and high half of the XXH3-128 of the record |
//!
//! Times are in milliseconds, ids are raw. Since addition commutes, digests of parts ([`Digest::merge`]) add up to that of
//! the whole, however rows are spread over workers.

use crate::sinks::Rejected;
use dataflows::event::{Event, ItemId};
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use xxhash_rust::xxh3::xxh3_128;

/// Row count and sum of row hashes of one output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest {
    /// Number of rows.
    pub rows: u64,
    /// Sum mod 2^128 of the rows' hashes. 32 hexadecimal digits when serialized: it is no number for arithmetic.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub sum: u128,
}

impl Digest {
    /// Adds a row by its hash, made by a [`RowHasher`].
    #[inline]
    pub fn add_row(&mut self, hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    /// Adds the rows of `other`.
    pub fn merge(&mut self, other: &Digest) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// `rows:sum`, the sum in 32 hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:032x}", self.rows, self.sum)
    }
}

fn to_hex<S: Serializer>(sum: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{sum:032x}"))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    let text = String::deserialize(deserializer)?;
    u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
}

/// Hashes rows for a [`Digest`]. Keeps a buffer, so that a row costs no allocation.
#[derive(Clone, Debug, Default)]
pub struct RowHasher {
    /// Only grows; its length says nothing.
    bytes: Vec<u8>,
}

impl RowHasher {
    /// A row of *recent*.
    #[inline]
    pub fn sequence_row(&mut self, key: &SequenceKey, items: &[ItemId]) -> u128 {
        self.hash([items.len() as u64, key.time, key.user.0], items.iter().map(|item| item.0))
    }

    /// A recommendation.
    #[inline]
    pub fn recommendation_row(&mut self, key: &RecommendationKey, items: &[ItemId]) -> u128 {
        let fields =
            [items.len() as u64, key.time, key.user.0, u64::from(key.from_model), key.last_reward.cast_unsigned()];
        self.hash(fields, items.iter().map(|item| item.0))
    }

    /// A list of trending items.
    pub fn popular_row(&mut self, list: &PopularList) -> u128 {
        let items = list.items.iter().map(|(item, _)| item.0);
        let counts = list.items.iter().map(|&(_, count)| count);
        let fields = [list.items.len() as u64, list.window_end];
        let bytes = self.room((fields.len() + 2 * list.items.len()) * 8);
        fill(bytes, fields.into_iter().chain(items).chain(counts));
        xxh3_128(bytes)
    }

    /// A row of *late*. Whether the event is late is for the caller to know.
    #[inline]
    pub fn late_row(&self, event: &Event) -> u128 {
        let position = event.position;
        hash_fields([
            u64::from(position.partition()),
            position.offset(),
            event.user.0,
            event.item.0,
            u64::from(event.behavior.0),
            event.time,
        ])
    }

    /// A row of the behaviour log.
    #[inline]
    pub fn record_row(&self, event: &Event) -> u128 {
        let position = event.position;
        hash_fields([
            u64::from(position.partition()),
            position.offset(),
            event.user.0,
            event.item.0,
            u64::from(event.behavior.0),
            event.time,
            event.logical,
            u64::from(event.late),
        ])
    }

    /// A rejected record.
    pub fn rejected_row(&self, rejected: &Rejected) -> u128 {
        let record = xxh3_128(&rejected.record);
        hash_fields([
            u64::from(rejected.position.partition()),
            rejected.position.offset(),
            rejected.reason as u64,
            rejected.record.len() as u64,
            record as u64,
            (record >> 64) as u64,
        ])
    }

    #[inline]
    fn hash<const N: usize>(&mut self, fields: [u64; N], items: impl ExactSizeIterator<Item = u64>) -> u128 {
        let bytes = self.room((N + items.len()) * 8);
        let (head, tail) = bytes.split_at_mut(N * 8);
        fill(head, fields.into_iter());
        fill(tail, items);
        xxh3_128(bytes)
    }

    #[inline]
    fn room(&mut self, length: usize) -> &mut [u8] {
        if self.bytes.len() < length {
            self.bytes.resize(length, 0);
        }
        &mut self.bytes[..length]
    }
}

#[inline]
fn fill(bytes: &mut [u8], fields: impl Iterator<Item = u64>) {
    for (word, field) in bytes.chunks_exact_mut(8).zip(fields) {
        word.copy_from_slice(&field.to_le_bytes());
    }
}

#[inline]
fn hash_fields<const N: usize>(fields: [u64; N]) -> u128 {
    let mut bytes = [[0; 8]; N];
    for (word, field) in bytes.iter_mut().zip(fields) {
        *word = field.to_le_bytes();
    }
    xxh3_128(bytes.as_flattened())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
