//! The format of PyTorch ≥ 1.6: a zip archive with a folder that holds `data.pkl`, `byteorder`, and a storage in each
//! `data/KEY`.
//!
//! torch.save stores entries uncompressed; compressed ones are read too, for files that were packed again.

use std::{
    borrow::Cow,
    io::{Cursor, Read},
};

use zip::{ZipArchive, result::ZipError};

use super::{
    StateDict, StateDictError, expansion_limit_bytes,
    tensors::{fill, views},
};
use crate::model::{
    error::excerpt,
    pickle::{self, Pickle},
};

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// Whether the bytes start as a zip archive does.
pub(super) fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

pub(super) fn read(bytes: &[u8]) -> Result<StateDict, StateDictError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| damaged(&e))?;
    let folder = folder(&archive)?;
    check_byte_order(&mut archive, &folder)?;
    let limit = expansion_limit_bytes(bytes.len());
    let object = entry(&mut archive, &format!("{folder}data.pkl"), pickle::BYTES_MAX as u64)?;
    let object = Pickle::read(&object)?;
    let views = views(&object, limit)?;
    fill(&views, |storage| {
        let name = format!("{folder}data/{}", storage.key);
        let expected = storage.length_bytes();
        let data = entry(&mut archive, &name, expected.min(limit))?;
        if data.len() as u64 != expected {
            let key = excerpt(storage.key);
            return Err(StateDictError::StorageLength { key, found: data.len() as u64, expected });
        }
        Ok(Cow::Owned(data))
    })
}

/// The folder that everything is in, with its slash.
fn folder(archive: &Archive<'_>) -> Result<String, StateDictError> {
    let ends_with = |end: &str| {
        archive.file_names().filter_map(Result::ok).find_map(|name| {
            let folder = name.strip_suffix(end)?;
            (folder.is_empty() || folder.ends_with('/')).then(|| folder.to_owned())
        })
    };
    if ends_with("constants.pkl").is_some() {
        return Err(StateDictError::TorchScript);
    }
    ends_with("data.pkl").ok_or_else(|| StateDictError::NoEntry("data.pkl".to_owned()))
}

/// PyTorch before 2.1 did not say; those files are little-endian on every machine that anyone trains on.
fn check_byte_order(archive: &mut Archive<'_>, folder: &str) -> Result<(), StateDictError> {
    const LONGEST_NAME_BYTES: u64 = 6;
    match entry(archive, &format!("{folder}byteorder"), LONGEST_NAME_BYTES) {
        Ok(order) if order.trim_ascii() == b"little" => Ok(()),
        Ok(order) if order.trim_ascii() == b"big" => Err(StateDictError::BigEndian),
        Ok(_) => Err(StateDictError::Layout("the byte order is neither little nor big")),
        Err(StateDictError::NoEntry(_)) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Unpacks an entry of at most `limit_bytes`; what its header says of its length is not trusted.
fn entry(archive: &mut Archive<'_>, name: &str, limit_bytes: u64) -> Result<Vec<u8>, StateDictError> {
    let file = match archive.by_name(name) {
        Ok(file) => file,
        Err(ZipError::FileNotFound) => return Err(StateDictError::NoEntry(excerpt(name))),
        Err(e) => return Err(damaged(&e)),
    };
    let mut data = Vec::new();
    file.take(limit_bytes.saturating_add(1)).read_to_end(&mut data).map_err(|e| damaged(&e))?;
    if data.len() as u64 > limit_bytes {
        let limit = limit_bytes;
        return Err(StateDictError::Limit { what: "the length in bytes of a part of the archive", limit });
    }
    Ok(data)
}

fn damaged(error: &dyn std::error::Error) -> StateDictError {
    StateDictError::Zip(excerpt(&error.to_string()))
}
