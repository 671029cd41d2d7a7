//! A chunk: a file of users and panes, each sorted, in blocks that carry their own checksums. Written once, never changed.
//!
//! ```text
//! head 88 bytes │ users │ users │ … │ panes │ panes │ … │ end
//!
//! head   magic "EddyChnk", format u32, 0 u32, fingerprint [32], epoch u64, number u64, parent u64, F u64, XXH3-64 of all before
//! block  XXH3-64 of the rest, kind u32, rows u32, length of the rows u32, 0 u32, the rows
//! end    a block of kind 3: number of users u64, number of panes u64, where the panes start u64
//! ```
//!
//! All numbers are little-endian. Two checksums, for two purposes:
//! - A block's is read with the block, so that rows are handed out only after their bytes were checked, also long after the start, and in
//!   bounded memory. XXH3-64, because it keeps up with memory on every processor; it is seeded with the head's checksum and the
//!   block's place, so a block of another chunk, or another place, does not fit.
//! - The file's stands in the manifest: BLAKE3, which nobody can forge, so that a chunk is the one that was meant; and
//!   `b3sum` says whether a copy is whole.

use super::code::{Numbers, put};
use super::error::CheckpointError;
use super::files::{Directory, WrittenFile, is_damage};
use super::names::chunk_name;
use super::rows::{self, pane_key};
use dataflows::event::{ItemId, Time};
use dataflows::state::PaneState;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: &[u8; 8] = b"EddyChnk";

/// The format written here, and the newest one known.
const VERSION: u32 = 1;

const HEAD_BYTES: usize = 88;

/// Of a block, before its rows.
const BLOCK_HEAD_BYTES: usize = 24;

/// Of those, the checksum, which doesn't cover itself.
const CHECKSUM_BYTES: usize = 8;

/// A block ends when its rows have reached this: large enough that a block costs little, small enough for a cache.
const BLOCK_BYTES: usize = 64 << 10;

/// Bytes that are read at a time when a whole file is hashed.
const HASH_BYTES: usize = 1 << 20;

const END_BYTES: usize = 24;

const USERS: u32 = 1;
const PANES: u32 = 2;
const END: u32 = 3;

/// What a manifest says of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChunkRef {
    /// Its number, which is in its name.
    pub(super) chunk: u64,
    /// Its length.
    pub(super) bytes: u64,
    /// How many users it has.
    pub(super) users: u64,
    /// How many panes it has.
    pub(super) panes: u64,
    /// The BLAKE3 of the file.
    pub(super) blake3: String,
}

/// What a chunk says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The BLAKE3 of the pipeline's fingerprint.
    pub(super) fingerprint: [u8; 32],
    /// Of the run that wrote it.
    pub(super) epoch: u64,
    /// Its own number.
    pub(super) number: u64,
    /// The newest manifest when it was begun; 0 if there was none.
    pub(super) parent: u64,
    /// F of the newest rows in it.
    pub(super) frontier: Time,
}

impl Head {
    fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.fingerprint);
        for (at, number) in [self.epoch, self.number, self.parent, self.frontier].into_iter().enumerate() {
            bytes[48 + at * 8..][..8].copy_from_slice(&number.to_le_bytes());
        }
        let checksum = xxh3_64(&bytes[..80]);
        bytes[80..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The head, and its checksum.
    fn from_bytes(bytes: &[u8; HEAD_BYTES], path: &Path) -> Result<(Head, u64), CheckpointError> {
        let checksum = u64_at(bytes, 80);
        if &bytes[..8] != MAGIC {
            return Err(damaged(path, "it is no chunk of a snapshot"));
        }
        if xxh3_64(&bytes[..80]) != checksum {
            return Err(damaged(path, "the checksum of its head is wrong"));
        }
        let found = u32_at(bytes, 8);
        if found != VERSION {
            return Err(CheckpointError::Newer { path: path.into(), found, known: VERSION });
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(&bytes[16..48]);
        let [epoch, number, parent, frontier] = [48, 56, 64, 72].map(|at| u64_at(bytes, at));
        Ok((Head { fingerprint, epoch, number, parent, frontier }, checksum))
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn damaged(path: &Path, reason: impl Into<String>) -> CheckpointError {
    CheckpointError::Chunk { path: path.to_owned(), reason: reason.into() }
}

/// What a failure to read says of the file: that it is damaged, or that the machine lacks something.
fn read_error(path: &Path, source: io::Error) -> CheckpointError {
    match source.kind() {
        ErrorKind::NotFound => damaged(path, "it is missing"),
        ErrorKind::UnexpectedEof => damaged(path, "it ends too early"),
        _ if is_damage(&source) => damaged(path, "the disk cannot read it"),
        _ => CheckpointError::io("read", path)(source),
    }
}

/// A chunk that is being written: first users by id, then panes by [`pane_key`].
pub(super) struct ChunkWriter {
    file: WrittenFile,
    number: u64,
    hash: blake3::Hasher,
    salt: u64,
    /// The block at hand, with room for its head.
    block: Vec<u8>,
    kind: u32,
    rows: u32,
    user: u64,
    pane: PaneState,
    users: u64,
    panes: u64,
    panes_at: u64,
}

const NO_PANE: PaneState = PaneState { item: ItemId(0), enters: 0, leaves: 0, count: 0 };

impl ChunkWriter {
    /// Begins the chunk that `head` says.
    pub(super) fn create(directory: &Directory, head: &Head) -> Result<ChunkWriter, CheckpointError> {
        let mut file = directory.create(&chunk_name(head.number))?;
        let bytes = head.to_bytes();
        file.append(&bytes)?;
        let mut hash = blake3::Hasher::new();
        hash.update(&bytes);
        Ok(ChunkWriter {
            file,
            number: head.number,
            hash,
            salt: u64_at(&bytes, 80),
            block: vec![0; BLOCK_HEAD_BYTES],
            kind: USERS,
            rows: 0,
            user: 0,
            pane: NO_PANE,
            users: 0,
            panes: 0,
            panes_at: HEAD_BYTES as u64,
        })
    }

    /// Adds a user, by the bytes that [`rows::put_user`] made. Users must come in ascending order, each once.
    pub(super) fn user(&mut self, user: u64, body: &[u8]) -> Result<(), CheckpointError> {
        debug_assert!(self.kind == USERS && (self.rows == 0 || user > self.user), "users ascend");
        put(&mut self.block, if self.rows == 0 { user } else { user - self.user });
        put(&mut self.block, body.len() as u64);
        self.block.extend_from_slice(body);
        self.user = user;
        self.users += 1;
        self.row_done()
    }

    /// Adds a pane. Panes must come after all users, in ascending order, each key once.
    pub(super) fn pane(&mut self, pane: &PaneState) -> Result<(), CheckpointError> {
        if self.kind == USERS {
            self.begin_panes()?;
        }
        debug_assert!(self.rows == 0 || pane_key(pane) > pane_key(&self.pane), "panes ascend");
        let before = if self.rows == 0 { &NO_PANE } else { &self.pane };
        rows::put_pane(&mut self.block, before, pane);
        self.pane = *pane;
        self.panes += 1;
        self.row_done()
    }

    fn begin_panes(&mut self) -> Result<(), CheckpointError> {
        self.end_block()?;
        self.kind = PANES;
        self.panes_at = self.file.length();
        Ok(())
    }

    fn row_done(&mut self) -> Result<(), CheckpointError> {
        self.rows += 1;
        if self.block.len() >= BLOCK_HEAD_BYTES + BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), CheckpointError> {
        if self.rows > 0 {
            self.write_block()?;
        }
        self.rows = 0;
        self.block.truncate(BLOCK_HEAD_BYTES);
        Ok(())
    }

    fn write_block(&mut self) -> Result<(), CheckpointError> {
        let too_large = |_| damaged(self.file.path(), "a user has over 4 GiB of state");
        let length = u32::try_from(self.block.len() - BLOCK_HEAD_BYTES).map_err(too_large)?;
        for (at, number) in [self.kind, self.rows, length, 0].into_iter().enumerate() {
            self.block[CHECKSUM_BYTES + at * 4..][..4].copy_from_slice(&number.to_le_bytes());
        }
        let checksum = block_checksum(&self.block[CHECKSUM_BYTES..], self.salt, self.file.length());
        self.block[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.hash.update(&self.block);
        self.file.append(&self.block)
    }

    /// Completes the chunk, and waits until its bytes are on the disk; its name is, once the directory has been synced.
    pub(super) fn finish(mut self) -> Result<ChunkRef, CheckpointError> {
        if self.kind == USERS {
            self.begin_panes()?;
        }
        self.end_block()?;
        self.kind = END;
        for number in [self.users, self.panes, self.panes_at] {
            self.block.extend_from_slice(&number.to_le_bytes());
        }
        self.write_block()?;
        self.file.sync()?;
        let named = ChunkRef {
            chunk: self.number,
            bytes: self.file.length(),
            users: self.users,
            panes: self.panes,
            blake3: self.hash.finalize().to_hex().to_string(),
        };
        self.file.copy_chunk(&named)?;
        Ok(named)
    }
}

/// Whether the file `path` is the chunk that a manifest names, byte for byte.
pub(super) fn hash_matches(path: &Path, named: &ChunkRef) -> Result<bool, CheckpointError> {
    let hash = || {
        let file = File::open(path)?;
        let mut hash = blake3::Hasher::new();
        if file.metadata()?.len() == named.bytes {
            hash.update_reader(file)?;
        }
        io::Result::Ok(hash.finalize().to_hex())
    };
    match hash() {
        Ok(hash) => Ok(hash.as_str() == named.blake3),
        Err(error) if is_damage(&error) => Ok(false),
        Err(error) => Err(CheckpointError::io("read", path)(error)),
    }
}

/// `covered`: a block without its checksum. `at`: where the block starts.
fn block_checksum(covered: &[u8], salt: u64, at: u64) -> u64 {
    xxh3_64_with_seed(covered, salt.wrapping_add(at))
}

/// A chunk that can be read. It stays readable after its file was removed.
#[derive(Debug)]
pub(super) struct Chunk {
    file: File,
    path: PathBuf,
    salt: u64,
    panes_at: u64,
    end_at: u64,
}

impl Chunk {
    /// Opens the chunk that a manifest of the pipeline with the (hashed) fingerprint `fingerprint` names. Its blocks are checked
    /// when they are read.
    pub(super) fn open(
        directory: &Directory,
        named: &ChunkRef,
        fingerprint: &[u8; 32],
    ) -> Result<Chunk, CheckpointError> {
        let path = directory.file(&chunk_name(named.chunk));
        let error = |source| read_error(&path, source);
        let file = File::open(&path).map_err(error)?;
        if file.metadata().map_err(error)?.len() != named.bytes {
            return Err(damaged(&path, format!("it should have {} bytes", named.bytes)));
        }
        let (head, salt) = read_head(&file, &path)?;
        if head.number != named.chunk || head.fingerprint != *fingerprint {
            return Err(damaged(&path, "it is the chunk of another snapshot"));
        }
        let end_at = named.bytes.checked_sub((BLOCK_HEAD_BYTES + END_BYTES) as u64);
        let end_at = end_at.filter(|&at| at >= HEAD_BYTES as u64).ok_or_else(|| damaged(&path, "it ends too early"))?;
        let mut chunk = Chunk { file, path, salt, panes_at: 0, end_at };
        let mut end = Blocks { at: end_at, end: named.bytes, kind: END, block: Vec::new(), rows: 0 };
        end.advance(&chunk)?;
        let numbers = &end.block[BLOCK_HEAD_BYTES - CHECKSUM_BYTES..];
        if numbers.len() != END_BYTES || u64_at(numbers, 0) != named.users || u64_at(numbers, 8) != named.panes {
            return Err(damaged(&chunk.path, "it does not have as many rows as its manifest says"));
        }
        chunk.panes_at = u64_at(numbers, 16);
        if !(HEAD_BYTES as u64..=end_at).contains(&chunk.panes_at) {
            return Err(damaged(&chunk.path, "its panes start outside of it"));
        }
        Ok(chunk)
    }

    /// Opens a chunk after every byte of it was compared with what its manifest says.
    pub(super) fn open_whole(
        directory: &Directory,
        named: &ChunkRef,
        fingerprint: &[u8; 32],
    ) -> Result<Chunk, CheckpointError> {
        let chunk = Chunk::open(directory, named, fingerprint)?;
        let mut hash = blake3::Hasher::new();
        let mut bytes = vec![0; HASH_BYTES.min(usize::try_from(named.bytes).unwrap_or(HASH_BYTES))];
        let mut at = 0;
        while at < named.bytes {
            let part = bytes.len().min(usize::try_from(named.bytes - at).unwrap_or(bytes.len()));
            chunk.file.read_exact_at(&mut bytes[..part], at).map_err(|source| read_error(&chunk.path, source))?;
            hash.update(&bytes[..part]);
            at += part as u64;
        }
        if hash.finalize().to_hex().as_str() != named.blake3 {
            return Err(damaged(&chunk.path, "its BLAKE3 is not the one in its manifest"));
        }
        Ok(chunk)
    }

    fn damaged(&self, reason: impl Into<String>) -> CheckpointError {
        damaged(&self.path, reason)
    }
}

fn read_head(file: &File, path: &Path) -> Result<(Head, u64), CheckpointError> {
    let mut bytes = [0; HEAD_BYTES];
    file.read_exact_at(&mut bytes, 0).map_err(|source| read_error(path, source))?;
    Head::from_bytes(&bytes, path)
}

/// What the file says of itself that no manifest names; `None` if that can't be believed.
pub(super) fn stray_head(directory: &Directory, number: u64) -> Option<Head> {
    let path = directory.file(&chunk_name(number));
    read_head(&File::open(&path).ok()?, &path).ok().map(|(head, _)| head)
}

/// The blocks of one kind, one at a time.
struct Blocks {
    at: u64,
    end: u64,
    kind: u32,
    /// The block at hand without its checksum.
    block: Vec<u8>,
    /// How many rows it has.
    rows: u32,
}

impl Blocks {
    /// Goes to the next block and checks it; `false` at the end.
    fn advance(&mut self, chunk: &Chunk) -> Result<bool, CheckpointError> {
        if self.at == self.end {
            return Ok(false);
        }
        let error = |source| read_error(&chunk.path, source);
        let mut head = [0; BLOCK_HEAD_BYTES];
        let rows_at = self.at + BLOCK_HEAD_BYTES as u64;
        chunk.file.read_exact_at(&mut head, self.at).map_err(error)?;
        let length = u64::from(u32_at(&head, 16));
        if rows_at + length > self.end {
            return Err(chunk.damaged(format!("the block at byte {} is too long", self.at)));
        }
        let (covered, length) = (BLOCK_HEAD_BYTES - CHECKSUM_BYTES, length as usize);
        self.block.resize(covered + length, 0);
        self.block[..covered].copy_from_slice(&head[CHECKSUM_BYTES..]);
        chunk.file.read_exact_at(&mut self.block[covered..], rows_at).map_err(error)?;
        let is_right = block_checksum(&self.block, chunk.salt, self.at) == u64_at(&head, 0);
        if !is_right || u32_at(&head, 8) != self.kind {
            return Err(chunk.damaged(format!("the checksum of the block at byte {} is wrong", self.at)));
        }
        self.rows = u32_at(&head, 12);
        self.at = rows_at + length as u64;
        Ok(true)
    }
}

/// The users of a chunk, in ascending order. Before the first [`Self::advance`] it stands at none.
pub(super) struct UserRows {
    chunk: Arc<Chunk>,
    blocks: Blocks,
    at: usize,
    rows_left: u32,
    user: Option<u64>,
    body: Range<usize>,
}

impl UserRows {
    pub(super) fn new(chunk: Arc<Chunk>) -> UserRows {
        let end = chunk.panes_at;
        let blocks = Blocks { at: HEAD_BYTES as u64, end, kind: USERS, block: Vec::new(), rows: 0 };
        UserRows { chunk, blocks, at: 0, rows_left: 0, user: None, body: 0..0 }
    }

    /// Goes to the next user; `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, CheckpointError> {
        let mut base = self.user;
        if self.rows_left == 0 {
            if !self.blocks.advance(&self.chunk)? {
                return Ok(false);
            }
            (self.at, self.rows_left, base) = (BLOCK_HEAD_BYTES - CHECKSUM_BYTES, self.blocks.rows, None);
        }
        let row = self.row(base).filter(|(user, _)| self.user.is_none_or(|before| *user > before));
        let Some((user, body)) = row else { return Err(self.chunk.damaged("a user in it can't be read")) };
        (self.user, self.at) = (Some(user), body.end);
        self.body = body;
        self.rows_left -= 1;
        Ok(true)
    }

    fn row(&self, base: Option<u64>) -> Option<(u64, Range<usize>)> {
        let mut numbers = Numbers::new(&self.blocks.block, self.at);
        let user = numbers.next()?.checked_add(base.unwrap_or(0))?;
        let length = usize::try_from(numbers.next()?).ok().filter(|&length| length <= numbers.left())?;
        let is_last = self.rows_left == 1;
        let body = numbers.at()..numbers.at() + length;
        (self.rows_left > 0 && is_last == (body.end == self.blocks.block.len())).then_some((user, body))
    }

    /// The user that it stands at.
    pub(super) fn user(&self) -> u64 {
        self.user.unwrap_or(0)
    }

    /// All of the user but the id: what [`rows::user`] reads.
    pub(super) fn body(&self) -> &[u8] {
        &self.blocks.block[self.body.clone()]
    }

    /// For bytes that [`rows::user`] can't read.
    pub(super) fn unreadable(&self) -> CheckpointError {
        self.chunk.damaged(format!("the state of user {} can't be read", self.user()))
    }
}

/// The panes of a chunk, in ascending order. Before the first [`Self::advance`] it stands at none.
pub(super) struct PaneRows {
    chunk: Arc<Chunk>,
    blocks: Blocks,
    at: usize,
    rows_left: u32,
    pane: Option<PaneState>,
}

impl PaneRows {
    pub(super) fn new(chunk: Arc<Chunk>) -> PaneRows {
        let blocks = Blocks { at: chunk.panes_at, end: chunk.end_at, kind: PANES, block: Vec::new(), rows: 0 };
        PaneRows { chunk, blocks, at: 0, rows_left: 0, pane: None }
    }

    /// Goes to the next pane; `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, CheckpointError> {
        let mut base = self.pane.as_ref();
        if self.rows_left == 0 {
            if !self.blocks.advance(&self.chunk)? {
                return Ok(false);
            }
            (self.at, self.rows_left, base) = (BLOCK_HEAD_BYTES - CHECKSUM_BYTES, self.blocks.rows, None);
        }
        let mut numbers = Numbers::new(&self.blocks.block, self.at);
        let pane = rows::pane(&mut numbers, base.unwrap_or(&NO_PANE)).filter(|pane| {
            let ascends = self.pane.as_ref().is_none_or(|before| pane_key(pane) > pane_key(before));
            ascends && self.rows_left > 0 && (self.rows_left == 1) == numbers.are_done()
        });
        if pane.is_none() {
            return Err(self.chunk.damaged("a pane in it can't be read"));
        }
        (self.pane, self.at) = (pane, numbers.at());
        self.rows_left -= 1;
        Ok(true)
    }

    /// The pane that it stands at.
    pub(super) fn pane(&self) -> &PaneState {
        self.pane.as_ref().unwrap_or(&NO_PANE)
    }
}
