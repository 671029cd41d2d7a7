//! Model directories: five files that must fit each other (contract, section 4).
//!
//! | file | what |
//! |---|---|
//! | `model_{reinforce,ddpg,bcq}.pt` | the weights, embedding tables included: the tables that are used |
//! | `user_map.json`, `item_map.json` | raw id → row of the tables |
//! | `tianchi_user_embeddings.npy`, `tianchi_item_embeddings.npy` | the pre-trained tables; they must have the shapes of the tables in the `.pt`, their values are not used |
//!
//! Each file is read once, as a whole; what is hashed is what was parsed. Nothing in a file is trusted.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use super::{
    algorithm::Algorithm,
    error::ModelError,
    layers,
    maps::{IdMap, MapError},
    npy,
    state_dict::StateDict,
    weights::{Embedding, Weights},
};

/// The map of users.
pub const USER_MAP: &str = "user_map.json";
/// The map of items.
pub const ITEM_MAP: &str = "item_map.json";
/// The pre-trained table of users.
pub const USER_EMBEDDINGS: &str = "tianchi_user_embeddings.npy";
/// The pre-trained table of items; its last row stands for unknown items.
pub const ITEM_EMBEDDINGS: &str = "tianchi_item_embeddings.npy";
/// What the directory's trainings say of themselves: an object with a member for each.
pub const MANIFEST: &str = "manifest.json";
/// Beyond any table that scoring on one machine is meant for: 16 million items of 128 dimensions.
const FILE_BYTES_MAX: u64 = 8 << 30;

/// Pre-trained tables and their maps.
const TABLES: [&str; 4] = [USER_EMBEDDINGS, ITEM_EMBEDDINGS, USER_MAP, ITEM_MAP];

/// A model directory, read and checked.
#[derive(Clone, Debug)]
pub struct ModelDirectory {
    /// Which policy `weights` holds.
    pub algorithm: Algorithm,
    /// Tables and layers.
    pub weights: Weights,
    /// Raw user id ↔ row of the table of users.
    pub users: IdMap,
    /// Raw item id ↔ row of the table of items.
    pub items: IdMap,
    /// BLAKE3, in hexadecimal, of the names, lengths and bytes of the files that decide results: `model_*.pt`,
    /// `user_map.json`, `item_map.json`.
    pub content_hash: String,
}

impl ModelDirectory {
    /// Reads and checks the directory's files for one algorithm; those of the other algorithms are left alone.
    pub fn load(dir: &Path, algorithm: Algorithm) -> Result<ModelDirectory, ModelError> {
        check_directory(dir)?;
        let model = FileBytes::read(dir, &algorithm.file_name()).map_err(|e| with_hint(e, dir))?;
        let user_map = FileBytes::read(dir, USER_MAP)?;
        let item_map = FileBytes::read(dir, ITEM_MAP)?;
        let content_hash = content_hash(&[&model, &user_map, &item_map]);
        let users = user_map.map()?;
        let items = item_map.map()?;
        let weights = model.weights(algorithm)?;
        drop(model);
        check_map_size(&user_map.path, &users, weights.users.rows, algorithm, USERS)?;
        check_map_size(&item_map.path, &items, weights.items.rows, algorithm, ITEMS)?;
        check_table(dir, USER_EMBEDDINGS, &weights.users, layers::users_key(algorithm), algorithm)?;
        check_table(dir, ITEM_EMBEDDINGS, &weights.items, layers::items_key(algorithm), algorithm)?;
        Ok(ModelDirectory { algorithm, weights, users, items, content_hash })
    }

    /// Writes a whole directory for `weights`, making it where it is missing, and gives what [`ModelDirectory::load`]
    /// would read from it.
    ///
    /// The layers that decide nothing are written as zeros; the `.npy` files get the tables of `weights`. All files are
    /// written under other names first; then the old `model_*.pt` goes, the others are renamed, and the new
    /// `model_*.pt` comes last. So a directory that has one is whole, and a write that fails on the way leaves no
    /// half-written file under a real name.
    pub fn save(dir: &Path, weights: Weights, users: IdMap, items: IdMap) -> Result<ModelDirectory, ModelError> {
        let algorithm = Algorithm::from(&weights.policy);
        let file = |name: &str, bytes| FileBytes { path: dir.join(name), name: name.to_owned(), bytes };
        let model_path = dir.join(algorithm.file_name());
        let model = layers::write(&weights).map_err(|e| ModelError::Weights { path: model_path, reason: e.into() })?;
        let files = [
            file(USER_EMBEDDINGS, npy::write(&weights.users)),
            file(ITEM_EMBEDDINGS, npy::write(&weights.items)),
            file(USER_MAP, users.write()),
            file(ITEM_MAP, items.write()),
            file(&algorithm.file_name(), model),
        ];
        let [_, _, user_map, item_map, model] = &files;
        check_map_size(&user_map.path, &users, weights.users.rows, algorithm, USERS)?;
        check_map_size(&item_map.path, &items, weights.items.rows, algorithm, ITEMS)?;
        let content_hash = content_hash(&[model, user_map, item_map]);
        fs::create_dir_all(dir).map_err(|e| io_error(dir, "create the directory", e))?;
        let _writing = Writing::begin(dir)?;
        write_all(dir, &files, &[])?;
        Ok(ModelDirectory { algorithm, weights, users, items, content_hash })
    }

    /// Writes a policy that was trained on the tables of a directory into it: all of its state_dict, and `companions`, files
    /// that go with it, which are told the content hash. They come as [`ModelDirectory::save`] has it, the `model_*.pt` last.
    /// Nobody else writes into the directory from before `companions` is called until all is there: it may read what it adds to.
    pub fn save_policy(
        dir: &Path,
        algorithm: Algorithm,
        state: StateDict,
        companions: impl FnOnce(&str) -> Vec<(String, Vec<u8>)>,
    ) -> Result<ModelDirectory, ModelError> {
        let name = algorithm.file_name();
        let path = dir.join(&name);
        let (bytes, weights) = layers::write_state(state, algorithm)
            .map_err(|e| ModelError::Weights { path: path.clone(), reason: e.into() })?;
        let model = FileBytes { path, name, bytes };
        let _writing = Writing::begin(dir)?;
        let (user_map, item_map) = (FileBytes::read(dir, USER_MAP)?, FileBytes::read(dir, ITEM_MAP)?);
        let content_hash = content_hash(&[&model, &user_map, &item_map]);
        let (users, items) = (user_map.map()?, item_map.map()?);
        check_map_size(&user_map.path, &users, weights.users.rows, algorithm, USERS)?;
        check_map_size(&item_map.path, &items, weights.items.rows, algorithm, ITEMS)?;
        let mut files = files_of(dir, companions(&content_hash));
        files.push(model);
        write_all(dir, &files, &[])?;
        Ok(ModelDirectory { algorithm, weights, users, items, content_hash })
    }
}

/// Pre-trained tables and the maps of their rows: what policies are trained on.
#[derive(Clone, Debug)]
pub struct Tables {
    /// One row a user.
    pub users: Embedding,
    /// One row an item, and the unknown item's.
    pub items: Embedding,
    /// Raw user id ↔ row.
    pub user_map: IdMap,
    /// Raw item id ↔ row.
    pub item_map: IdMap,
}

impl Tables {
    /// Reads them; `None` where the directory has no such file. Where the manifest tells of them, they must be the ones it tells of.
    pub fn load(dir: &Path) -> Result<Option<Tables>, ModelError> {
        if TABLES.iter().all(|name| !dir.join(name).exists()) {
            return Ok(None);
        }
        let told = told_of_tables(dir);
        let other = || ModelError::OtherTables { dir: dir.to_owned() };
        let read = |name| match FileBytes::read(dir, name) {
            Err(ModelError::Missing { .. }) if told.is_some() => Err(other()),
            read => read,
        };
        let [users, items, user_map, item_map] = TABLES.map(read);
        let [users, items, user_map, item_map] = &[users?, items?, user_map?, item_map?];
        if told.is_some_and(|told| told != content_hash(&[users, items, user_map, item_map])) {
            return Err(other());
        }
        let table = |file: &FileBytes| {
            npy::read(&file.bytes).map_err(|reason| ModelError::Npy { path: file.path.clone(), reason })
        };
        Ok(Some(Tables {
            users: table(users)?,
            items: table(items)?,
            user_map: user_map.map()?,
            item_map: item_map.map()?,
        }))
    }

    /// Writes them and `companions`, which are told their content hash, making the directory where it is missing. Once all files
    /// are there under other names, `obsolete` go, as policies of other tables, and the files get their own names: the companions
    /// first, so that tables that are only partly there are not the ones that the manifest among them tells of.
    pub fn save(
        &self,
        dir: &Path,
        companions: impl FnOnce(&str) -> Vec<(String, Vec<u8>)>,
        obsolete: &[PathBuf],
    ) -> Result<(), ModelError> {
        fs::create_dir_all(dir).map_err(|e| io_error(dir, "create the directory", e))?;
        let bytes = [npy::write(&self.users), npy::write(&self.items), self.user_map.write(), self.item_map.write()];
        let own = files_of(dir, TABLES.into_iter().map(str::to_owned).zip(bytes));
        let content_hash = content_hash(&own.iter().collect::<Vec<_>>());
        let _writing = Writing::begin(dir)?;
        let mut files = files_of(dir, companions(&content_hash));
        files.extend(own);
        write_all(dir, &files, obsolete)
    }
}

/// What the manifest says is the content hash of the tables and maps, if it does.
fn told_of_tables(dir: &Path) -> Option<String> {
    let manifest: serde_json::Value = serde_json::from_slice(&read_file(&dir.join(MANIFEST)).ok()?).ok()?;
    Some(manifest.get("embeddings")?.get("content_hash")?.as_str()?.to_owned())
}

/// While it lives, nobody else writes into a model directory. The system takes it back when its holder ends, however it ends.
struct Writing(#[expect(dead_code, reason = "the lock is on the open directory")] File);

impl Writing {
    /// Waits for whoever is at it, which takes as long as files take to be written.
    fn begin(dir: &Path) -> Result<Writing, ModelError> {
        let lock = || {
            let opened = File::open(dir)?;
            opened.lock()?;
            Ok(Writing(opened))
        };
        lock().map_err(|e| io_error(dir, "lock the directory", e))
    }
}

fn files_of(dir: &Path, files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<FileBytes> {
    files.into_iter().map(|(name, bytes)| FileBytes { path: dir.join(&name), name, bytes }).collect()
}

struct FileBytes {
    path: PathBuf,
    name: String,
    bytes: Vec<u8>,
}

impl FileBytes {
    fn read(dir: &Path, name: &str) -> Result<FileBytes, ModelError> {
        let path = dir.join(name);
        let bytes = read_file(&path)?;
        Ok(FileBytes { path, name: name.to_owned(), bytes })
    }

    fn map(&self) -> Result<IdMap, ModelError> {
        IdMap::read(&self.bytes).map_err(|reason: MapError| ModelError::Map { path: self.path.clone(), reason })
    }

    fn weights(&self, algorithm: Algorithm) -> Result<Weights, ModelError> {
        let path = || self.path.clone();
        let state = StateDict::read(&self.bytes).map_err(|reason| ModelError::StateDict { path: path(), reason })?;
        layers::weights_of(state, algorithm).map_err(|e| ModelError::Weights { path: path(), reason: e.into() })
    }

    /// The name while the file is being written.
    fn partial_path(&self) -> PathBuf {
        self.path.with_file_name(format!(".{}.partial", self.name))
    }

    fn write_partial(&self) -> Result<(), ModelError> {
        let path = self.partial_path();
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(&self.bytes)?;
            file.sync_all()
        };
        write().map_err(|e| io_error(&path, "write", e))
    }
}

fn io_error(path: &Path, action: &'static str, reason: std::io::Error) -> ModelError {
    ModelError::Io { path: path.to_owned(), action, reason }
}

fn check_directory(dir: &Path) -> Result<(), ModelError> {
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(ModelError::NotADirectory { path: dir.to_owned() }),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(ModelError::NotADirectory { path: dir.to_owned() }),
        Err(e) => Err(io_error(dir, "read", e)),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, ModelError> {
    let too_large = || ModelError::TooLarge { path: path.to_owned(), limit_bytes: FILE_BYTES_MAX };
    // Asked before opening: to open a named pipe would wait for its writer.
    let metadata = match fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(ModelError::Missing { path: path.to_owned(), hint: String::new() });
        }
        metadata => metadata.map_err(|e| io_error(path, "read", e))?,
    };
    if !metadata.is_file() {
        return Err(ModelError::NotAFile { path: path.to_owned() });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).map_err(|_| too_large())?);
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|e| io_error(path, "read", e))?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(too_large()) } else { Ok(bytes) }
}

/// Where an algorithm's file is missing, says which algorithms the directory does have.
fn with_hint(error: ModelError, dir: &Path) -> ModelError {
    let ModelError::Missing { path, .. } = error else { return error };
    let there: Vec<String> =
        Algorithm::ALL.into_iter().map(Algorithm::file_name).filter(|name| dir.join(name).exists()).collect();
    let hint = if there.is_empty() { String::new() } else { format!("; it has {}", there.join(" and ")) };
    ModelError::Missing { path, hint }
}

fn content_hash(files: &[&FileBytes]) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        for part in [file.name.as_bytes(), &file.bytes] {
            // The length keeps one part's end from passing for the next one's start.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// How a map and a table relate: the table's name, its rows beyond one an id, and the rule in words.
struct Relation(&'static str, usize, &'static str);

const USERS: Relation = Relation("user_embeds", 0, "one a user");
const ITEMS: Relation = Relation("item_embeds", 1, "one an item and the padding row");

fn check_map_size(
    path: &Path,
    map: &IdMap,
    rows: usize,
    algorithm: Algorithm,
    Relation(table, extra_rows, expected): Relation,
) -> Result<(), ModelError> {
    if map.len() + extra_rows == rows {
        return Ok(());
    }
    Err(ModelError::MapSize { path: path.to_owned(), entries: map.len(), table, algorithm, rows, expected })
}

fn check_table(
    dir: &Path,
    name: &str,
    used: &Embedding,
    table: String,
    algorithm: Algorithm,
) -> Result<(), ModelError> {
    let file = FileBytes::read(dir, name)?;
    let pretrained = npy::read(&file.bytes).map_err(|reason| ModelError::Npy { path: file.path.clone(), reason })?;
    let (found, expected) = ([pretrained.rows, pretrained.dim], [used.rows, used.dim]);
    if found == expected {
        return Ok(());
    }
    Err(ModelError::TableShape { path: file.path, found, table, algorithm, expected })
}

/// Writes files so that the last one's presence vouches for them all; `obsolete` files go before any is there.
fn write_all(dir: &Path, files: &[FileBytes], obsolete: &[PathBuf]) -> Result<(), ModelError> {
    let written = files.iter().try_for_each(FileBytes::write_partial).and_then(|()| rename_all(dir, files, obsolete));
    if written.is_err() {
        for file in files {
            // The error that matters is the first one; a leftover has a name that nothing reads.
            let _ = fs::remove_file(file.partial_path());
        }
    }
    written
}

fn rename_all(dir: &Path, files: &[FileBytes], obsolete: &[PathBuf]) -> Result<(), ModelError> {
    let last = files.last().map(|last| &last.path);
    for path in obsolete.iter().chain(last) {
        match fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(io_error(path, "replace", e)),
            _ => {}
        }
    }
    for file in files {
        fs::rename(file.partial_path(), &file.path).map_err(|e| io_error(&file.path, "write", e))?;
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| io_error(dir, "write", e))
}
