//! What can go wrong with an embedded store.

use crate::sinks::{disk, moment};
use dataflows::event::Time;
use rusqlite::{Error, ErrorCode};
use std::io;
use std::path::{Path, PathBuf};

/// Why an embedded store can't be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file holds a store, of a pipeline with another fingerprint.
    #[error(
        "the store {} holds the results of another pipeline ({difference}); run with --new-generation to replace them \
         once the new ones are whole, or with --purge to delete them first, or name another store",
        .path.display()
    )]
    OtherPipeline {
        /// The store.
        path: PathBuf,
        /// In what the two pipelines differ.
        difference: String,
    },
    /// The rows that the store was made of are not those of the log.
    #[error(
        "the store {} holds the results of another log under this name, or of this log before it changed or grew ({}); run \
         with --purge to replace them, or name another store, and for another log another --log-name",
        .path.display(),
        compared(*.frontier, *.there, *.here)
    )]
    OtherLog {
        /// The store.
        path: PathBuf,
        /// Up to where they were compared.
        frontier: Time,
        /// Records that the store was made of, up to there.
        there: u64,
        /// Records of the log, up to there.
        here: u64,
    },
    /// The file can't be opened or made.
    #[error("cannot open the store {}: {}", .path.display(), disk::reason(.source))]
    Open {
        /// The store.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// The file is to be made in a directory that is not there.
    #[error(
        "cannot open the store {}: the directory {} does not exist; make it, or name another place",
        .path.display(),
        .directory.display()
    )]
    NoDirectory {
        /// The store.
        path: PathBuf,
        /// Where it is to be.
        directory: PathBuf,
    },
    /// The file is not one of SQLite's.
    #[error("cannot open the store {}: it is not a SQLite database; name another file", .0.display())]
    NotADatabase(PathBuf),
    /// The file is a database, but none of ours.
    #[error("cannot open the store {}: it is the database of another program; name another file", .0.display())]
    NotAStore(PathBuf),
    /// The store was made by a newer version of this program.
    #[error(
        "cannot open the store {}: its schema has version {found}, and this program knows versions up to {known}; \
         use the program that wrote it, or name another store",
        .path.display()
    )]
    NewerSchema {
        /// The store.
        path: PathBuf,
        /// Its schema's version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The database contradicts itself.
    #[error("the store {} is damaged ({detail}); delete it and run again", .path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file or its directory can't be written.
    #[error("cannot write the store {}: it is read-only (the file, its directory, or the file system)", .0.display())]
    ReadOnly(PathBuf),
    /// There is no room.
    #[error("cannot write the store {}: the disk is full; free some space and run again", .0.display())]
    Full(PathBuf),
    /// Another process was writing to it for longer than we wait.
    #[error("cannot write the store {}: another process is writing to it; wait for that, then run again", .0.display())]
    Locked(PathBuf),
    /// Another run has opened, purged or replaced the store since.
    #[error("stopped writing the store {}: another run has taken it over", .0.display())]
    TakenOver(PathBuf),
    /// A live run of a later start holds the store.
    #[error(
        "cannot write the store {}: a later start of the pipeline has taken it over (epoch {theirs}; this one's is {ours}); \
         if the state directory was made anew, run with --purge",
        .path.display()
    )]
    Fenced {
        /// The store.
        path: PathBuf,
        /// Its epoch.
        theirs: u64,
        /// This run's.
        ours: u64,
    },
    /// The run ended at a frontier that an unfinished run before it had passed.
    #[error(
        "the store {} stays unfinished: an earlier run had got further than this one; run without --until or to a later \
         time, or with --purge",
        .0.display()
    )]
    EndedEarlier(PathBuf),
    /// Anything else that SQLite reports.
    #[error("cannot write the store {}: {source}", .path.display())]
    Sqlite {
        /// The store.
        path: PathBuf,
        /// What came back.
        source: Error,
    },
}

/// In what two logs differ, for people.
fn compared(frontier: Time, there: u64, here: u64) -> String {
    let up_to = if frontier == Time::MAX { String::new() } else { format!(" up to {}", moment(frontier)) };
    match there == here {
        true => format!("{there} records there{up_to} and as many here, but not the same ones"),
        false => format!("{there} records there{up_to}, {here} here"),
    }
}

impl StoreError {
    /// Whether the same run, started again later, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            StoreError::Full(_) | StoreError::Locked(_) => true,
            StoreError::Open { source, .. } => disk::is_retryable(source),
            StoreError::Sqlite { source, .. } => source.sqlite_error_code() == Some(ErrorCode::SystemIoFailure),
            _ => false,
        }
    }

    /// What `source` means for the store at `path`.
    pub(super) fn new(path: &Path, source: Error) -> StoreError {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StoreError::NotADatabase(path),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreError::ReadOnly(path),
            Some(ErrorCode::DiskFull) => StoreError::Full(path),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked(path),
            Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path, detail: source.to_string() },
            _ => StoreError::Sqlite { path, source },
        }
    }
}
