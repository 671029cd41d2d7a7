//! `user_map.json` and `item_map.json`: raw id ↔ index in the model's tables.
//!
//! A map is one JSON object, raw id (as a string of digits) → index, and must be one-to-one onto 0 … count−1.

use std::fmt;

use hashbrown::HashMap;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::error::{excerpt, looks_like};

/// Raw ids end here (contract, section 1).
const ID_MAX: u64 = i64::MAX as u64;
/// More entries than any catalogue or user base has; indices fit 32 bits with room for the padding index.
const ENTRIES_MAX: usize = 1 << 30;

/// A one-to-one map between raw ids and the indices 0 … len−1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    indices: HashMap<u64, u32>,
    ids: Vec<u64>,
}

/// Why bytes are not a map.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Not JSON, or not an object.
    #[error("not a JSON object of raw id to index: {0}")]
    Json(String),
    /// A key that is no raw id.
    #[error("id \"{0}\" is not a whole number from 0 to {ID_MAX}")]
    Id(String),
    /// A key that stands there twice.
    #[error("id {0} is given twice")]
    DuplicateId(u64),
    /// A value that is no index.
    #[error("the index of id {id} is wrong: {reason}")]
    Index {
        /// The key.
        id: u64,
        /// The JSON reader's words, with line and column.
        reason: String,
    },
    /// Two ids with one index.
    #[error("ids {first} and {second} have the same index {index}")]
    DuplicateIndex {
        /// The index.
        index: u64,
        /// The id that had it.
        first: u64,
        /// The id that has it too.
        second: u64,
    },
    /// An index beyond the number of entries, so that another is missing.
    #[error("id {id} has index {index}, but {count} ids need the indices 0 to {}: index {missing} is missing", count - 1)]
    OutOfRange {
        /// The key.
        id: u64,
        /// Its index.
        index: u64,
        /// Number of entries, at least 1.
        count: usize,
        /// The smallest index that no id has.
        missing: usize,
    },
    /// More entries than fit.
    #[error("more than {ENTRIES_MAX} ids")]
    TooMany,
}

impl IdMap {
    /// Number of ids.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The index of a raw id.
    pub fn index(&self, id: u64) -> Option<u32> {
        self.indices.get(&id).copied()
    }

    /// The raw id at an index.
    pub fn id(&self, index: u32) -> Option<u64> {
        self.ids.get(index as usize).copied()
    }

    /// All raw ids, by index.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The map that gives each id its place in `ids`.
    pub fn from_ids(ids: Vec<u64>) -> Result<IdMap, MapError> {
        if ids.len() > ENTRIES_MAX {
            return Err(MapError::TooMany);
        }
        let mut indices = HashMap::with_capacity(ids.len());
        for (index, &id) in (0..).zip(&ids) {
            if id > ID_MAX {
                return Err(MapError::Id(id.to_string()));
            }
            if indices.insert(id, index).is_some() {
                return Err(MapError::DuplicateId(id));
            }
        }
        Ok(IdMap { indices, ids })
    }

    /// Reads a map file.
    pub fn read(bytes: &[u8]) -> Result<IdMap, MapError> {
        let mut failure = None;
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let entries = json
            .deserialize_map(EntriesVisitor { failure: &mut failure })
            .and_then(|entries| json.end().map(|()| entries))
            .map_err(|e| failure.take().unwrap_or_else(|| MapError::Json(format!("{e}{}", looks_like(bytes)))))?;
        IdMap::from_ids(by_index(&entries)?)
    }

    /// Writes a map file, in the order of the indices.
    pub fn write(&self) -> Vec<u8> {
        let entries: Vec<String> = self.ids.iter().enumerate().map(|(index, id)| format!("\"{id}\":{index}")).collect();
        format!("{{{}}}", entries.join(",")).into_bytes()
    }
}

/// Puts (id, index) entries in the order of their indices; they must be 0 … len−1, each once.
fn by_index(entries: &[(u64, u64)]) -> Result<Vec<u64>, MapError> {
    const UNSET: u64 = u64::MAX;
    let mut ids = vec![UNSET; entries.len()];
    let mut beyond = None;
    for &(id, index) in entries {
        match usize::try_from(index).ok().and_then(|i| ids.get_mut(i)) {
            Some(slot) if *slot == UNSET => *slot = id,
            Some(&mut first) if first == id => return Err(MapError::DuplicateId(id)),
            Some(&mut first) => return Err(MapError::DuplicateIndex { index, first, second: id }),
            None => beyond = beyond.or(Some((id, index))),
        }
    }
    let Some((id, index)) = beyond else { return Ok(ids) };
    let missing = ids.iter().position(|&slot| slot == UNSET).unwrap_or_default();
    Err(MapError::OutOfRange { id, index, count: entries.len(), missing })
}

/// Collects a JSON object's entries as they stand, duplicates included; what is wrong goes to `failure`, typed.
struct EntriesVisitor<'a> {
    failure: &'a mut Option<MapError>,
}

impl EntriesVisitor<'_> {
    fn fail<E: serde::de::Error>(self, error: MapError) -> E {
        *self.failure = Some(error);
        E::custom("refused")
    }
}

impl<'de> Visitor<'de> for EntriesVisitor<'_> {
    type Value = Vec<(u64, u64)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of raw id to index")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(RawId(id)) = map.next_key()? {
            let id = match id {
                Ok(id) => id,
                Err(text) => return Err(self.fail(MapError::Id(text))),
            };
            if entries.len() == ENTRIES_MAX {
                return Err(self.fail(MapError::TooMany));
            }
            match map.next_value() {
                Ok(index) => entries.push((id, index)),
                Err(e) => return Err(self.fail(MapError::Index { id, reason: excerpt_reason(&e) })),
            }
        }
        Ok(entries)
    }
}

/// The JSON reader quotes what it found, however long.
fn excerpt_reason(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    if text.chars().count() <= 120 { text } else { excerpt(&text) }
}

/// A key: digits, or the text that is not.
struct RawId(Result<u64, String>);

impl<'de> Deserialize<'de> for RawId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawId, D::Error> {
        struct RawIdVisitor;
        impl Visitor<'_> for RawIdVisitor {
            type Value = RawId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a raw id")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawId, E> {
                let digits = text.bytes().all(|b| b.is_ascii_digit());
                let id = text.parse().ok().filter(|&id| digits && id <= ID_MAX);
                Ok(RawId(id.ok_or_else(|| excerpt(text))))
            }
        }
        deserializer.deserialize_str(RawIdVisitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_name_the_key() {
        for (json, expected) in [
            (r#"{"5":0,"7":1,"5":2}"#, "id 5 is given twice"),
            (r#"{"5":0,"7":1,"5":0}"#, "id 5 is given twice"),
            (r#"{"5":0,"7":1,"05":2}"#, "id 5 is given twice"),
            (r#"{"5":0,"7":1,"9":1}"#, "ids 7 and 9 have the same index 1"),
            (r#"{"5":0,"7":3,"9":2}"#, "id 7 has index 3, but 3 ids need the indices 0 to 2: index 1 is missing"),
            (
                r#"{"5":18446744073709551615}"#,
                "id 5 has index 18446744073709551615, but 1 ids need the indices 0 to 0: index 0 is missing",
            ),
            (r#"{"u5":0}"#, "id \"u5\" is not a whole number from 0 to 9223372036854775807"),
            (r#"{"":0}"#, "id \"\" is not a whole number from 0 to 9223372036854775807"),
            (r#"{"-5":0}"#, "id \"-5\" is not a whole number from 0 to 9223372036854775807"),
            (r#"{"+5":0}"#, "id \"+5\" is not a whole number from 0 to 9223372036854775807"),
            (
                r#"{"9223372036854775808":0}"#,
                "id \"9223372036854775808\" is not a whole number from 0 to 9223372036854775807",
            ),
            (r#"{"5":-1}"#, "the index of id 5 is wrong: invalid value: integer `-1`, expected u64 at line 1 column 7"),
            (
                r#"{"5":0.5}"#,
                "the index of id 5 is wrong: invalid type: floating point `0.5`, expected u64 at line 1 column 8",
            ),
            (r#"{"5":"0"}"#, "the index of id 5 is wrong: invalid type: string \"0\", expected u64 at line 1 column 8"),
            (r#"{"5":null}"#, "the index of id 5 is wrong: invalid type: null, expected u64 at line 1 column 9"),
            (r#"{"5":{}}"#, "the index of id 5 is wrong: invalid type: map, expected u64 at line 1 column 5"),
            (r#"{"5":"#, "the index of id 5 is wrong: EOF while parsing a value at line 1 column 5"),
            (r#"{"5":0"#, "not a JSON object of raw id to index: EOF while parsing an object at line 1 column 6"),
            (r#"{"5":0} x"#, "not a JSON object of raw id to index: trailing characters at line 1 column 9"),
            (
                r"[5, 7]",
                "not a JSON object of raw id to index: invalid type: sequence, expected an object of raw id to index at line 1 column 0",
            ),
            (
                "",
                "not a JSON object of raw id to index: EOF while parsing a value at line 1 column 0 (the file is empty)",
            ),
            (
                "<html>",
                "not a JSON object of raw id to index: expected value at line 1 column 1 (it is a web page: was the download refused?)",
            ),
        ] {
            assert_eq!(IdMap::read(json.as_bytes()).unwrap_err().to_string(), expected, "{json}");
        }
    }

    #[test]
    fn an_id_beyond_the_contract_is_no_id() {
        assert_eq!(IdMap::from_ids(vec![1, 1 << 63]), Err(MapError::Id("9223372036854775808".into())));
        assert_eq!(IdMap::from_ids(vec![4, 5, 4]), Err(MapError::DuplicateId(4)));
        assert!(IdMap::read(b" {} ").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn both_ways_and_back(ids in proptest::collection::hash_set(0..=ID_MAX, 0..50), other in 0..=ID_MAX) {
            let ids: Vec<u64> = ids.into_iter().collect();
            let map = IdMap::from_ids(ids.clone()).unwrap();
            prop_assert_eq!(&IdMap::read(&map.write()).unwrap(), &map);
            prop_assert_eq!(map.ids(), ids.as_slice());
            for (index, id) in (0..).zip(&ids) {
                prop_assert_eq!(map.index(*id), Some(index));
                prop_assert_eq!(map.id(index), Some(*id));
            }
            prop_assert_eq!(map.index(other).is_some(), ids.contains(&other));
            prop_assert_eq!(map.id(map.len() as u32), None);
        }

        /// Any assignment of indices to three ids: accepted exactly if it is a permutation.
        #[test]
        fn only_permutations_are_maps(indices in proptest::array::uniform3(0_u64..5)) {
            let json = format!(r#"{{"10":{},"20":{},"30":{}}}"#, indices[0], indices[1], indices[2]);
            let mut sorted = indices;
            sorted.sort_unstable();
            prop_assert_eq!(IdMap::read(json.as_bytes()).is_ok(), sorted == [0, 1, 2]);
        }
    }
}
