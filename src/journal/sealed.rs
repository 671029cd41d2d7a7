//! A line of JSON that carries its own checksum, as its last key.
//!
//! ```text
//! {"entry":"epoch","epoch":3,"check":"0f3a5c7788bbd2e1"}
//! └────── covered ─────────┘└──── the seal: 28 bytes ──┘
//! ```
//!
//! The checksum is the XXH3-64 of the covered bytes, seeded with the checksum of the line before, where there is one: a line
//! that was changed, lost, doubled or moved does not fit what follows it. Any JSON reader reads such a line. A reader
//! that knows all keys refuses a seal that it does not recognise, so a damaged seal can't turn into none.

use std::io::Write;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const KEY: &[u8] = b",\"check\":\"";
const DIGITS: usize = 16;
const END: &[u8] = b"\"}";

/// What a line says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    /// No checksum.
    None,
    /// The right one.
    Right(u64),
    /// Another than the line's bytes have.
    Wrong,
}

/// Appends `object`, one JSON object without a line end, to `text` as a sealed line, with its line end. Returns its checksum.
pub(crate) fn seal(object: &[u8], seed: u64, text: &mut Vec<u8>) -> u64 {
    let covered = object.strip_suffix(b"}").unwrap_or(object);
    let check = xxh3_64_with_seed(covered, seed);
    text.extend_from_slice(covered);
    text.extend_from_slice(KEY);
    // A write to a vector can't fail.
    let _ = write!(text, "{check:016x}");
    text.extend_from_slice(END);
    text.push(b'\n');
    check
}

/// Takes the seal off `line`, which has no line end, and leaves the object.
pub(crate) fn unseal(line: &mut Vec<u8>, seed: u64) -> Seal {
    let Some((covered, check)) = split(line) else { return Seal::None };
    if xxh3_64_with_seed(covered, seed) != check {
        return Seal::Wrong;
    }
    let length = covered.len();
    line.truncate(length);
    line.push(b'}');
    Seal::Right(check)
}

/// How many bytes a seal covers, if one begins in `line`.
pub(crate) fn covered_length(line: &[u8]) -> Option<usize> {
    line.windows(KEY.len()).position(|window| window == KEY)
}

fn split(line: &[u8]) -> Option<(&[u8], u64)> {
    let rest = line.strip_suffix(END)?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    let check = digits.iter().try_fold(0, |check, &digit| Some(check << 4 | u64::from(value(digit)?)))?;
    Some((rest.strip_suffix(KEY)?, check))
}

/// Only the digits that [`seal`] writes: a capital letter would be a flipped bit.
fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(object: &str, seed: u64) -> Vec<u8> {
        let mut text = Vec::new();
        seal(object.as_bytes(), seed, &mut text);
        assert_eq!(text.pop(), Some(b'\n'));
        text
    }

    #[test]
    fn a_seal_comes_off_as_it_went_on() {
        let mut line = sealed(r#"{"a":1}"#, 7);
        assert!(matches!(unseal(&mut line, 7), Seal::Right(_)));
        assert_eq!(line, br#"{"a":1}"#);
        assert_eq!(unseal(&mut line, 7), Seal::None);
    }

    /// If this fails, journals that are there can no longer be read.
    #[test]
    fn the_bytes_are_pinned() {
        assert_eq!(sealed(r#"{"a":1}"#, 0), br#"{"a":1,"check":"72320ca0186ede72"}"#);
    }

    #[test]
    fn no_changed_bit_and_no_other_place_is_believed() {
        let whole = sealed(r#"{"entry":"epoch","epoch":3}"#, 7);
        assert_eq!(unseal(&mut whole.clone(), 8), Seal::Wrong);
        for bit in 0..whole.len() * 8 {
            let mut line = whole.clone();
            line[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(unseal(&mut line, 7), Seal::Right(_)), "bit {bit}");
        }
    }
}
