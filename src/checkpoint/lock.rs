//! One run at a time uses a state directory. The system gives the lock back when its holder ends, however it ends.

use super::error::CheckpointError;
use super::files::overwrite;
use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::Path;

/// The longest text about a holder that is shown.
const HOLDER_BYTES_MAX: u64 = 256;

/// The lock, held until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the state directory `directory`, whose file is `path`.
    pub(super) fn take(directory: &Path, path: &Path) -> Result<Lock, CheckpointError> {
        let options = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = options.map_err(CheckpointError::io("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CheckpointError::InUse { path: directory.to_owned(), holder: holder(&file) });
            }
            Err(TryLockError::Error(error)) => return Err(CheckpointError::io("lock", path)(error)),
        }
        overwrite(&file, &format!("pid {} on host {}\n", std::process::id(), host()))
            .map_err(CheckpointError::io("write", path))?;
        Ok(Lock { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would do, were there no copy of it in a process that is just being started.
        let _ = self.file.unlock();
    }
}

fn holder(file: &File) -> String {
    let mut text = String::new();
    match file.take(HOLDER_BYTES_MAX).read_to_string(&mut text) {
        Ok(length) if length > 0 => text.trim().to_owned(),
        _ => "of which nothing is known".to_owned(),
    }
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "of unknown name".to_owned() } else { name.trim().to_owned() }
}
