//! What the files of a state directory are called.

/// Held by the run that uses the directory, and marks it as ours.
pub(super) const LOCK: &str = "eddyline.lock";

/// Whose state it is.
pub(super) const PIPELINE: &str = "pipeline.json";

/// The journal.
pub(super) const JOURNAL: &str = "journal.jsonl";

/// There while stores may still hold what a purge is to delete.
pub(super) const PURGING: &str = "purging";

/// There while the state of an earlier pipeline is to go when stores show this one's results.
pub(super) const REPLACING: &str = "replacing";

/// The object store of which the directory is a copy.
pub(super) const COPY_OF: &str = "copy-of";

/// Ends the name of what is not complete yet.
pub(super) const NEW: &str = ".new";

/// Ends the name of what is about to be deleted.
pub(super) const DELETED: &str = ".deleted";

/// So many digits that names sort as their numbers do.
const DIGITS: usize = 12;

/// No number gets this far; what has such a number in its name is none of ours.
const NUMBER_MAX: u64 = 999_999_999_999_999;

/// What a file of a generation is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A manifest, by number.
    Manifest(u64),
    /// A chunk, by number.
    Chunk(u64),
    /// The journal, whose it is, and what goes on with stores.
    Fixed,
    /// Something of ours that was not completed.
    Partial,
    /// None of ours.
    Other,
}

impl Name {
    pub(super) fn of(name: &str) -> Name {
        let number = |text: &str| {
            let number = text.parse().ok().filter(|&number| number <= NUMBER_MAX)?;
            (format!("{number:0DIGITS$}") == text).then_some(number)
        };
        let manifest = name.strip_prefix("manifest-").and_then(|rest| rest.strip_suffix(".json"));
        match (name, manifest.and_then(number), name.strip_prefix("chunk-").and_then(number)) {
            (PIPELINE | JOURNAL | PURGING | REPLACING, ..) => Name::Fixed,
            (_, Some(number), _) => Name::Manifest(number),
            (_, _, Some(number)) => Name::Chunk(number),
            _ if name.ends_with(NEW) => Name::Partial,
            _ => Name::Other,
        }
    }
}

/// The name of a manifest.
pub(super) fn manifest_name(number: u64) -> String {
    format!("manifest-{number:0DIGITS$}.json")
}

/// The name of a chunk.
pub(super) fn chunk_name(number: u64) -> String {
    format!("chunk-{number:0DIGITS$}")
}

/// The name of a generation's directory.
pub(super) fn generation_name(number: u64) -> String {
    format!("generation-{number}")
}

/// The number of the generation whose directory has that name.
pub(super) fn generation_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("generation-")?.parse().ok().filter(|&number| number <= NUMBER_MAX)?;
    (generation_name(number) == name).then_some(number)
}

/// Whether a directory of that name is a generation that was not completed, or was about to be deleted.
pub(super) fn is_leftover(name: &str) -> bool {
    let stem = name.strip_suffix(NEW).or_else(|| name.strip_suffix(DELETED));
    stem.and_then(generation_number).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are() {
        for number in [0, 1, 999_999_999_999, 1_000_000_000_000, NUMBER_MAX] {
            assert_eq!(Name::of(&manifest_name(number)), Name::Manifest(number));
            assert_eq!(Name::of(&chunk_name(number)), Name::Chunk(number));
            assert_eq!(generation_number(&generation_name(number)), Some(number));
        }
        assert_eq!(Name::of("manifest-000000000001.json.new"), Name::Partial);
        for other in ["manifest-1.json", "chunk-+00000000001", "chunk-", "notes.txt", "manifest-00000000000a.json"] {
            assert_eq!(Name::of(other), Name::Other, "{other}");
        }
        assert_eq!(Name::of(&manifest_name(NUMBER_MAX + 1)), Name::Other);
        assert_eq!(generation_number("generation-01"), None);
        assert_eq!(generation_number("generation-1.new"), None);
        assert!(is_leftover("generation-1.new") && is_leftover("generation-12.deleted"));
        assert!(!is_leftover("generation-1") && !is_leftover("notes.new"));
    }
}
