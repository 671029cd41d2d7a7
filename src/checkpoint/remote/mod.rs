//! A copy of the state directory in an object store, with which a run can go on where its machine is lost.
//!
//! ```text
//!  prefix/log/00000000000000000042     a step: a manifest, a piece of the journal, …  (`record`)
//!         base/00000000000000000040    what the steps up to the 40th come to
//!         chunks/generation-1-…        the snapshots' chunks, named by their hashes
//!         journal/…                    older parts of journals, named by their hashes
//! ```
//!
//! Each step is one object that is put only where there is none of its number yet. That is all that keeps runs apart: whoever
//! comes later takes the next number, and an earlier run, dead or only slow, finds its own taken and ends. For that the steps
//! with which runs begin are never deleted, however old: one of them is what an earlier run comes upon next. So there is one
//! order of steps, and the state is what they come to in that order. Objects that are named by what is in them are put before
//! the step that needs them, and deleted after one that does not need them any more.
//!
//! A step is in the store before it counts here: `files` tells each to [`Remote::commit`] before it changes a name, or before
//! what was appended counts. When a run begins the store's state is brought here (`copy`); what is only here was never
//! acknowledged, unless the store holds nothing.

mod client;
pub(super) mod copy;
mod record;

pub use client::RemoteOptions;
pub(super) use record::{Change, Generation, Segment, Tree};

use super::chunk::ChunkRef;
use super::error::CheckpointError;
use crate::fault;
#[cfg(not(test))]
use client::Client;
#[cfg(test)]
pub(super) use client::Client;
use client::NO_CONDITIONS;
use record::{Base, Unusable, VERSION};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An object that stays, by which it is seen that the store does not overwrite.
const PROBE: &str = "probe";

/// How often the log is read again, since a base was written while it was read.
const READS_MAX: u32 = 10;

/// How often a run tries to take the next step from one that goes on.
const BEGINS_MAX: u32 = 1_000;

/// When what is in the log becomes something else.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Steps after which a base is written. A run that begins reads about as many.
    pub(super) base_steps: u64,
    /// The end of a journal stays in the bases until it is so long; then it becomes an object of its own, never to be written
    /// again.
    pub(super) tail_bytes: usize,
}

impl Limits {
    const DEFAULT: Limits = Limits { base_steps: 256, tail_bytes: 1 << 20 };
}

/// The log, and where we are in it.
pub(super) struct Remote {
    client: Client,
    limits: Limits,
    /// Names this run in its records.
    run: String,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    tree: Tree,
    /// The last record's number, and its checksum.
    last: (u64, u64),
    /// The newest base.
    base: u64,
    /// The one before, which stays with all records after it, should the newest be lost.
    base_before: u64,
    /// The records with which runs began.
    begins: BTreeSet<u64>,
    /// The chunks and parts of journals that there were before this run began, until it has swept.
    listed: Option<BTreeSet<String>>,
    /// Nothing that an earlier run does can need them any more.
    sweeps: bool,
    /// A step that the store may have taken or not: the next thing that is put.
    pending: Option<Pending>,
    /// A piece of the journal that was pending, and has been taken by now. Its writer tries again.
    settled: Option<Change>,
    is_superseded: bool,
}

struct Pending {
    change: Change,
    line: Vec<u8>,
    check: u64,
}

impl Log {
    /// A step has been taken.
    fn takes(&mut self, number: u64, change: &Change, check: u64) {
        self.last = (number, check);
        if *change == Change::Begin {
            self.begins.insert(number);
        }
    }

    /// The records of these numbers that both bases stand for.
    fn deletable(&self, numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
        let is_past = |number: &u64| *number <= self.base_before && !self.begins.contains(number);
        let numbers = numbers.into_iter().filter(is_past);
        numbers.map(record_key).collect()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("url", &self.client.url()).finish_non_exhaustive()
    }
}

impl Remote {
    /// Names the place; nothing is asked yet.
    pub(super) fn new(options: &RemoteOptions) -> Result<Remote, CheckpointError> {
        Ok(Remote::over(options.client()?, Limits::DEFAULT))
    }

    fn over(client: Client, limits: Limits) -> Remote {
        Remote { client, limits, run: nonce(), log: Mutex::default() }
    }

    /// Over a store of a test.
    #[cfg(test)]
    pub(super) fn in_store(store: std::sync::Arc<dyn object_store::ObjectStore>, limits: Limits) -> Remote {
        let prefix = object_store::path::Path::from("state");
        Remote::over(Client::over(store, prefix, "test://bucket/state").expect("threads can be started"), limits)
    }

    pub(super) fn url(&self) -> &str {
        self.client.url()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the steps that were read and taken come to.
    pub(super) fn tree(&self) -> Tree {
        self.log().tree.clone()
    }

    /// Reads the log to its end.
    pub(super) fn read(&self) -> Result<(), CheckpointError> {
        let mut log = self.log();
        let read = std::mem::take(&mut *log);
        // What was read before need not be read again, but where a base has come.
        if read.last.0 > 0
            && let Some(read) = self.read_on(Log { is_superseded: false, ..read })?
        {
            *log = read;
            return Ok(());
        }
        for _ in 0..READS_MAX {
            if let Some(read) = self.read_base()?.map(|base| self.read_on(base)).transpose()?.flatten() {
                *log = read;
                return Ok(());
            }
        }
        Err(self.damaged("log", "a record of it is missing"))
    }

    /// What the newest base says; `None` if it is gone, since another run has written the next.
    fn read_base(&self) -> Result<Option<Log>, CheckpointError> {
        let bases = numbers(self.client.list("base")?);
        let Some(&number) = bases.last() else { return Ok(Some(Log::default())) };
        let key = base_key(number);
        let Some(line) = self.client.get(&key)? else { return Ok(None) };
        let Base { last, begins, tree, .. } =
            Base::decode(line, number).map_err(|unusable| self.unusable(&key, unusable))?;
        let base_before = bases.iter().rev().nth(1).copied().unwrap_or(0);
        Ok(Some(Log { tree, last: (number, last), base: number, base_before, begins, ..Log::default() }))
    }

    /// `log` and the records after it; `None` if one is missing, which may be since another run has written a base meanwhile.
    fn read_on(&self, mut log: Log) -> Result<Option<Log>, CheckpointError> {
        let after = numbers(self.client.list_after("log", &record_key(log.last.0))?);
        let lines = self.client.get_all(&after.iter().copied().map(record_key).collect::<Vec<_>>())?;
        for (number, line) in after.into_iter().zip(lines) {
            let key = record_key(number);
            let Some(line) = line.filter(|_| number == log.last.0 + 1) else { return Ok(None) };
            let (change, check) =
                record::decode(line, number, log.last.1).map_err(|unusable| self.unusable(&key, unusable))?;
            log.tree.apply(&change).map_err(|reason| self.damaged(&key, &reason))?;
            log.takes(number, &change, check);
        }
        // Records are deleted after a base has come: none of those that were looked for can have been, if none has.
        Ok((self.newest_base()?.unwrap_or(0) == log.base).then_some(log))
    }

    fn newest_base(&self) -> Result<Option<u64>, CheckpointError> {
        Ok(numbers(self.client.list("base")?).last().copied())
    }

    /// Ends the time of all earlier runs. What they have done since the log was read is read on the way.
    pub(super) fn begin(&self) -> Result<(), CheckpointError> {
        self.probe()?;
        // What is put from here on may be a later run's.
        let listed: BTreeSet<String> =
            [self.client.list("chunks")?, self.client.list("journal")?].into_iter().flatten().collect();
        for _ in 0..BEGINS_MAX {
            let number = self.log().last.0 + 1;
            match self.commit(Change::Begin) {
                // A number that is free since a base stands for its record is no step.
                Ok(()) if self.newest_base()?.is_some_and(|base| base >= number) => *self.log() = Log::default(),
                Ok(()) => {
                    self.begun(listed);
                    return Ok(());
                }
                Err(CheckpointError::Superseded { .. }) => {}
                Err(error) => return Err(error),
            }
            self.read()?;
            if self.log().begins.contains(&number) && self.is_begun_by_us(number)? {
                // It was a step, and a later run has begun behind it.
                return Err(self.superseded());
            }
        }
        Err(CheckpointError::Remote {
            action: "begin on",
            object: self.url().to_owned(),
            reason: "another run writes to it all the time; end that one first".to_owned(),
        })
    }

    /// Whether the record with which a run began is ours.
    fn is_begun_by_us(&self, number: u64) -> Result<bool, CheckpointError> {
        let line = self.client.get(&record_key(number))?;
        Ok(line.is_some_and(|line| String::from_utf8_lossy(&line).contains(&self.run)))
    }

    /// An earlier run may be about to put a base, whose objects are no longer needed when there is a later one.
    fn begun(&self, listed: BTreeSet<String>) {
        let mut log = self.log();
        match self.write_base(&mut log) {
            Ok(replaced) => {
                log.sweeps = true;
                self.delete(&replaced);
            }
            Err(error) => tracing::warn!("{error}; what is of no more use there stays until the next run begins"),
        }
        log.listed = Some(listed);
    }

    /// Whether a chunk was not there when this run began.
    fn lacks(&self, generation: u64, named: &ChunkRef) -> bool {
        let key = record::chunk_key(generation, named);
        self.log().listed.as_ref().is_some_and(|listed| !listed.contains(&key))
    }

    /// The names of a generation's small files.
    pub(super) fn names(&self, generation: u64) -> Vec<String> {
        let log = self.log();
        let generation = log.tree.generations.get(&generation);
        generation.into_iter().flat_map(|generation| generation.files.keys().cloned()).collect()
    }

    /// Deletes what earlier runs have left that nothing needs, once the state has been found to be in order.
    pub(super) fn sweep(&self) {
        let mut log = self.log();
        let listed = log.listed.take().filter(|_| log.sweeps).unwrap_or_default();
        let Some(needed) = log.tree.objects() else { return };
        let mut stray: Vec<String> = listed.into_iter().filter(|key| !needed.contains(key)).collect();
        let numbered = |prefix| self.client.list(prefix).map(numbers);
        match (numbered("log"), numbered("base")) {
            (Ok(records), Ok(bases)) => {
                stray.extend(log.deletable(records));
                stray.extend(bases.into_iter().filter(|at| *at < log.base_before).map(base_key));
            }
            (Err(error), _) | (_, Err(error)) => tracing::warn!("{error}; what is of no more use there stays"),
        }
        self.delete(&stray);
    }

    /// What stays is swept away when the next run begins.
    fn delete(&self, keys: &[String]) {
        if let Err(error) = self.client.delete(keys) {
            tracing::warn!("{error}; what is of no more use there stays until the next run begins");
        }
    }

    /// Makes sure that the store refuses an object where there is one: some take it, and overwrite, and nothing would keep two runs
    /// apart.
    fn probe(&self) -> Result<(), CheckpointError> {
        let overwrites =
            self.client.put_new(PROBE, b"a copy of the state of eddyline")? && self.client.put_new(PROBE, b"")?;
        if overwrites {
            self.client.delete(&[PROBE.to_owned()])?;
            let (url, reason) = (self.url().to_owned(), NO_CONDITIONS.to_owned());
            return Err(CheckpointError::RemoteSettings { url, reason });
        }
        Ok(())
    }

    /// What is there, in words. Nothing is changed.
    pub(super) fn describe(&self) -> Result<String, CheckpointError> {
        self.read()?;
        let log = self.log();
        Ok(match log.tree.generations.len() {
            0 => "can be read, and holds no state".to_owned(),
            _ => format!("can be read, and holds the state of {} steps", log.last.0),
        })
    }

    /// Takes a step. It is in the store when this returns.
    ///
    /// # Errors
    /// After [`CheckpointError::Superseded`] another run has the state. After any other the store may have taken the step or not,
    /// and the same one can be tried again; before any other step is taken, it is.
    pub(super) fn commit(&self, change: Change) -> Result<(), CheckpointError> {
        let mut log = self.log();
        if log.is_superseded {
            return Err(self.superseded());
        }
        if let Some(pending) = log.pending.take() {
            let before = pending.change.clone();
            self.send(&mut log, pending)?;
            if before == change {
                return Ok(());
            }
            log.settled = Some(before).filter(|before| matches!(before, Change::Append { .. })).or(log.settled.take());
        }
        if log.settled.take_if(|settled| *settled == change).is_some() {
            return Ok(());
        }
        let (line, check) = record::encode(log.last.0 + 1, &self.run, &change, log.last.1);
        self.send(&mut log, Pending { change, line, check })
    }

    fn send(&self, log: &mut Log, pending: Pending) -> Result<(), CheckpointError> {
        let number = log.last.0 + 1;
        let key = record_key(number);
        // A step that can't be one must not get into the log.
        let mut next = log.tree.clone();
        next.apply(&pending.change).map_err(|reason| self.damaged(&key, &reason))?;
        fault::point("remote.put");
        let taken = match self.client.put_new(&key, &pending.line) {
            Ok(true) => Ok(true),
            Ok(false) => self.is_ours(&key, &pending.line),
            Err(error) => Err(error),
        };
        match taken {
            Ok(true) => {}
            Ok(false) => {
                log.is_superseded = true;
                return Err(self.superseded());
            }
            Err(error) => {
                log.pending = Some(pending);
                return Err(error);
            }
        }
        fault::point("remote.taken");
        let mut gone = Vec::new();
        if !matches!(pending.change, Change::Begin | Change::Append { .. })
            && let (Some(before), Some(needed)) = (log.tree.objects(), next.objects())
        {
            gone.extend(before.difference(&needed).cloned());
        }
        log.tree = next;
        log.takes(number, &pending.change, pending.check);
        // Whether a run has begun is known a little later.
        if number - log.base >= self.limits.base_steps && pending.change != Change::Begin {
            match self.write_base(log) {
                Ok(mut replaced) => gone.append(&mut replaced),
                // The next step tries again.
                Err(error) => tracing::warn!("{error}; the state's log there grows until that works"),
            }
        }
        self.delete(&gone);
        Ok(())
    }

    /// Whether the record that is there is the one that we put, the answer having been lost.
    fn is_ours(&self, key: &str, line: &[u8]) -> Result<bool, CheckpointError> {
        match self.client.get(key)? {
            Some(found) => Ok(found == line),
            // Some stores refuse what is put while another request for it is under way.
            None => Err(CheckpointError::Remote {
                action: "write",
                object: self.client.name("log"),
                reason: "another request is under way".to_owned(),
            }),
        }
    }

    /// Writes what the steps come to. Returns what is of no more use then.
    fn write_base(&self, log: &mut Log) -> Result<Vec<String>, CheckpointError> {
        let mut tree = log.tree.clone();
        for (key, text) in tree.cut_tails(self.limits.tail_bytes) {
            self.client.put(&key, text.into_bytes())?;
        }
        let (number, last) = log.last;
        let base = Base { base: number, version: VERSION, last, begins: log.begins.clone(), tree };
        self.client.put_new(&base_key(number), &base.encode())?;
        fault::point("remote.base");
        let past = log.base_before;
        (log.tree, log.base_before, log.base) = (base.tree, log.base, number);
        let replaced = (past > 0).then(|| base_key(past));
        Ok(log.deletable(past + 1..=log.base_before).into_iter().chain(replaced).collect())
    }

    /// Puts the chunk that is in the file `path`. A manifest that names it comes later.
    pub(super) fn put_chunk(&self, generation: u64, named: &ChunkRef, path: &Path) -> Result<(), CheckpointError> {
        let key = record::chunk_key(generation, named);
        self.client.upload(&key, path)?;
        if let Some(listed) = &mut self.log().listed {
            listed.insert(key);
        }
        Ok(())
    }

    /// Puts all of a journal but its newest part. The step with which the generation appears comes later.
    fn put_segments(&self, generation: &mut Generation) -> Result<(), CheckpointError> {
        let texts = generation.cut_tail(self.limits.tail_bytes);
        texts.into_iter().try_for_each(|(key, text)| self.client.put(&key, text.into_bytes()))
    }

    /// A chunk, in pieces; `false` if it is not there.
    fn chunk(
        &self,
        generation: u64,
        named: &ChunkRef,
        piece: impl FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<bool, CheckpointError> {
        self.client.download(&record::chunk_key(generation, named), named.bytes, piece)
    }

    /// A part of a journal.
    fn segment(&self, segment: &Segment) -> Result<Vec<u8>, CheckpointError> {
        let key = segment.key();
        let bytes = self.client.get(&key)?.ok_or_else(|| self.damaged(&key, "it is missing"))?;
        match blake3::hash(&bytes).to_hex().as_str() == segment.blake3 {
            true => Ok(bytes),
            false => Err(self.damaged(&key, "its BLAKE3 is not the one in its name")),
        }
    }

    fn superseded(&self) -> CheckpointError {
        CheckpointError::Superseded { url: self.client.url().to_owned() }
    }

    fn damaged(&self, key: &str, reason: &str) -> CheckpointError {
        CheckpointError::RemoteDamaged { object: self.client.name(key), reason: reason.to_owned() }
    }

    fn unusable(&self, key: &str, unusable: Unusable) -> CheckpointError {
        match unusable {
            Unusable::Damaged(reason) => self.damaged(key, &reason),
            Unusable::Newer(found) => {
                CheckpointError::Newer { path: PathBuf::from(self.client.name(key)), found, known: VERSION }
            }
        }
    }
}

/// So many digits that keys sort as their numbers do.
fn record_key(number: u64) -> String {
    format!("log/{number:020}")
}

fn base_key(number: u64) -> String {
    format!("base/{number:020}")
}

/// The numbers in keys of this form, ascending. What has another form is none of ours.
fn numbers(keys: Vec<String>) -> Vec<u64> {
    let number = |key: String| {
        let number = key.rsplit('/').next()?.parse().ok()?;
        (key == record_key(number) || key == base_key(number)).then_some(number)
    };
    let numbers: BTreeSet<u64> = keys.into_iter().filter_map(number).collect();
    numbers.into_iter().collect()
}

/// Another one in every process.
fn nonce() -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}
