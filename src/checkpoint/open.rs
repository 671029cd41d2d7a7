//! Opening a state directory: whose it is, what of it can be believed, and what is left to do before a run goes on.
//!
//! The order matters. Nothing is changed before the lock is held. Manifests that are newer than the one believed are gone from the
//! disk before the journal is appended to: what is decided from now on may hold for records that such a snapshot has passed,
//! so it must not be believed later, should it become readable again. (Epochs are no such decisions. Where the journal alone is
//! trusted, the run deletes the snapshots itself, before its first decision.)

use super::chunk::{Chunk, stray_head};
use super::error::{CheckpointError, Skipped};
use super::files::{Directory, is_damage, make_all};
use super::lock::Lock;
use super::manifest::{Manifest, Unusable, unsealed, version};
use super::names::{
    DELETED, JOURNAL, LOCK, NEW, Name, PIPELINE, PURGING, generation_name, generation_number, is_leftover,
    manifest_name,
};
use super::plan::{self, Belief, Generation, Whose, believe, garbage, is_needed, journal_fault, keep_newest};
use super::probe::Probe;
use super::remote::Remote;
use super::remote::copy::{self, Whole};
use super::snapshots::{Found, SnapshotWriter, hashed};
use super::writer::JournalWriter;
use super::{Recovered, Snapshot, StateDirectory, StatePlace, Unbelieved};
use crate::journal::sealed::seal;
use crate::journal::{Decision, JournalError, scan};
use crate::sinks::disk;
use crate::sinks::identity::{OtherPipeline, Pipeline};
use scan::Place;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::{fs, io};

/// The format of the file that says whose state it is.
const VERSION: u32 = 1;

/// The longest such file that is looked at.
const IDENTITY_BYTES_MAX: u64 = 1 << 20;

/// What a file system itself keeps at its root.
const LOST_AND_FOUND: &str = "lost+found";

/// Whose state a generation is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    generation: u64,
    version: u32,
    fingerprint: String,
    parts: Map<String, Value>,
}

/// What of a state directory a run goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The newest whole snapshot, and the journal.
    Snapshots,
    /// The journal only.
    Journal,
}

pub(super) fn open(
    place: &StatePlace,
    pipeline: &Pipeline,
    (choice, trust): (OtherPipeline, Trust),
    probe: Probe,
) -> Result<(StateDirectory, Recovered), CheckpointError> {
    let remote = place.remote.as_ref().map(Remote::new).transpose()?;
    open_copy(&place.dir, remote, pipeline, (choice, trust), probe)
}

/// The same, with `remote` as what is told of all that is done to the directory.
pub(super) fn open_copy(
    path: &Path,
    remote: Option<Remote>,
    pipeline: &Pipeline,
    (choice, trust): (OtherPipeline, Trust),
    probe: Probe,
) -> Result<(StateDirectory, Recovered), CheckpointError> {
    let root = Directory::new(path, probe);
    let lock = Arc::new(lock(&root)?);
    for name in root.names()?.iter().filter(|name| is_leftover(name)) {
        root.remove_directory(name)?;
    }
    let remote = remote.map(Arc::new);
    let (root, chosen) = match &remote {
        Some(remote) => begin(root, remote, pipeline, (choice, trust))?,
        None => match copy::original(&root)? {
            Some(url) => return Err(CheckpointError::Copy { path: path.to_owned(), url }),
            None => {
                let chosen = choose(&root, pipeline, choice)?;
                (root, chosen)
            }
        },
    };
    let Chosen { number, is_new, delete, identities } = chosen;
    if is_new {
        create(&root, number, pipeline, choice == OtherPipeline::Purge)?;
    }
    let epochs = identities.keys().filter(|&&other| other != number);
    let epoch = epochs.map(|&other| last_epoch(&root, other)).max().unwrap_or(0);
    let (journal, snapshots, recovered) = recover(&root, number, pipeline, (epoch, trust), &lock)?;
    delete_generations(&root, &delete)?;
    if let Some(remote) = remote {
        remote.sweep();
    }
    Ok((StateDirectory { journal, snapshots }, recovered))
}

/// The generation that a run uses.
struct Chosen {
    number: u64,
    /// It is yet to be made.
    is_new: bool,
    /// Those that are to be deleted afterwards.
    delete: Vec<u64>,
    /// What all that there are say of themselves.
    identities: Identities,
}

/// Changes nothing.
fn choose(root: &Directory, pipeline: &Pipeline, choice: OtherPipeline) -> Result<Chosen, CheckpointError> {
    let identities = identities(root)?;
    let whose = |identity: &Result<Identity, String>| match identity {
        Ok(identity) if identity.fingerprint == pipeline.fingerprint => Whose::Ours,
        Ok(_) => Whose::Others,
        Err(_) => Whose::Unknown,
    };
    let found = identities.iter().map(|(&number, identity)| (number, whose(identity))).collect();
    match plan::generation(&found, choice) {
        Generation::Continue { number, .. } if root.within(&generation_name(number)).has(PURGING)? => {
            Err(CheckpointError::PurgeInterrupted(root.path().to_owned()))
        }
        Generation::Refuse { number } | Generation::Unknown { number } => {
            Err(refusal(root, number, &identities[&number], pipeline))
        }
        Generation::Continue { number, delete } => Ok(Chosen { number, is_new: false, delete, identities }),
        Generation::Create { number, delete } => Ok(Chosen { number, is_new: true, delete, identities }),
    }
}

/// The same with a copy in an object store, which holds. A run that is refused leaves the one that goes on there alone.
fn begin(
    root: Directory,
    remote: &Arc<Remote>,
    pipeline: &Pipeline,
    (choice, trust): (OtherPipeline, Trust),
) -> Result<(Directory, Chosen), CheckpointError> {
    let mut whole = Whole::new();
    remote.read()?;
    let is_first = copy::bring(&root, remote, &mut whole)?;
    let chosen = choose(&root, pipeline, choice)?;
    // What would be refused must not get into the store.
    if is_first && !chosen.is_new {
        let directory = root.within(&generation_name(chosen.number));
        let files = files(&directory, &pipeline.fingerprint)?;
        check_journal(&directory, &pipeline.fingerprint, &files.manifests)?;
        if trust == Trust::Snapshots {
            snapshot(&directory, &files, &pipeline.fingerprint)?;
        }
    }
    remote.begin()?;
    // An earlier run may have gone on until then.
    if copy::bring(&root, remote, &mut whole)? && choice != OtherPipeline::Purge {
        copy::fill(&root, remote, &mut whole)?;
    }
    copy::mark(&root, remote)?;
    let chosen = choose(&root, pipeline, choice)?;
    Ok((root.copied_to(remote.clone()), chosen))
}

/// Makes the directory if need be, and takes its lock.
fn lock(root: &Directory) -> Result<Lock, CheckpointError> {
    match fs::metadata(root.path()) {
        Ok(found) if !found.is_dir() => return Err(CheckpointError::NotADirectory(root.path().to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_all(root.path())?,
        Err(error) => return Err(CheckpointError::io("open", root.path())(error)),
    }
    let names = root.names()?;
    if !names.is_empty() && !names.iter().any(|name| name == LOCK) && names != [LOST_AND_FOUND] {
        return Err(CheckpointError::NotAStateDirectory(root.path().to_owned()));
    }
    let lock = Lock::take(root.path(), &root.file(LOCK))?;
    if names.iter().all(|name| name != LOCK) {
        // By its name the directory is known as ours: it must outlast what is put there.
        root.sync()?;
    }
    Ok(lock)
}

/// What each generation says of itself, by number.
type Identities = BTreeMap<u64, Result<Identity, String>>;

fn identities(root: &Directory) -> Result<Identities, CheckpointError> {
    let mut identities = BTreeMap::new();
    for number in root.names()?.iter().filter_map(|name| generation_number(name)) {
        let directory = root.within(&generation_name(number));
        let path = directory.file(PIPELINE);
        let identity = match directory.read(PIPELINE, IDENTITY_BYTES_MAX) {
            Ok(bytes) => identity(bytes, number, &path)?,
            Err(error) if is_damage(&error) => Err(disk::reason(&error)),
            Err(error) => return Err(CheckpointError::io("read", &path)(error)),
        };
        identities.insert(number, identity);
    }
    Ok(identities)
}

fn identity(bytes: Vec<u8>, number: u64, path: &Path) -> Result<Result<Identity, String>, CheckpointError> {
    let object = match unsealed(bytes) {
        Ok(object) => object,
        Err(reason) => return Ok(Err(reason.to_owned())),
    };
    match version(&object) {
        Some(found) if found > VERSION => {
            return Err(CheckpointError::Newer { path: path.to_owned(), found, known: VERSION });
        }
        _ => {}
    }
    let identity = serde_json::from_slice::<Identity>(&object).map_err(|error| error.to_string());
    Ok(identity.and_then(|identity| match identity.generation == number {
        true => Ok(identity),
        false => Err(format!("it is that of generation {}", identity.generation)),
    }))
}

fn refusal(root: &Directory, number: u64, identity: &Result<Identity, String>, ours: &Pipeline) -> CheckpointError {
    match identity {
        Ok(Identity { fingerprint, parts, .. }) => {
            let theirs = Pipeline { fingerprint: fingerprint.clone(), parts: parts.clone() };
            CheckpointError::OtherPipeline { path: root.path().to_owned(), difference: ours.difference(&theirs) }
        }
        Err(reason) => {
            let path = root.within(&generation_name(number)).file(PIPELINE);
            CheckpointError::Damaged { path, reason: reason.clone() }
        }
    }
}

/// Makes a generation of which nothing is known yet, as a whole.
fn create(root: &Directory, number: u64, pipeline: &Pipeline, purges: bool) -> Result<(), CheckpointError> {
    let identity = Identity {
        generation: number,
        version: VERSION,
        fingerprint: pipeline.fingerprint.clone(),
        parts: pipeline.parts.clone(),
    };
    let object = serde_json::to_vec(&identity).expect("an identity has string keys only");
    let mut text = Vec::new();
    seal(&object, 0, &mut text);
    let (partial, name) = (generation_name(number) + NEW, generation_name(number));
    let directory = root.within(&partial);
    directory.make()?;
    let purging = purges.then(|| (PURGING, Vec::new()));
    for (name, text) in [(PIPELINE, text), (JOURNAL, scan::header(&pipeline.fingerprint).0)].into_iter().chain(purging)
    {
        let mut file = directory.create(name)?;
        file.append(&text)?;
        file.sync()?;
    }
    directory.sync()?;
    root.rename(&partial, &name)?;
    root.sync()
}

/// The epoch of the last run on another generation, as far as its journal can be read: ours must be higher, for the sinks'
/// sake.
fn last_epoch(root: &Directory, number: u64) -> u64 {
    let path = root.within(&generation_name(number)).file(JOURNAL);
    let mut epoch = 0;
    // What can't be read is another pipeline's, and not needed otherwise.
    let _ = scan::live(&path, None, |_, decision| {
        if let Some(Decision::Epoch { epoch: found }) = decision {
            epoch = epoch.max(found);
        }
    });
    epoch
}

/// Deletes generations, each in one step as far as the next opening can see.
pub(super) fn delete_generations(root: &Directory, numbers: &[u64]) -> Result<(), CheckpointError> {
    for &number in numbers {
        let (name, deleted) = (generation_name(number), generation_name(number) + DELETED);
        root.rename(&name, &deleted)?;
        root.sync()?;
        root.remove_directory(&deleted)?;
    }
    Ok(())
}

/// Deletes all that belongs to snapshots.
pub(super) fn delete_snapshots(directory: &Directory) -> Result<(), CheckpointError> {
    directory.remove_all(&garbage(directory.names()?, &BTreeMap::new(), &BTreeSet::new()))?;
    directory.sync()
}

/// The numbers of all generations.
pub(super) fn generations(root: &Directory) -> Result<Vec<u64>, CheckpointError> {
    Ok(root.names()?.iter().filter_map(|name| generation_number(name)).collect())
}

/// What the files of a generation say, before it is decided what to believe.
struct Files {
    names: Vec<String>,
    /// Newest first.
    manifests: Vec<(u64, Result<Manifest, String>)>,
    /// Higher than every number in a name.
    number: u64,
}

fn files(directory: &Directory, fingerprint: &str) -> Result<Files, CheckpointError> {
    let names = directory.names()?;
    let (mut manifests, mut number) = (Vec::new(), 1);
    for name in &names {
        let (Name::Manifest(own) | Name::Chunk(own)) = Name::of(name) else { continue };
        number = number.max(own + 1);
        if let Name::Manifest(_) = Name::of(name) {
            let path = directory.file(name);
            let manifest = match Manifest::read(directory, own, fingerprint) {
                Ok(manifest) => Ok(manifest),
                Err(Unusable::Damaged(reason)) => Err(reason),
                Err(Unusable::Unread(error)) => return Err(CheckpointError::io("read", &path)(error)),
                Err(Unusable::Newer(found)) => {
                    return Err(CheckpointError::Newer { path, found, known: super::manifest::VERSION });
                }
            };
            manifests.push((own, manifest));
        }
    }
    manifests.sort_unstable_by_key(|manifest| Reverse(manifest.0));
    Ok(Files { names, manifests, number })
}

type Opened = (JournalWriter, SnapshotWriter, Recovered);

/// Finds what can be believed, clears away the rest, unless the journal alone is trusted, and begins a new epoch, above `epoch` too.
fn recover(
    root: &Directory,
    generation: u64,
    pipeline: &Pipeline,
    (epoch, trust): (u64, Trust),
    lock: &Arc<Lock>,
) -> Result<Opened, CheckpointError> {
    let (directory, fingerprint) = (&root.within(&generation_name(generation)), &pipeline.fingerprint);
    let files = files(directory, fingerprint)?;
    let (live, last_epoch) = check_journal(directory, fingerprint, &files.manifests)?;
    let (snapshot, skipped) = match trust {
        Trust::Snapshots => snapshot(directory, &files, fingerprint)?,
        Trust::Journal => (None, Vec::new()),
    };
    for skipped in &skipped {
        tracing::warn!("passed over the snapshot {}: {}", skipped.file.display(), skipped.reason);
    }
    let believed = snapshot.as_ref().map(|snapshot| snapshot.manifest.manifest);
    let older = files.manifests.into_iter().filter_map(|(number, manifest)| Some((number, manifest.ok()?)));
    let older = older.filter(|(number, _)| believed.is_some_and(|believed| *number <= believed));
    let mut manifests = older.map(|(number, manifest)| (number, manifest.chunk_numbers())).collect();
    keep_newest(&mut manifests);
    // What a run that trusts the journal alone does not believe, it deletes when nothing keeps it from beginning any more.
    if trust == Trust::Snapshots {
        directory.remove_all(&garbage(files.names, &manifests, &BTreeSet::new()))?;
        directory.sync()?;
    }
    let epoch = last_epoch.max(epoch) + 1;
    let mut file = directory.reopen(JOURNAL, live.end.bytes - u64::from(live.lacks_line_end))?;
    if live.torn_bytes > 0 {
        file.truncate()?;
    }
    if live.lacks_line_end {
        file.append(b"\n")?;
    }
    let end = Arc::new(Mutex::new(live.end));
    let mut journal = JournalWriter::new(file, end.clone(), lock.clone());
    journal.append(&[Decision::Epoch { epoch }])?;
    let decisions = decisions(directory, fingerprint, snapshot.as_ref())?;
    let snapshots = SnapshotWriter::new(Found {
        root: root.clone(),
        generation,
        fingerprint: fingerprint.clone(),
        epoch,
        journal_end: end,
        number: files.number,
        newest: snapshot.as_ref().map(|snapshot| snapshot.manifest.clone()),
        manifests,
        lock: lock.clone(),
    });
    let unbelieved = (trust == Trust::Journal).then(|| Unbelieved { directory: directory.clone() });
    Ok((journal, snapshots, Recovered { epoch, decisions, snapshot, skipped, unbelieved }))
}

/// Reads the journal to its end, and compares it with what the manifests say of it. Returns the highest epoch in it, too.
fn check_journal(
    directory: &Directory,
    fingerprint: &str,
    manifests: &[(u64, Result<Manifest, String>)],
) -> Result<(scan::Live, u64), CheckpointError> {
    let path = directory.file(JOURNAL);
    let readable = || manifests.iter().filter_map(|(number, manifest)| Some((number, manifest.as_ref().ok()?)));
    let mut at: BTreeMap<u64, Option<Place>> = readable().map(|(_, manifest)| (manifest.journal.bytes, None)).collect();
    let mut last_epoch = 0;
    let live = scan::live(&path, Some(fingerprint), |place, decision| {
        if let Some(found) = at.get_mut(&place.bytes) {
            *found = Some(place);
        }
        if let Some(Decision::Epoch { epoch }) = decision {
            last_epoch = last_epoch.max(epoch);
        }
    })?;
    for (number, manifest) in readable() {
        let found = at.get(&manifest.journal.bytes).and_then(Option::as_ref);
        if let Some(reason) = journal_fault(&manifest.journal, &live.end, found) {
            let manifest = directory.file(&manifest_name(*number));
            return Err(CheckpointError::JournalMismatch { journal: path, manifest, reason });
        }
    }
    Ok((live, last_epoch))
}

/// The newest snapshot that is whole, and those that are newer.
fn snapshot(
    directory: &Directory,
    files: &Files,
    fingerprint: &str,
) -> Result<(Option<Snapshot>, Vec<Skipped>), CheckpointError> {
    let hashed = hashed(fingerprint);
    let whole = |manifest: &Manifest| {
        let chunks = manifest.chunks.iter().map(|named| Chunk::open_whole(directory, named, &hashed).map(Arc::new));
        match chunks.collect::<Result<Vec<_>, _>>() {
            Ok(chunks) => Ok(Ok(Snapshot { manifest: manifest.clone(), chunks })),
            Err(CheckpointError::Chunk { path, reason }) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok(Err(format!("{name}: {reason}")))
            }
            Err(error) => Err(error),
        }
    };
    let name = |skipped: Vec<(u64, String)>| -> Vec<Skipped> {
        let file = |number| directory.file(&manifest_name(number));
        skipped.into_iter().map(|(number, reason)| Skipped { file: file(number), reason }).collect()
    };
    match believe(&files.manifests, whole)? {
        Belief::Newest { what, skipped, .. } => Ok((Some(what), name(skipped))),
        Belief::None { skipped } => {
            Err(CheckpointError::NoWholeSnapshot { path: directory.path().to_owned(), skipped: name(skipped) })
        }
        Belief::Fresh => {
            let chunks = files.names.iter().filter_map(|name| match Name::of(name) {
                Name::Chunk(number) => Some((name, stray_head(directory, number)?)),
                _ => None,
            });
            // A crash in the first snapshot leaves a chunk too, but one with nothing before it.
            let mut orphans = chunks.filter(|(_, head)| head.parent > 0 && head.fingerprint == hashed);
            let Some((name, _)) = orphans.next() else { return Ok((None, Vec::new())) };
            let reason = "it is part of a snapshot, and there is no manifest any more".to_owned();
            let skipped = vec![Skipped { file: directory.file(name), reason }];
            Err(CheckpointError::NoWholeSnapshot { path: directory.path().to_owned(), skipped })
        }
    }
}

/// The decisions that a run from `snapshot` on still needs.
fn decisions(
    directory: &Directory,
    fingerprint: &str,
    snapshot: Option<&Snapshot>,
) -> Result<Vec<Decision>, JournalError> {
    let positions = snapshot.iter().flat_map(|snapshot| snapshot.positions());
    let positions = positions.map(|position| (position.partition, position)).collect();
    let mut decisions = Vec::new();
    scan::live(&directory.file(JOURNAL), Some(fingerprint), |_, decision| {
        decisions.extend(decision.filter(|decision| is_needed(decision, &positions)));
    })?;
    Ok(decisions)
}
