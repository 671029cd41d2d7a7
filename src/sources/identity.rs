//! Which log this is, and whether two processes see the same one (contract, sections 5 and 6).

use std::fmt;
use std::io::{self, Read};

/// How much of each file's text makes the log's id.
pub(super) const HEAD_BYTES: usize = 64 << 10;

/// Makes the 63 bits that stand for a log in every output row.
///
/// The id depends on the text and not on how it is packed. Each head goes in behind its length, so that the same bytes
/// divided otherwise are another log.
pub(super) struct LogId(blake3::Hasher);

impl LogId {
    /// The id of a log by its content; add the heads of its files in order.
    pub(super) fn of_heads() -> LogId {
        LogId(blake3::Hasher::new_derive_key("eddyline log id, heads of files"))
    }

    /// The id of a log that was given a name, which then is all that counts.
    pub(super) fn of_name(name: &str) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("eddyline log id, name");
        hasher.update(name.as_bytes());
        LogId(hasher).finish()
    }

    /// The id of a topic that has an id of its own, which no other topic ever gets.
    pub(super) fn of_topic(id: &[u8; 16]) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("eddyline log id, topic id");
        hasher.update(id);
        LogId(hasher).finish()
    }

    /// The id of a topic in a cluster that gives topics none.
    pub(super) fn of_topic_name(cluster: &str, topic: &str) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("eddyline log id, cluster and topic name");
        hasher.update(&(cluster.len() as u64).to_le_bytes());
        hasher.update(cluster.as_bytes());
        hasher.update(topic.as_bytes());
        LogId(hasher).finish()
    }

    /// Adds a file's text as far as it is in `head`; only the first 64 KiB count.
    pub(super) fn add(&mut self, head: &[u8]) {
        let head = &head[..head.len().min(HEAD_BYTES)];
        self.0.update(&(head.len() as u64).to_le_bytes());
        self.0.update(head);
    }

    pub(super) fn finish(self) -> u64 {
        let mut word = [0; 8];
        self.0.finalize_xof().fill(&mut word);
        u64::from_le_bytes(word) >> 1
    }
}

/// A file's content in a few bytes, to be compared between the processes of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentIdentity {
    /// Bytes of the file as it is, packed or not.
    pub size_bytes: u64,
    /// BLAKE3 of them.
    pub hash: [u8; 32],
}

impl ContentIdentity {
    /// Of everything that `reader` gives.
    pub(super) fn of(reader: impl Read) -> io::Result<ContentIdentity> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(reader)?;
        Ok(ContentIdentity { size_bytes: hasher.count(), hash: *hasher.finalize().as_bytes() })
    }
}

impl fmt::Display for ContentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {}", self.size_bytes, blake3::Hash::from_bytes(self.hash).to_hex())
    }
}
