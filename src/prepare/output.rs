//! The file that is written: it has its name only once it is whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::PrepareError;

/// Rows are written in blocks of this size.
const BLOCK_BYTES: usize = 256 << 10;

/// A file being written. Dropped before it is finished, it takes away what it has written.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    buffer: Vec<u8>,
    finished: bool,
}

impl Output {
    /// Starts `name` in `directory`, which is made if it is not there.
    pub(super) fn create(directory: &Path, name: &str) -> Result<Output, PrepareError> {
        fs::create_dir_all(directory).map_err(|source| failure("create", directory, source))?;
        let (path, partial) = (directory.join(name), directory.join(format!("{name}.partial")));
        if path.is_dir() {
            return Err(failure("write", &path, std::io::ErrorKind::IsADirectory.into()));
        }
        let file = File::create(&partial).map_err(|source| failure("create", &partial, source))?;
        Ok(Output { file, partial, path, buffer: Vec::with_capacity(BLOCK_BYTES + 1024), finished: false })
    }

    /// Adds the row that `write` appends to the block.
    pub(super) fn row(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), PrepareError> {
        write(&mut self.buffer);
        if self.buffer.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), PrepareError> {
        self.file.write_all(&self.buffer).map_err(|source| failure("write", &self.partial, source))?;
        self.buffer.clear();
        Ok(())
    }

    /// Gives the file its name, in place of any that has it.
    pub(super) fn finish(mut self) -> Result<PathBuf, PrepareError> {
        self.flush()?;
        self.file.sync_all().map_err(|source| failure("write", &self.partial, source))?;
        fs::rename(&self.partial, &self.path).map_err(|source| failure("rename", &self.partial, source))?;
        self.finished = true;
        Ok(self.path.clone())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.finished {
            // Nobody is left to tell if even that fails.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

fn failure(action: &'static str, path: &Path, source: std::io::Error) -> PrepareError {
    PrepareError::Output { action, path: path.to_owned(), source }
}
