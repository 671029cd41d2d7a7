//! The format of PyTorch before 1.6: five pickles (a magic number, a protocol version, facts about the machine, the
//! object, the list of storage keys), then each storage of that list: an element count (i64, little-endian) and the raw
//! elements.

use std::borrow::Cow;

use super::{
    ENTRIES_MAX, StateDict, StateDictError, expansion_limit_bytes,
    tensors::{Storage, View, fill, views},
};
use crate::model::{
    error::excerpt,
    pickle::{Node, Pickle},
};

const MAGIC_NUMBER: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL_VERSION: i128 = 1001;

/// Whether the bytes start as a pickle does.
pub(super) fn is(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

pub(super) fn read(bytes: &[u8]) -> Result<StateDict, StateDictError> {
    let mut rest = bytes;
    if !is_int(&next_pickle(&mut rest)?, MAGIC_NUMBER) {
        return Err(StateDictError::NotPyTorch(" (it is a pickle, but not one of torch.save)"));
    }
    if !is_int(&next_pickle(&mut rest)?, PROTOCOL_VERSION) {
        return Err(StateDictError::Layout("the protocol version is not 1001"));
    }
    check_byte_order(&next_pickle(&mut rest)?)?;
    let object = next_pickle(&mut rest)?;
    let keys = next_pickle(&mut rest)?;
    let views = views(&object, expansion_limit_bytes(bytes.len()))?;
    let storages = split_storages(&storage_keys(&keys)?, rest, &views)?;
    fill(&views, |storage| {
        let found = storages.iter().find(|(key, _)| *key == storage.key);
        found
            .map(|(_, data)| Cow::Borrowed(*data))
            .ok_or(StateDictError::Layout("a tensor's storage is not in the list of storages"))
    })
}

fn next_pickle<'a>(rest: &mut &'a [u8]) -> Result<Pickle<'a>, StateDictError> {
    let pickle = Pickle::read(rest)?;
    *rest = &rest[pickle.length_bytes()..];
    Ok(pickle)
}

fn is_int(pickle: &Pickle<'_>, expected: i128) -> bool {
    *pickle.node(pickle.root()) == Node::Int(expected)
}

fn check_byte_order(facts: &Pickle<'_>) -> Result<(), StateDictError> {
    let Node::Dict(entries) = facts.node(facts.root()) else {
        return Err(StateDictError::Layout("the facts about the machine are no dict"));
    };
    let little = entries.iter().find(|(key, _)| *facts.node(*key) == Node::Str("little_endian"));
    match little.map(|(_, value)| facts.node(*value)) {
        Some(Node::Bool(true)) => Ok(()),
        Some(Node::Bool(false)) => Err(StateDictError::BigEndian),
        _ => Err(StateDictError::Layout("the byte order is not given")),
    }
}

fn storage_keys<'a>(pickle: &Pickle<'a>) -> Result<Vec<&'a str>, StateDictError> {
    let Node::List(items) = pickle.node(pickle.root()) else {
        return Err(StateDictError::Layout("the storage keys are no list"));
    };
    if items.len() > ENTRIES_MAX {
        return Err(StateDictError::Limit { what: "the number of storages", limit: ENTRIES_MAX as u64 });
    }
    let key = |node: &Node<'a>| match node {
        Node::Str(key) => Ok(*key),
        _ => Err(StateDictError::Layout("a storage key is no string")),
    };
    items.iter().map(|item| key(pickle.node(*item))).collect()
}

/// Cuts the raw storages apart, all of `rest` and nothing more.
fn split_storages<'a>(
    keys: &[&'a str],
    mut rest: &'a [u8],
    views: &[View<'_>],
) -> Result<Vec<(&'a str, &'a [u8])>, StateDictError> {
    let mut storages = Vec::with_capacity(keys.len());
    for key in keys {
        let storage = views
            .iter()
            .map(View::storage)
            .find(|storage| storage.key == *key)
            .ok_or(StateDictError::Layout("a storage that no tensor uses"))?;
        let (data, after) = split_storage(storage, rest)?;
        storages.push((*key, data));
        rest = after;
    }
    if rest.is_empty() { Ok(storages) } else { Err(StateDictError::Trailing(rest.len())) }
}

fn split_storage<'a>(storage: &Storage<'_>, rest: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), StateDictError> {
    let length = |found: u64| StateDictError::StorageLength {
        key: excerpt(storage.key),
        found,
        expected: storage.length_bytes(),
    };
    let (count, rest) = rest.split_first_chunk().ok_or_else(|| length(0))?;
    let count = i64::from_le_bytes(*count);
    if usize::try_from(count) != Ok(storage.count) {
        return Err(StateDictError::Layout("a storage's length is not the one that its tensors were given"));
    }
    usize::try_from(storage.length_bytes())
        .ok()
        .and_then(|bytes| rest.split_at_checked(bytes))
        .ok_or_else(|| length(rest.len() as u64))
}
