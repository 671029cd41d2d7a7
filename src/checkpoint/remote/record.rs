//! The log in the object store: one record a step, and what all of them come to. Nothing here touches a store.
//!
//! A record is one sealed line of JSON. Its checksum covers that of the record before, so one that was changed, lost or moved
//! does not fit. A base says what the records up to its number come to, so that they can be deleted.

use crate::checkpoint::chunk::ChunkRef;
use crate::checkpoint::manifest::{unsealed, unsealed_after, version};
use crate::checkpoint::names::{JOURNAL, Name, generation_name, generation_number};
use crate::journal::sealed::seal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The format written here, and the newest one known.
pub(super) const VERSION: u32 = 1;

/// What a run does to its state directory, in one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::checkpoint) enum Change {
    /// A run begins. Nothing else changes; no earlier run can write from here on.
    Begin,
    /// Generations appear.
    Create { generations: BTreeMap<u64, Generation> },
    /// A generation goes, if it is there.
    Delete { generation: u64 },
    /// A small file appears, or is replaced.
    Put { generation: u64, name: String, text: String },
    /// Small files go.
    Remove { generation: u64, names: Vec<String> },
    /// The journal grows from its byte `at` on.
    Append { generation: u64, at: u64, text: String },
}

/// What the records come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::checkpoint) struct Tree {
    pub(in crate::checkpoint) generations: BTreeMap<u64, Generation>,
}

/// The files of a generation, but its chunks, which the manifests name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::checkpoint) struct Generation {
    /// Small files, by name.
    pub(in crate::checkpoint) files: BTreeMap<String, String>,
    /// The journal, but for its end.
    pub(in crate::checkpoint) segments: Vec<Segment>,
    /// The journal's end.
    pub(in crate::checkpoint) tail: String,
}

/// A part of a journal that is an object of its own, named by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::checkpoint) struct Segment {
    pub(in crate::checkpoint) bytes: u64,
    pub(in crate::checkpoint) blake3: String,
}

/// No part is longer, but for a line that is.
const SEGMENT_BYTES_MAX: usize = 8 << 20;

impl Segment {
    /// Its object.
    pub(super) fn key(&self) -> String {
        format!("journal/{}", self.blake3)
    }
}

/// The object of a chunk. No two chunks have the same: each has its number and its run's epoch in it.
pub(super) fn chunk_key(generation: u64, named: &ChunkRef) -> String {
    format!("chunks/{}-{:012}-{}", generation_name(generation), named.chunk, named.blake3)
}

impl Generation {
    /// How long the journal is.
    pub(in crate::checkpoint) fn journal_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>() + self.tail.len() as u64
    }

    /// The chunks that the manifests name, by number; `None` if a manifest can't be read, as those of later programs may not be.
    pub(in crate::checkpoint) fn chunks(&self) -> Option<BTreeMap<u64, ChunkRef>> {
        #[derive(Deserialize)]
        struct Named {
            chunks: Vec<ChunkRef>,
        }
        let manifests = self.files.iter().filter(|(name, _)| matches!(Name::of(name), Name::Manifest(_)));
        let mut chunks = BTreeMap::new();
        for (_, text) in manifests {
            let named = serde_json::from_str::<Named>(text).ok()?.chunks;
            chunks.extend(named.into_iter().map(|named| (named.chunk, named)));
        }
        Some(chunks)
    }

    /// Makes segments of all but the journal's last `tail_bytes`. Returns the texts that are to be put under their keys before
    /// it is relied on.
    pub(in crate::checkpoint) fn cut_tail(&mut self, tail_bytes: usize) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        while self.tail.len() >= tail_bytes.max(1) {
            let end = self.tail.bytes().take(SEGMENT_BYTES_MAX).rposition(|byte| byte == b'\n');
            let rest = self.tail.split_off(end.map_or(self.tail.len(), |end| end + 1));
            let text = std::mem::replace(&mut self.tail, rest);
            let segment =
                Segment { bytes: text.len() as u64, blake3: blake3::hash(text.as_bytes()).to_hex().to_string() };
            texts.push((segment.key(), text));
            self.segments.push(segment);
        }
        texts
    }
}

impl Tree {
    /// Takes a step; or says why it can't be one.
    pub(super) fn apply(&mut self, change: &Change) -> Result<(), String> {
        match change {
            Change::Begin => {}
            Change::Create { generations } => {
                for (&number, generation) in generations {
                    names_fit(number, generation.files.keys())?;
                    if self.generations.insert(number, generation.clone()).is_some() {
                        return Err(format!("generation {number} appears twice"));
                    }
                }
            }
            Change::Delete { generation } => {
                self.generations.remove(generation);
            }
            Change::Put { generation, name, text } => {
                names_fit(*generation, [name])?;
                self.generation(*generation)?.files.insert(name.clone(), text.clone());
            }
            Change::Remove { generation, names } => {
                let files = &mut self.generation(*generation)?.files;
                names.iter().for_each(|name| drop(files.remove(name)));
            }
            Change::Append { generation, at, text } => {
                let generation = self.generation(*generation)?;
                if generation.journal_bytes() != *at {
                    return Err(format!("the journal ends at {}, and not at {at}", generation.journal_bytes()));
                }
                generation.tail.push_str(text);
            }
        }
        Ok(())
    }

    fn generation(&mut self, number: u64) -> Result<&mut Generation, String> {
        self.generations.get_mut(&number).ok_or_else(|| format!("there is no generation {number}"))
    }

    /// All objects that it needs besides the log; `None` if that can't be known.
    pub(super) fn objects(&self) -> Option<BTreeSet<String>> {
        let mut objects = BTreeSet::new();
        for (&number, generation) in &self.generations {
            objects.extend(generation.chunks()?.values().map(|named| chunk_key(number, named)));
            objects.extend(generation.segments.iter().map(Segment::key));
        }
        Some(objects)
    }

    /// [`Generation::cut_tail`] of all.
    pub(super) fn cut_tails(&mut self, tail_bytes: usize) -> Vec<(String, String)> {
        self.generations.values_mut().flat_map(|generation| generation.cut_tail(tail_bytes)).collect()
    }
}

/// What comes from a store must not name a file elsewhere, or one that has a way of its own.
fn names_fit<'a>(generation: u64, names: impl IntoIterator<Item = &'a String>) -> Result<(), String> {
    let fits = |name: &String| name != JOURNAL && matches!(Name::of(name), Name::Manifest(_) | Name::Fixed);
    if generation_number(&generation_name(generation)).is_none() {
        return Err(format!("there can be no generation {generation}"));
    }
    names.into_iter().find(|name| !fits(name)).map_or(Ok(()), |name| Err(format!("it names a file {name:?}")))
}

/// Why an object can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    Damaged(String),
    /// Of a later program.
    Newer(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    record: u64,
    version: u32,
    /// Which run wrote it: two that take the same step write different bytes.
    run: String,
    change: Change,
}

/// The record of that number after one with the checksum `before`, and its own checksum.
pub(super) fn encode(number: u64, run: &str, change: &Change, before: u64) -> (Vec<u8>, u64) {
    let record = Record { record: number, version: VERSION, run: run.to_owned(), change: change.clone() };
    let mut line = Vec::new();
    let check =
        seal(&serde_json::to_vec(&record).expect("a record has no keys but strings and numbers"), before, &mut line);
    (line, check)
}

/// What [`encode`] made.
pub(super) fn decode(line: Vec<u8>, number: u64, before: u64) -> Result<(Change, u64), Unusable> {
    let (object, check) = unsealed_after(line, before).map_err(damaged)?;
    let record: Record = read(&object)?;
    match record.record == number {
        true => Ok((record.change, check)),
        false => Err(Unusable::Damaged(format!("it is record {}", record.record))),
    }
}

/// What the records up to one come to.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Base {
    /// The number of that one.
    pub(super) base: u64,
    pub(super) version: u32,
    /// Its checksum.
    pub(super) last: u64,
    /// The numbers of all records with which a run began, which stay for ever.
    pub(super) begins: BTreeSet<u64>,
    pub(super) tree: Tree,
}

impl Base {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut line = Vec::new();
        seal(&serde_json::to_vec(self).expect("a base has no keys but strings and numbers"), 0, &mut line);
        line
    }

    pub(super) fn decode(line: Vec<u8>, number: u64) -> Result<Base, Unusable> {
        let base: Base = read(&unsealed(line).map_err(damaged)?)?;
        for (&number, generation) in &base.tree.generations {
            names_fit(number, generation.files.keys()).map_err(Unusable::Damaged)?;
        }
        match base.base == number {
            true => Ok(base),
            false => Err(Unusable::Damaged(format!("it is base {}", base.base))),
        }
    }
}

fn damaged(reason: &str) -> Unusable {
    Unusable::Damaged(reason.to_owned())
}

fn read<T: for<'de> Deserialize<'de>>(object: &[u8]) -> Result<T, Unusable> {
    if let Some(found) = version(object).filter(|found| *found > VERSION) {
        return Err(Unusable::Newer(found));
    }
    serde_json::from_slice(object).map_err(|error| Unusable::Damaged(error.to_string()))
}
