//! The only place of this room that changes a file: few operations, each of which a test can see, fail, or be the last.
//!
//! Where the directory has a copy in an object store (`remote`), that is told of a change before it counts here.

use super::chunk::ChunkRef;
use super::error::CheckpointError;
use super::names::{DELETED, NEW, Name, generation_number};
use super::probe::{Probe, Step};
use super::remote::{Change, Remote, copy};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory that belongs to us.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
    probe: Probe,
    /// What is told of changes.
    remote: Option<Arc<Remote>>,
}

impl Directory {
    pub(super) fn new(path: impl Into<PathBuf>, probe: Probe) -> Directory {
        Directory { path: path.into(), probe, remote: None }
    }

    /// The same directory, whose changes `remote` is told of.
    pub(super) fn copied_to(self, remote: Arc<Remote>) -> Directory {
        Directory { remote: Some(remote), ..self }
    }

    /// The number of the generation whose directory it is.
    fn generation(&self) -> Option<u64> {
        generation_number(self.path.file_name()?.to_str()?)
    }

    /// What is told of changes to the files in it, and the generation that it calls them by.
    fn copy(&self) -> Option<(Arc<Remote>, u64)> {
        self.remote.clone().zip(self.generation())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of that name in it.
    pub(super) fn within(&self, name: &str) -> Directory {
        Directory { path: self.path.join(name), probe: self.probe.clone(), remote: self.remote.clone() }
    }

    /// The path of the file of that name.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names of all that is in it, sorted. A name that is not UTF-8 is none of ours.
    pub(super) fn names(&self) -> Result<Vec<String>, CheckpointError> {
        let error = CheckpointError::io("list", &self.path);
        let list = || -> io::Result<Vec<String>> {
            let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
            let mut names = names.filter_map(Result::transpose).collect::<io::Result<Vec<String>>>()?;
            names.sort();
            Ok(names)
        };
        list().map_err(error)
    }

    /// Makes the directory itself.
    pub(super) fn make(&self) -> Result<(), CheckpointError> {
        let make = || {
            self.probe.step(Step::MakeDirectory(&self.path))?;
            fs::create_dir(&self.path)
        };
        make().map_err(CheckpointError::io("make the directory", &self.path))
    }

    /// [`Self::names`], and those of small files that the object store alone has: steps that it has taken though the run heard
    /// of a failure.
    pub(super) fn names_everywhere(&self) -> Result<Vec<String>, CheckpointError> {
        let mut names = self.names()?;
        if let Some((remote, generation)) = self.copy() {
            names.extend(remote.names(generation));
            names.sort();
            names.dedup();
        }
        Ok(names)
    }

    /// Whether there is a file of that name.
    pub(super) fn has(&self, name: &str) -> Result<bool, CheckpointError> {
        let path = self.file(name);
        path.try_exists().map_err(CheckpointError::io("open", &path))
    }

    /// A new file. There must be none of that name.
    pub(super) fn create(&self, name: &str) -> Result<WrittenFile, CheckpointError> {
        let path = self.file(name);
        let create = || {
            self.probe.step(Step::Create(&path))?;
            File::create_new(&path)
        };
        let file = create().map_err(CheckpointError::io("create", &path))?;
        Ok(WrittenFile { file, path, length: 0, probe: self.probe.clone(), copy: self.copy() })
    }

    /// A file that is there, to be written on from `length`.
    pub(super) fn reopen(&self, name: &str, length: u64) -> Result<WrittenFile, CheckpointError> {
        let path = self.file(name);
        let file = File::options().write(true).open(&path).map_err(CheckpointError::io("open", &path))?;
        Ok(WrittenFile { file, path, length, probe: self.probe.clone(), copy: self.copy() })
    }

    /// Gives a file or directory in it another name; what has that name is replaced.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), CheckpointError> {
        if let Some(remote) = &self.remote
            && let Some(change) = self.renaming(from, to)?
        {
            remote.commit(change)?;
        }
        let (from, to) = (self.file(from), self.file(to));
        let rename = || {
            self.probe.step(Step::Rename(&from, &to))?;
            fs::rename(&from, &to)
        };
        rename().map_err(CheckpointError::io("name", &to))
    }

    /// Makes a small file anew, as a whole: there is the old one or the new one.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> Result<(), CheckpointError> {
        let partial = name.to_owned() + NEW;
        if self.has(&partial)? {
            self.remove(&partial)?;
        }
        let mut file = self.create(&partial)?;
        file.append(content)?;
        file.sync()?;
        self.rename(&partial, name)
    }

    /// What it means that a name changes.
    fn renaming(&self, from: &str, to: &str) -> Result<Option<Change>, CheckpointError> {
        if let Some(number) = generation_number(to) {
            return Ok(Some(Change::Create { generations: [(number, copy::files(&self.within(from))?)].into() }));
        }
        if let Some(generation) = to.strip_suffix(DELETED).and_then(generation_number) {
            return Ok(Some(Change::Delete { generation }));
        }
        let Some(generation) = self.generation() else { return Ok(None) };
        Ok(Some(Change::Put { generation, name: to.to_owned(), text: copy::text(self, from, copy::TEXT_BYTES_MAX)? }))
    }

    /// Removes files: in the eyes of an object store, at once.
    pub(super) fn remove_all(&self, names: &[String]) -> Result<(), CheckpointError> {
        if let Some((remote, generation)) = self.copy() {
            let is_small = |name: &&String| matches!(Name::of(name), Name::Manifest(_) | Name::Fixed);
            let names: Vec<String> = names.iter().filter(is_small).cloned().collect();
            if !names.is_empty() {
                remote.commit(Change::Remove { generation, names })?;
            }
        }
        names.iter().try_for_each(|name| self.remove_here(name))
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: &str) -> Result<(), CheckpointError> {
        self.remove_all(&[name.to_owned()])
    }

    fn remove_here(&self, name: &str) -> Result<(), CheckpointError> {
        let path = self.file(name);
        let remove = || {
            self.probe.step(Step::Remove(&path))?;
            fs::remove_file(&path)
        };
        match remove() {
            // The object store alone had it.
            Err(error) if error.kind() == ErrorKind::NotFound && self.remote.is_some() => Ok(()),
            removed => removed.map_err(CheckpointError::io("remove", &path)),
        }
    }

    /// Removes the directory of that name in it, with the files in it.
    pub(super) fn remove_directory(&self, name: &str) -> Result<(), CheckpointError> {
        let directory = self.within(name);
        for name in directory.names()? {
            directory.remove(&name)?;
        }
        let remove = || {
            self.probe.step(Step::RemoveDirectory(&directory.path))?;
            fs::remove_dir(&directory.path)
        };
        remove().map_err(CheckpointError::io("remove", &directory.path))
    }

    /// Waits until the names in it are on the disk.
    pub(super) fn sync(&self) -> Result<(), CheckpointError> {
        let sync = || {
            self.probe.step(Step::SyncDirectory(&self.path))?;
            File::open(&self.path)?.sync_all()
        };
        sync().map_err(|source| CheckpointError::Sync { path: self.path.clone(), source })
    }

    /// A whole file, if it is no longer than `bytes_max`.
    pub(super) fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.file(name))?.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is far too long"));
        }
        Ok(bytes)
    }

    /// `length` bytes from `at` on, or fewer where the file ends.
    pub(super) fn read_at(&self, name: &str, at: u64, length: u64) -> Result<Vec<u8>, CheckpointError> {
        let path = self.file(name);
        let read = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(at))?;
            let mut bytes = Vec::new();
            file.take(length).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(CheckpointError::io("read", &path))
    }
}

/// A file that is written from its start to its end.
#[derive(Debug)]
pub(super) struct WrittenFile {
    file: File,
    path: PathBuf,
    length: u64,
    probe: Probe,
    /// What is told of it, and of which generation it is.
    copy: Option<(Arc<Remote>, u64)>,
}

impl WrittenFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How long it is.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Writes `bytes` at its end. After an error some of them may be there; [`Self::truncate`] takes them away.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let write = || {
            let written = self.probe.write(&self.path, self.length, bytes);
            let admitted = *written.as_ref().unwrap_or_else(|(admitted, _)| admitted);
            self.file.write_all_at(&bytes[..admitted], self.length)?;
            written.map(drop).map_err(|(_, error)| error)
        };
        write().map_err(CheckpointError::io("write", &self.path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Has the object store's journal grow by `text`, which stands at the end of this one.
    pub(super) fn copy_appended(&self, text: &[u8]) -> Result<(), CheckpointError> {
        let Some((remote, generation)) = &self.copy else { return Ok(()) };
        let at = self.length - text.len() as u64;
        let text = String::from_utf8_lossy(text).into_owned();
        remote.commit(Change::Append { generation: *generation, at, text })
    }

    /// Puts this file, a whole chunk, into the object store.
    pub(super) fn copy_chunk(&self, named: &ChunkRef) -> Result<(), CheckpointError> {
        self.copy.as_ref().map_or(Ok(()), |(remote, generation)| remote.put_chunk(*generation, named, &self.path))
    }

    /// Lets the file end at `length`.
    pub(super) fn cut(&mut self, length: u64) -> Result<(), CheckpointError> {
        self.length = length;
        self.truncate()
    }

    /// Cuts off what lies behind the end.
    pub(super) fn truncate(&self) -> Result<(), CheckpointError> {
        let truncate = || {
            self.probe.step(Step::Truncate(&self.path, self.length))?;
            self.file.set_len(self.length)
        };
        truncate().map_err(CheckpointError::io("cut", &self.path))
    }

    /// Waits until the bytes are on the disk. If that fails, nobody knows what is there, and asking again may be answered
    /// wrongly: then the file must not be trusted.
    pub(super) fn sync(&self) -> Result<(), CheckpointError> {
        let sync = || {
            self.probe.step(Step::SyncFile(&self.path))?;
            self.file.sync_data()
        };
        sync().map_err(|source| CheckpointError::Sync { path: self.path.clone(), source })
    }
}

/// Makes a directory, and those that it is in; waits until its name is on the disk.
pub(super) fn make_all(path: &Path) -> Result<(), CheckpointError> {
    let make = || {
        fs::create_dir_all(path)?;
        let parent = std::path::absolute(path)?.parent().map(Path::to_owned);
        parent.map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    make().map_err(CheckpointError::io("make the directory", path))
}

/// Whether a failure to read says that the file is damaged, and not that the machine lacks something.
pub(super) fn is_damage(error: &io::Error) -> bool {
    /// EIO: the disk can't read what it holds.
    const INPUT_OUTPUT: i32 = 5;
    let kinds = [ErrorKind::NotFound, ErrorKind::UnexpectedEof, ErrorKind::InvalidData];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(INPUT_OUTPUT)
}

/// Writes over a small file that only we look at: who holds the lock.
pub(super) fn overwrite(mut file: &File, text: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(text.as_bytes())
}
