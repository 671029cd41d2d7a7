//! A directory of files that appear all at once, and the files in it while they are written.

use super::CanonicalError;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where files are while they are written, inside the directory that they are for.
const PARTIAL_NAME: &str = ".eddyline-partial";

/// Lines are collected up to this size before they are written. Small enough for a processor's cache.
const BUFFER_BYTES: usize = 256 << 10;

/// Files in the making. Dropped before [`PartialDirectory::publish`] it removes them, and the directory if it was made for them.
pub(super) struct PartialDirectory {
    /// Where the files go in the end. Open because a lock is held on it.
    lock: File,
    target: PathBuf,
    partial: PathBuf,
    made_target: bool,
}

impl PartialDirectory {
    /// Makes `target` if need be, locks it, and clears away what a killed run left there.
    pub(super) fn create(target: &Path) -> Result<PartialDirectory, CanonicalError> {
        let made_target = match fs::metadata(target) {
            Ok(found) if found.is_dir() => false,
            Ok(_) => return Err(CanonicalError::NotADirectory(target.to_owned())),
            Err(_) => {
                fs::create_dir(target).map_err(CanonicalError::io("make the directory", target))?;
                true
            }
        };
        let lock = File::open(target).map_err(CanonicalError::io("open the directory", target))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CanonicalError::Busy(target.to_owned())),
            Err(TryLockError::Error(error)) => {
                return Err(CanonicalError::io("lock the directory", target)(error));
            }
        }
        let partial = target.join(PARTIAL_NAME);
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(CanonicalError::io("clear away the leftovers in", &partial))?;
        }
        fs::create_dir(&partial).map_err(CanonicalError::io("make the directory", &partial))?;
        Ok(PartialDirectory { lock, target: target.to_owned(), partial, made_target })
    }

    /// Where the files are for now.
    pub(super) fn path(&self) -> &Path {
        &self.partial
    }

    /// A new file of that name.
    pub(super) fn file(&self, name: &str) -> Result<LineFile, CanonicalError> {
        LineFile::create(self.partial.join(name))
    }

    /// Moves the files of these names, all of them finished, to the target; see the module above for the order.
    pub(super) fn publish(mut self, names: &[&str]) -> Result<(), CanonicalError> {
        for name in names {
            let old = self.target.join(name);
            match fs::remove_file(&old) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(CanonicalError::io("replace", &old)(error));
                }
                _ => {}
            }
        }
        self.sync()?;
        // From here on there are results to keep.
        self.made_target = false;
        for name in names {
            let new = self.target.join(name);
            fs::rename(self.partial.join(name), &new).map_err(CanonicalError::io("name", &new))?;
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), CanonicalError> {
        self.lock.sync_all().map_err(CanonicalError::io("write to", &self.target))
    }
}

impl Drop for PartialDirectory {
    fn drop(&mut self) {
        // What can't be removed now is removed by the next run; under these names nobody takes it for results.
        let _ = fs::remove_dir_all(&self.partial);
        if self.made_target {
            let _ = fs::remove_dir(&self.target);
        }
        // Closing the file would do, were there no copy of it in a process that is just being started.
        let _ = self.lock.unlock();
    }
}

/// A file that is written line by line.
pub(super) struct LineFile {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
}

impl LineFile {
    /// Creates the file, or empties the one that is there.
    pub(super) fn create(path: PathBuf) -> Result<LineFile, CanonicalError> {
        let file = File::create(&path).map_err(CanonicalError::io("create", &path))?;
        Ok(LineFile { file, path, buffer: Vec::with_capacity(BUFFER_BYTES + 4096) })
    }

    /// Where the next line is to be appended, with its line end.
    pub(super) fn line(&mut self) -> Result<&mut Vec<u8>, CanonicalError> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(&mut self.buffer)
    }

    /// Hands everything to the operating system.
    pub(super) fn flush(&mut self) -> Result<(), CanonicalError> {
        self.file.write_all(&self.buffer).map_err(CanonicalError::io("write", &self.path))?;
        self.buffer.clear();
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub(super) fn finish(mut self) -> Result<(), CanonicalError> {
        self.flush()?;
        self.file.sync_all().map_err(CanonicalError::io("write", &self.path))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named() {
        let mut file = LineFile::create("/dev/full".into()).unwrap();
        file.line().unwrap().extend_from_slice(b"{}\n");
        let error = file.flush().unwrap_err();
        assert_eq!(error.to_string(), "cannot write /dev/full: the disk is full");
        assert!(error.is_retryable());
    }

    #[test]
    fn a_second_run_is_kept_out() {
        let directory = tempfile::tempdir().unwrap();
        let first = PartialDirectory::create(directory.path()).unwrap();
        let error = PartialDirectory::create(directory.path()).err().expect("the directory is locked");
        assert!(matches!(error, CanonicalError::Busy(_)), "{error}");
        drop(first);
        PartialDirectory::create(directory.path()).unwrap();
    }

    #[test]
    fn an_abort_leaves_no_trace() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("out");
        let partial = PartialDirectory::create(&target).unwrap();
        partial.file("popular.jsonl").unwrap().finish().unwrap();
        drop(partial);
        assert!(!target.exists());
    }

    #[test]
    fn what_a_killed_run_left_is_cleared_away() {
        let target = tempfile::tempdir().unwrap();
        fs::create_dir(target.path().join(PARTIAL_NAME)).unwrap();
        fs::write(target.path().join(PARTIAL_NAME).join("late-0.run"), b"x").unwrap();
        let partial = PartialDirectory::create(target.path()).unwrap();
        assert_eq!(fs::read_dir(partial.path()).unwrap().count(), 0);
    }
}
