//! The room as a whole, against plain maps: whatever is published, merged, crashed, damaged and opened again.

mod crash;
mod damage;
mod disk;
mod faults;
mod full;
mod model;
mod opening;
pub(super) mod probe;
mod remote;

use super::*;
use dataflows::event::{ItemId, Position, UserId};
use dataflows::recent::Entry;
use dataflows::rows::PopularList;
use dataflows::state::{PaneState, StandingState, UserState};
use model::{Model, loaded};
use proptest::prelude::*;
use std::fs;

/// A temporary directory in memory, where there is one: these tests sync all the time.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn pipeline(fingerprint: &str) -> Pipeline {
    let parts = serde_json::json!({ "configuration": fingerprint });
    Pipeline { fingerprint: fingerprint.into(), parts: parts.as_object().unwrap().clone() }
}

fn ours() -> Pipeline {
    pipeline("ours")
}

fn open(path: &Path) -> Result<(StateDirectory, Recovered), CheckpointError> {
    StateDirectory::open(&StatePlace::local(path), &ours(), OtherPipeline::Refuse)
}

fn open_probed(path: &Path, probe: &probe::Probe) -> Result<(StateDirectory, Recovered), CheckpointError> {
    open::open(&StatePlace::local(path), &ours(), (OtherPipeline::Refuse, Trust::Snapshots), probe.clone())
}

/// The directory of a state directory's first generation.
fn generation(path: &Path) -> PathBuf {
    path.join("generation-1")
}

/// Its files, by name.
fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    fs::read_dir(generation(path)).unwrap().map(|file| entry(file.unwrap())).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file is named by one of at most three manifests.
fn assert_no_leaks(path: &Path) {
    let files = contents(path);
    let manifests: Vec<serde_json::Value> = files
        .iter()
        .filter(|(name, _)| name.starts_with("manifest"))
        .map(|(_, bytes)| serde_json::from_slice(bytes).unwrap())
        .collect();
    assert!(manifests.len() <= 3);
    let chunks: BTreeSet<String> = manifests
        .iter()
        .flat_map(|manifest| manifest["chunks"].as_array().unwrap())
        .map(|chunk| names::chunk_name(chunk["chunk"].as_u64().unwrap()))
        .collect();
    let found: BTreeSet<String> = files.into_keys().filter(|name| !name.starts_with("manifest")).collect();
    let fixed = [names::JOURNAL.to_owned(), names::PIPELINE.to_owned()];
    assert_eq!(found, chunks.into_iter().chain(fixed).collect());
}

pub(super) fn any_user() -> impl Strategy<Value = UserState> {
    let number = || (any::<u64>(), 0u32..64).prop_map(|(number, shift)| number >> shift);
    let entry = (number(), 0..=Position::PARTITION_MAX, 0..=Position::OFFSET_MAX, number(), any::<bool>());
    let entries = prop::collection::vec(entry, 0..8).prop_map(|entries| {
        let mut entries: Vec<Entry> = entries
            .into_iter()
            .map(|(time, partition, offset, item, first)| Entry {
                time,
                position: Position::new(if first { 0 } else { partition }, offset).unwrap(),
                item: ItemId(item),
            })
            .collect();
        entries.sort_unstable();
        entries
    });
    let standing =
        (prop::collection::vec(number(), 0..5), any::<i64>(), 0u32..64).prop_map(|(items, reward, shift)| {
            StandingState { items: items.into_iter().map(ItemId).collect(), reward: reward >> shift }
        });
    (number(), entries, prop::option::of(standing)).prop_map(|(user, entries, standing)| UserState {
        user: UserId(user),
        entries,
        standing,
    })
}

pub(super) fn any_pane() -> impl Strategy<Value = PaneState> {
    let number = || (any::<u64>(), 0u32..64).prop_map(|(number, shift)| number >> shift);
    (number(), number(), number(), any::<u64>(), 0u32..64).prop_map(|(item, enters, leaves, count, shift)| PaneState {
        item: ItemId(item),
        enters,
        leaves,
        count: count >> shift,
    })
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
