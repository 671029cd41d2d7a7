//! Bringing the state that an object store holds into a state directory, before a run begins on it.
//!
//! The store's state holds: what the directory has besides was never acknowledged, unless the store holds none at all, which
//! then gets what is here. What is there already, and the same, is not fetched again. A crash in the middle leaves a directory
//! that the next run completes.

use super::{Change, Generation, Remote, Tree};
use crate::checkpoint::chunk::{ChunkRef, hash_matches};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::files::Directory;
use crate::checkpoint::names::{COPY_OF, JOURNAL, NEW, Name, chunk_name, generation_name};
use crate::checkpoint::open::generations;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The longest small file that is looked at.
pub(in crate::checkpoint) const TEXT_BYTES_MAX: u64 = 64 << 20;

/// The longest journal that is taken into a store as a whole.
const JOURNAL_BYTES_MAX: u64 = 1 << 30;

/// The store of which this directory is a copy.
pub(in crate::checkpoint) fn original(root: &Directory) -> Result<Option<String>, CheckpointError> {
    match root.has(COPY_OF)? {
        true => Ok(Some(text(root, COPY_OF, TEXT_BYTES_MAX)?.trim().to_owned())),
        false => Ok(None),
    }
}

/// What is known to be whole of the chunks here, by hash: they are not read twice.
pub(in crate::checkpoint) type Whole = BTreeSet<String>;

/// Makes `root`, which tells no store what is done to it, hold what `remote` does; or returns `true` if that holds nothing, and
/// `root` does: then [`fill`] is to come.
pub(in crate::checkpoint) fn bring(
    root: &Directory,
    remote: &Remote,
    whole: &mut Whole,
) -> Result<bool, CheckpointError> {
    let (tree, here) = (remote.tree(), generations(root)?);
    let original = original(root)?;
    if let Some(theirs) = original.as_ref().filter(|theirs| *theirs != remote.url()) {
        let (path, theirs) = (root.path().to_owned(), theirs.clone());
        return Err(CheckpointError::CopyOfAnother { path, theirs, ours: remote.url().to_owned() });
    }
    if tree.generations.is_empty() {
        return Ok(!here.is_empty());
    }
    if original.is_none() {
        // It has been filled from here, and a crash came before that could be noted.
        if !here.is_empty() && !is_same(root, &here, &tree)? {
            return Err(CheckpointError::NoCopy { path: root.path().to_owned(), url: remote.url().to_owned() });
        }
        mark(root, remote)?;
    }
    fetch(root, &tree, remote, whole)?;
    Ok(false)
}

/// Notes of what the directory is a copy.
pub(in crate::checkpoint) fn mark(root: &Directory, remote: &Remote) -> Result<(), CheckpointError> {
    if root.has(COPY_OF)? {
        return Ok(());
    }
    root.replace(COPY_OF, format!("{}\n", remote.url()).as_bytes())?;
    root.sync()
}

fn is_same(root: &Directory, here: &[u64], tree: &Tree) -> Result<bool, CheckpointError> {
    if !here.iter().eq(tree.generations.keys()) {
        return Ok(false);
    }
    for (&number, there) in &tree.generations {
        let mut here = files(&root.within(&generation_name(number)))?;
        here.cut_tail(1);
        let mut there = there.clone();
        there.cut_tail(1);
        if here != there {
            return Ok(false);
        }
    }
    Ok(true)
}

fn fetch(root: &Directory, tree: &Tree, remote: &Remote, whole: &mut Whole) -> Result<(), CheckpointError> {
    for number in generations(root)?.into_iter().filter(|number| !tree.generations.contains_key(number)) {
        root.remove_directory(&generation_name(number))?;
    }
    for (&number, generation) in &tree.generations {
        let name = generation_name(number);
        let is_there = root.has(&name)?;
        let partial = if is_there { name.clone() } else { name.clone() + NEW };
        let directory = root.within(&partial);
        if !is_there {
            directory.make()?;
        }
        fetch_generation(&directory, (number, generation), remote, whole)?;
        directory.sync()?;
        if !is_there {
            root.rename(&partial, &name)?;
        }
    }
    root.sync()
}

fn fetch_generation(
    directory: &Directory,
    (number, generation): (u64, &Generation),
    remote: &Remote,
    whole: &mut Whole,
) -> Result<(), CheckpointError> {
    let names = directory.names()?;
    // A manifest must not be there with another one's journal, not even for a moment.
    for name in &names {
        let is_ours = matches!(Name::of(name), Name::Manifest(_) | Name::Fixed | Name::Partial);
        if is_ours && name != JOURNAL && !generation.files.contains_key(name) {
            directory.remove(name)?;
        }
    }
    fetch_journal(directory, generation, remote)?;
    // Of a manifest that can't be read nothing is fetched: it is refused where it is opened.
    for named in generation.chunks().unwrap_or_default().values() {
        let path = directory.file(&chunk_name(named.chunk));
        if !whole.contains(&named.blake3) {
            if !hash_matches(&path, named)? && !fetch_chunk(directory, number, named, remote)? {
                continue;
            }
            whole.insert(named.blake3.clone());
        }
        // A run that has begun knows what the store may have lost, or has got just before.
        if remote.lacks(number, named) && hash_matches(&path, named)? {
            tracing::info!("{} gets a chunk of a snapshot again", remote.url());
            remote.put_chunk(number, named, &path)?;
        }
    }
    directory.sync()?;
    for (name, content) in &generation.files {
        let is_same = names.contains(name) && text(directory, name, TEXT_BYTES_MAX).is_ok_and(|here| here == *content);
        if !is_same {
            directory.replace(name, content.as_bytes())?;
        }
    }
    Ok(())
}

/// Bytes that are the same stay.
fn fetch_journal(directory: &Directory, generation: &Generation, remote: &Remote) -> Result<(), CheckpointError> {
    if !directory.has(JOURNAL)? {
        directory.create(JOURNAL)?;
    }
    let mut at = 0;
    for segment in &generation.segments {
        let here = directory.read_at(JOURNAL, at, segment.bytes)?;
        if blake3::hash(&here).to_hex().as_str() != segment.blake3 {
            directory.reopen(JOURNAL, at)?.append(&remote.segment(segment)?)?;
        }
        at += segment.bytes;
    }
    let mut file = directory.reopen(JOURNAL, at)?;
    if directory.read_at(JOURNAL, at, generation.tail.len() as u64)? != generation.tail.as_bytes() {
        file.append(generation.tail.as_bytes())?;
    }
    file.cut(generation.journal_bytes())?;
    file.sync()
}

/// Whether the chunk is there. One that is not, or not whole, is passed over where the snapshot is opened.
fn fetch_chunk(
    directory: &Directory,
    generation: u64,
    named: &ChunkRef,
    remote: &Remote,
) -> Result<bool, CheckpointError> {
    let name = chunk_name(named.chunk);
    let partial = name.clone() + NEW;
    for name in [&name, &partial] {
        if directory.has(name)? {
            directory.remove(name)?;
        }
    }
    let mut file = directory.create(&partial)?;
    let is_there = remote.chunk(generation, named, |bytes| file.append(bytes))?;
    if is_there {
        file.sync()?;
        directory.rename(&partial, &name)?;
    } else {
        directory.remove(&partial)?;
    }
    Ok(is_there)
}

/// Takes what is here into a store that holds nothing, in a run that has begun there.
pub(in crate::checkpoint) fn fill(root: &Directory, remote: &Remote, whole: &mut Whole) -> Result<(), CheckpointError> {
    tracing::info!("{} holds no state: it gets what is in {}", remote.url(), root.path().display());
    let mut all = BTreeMap::new();
    for number in generations(root)? {
        let directory = root.within(&generation_name(number));
        let mut generation = files(&directory)?;
        for named in generation.chunks().unwrap_or_default().values() {
            let path = directory.file(&chunk_name(named.chunk));
            // One that is damaged would be believed there no more than here.
            if hash_matches(&path, named)? {
                remote.put_chunk(number, named, &path)?;
            }
        }
        remote.put_segments(&mut generation)?;
        all.insert(number, generation);
    }
    remote.commit(Change::Create { generations: all })?;
    mark(root, remote)?;
    // An end of a journal that a crash cut off has not gone there.
    fetch(root, &remote.tree(), remote, whole)
}

/// The small files of a generation, and its journal up to the last whole line.
pub(in crate::checkpoint) fn files(directory: &Directory) -> Result<Generation, CheckpointError> {
    let mut generation = Generation::default();
    for name in directory.names()? {
        match Name::of(&name) {
            Name::Fixed if name == JOURNAL => {
                let mut journal = text(directory, &name, JOURNAL_BYTES_MAX)?;
                journal.truncate(journal.rfind('\n').map_or(0, |end| end + 1));
                generation.tail = journal;
            }
            Name::Manifest(_) | Name::Fixed => {
                generation.files.insert(name.clone(), text(directory, &name, TEXT_BYTES_MAX)?);
            }
            Name::Chunk(_) | Name::Partial | Name::Other => {}
        }
    }
    Ok(generation)
}

/// A small file.
pub(in crate::checkpoint) fn text(
    directory: &Directory,
    name: &str,
    bytes_max: u64,
) -> Result<String, CheckpointError> {
    let bytes = directory.read(name, bytes_max).map_err(CheckpointError::io("read", &directory.file(name)))?;
    let no_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is damaged: it should be text");
    String::from_utf8(bytes).map_err(no_text).map_err(CheckpointError::io("read", &directory.file(name)))
}
