//! What is decided about a state directory, apart from doing it: whose it is, which snapshot is believed, which files are
//! kept, when chunks are merged. No function here touches a file.

use super::names::Name;
use crate::journal::Decision;
use crate::journal::scan::Place;
use crate::sinks::PartitionPosition;
use crate::sinks::identity::OtherPipeline;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// How many snapshots are kept: if the newest can't be read, two older ones may.
pub(super) const MANIFESTS_KEPT: usize = 3;

/// Fewer chunks than this are not worth a merge, if they are small.
const CHUNKS_MERGED_MIN: usize = 8;

/// From this size on, chunks that outweigh the oldest are worth a merge however few they are.
const BYTES_MERGED_MIN: u64 = 4 << 20;

/// Whose state a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Ours,
    Others,
    /// Its file can't be believed.
    Unknown,
}

/// Which generation a run uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// This one. `delete`: what an interrupted purge has left.
    Continue { number: u64, delete: Vec<u64> },
    /// A new one, after which `delete` are deleted.
    Create { number: u64, delete: Vec<u64> },
    /// None: this one is another pipeline's.
    Refuse { number: u64 },
    /// None: of this one it is not known whose it is.
    Unknown { number: u64 },
}

/// `found`: the generations that there are, by number.
pub(super) fn generation(found: &BTreeMap<u64, Whose>, choice: OtherPipeline) -> Generation {
    let newest = found.keys().next_back().copied();
    let create = |delete| Generation::Create { number: newest.unwrap_or(0) + 1, delete };
    let unknown = found.iter().find(|(_, whose)| **whose == Whose::Unknown);
    let ours = || found.iter().rev().filter(|(_, whose)| **whose == Whose::Ours).map(|(&number, _)| number);
    match (newest, choice) {
        (None, _) => create(Vec::new()),
        (_, OtherPipeline::Purge) => create(found.keys().copied().collect()),
        (Some(newest), _) => match (unknown, ours().next()) {
            (Some((&number, _)), _) => Generation::Unknown { number },
            (None, Some(number)) => Generation::Continue { number, delete: ours().skip(1).collect() },
            (None, None) if choice == OtherPipeline::NewGeneration => create(Vec::new()),
            (None, None) => Generation::Refuse { number: newest },
        },
    }
}

/// What is wrong with a journal, if a snapshot was made when it ended at `named`. `end`: where it ends now. `check`: its
/// checksum at as many bytes as `named` says, if a line ends there.
pub(super) fn journal_fault(named: &Place, end: &Place, found: Option<&Place>) -> Option<String> {
    if end.bytes < named.bytes {
        return Some(format!(
            "it has lost its end: {} lines are left of at least {} ({} bytes of {})",
            end.lines, named.lines, end.bytes, named.bytes
        ));
    }
    (found != Some(named)).then(|| format!("its first {} lines are not those of that time", named.lines))
}

/// The newest manifest that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Belief<T> {
    /// There was no snapshot.
    Fresh,
    /// This one; those that are newer are not whole, for these reasons.
    Newest { number: u64, what: T, skipped: Vec<(u64, String)> },
    /// There were snapshots, and none is whole.
    None { skipped: Vec<(u64, String)> },
}

/// `manifests`: newest first. `whole`: the snapshot of a manifest if all that it names is whole, or else a reason.
pub(super) fn believe<M, T, E>(
    manifests: &[(u64, Result<M, String>)],
    mut whole: impl FnMut(&M) -> Result<Result<T, String>, E>,
) -> Result<Belief<T>, E> {
    let mut skipped = Vec::new();
    for (number, manifest) in manifests {
        let snapshot = match manifest {
            Ok(manifest) => whole(manifest)?,
            Err(reason) => Err(reason.clone()),
        };
        match snapshot {
            Ok(what) => return Ok(Belief::Newest { number: *number, what, skipped }),
            Err(reason) => skipped.push((*number, reason)),
        }
    }
    Ok(if skipped.is_empty() { Belief::Fresh } else { Belief::None { skipped } })
}

/// Takes away all but the newest manifests. `manifests`: their chunks, by number.
pub(super) fn keep_newest(manifests: &mut BTreeMap<u64, Vec<u64>>) {
    while manifests.len() > MANIFESTS_KEPT {
        manifests.pop_first();
    }
}

/// The files among `names` that are of no use: all of ours but the manifests `kept`, their chunks, and the chunks `in_use`.
/// What has a name that is none of ours stays.
pub(super) fn garbage(names: Vec<String>, kept: &BTreeMap<u64, Vec<u64>>, in_use: &BTreeSet<u64>) -> Vec<String> {
    let is_named = |chunk: u64| in_use.contains(&chunk) || kept.values().any(|chunks| chunks.contains(&chunk));
    let is_garbage = |name: &String| match Name::of(name) {
        Name::Manifest(number) => !kept.contains_key(&number),
        Name::Chunk(number) => !is_named(number),
        Name::Partial => true,
        Name::Fixed | Name::Other => false,
    };
    names.into_iter().filter(is_garbage).collect()
}

/// Which of the chunks of these sizes, oldest first, are to be merged into one.
///
/// Chunks are merged from one on that those after it outweigh. So a row is written again only when the state that it is in
/// has about doubled, the chunks are few (eight, and one for each doubling), and they take at most about twice the room of what is in
/// them. Small ones wait until they are eight.
pub(super) fn merge(bytes: &[u64]) -> Option<Range<usize>> {
    let mut newer = 0_u64;
    let mut start = None;
    for (at, &own) in bytes.iter().enumerate().rev() {
        let is_worth_it = bytes.len() - at >= CHUNKS_MERGED_MIN || newer >= BYTES_MERGED_MIN;
        if newer >= own && is_worth_it {
            start = Some(at);
        }
        newer = newer.saturating_add(own);
    }
    start.filter(|start| bytes.len() - start > 1).map(|start| start..bytes.len())
}

/// Whether a run that goes on from `positions` still needs a decision: those before are in the clocks of the snapshot.
pub(super) fn is_needed(decision: &Decision, positions: &BTreeMap<u32, &PartitionPosition>) -> bool {
    let offset = |partition: &u32| positions.get(partition).map(|position| position.offset);
    match decision {
        Decision::Advance { partition, offset: at, watermark } => positions
            .get(partition)
            // Where the partition is silent, all that was decided there is in its clock.
            .is_none_or(|position| *at >= position.offset && *watermark > position.advanced),
        Decision::Partition { partition, .. } => offset(partition).is_none(),
        Decision::Loss { partition, to, .. } => offset(partition).is_none_or(|offset| *to > offset),
        Decision::Epoch { .. } => true,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
