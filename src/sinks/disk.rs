//! What the file system says, in plain words.

use std::io;

/// Why `error` happened, as the end of a sentence.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full".into(),
        io::ErrorKind::QuotaExceeded => "the disk quota is used up".into(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::NotFound => "there is no such file or directory".into(),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "a file of that name is in the way".into(),
        io::ErrorKind::IsADirectory => "a directory of that name is in the way".into(),
        _ => error.to_string(),
    }
}

/// Whether the same call may succeed later with nothing changed but the state of the machine.
pub(crate) fn is_retryable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::ResourceBusy
            | io::ErrorKind::StaleNetworkFileHandle
    )
}
