//! The journal: the few decisions that are not in the logs (contract, section 2), as JSON Lines.
//!
//! ```text
//! {"entry":"advance","partition":0,"offset":1200,"watermark":1704067200000}   an idle partition, or the clock, advances
//! {"entry":"partition","partition":3,"watermark":1704067200000}               a new partition gets its first watermark
//! ```
//!
//! An entry with an offset holds for that offset and all behind it. Entries of other kinds (an accepted loss, a switched
//! model, a forgotten user) are refused: a replay that left them out would not repeat the run.

use dataflows::event::Time;
use dataflows::time::{PartitionClock, TIME_MAX};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why a journal can't be repeated.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file can't be read.
    #[error("cannot read the journal {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A line is no entry.
    #[error("the journal {} is damaged in line {line}: {reason}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// An entry speaks of a partition that the log lacks.
    #[error(
        "the journal {} speaks of partition {partition} in line {line}, and there are {partitions}: name all files, in order",
        path.display()
    )]
    Partition {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The partition.
        partition: u32,
        /// How many there are.
        partitions: usize,
    },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase", deny_unknown_fields)]
enum Entry {
    Advance { partition: u32, offset: u64, watermark: Time },
    Partition { partition: u32, watermark: Time },
}

/// The decisions of a journal that move watermarks, by partition.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    advances: BTreeMap<u32, Vec<(u64, Time)>>,
    content_hash: Option<String>,
}

impl Journal {
    /// Reads the journal of a log of `partitions` partitions, once: it may be a pipe.
    ///
    /// # Errors
    /// If it can't be read, or one of its lines is no entry that can be repeated.
    pub fn read(path: &Path, partitions: usize) -> Result<Journal, JournalError> {
        let text = std::fs::read_to_string(path).map_err(|error| JournalError::Read { path: path.into(), error })?;
        let content_hash = Some(blake3::hash(text.as_bytes()).to_hex().to_string());
        let mut journal = Journal { content_hash, ..Journal::default() };
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            let entry: Entry = serde_json::from_str(text).map_err(|error| JournalError::Entry {
                path: path.into(),
                line,
                reason: error.to_string(),
            })?;
            let (partition, offset, watermark) = match entry {
                Entry::Advance { partition, offset, watermark } => (partition, offset, watermark),
                Entry::Partition { partition, watermark } => (partition, 0, watermark),
            };
            if watermark > TIME_MAX {
                let reason = format!("the watermark {watermark} lies after 9999-12-31");
                return Err(JournalError::Entry { path: path.into(), line, reason });
            }
            if partition as usize >= partitions {
                return Err(JournalError::Partition { path: path.into(), line, partition, partitions });
            }
            journal.advances.entry(partition).or_default().push((offset, watermark));
        }
        journal.advances.values_mut().for_each(|advances| advances.sort_unstable());
        Ok(journal)
    }

    /// BLAKE3 of its bytes, in hex; `None` without a journal.
    pub fn content_hash(&self) -> Option<&str> {
        self.content_hash.as_deref()
    }

    /// The advances of one partition.
    pub fn advances(&self, partition: u32) -> Advances {
        Advances { entries: self.advances.get(&partition).cloned().unwrap_or_default(), next: 0 }
    }
}

/// What a journal says of one partition, in the order of offsets.
#[derive(Clone, Debug, Default)]
pub struct Advances {
    entries: Vec<(u64, Time)>,
    next: usize,
}

impl Advances {
    /// The offset of the next advance to be repeated.
    #[inline]
    pub fn next_offset(&self) -> Option<u64> {
        self.entries.get(self.next).map(|(offset, _)| *offset)
    }

    /// Repeats the advances at offsets up to `offset`, the next one to be read. Offsets must not decrease.
    #[inline]
    pub fn apply(&mut self, offset: u64, clock: &mut PartitionClock) {
        while let Some(&(_, watermark)) = self.entries.get(self.next).filter(|(at, _)| *at <= offset) {
            clock.advance(watermark);
            self.next += 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Journal, JournalError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Journal::read(file.path(), 2)
    }

    #[test]
    fn advances_hold_from_their_offset_on() {
        let journal = read(
            "{\"entry\":\"advance\",\"partition\":1,\"offset\":5,\"watermark\":300}\n\n\
             {\"entry\":\"advance\",\"partition\":1,\"offset\":2,\"watermark\":100}\n\
             {\"entry\":\"partition\",\"partition\":0,\"watermark\":70}\n",
        )
        .unwrap();
        let watermarks = |partition| {
            let (mut advances, mut clock) = (journal.advances(partition), PartitionClock::new(0));
            [0, 2, 4, 5, 6].map(|offset| {
                advances.apply(offset, &mut clock);
                clock.watermark()
            })
        };
        assert_eq!(watermarks(0), [70; 5]);
        assert_eq!(watermarks(1), [0, 100, 100, 300, 300]);
    }

    #[test]
    fn what_cannot_be_repeated_is_refused() {
        let message = |text| read(text).unwrap_err().to_string();
        assert!(message("{\"entry\":\"forget\",\"user\":1,\"time\":5}").contains("line 1: unknown variant `forget`"));
        assert!(message("\n{\"entry\":\"advance\"}").contains("line 2: missing field"));
        assert!(message("{\"entry\":\"partition\",\"partition\":2,\"watermark\":1}").contains("partition 2 in line 1"));
        assert!(message("rubbish").contains("line 1"));
        let at = |watermark: Time| {
            read(&format!("{{\"entry\":\"advance\",\"partition\":0,\"offset\":7,\"watermark\":{watermark}}}"))
        };
        assert!(at(TIME_MAX).is_ok());
        for beyond in [TIME_MAX + 1, Time::MAX] {
            let message = at(beyond).unwrap_err().to_string();
            assert!(message.ends_with(&format!("line 1: the watermark {beyond} lies after 9999-12-31")), "{message}");
        }
    }
}
