//! What a disk may hold after a crash, as a function of the file operations before it.
//!
//! A file's bytes are there once it was synced, and a directory's names once that was; before, any of the operations since may
//! have reached the disk or not, each on its own. A rename is whole or not there.

use super::super::names;
use super::super::probe::Step;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file operation, or a note of the test's between them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Done {
    MakeDirectory(PathBuf),
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Truncate(PathBuf, u64),
    SyncFile(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    RemoveDirectory(PathBuf),
    SyncDirectory(PathBuf),
    /// So many decisions have been asked for.
    Appending(usize),
    /// So many decisions have been acknowledged.
    Appended(usize),
    /// The snapshot of that number has been asked for.
    Publishing(usize),
    /// The snapshot of that number has been acknowledged.
    Published(usize),
}

impl Done {
    pub(crate) fn of(step: Step<'_>) -> Done {
        match step {
            Step::MakeDirectory(path) => Done::MakeDirectory(path.into()),
            Step::Create(path) => Done::Create(path.into()),
            Step::Truncate(path, length) => Done::Truncate(path.into(), length),
            Step::SyncFile(path) => Done::SyncFile(path.into()),
            Step::Rename(from, to) => Done::Rename(from.into(), to.into()),
            Step::Remove(path) => Done::Remove(path.into()),
            Step::RemoveDirectory(path) => Done::RemoveDirectory(path.into()),
            Step::SyncDirectory(path) => Done::SyncDirectory(path.into()),
        }
    }
}

/// What of the operations that were not synced is on the disk.
#[derive(Debug)]
pub(crate) enum Luck {
    /// All: only the process died.
    Killed,
    /// None.
    Least,
    /// All names, no bytes.
    Names,
    /// All bytes, no names.
    Bytes,
    /// Some of both.
    Some(Random),
}

impl Luck {
    fn name(&mut self) -> bool {
        match self {
            Luck::Killed | Luck::Names => true,
            Luck::Least | Luck::Bytes => false,
            Luck::Some(random) => random.one_in(2),
        }
    }

    fn bytes(&mut self) -> bool {
        match self {
            Luck::Killed | Luck::Bytes => true,
            Luck::Least | Luck::Names => false,
            Luck::Some(random) => random.one_in(2),
        }
    }
}

/// Numbers that are the same in every run.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn within(&mut self, range: std::ops::Range<usize>) -> usize {
        self.0 += 1;
        range.start + (xxhash_rust::xxh3::xxh3_64(&self.0.to_le_bytes()) % range.len() as u64) as usize
    }

    pub(crate) fn one_in(&mut self, many: usize) -> bool {
        self.within(0..many) == 0
    }
}

type Node = usize;

#[derive(Clone, Debug)]
enum Content {
    File { synced: Vec<u8>, now: Vec<u8> },
    Directory { synced: BTreeMap<String, Node>, now: BTreeMap<String, Node>, since: Vec<Change> },
}

#[derive(Clone, Debug)]
enum Change {
    Add(String, Node),
    Rename(String, String),
    Remove(String),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Change::Add(name, node) => {
                names.insert(name.clone(), *node);
            }
            Change::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
            Change::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

/// A disk with one state directory on it.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    nodes: Vec<Content>,
}

impl Disk {
    /// `root`: the state directory's path in the operations to come. It is there, and empty.
    pub(crate) fn new(root: &Path) -> Disk {
        Disk { root: root.to_owned(), nodes: vec![Disk::directory()] }
    }

    fn directory() -> Content {
        Content::Directory { synced: BTreeMap::new(), now: BTreeMap::new(), since: Vec::new() }
    }

    fn node(&self, path: &Path) -> Node {
        path.strip_prefix(&self.root).unwrap().iter().fold(0, |node, name| match &self.nodes[node] {
            Content::Directory { now, .. } => now[name.to_str().unwrap()],
            Content::File { .. } => panic!("{} is a file", path.display()),
        })
    }

    fn change(&mut self, directory: &Path, change: Change) {
        let node = self.node(directory);
        let Content::Directory { now, since, .. } = &mut self.nodes[node] else { panic!("a file") };
        change.apply(now);
        since.push(change);
    }

    pub(crate) fn apply(&mut self, done: &Done) {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let parent = |path: &Path| path.parent().unwrap().to_owned();
        match done {
            Done::MakeDirectory(path) => {
                self.nodes.push(Disk::directory());
                self.change(&parent(path), Change::Add(name(path), self.nodes.len() - 1));
            }
            Done::Create(path) => {
                self.nodes.push(Content::File { synced: Vec::new(), now: Vec::new() });
                self.change(&parent(path), Change::Add(name(path), self.nodes.len() - 1));
            }
            Done::Rename(from, to) => self.change(&parent(from), Change::Rename(name(from), name(to))),
            Done::Remove(path) | Done::RemoveDirectory(path) => self.change(&parent(path), Change::Remove(name(path))),
            Done::SyncDirectory(path) => {
                let node = self.node(path);
                let Content::Directory { synced, now, since } = &mut self.nodes[node] else { panic!("a file") };
                synced.clone_from(now);
                since.clear();
            }
            Done::Write(path, at, bytes) => {
                let file = self.file(path);
                file.1.resize(*at as usize, 0);
                file.1.extend(bytes);
            }
            Done::Truncate(path, length) => self.file(path).1.resize(*length as usize, 0),
            Done::SyncFile(path) => {
                let file = self.file(path);
                file.0.clone_from(file.1);
            }
            Done::Appending(_) | Done::Appended(_) | Done::Publishing(_) | Done::Published(_) => {}
        }
    }

    fn file(&mut self, path: &Path) -> (&mut Vec<u8>, &mut Vec<u8>) {
        let node = self.node(path);
        match &mut self.nodes[node] {
            Content::File { synced, now } => (synced, now),
            Content::Directory { .. } => panic!("{} is a directory", path.display()),
        }
    }

    /// Makes at `target` what may be left after a crash now.
    pub(crate) fn crash(&self, target: &Path, luck: &mut Luck) {
        fs::create_dir_all(target).unwrap();
        // Its name was synced before anything else was done.
        fs::write(target.join(names::LOCK), "").unwrap();
        self.restore(0, target, luck);
    }

    fn restore(&self, node: Node, target: &Path, luck: &mut Luck) {
        match &self.nodes[node] {
            Content::File { synced, now } => fs::write(target, file_after_crash(synced, now, luck)).unwrap(),
            Content::Directory { synced, since, .. } => {
                fs::create_dir_all(target).unwrap();
                let mut names = synced.clone();
                since.iter().filter(|_| luck.name()).for_each(|change| change.apply(&mut names));
                for (name, node) in names {
                    self.restore(node, &target.join(name), luck);
                }
            }
        }
    }
}

/// A file only grows between two syncs, or is cut.
fn file_after_crash(synced: &[u8], now: &[u8], luck: &mut Luck) -> Vec<u8> {
    if synced == now || luck.bytes() {
        return now.to_vec();
    }
    let (Luck::Some(random), true) = (luck, now.len() > synced.len()) else { return synced.to_vec() };
    // Some of the new bytes, and perhaps room for more.
    let length = random.within(synced.len()..now.len() + 1);
    let mut bytes = now[..length].to_vec();
    if random.one_in(3) {
        bytes.resize(now.len(), 0);
    }
    bytes
}
