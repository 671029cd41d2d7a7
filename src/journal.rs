//! The journal: the few decisions that are not in the logs (contract, section 2), as JSON Lines.
//!
//! ```text
//! {"entry":"advance","partition":0,"offset":1200,"watermark":1704067200000}   an idle partition, or the clock, advances
//! {"entry":"partition","partition":3,"watermark":1704067200000}               a new partition gets its first watermark
//! {"entry":"loss","partition":0,"from":1300,"to":1450}                        records lost to retention, accepted
//! {"entry":"epoch","epoch":2}                                                 a run started on the state directory
//! ```
//!
//! An entry with an offset holds for that offset and all behind it. Entries of other kinds (a switched model, a forgotten
//! user) are refused: a replay that left them out would not repeat the run.
//!
//! The journal of a live run begins with a header, `{"entry":"journal","version":1,"pipeline":"…"}`, and every line ends in a
//! checksum that covers the lines before it too (`sealed.rs`). The reader takes a journal with or without both, but not a line with
//! a checksum beside one without: whoever edits a journal by hand removes them all.
//!
//! *Losses in a replay.* The run never saw the records [from, to). A file that has them, such as an archive of the topic whose
//! line numbers are its offsets, is replayed without them: they are neither events nor rejected, and move no watermark.

pub(crate) mod scan;
pub(crate) mod sealed;

use crate::sinks::disk;
use dataflows::event::Time;
use dataflows::time::PartitionClock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why a journal can't be believed or repeated.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file can't be read.
    #[error("cannot read the journal {}: {}", path.display(), disk::reason(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A line is no entry.
    #[error("the journal {} is damaged in line {line}: {reason}; put a whole copy of the file in its place", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The last line is not whole.
    #[error(
        "the last line ({line}) of the journal {} was cut off while it was written: delete that line, or start the run \
         once more, which does so",
        path.display()
    )]
    Torn {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// It was written by a program that came after this one.
    #[error(
        "the journal {} has format {found}, and this program knows formats up to {known}: use the program that wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// It belongs to another pipeline than the directory that it is in.
    #[error(
        "the journal {} is that of another pipeline (fingerprint {found}, not {ours}): put the right file in its place",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its pipeline's fingerprint.
        found: String,
        /// The fingerprint that it should have.
        ours: String,
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
        line: u64,
        /// The partition.
        partition: u32,
        /// How many there are.
        partitions: usize,
    },
}

impl JournalError {
    /// Whether the same call may succeed later, with nothing changed but the state of the machine.
    pub fn is_retryable(&self) -> bool {
        matches!(self, JournalError::Read { error, .. } if disk::is_retryable(error))
    }
}

/// One entry of the journal (contract, section 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase", deny_unknown_fields)]
pub enum Decision {
    /// A partition that idles, or the wall clock, advances time.
    Advance {
        /// Which partition.
        partition: u32,
        /// It holds for this offset and all behind it.
        offset: u64,
        /// A_p from there on, ms. At most [`TIME_MAX`](dataflows::time::TIME_MAX).
        watermark: Time,
    },
    /// A new partition gets its first watermark.
    Partition {
        /// Which partition.
        partition: u32,
        /// A_p from its first record on, ms. At most [`TIME_MAX`](dataflows::time::TIME_MAX).
        watermark: Time,
    },
    /// Records were lost to retention before they were read, and that was accepted.
    Loss {
        /// Of which partition.
        partition: u32,
        /// The first offset lost.
        from: u64,
        /// The first offset that is there again.
        to: u64,
    },
    /// A run started. Changes no result.
    Epoch {
        /// Its epoch.
        epoch: u64,
    },
}

impl Decision {
    /// What is wrong with it, if it can't have been decided.
    pub(crate) fn fault(&self) -> Option<String> {
        match *self {
            Decision::Advance { watermark, .. } | Decision::Partition { watermark, .. } => (watermark
                > dataflows::time::TIME_MAX)
                .then(|| format!("the watermark {watermark} lies after 9999-12-31")),
            Decision::Loss { from, to, .. } => {
                (from >= to).then(|| format!("the loss from {from} to {to} loses nothing"))
            }
            Decision::Epoch { .. } => None,
        }
    }

    /// The partition that it is about.
    pub(crate) fn partition(&self) -> Option<u32> {
        match *self {
            Decision::Advance { partition, .. }
            | Decision::Partition { partition, .. }
            | Decision::Loss { partition, .. } => Some(partition),
            Decision::Epoch { .. } => None,
        }
    }
}

/// The decisions of a journal that change results, by partition.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    partitions: BTreeMap<u32, Advances>,
    content_hash: Option<String>,
}

impl Journal {
    /// Reads the journal of a log of `partitions` partitions.
    ///
    /// # Errors
    /// If it can't be read, or one of its lines is no entry that can be repeated.
    pub fn read(path: &Path, partitions: usize) -> Result<Journal, JournalError> {
        let mut decisions = Vec::new();
        scan::any(path, |line, decision| {
            match decision.partition() {
                Some(partition) if partition as usize >= partitions => {
                    return Err(JournalError::Partition { path: path.into(), line, partition, partitions });
                }
                _ => decisions.push(decision),
            }
            Ok(())
        })?;
        Ok(Journal::new(&decisions))
    }

    /// What `decisions`, in any order, say of each partition.
    pub fn new(decisions: &[Decision]) -> Journal {
        let mut partitions: BTreeMap<u32, Advances> = BTreeMap::new();
        for decision in decisions {
            let Some(partition) = decision.partition() else { continue };
            let of_partition = partitions.entry(partition).or_default();
            match *decision {
                Decision::Advance { offset, watermark, .. } => of_partition.entries.push((offset, watermark)),
                Decision::Partition { watermark, .. } => of_partition.entries.push((0, watermark)),
                Decision::Loss { from, to, .. } => of_partition.losses.push((from, to)),
                Decision::Epoch { .. } => {}
            }
        }
        partitions.values_mut().for_each(Advances::sort);
        // Decisions are plain numbers: writing them as JSON can't fail.
        let text = serde_json::to_vec(decisions).unwrap_or_default();
        Journal { partitions, content_hash: Some(blake3::hash(&text).to_hex().to_string()) }
    }

    /// BLAKE3 of its decisions, in hex; `None` without a journal.
    pub fn content_hash(&self) -> Option<&str> {
        self.content_hash.as_deref()
    }

    /// The advances and losses of one partition.
    pub fn advances(&self, partition: u32) -> Advances {
        self.partitions.get(&partition).cloned().unwrap_or_default()
    }
}

/// What a journal says of one partition, in the order of offsets.
#[derive(Clone, Debug, Default)]
pub struct Advances {
    entries: Vec<(u64, Time)>,
    next: usize,
    /// From, to; in order, and apart.
    losses: Vec<(u64, u64)>,
    next_loss: usize,
}

impl Advances {
    fn sort(&mut self) {
        self.entries.sort_unstable();
        // Of several at one offset the largest holds: a partition that idles all night has one a tick.
        self.entries.reverse();
        self.entries.dedup_by_key(|entry| entry.0);
        self.entries.reverse();
        self.losses.sort_unstable();
        self.losses.dedup_by(|next, loss| {
            let joined = next.0 <= loss.1;
            if joined {
                loss.1 = loss.1.max(next.1);
            }
            joined
        });
    }

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

    /// Whether any record of the partition was lost.
    pub fn have_losses(&self) -> bool {
        !self.losses.is_empty()
    }

    /// Whether the record at `offset` was lost, so that it is no part of the run. Offsets must not decrease.
    #[inline]
    pub fn is_lost(&mut self, offset: u64) -> bool {
        while self.losses.get(self.next_loss).is_some_and(|loss| loss.1 <= offset) {
            self.next_loss += 1;
        }
        self.losses.get(self.next_loss).is_some_and(|loss| loss.0 <= offset)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
