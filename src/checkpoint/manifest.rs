//! A manifest: what a snapshot consists of. One sealed line of JSON, written under another name, synced, then renamed.

use super::chunk::ChunkRef;
use super::files::{Directory, is_damage};
use super::names::manifest_name;
use crate::journal::scan::Place;
use crate::journal::sealed::{Seal, seal, unseal};
use crate::sinks::{LastWindow, PartitionPosition};
use dataflows::event::Time;
use serde::{Deserialize, Serialize};
use std::io;

/// The format written here, and the newest one known.
pub(super) const VERSION: u32 = 3;

/// The longest manifest that is looked at: far more than the largest number of partitions takes.
const BYTES_MAX: u64 = 64 << 20;

/// A snapshot (contract, section 5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// Its number, which is in its name.
    pub(super) manifest: u64,
    pub(super) version: u32,
    /// The pipeline's fingerprint.
    pub(super) pipeline: String,
    /// Of the run that published it.
    pub(super) epoch: u64,
    /// F, ms.
    pub(super) frontier: Time,
    /// The journal's end at that time.
    pub(super) journal: Place,
    pub(super) positions: Vec<PartitionPosition>,
    pub(super) last: Option<LastWindow>,
    /// Oldest first.
    pub(super) chunks: Vec<ChunkRef>,
}

/// Why a manifest can't be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// What is wrong with it.
    Damaged(String),
    /// Its format is that of a later program.
    Newer(u32),
    /// It can't be read now.
    Unread(io::Error),
}

impl Manifest {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let object = serde_json::to_vec(self).expect("a manifest has string keys only");
        seal(&object, 0, &mut text);
        text
    }

    /// Reads the manifest of that number of the pipeline with the fingerprint `pipeline`.
    pub(super) fn read(directory: &Directory, number: u64, pipeline: &str) -> Result<Manifest, Unusable> {
        let bytes = directory.read(&manifest_name(number), BYTES_MAX).map_err(|error| match is_damage(&error) {
            true => Unusable::Damaged(error.to_string()),
            false => Unusable::Unread(error),
        })?;
        Manifest::from_bytes(bytes, number, pipeline)
    }

    pub(super) fn from_bytes(bytes: Vec<u8>, number: u64, pipeline: &str) -> Result<Manifest, Unusable> {
        let damaged = |reason: &str| Unusable::Damaged(reason.to_owned());
        let object = unsealed(bytes).map_err(damaged)?;
        let version = version(&object).ok_or_else(|| damaged("it has no format"))?;
        if version > VERSION {
            return Err(Unusable::Newer(version));
        }
        let manifest: Manifest =
            serde_json::from_slice(&object).map_err(|error| Unusable::Damaged(error.to_string()))?;
        if manifest.pipeline != pipeline {
            return Err(damaged("it is that of another pipeline"));
        }
        let numbers = || manifest.chunks.iter().map(|chunk| chunk.chunk);
        if manifest.manifest != number || !numbers().chain([number]).is_sorted_by(|a, b| a < b) {
            return Err(damaged("it is not the manifest of that number"));
        }
        Ok(manifest)
    }

    /// The numbers of its chunks.
    pub(super) fn chunk_numbers(&self) -> Vec<u64> {
        self.chunks.iter().map(|chunk| chunk.chunk).collect()
    }
}

/// The object in a file of one sealed line.
pub(super) fn unsealed(line: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    unsealed_after(line, 0).map(|(object, _)| object)
}

/// The same of a line that comes after one with the checksum `before`; and its own checksum.
pub(super) fn unsealed_after(mut line: Vec<u8>, before: u64) -> Result<(Vec<u8>, u64), &'static str> {
    if line.pop_if(|byte| *byte == b'\n').is_none() {
        return Err("it ends too early");
    }
    match unseal(&mut line, before) {
        Seal::Right(check) => Ok((line, check)),
        Seal::Wrong => Err("its checksum is wrong"),
        Seal::None => Err("it has no checksum"),
    }
}

/// The format that an object says it has; a later one may differ in all the rest.
pub(super) fn version(object: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    serde_json::from_slice::<Version>(object).ok().map(|version| version.version)
}
