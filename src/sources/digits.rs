//! Numbers and short names out of text, eight bytes at a time.
//!
//! A word is eight bytes of text, the first one lowest. Bytes that match a condition are marked by their top bit. The
//! arithmetic carries from lower to higher bytes, so only the lowest mark of a word is exact, and only that is used.

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;
const ZERO_DIGITS: u64 = ONES * b'0' as u64;

/// 10^n for the digits that a second word can add.
const POWERS_OF_TEN: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Eight bytes of `text` from `at`; `None` within eight bytes of its end.
#[inline(always)]
fn word(text: &[u8], at: usize) -> Option<u64> {
    let bytes = text.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().expect("the range has eight bytes")))
}

/// Marks the bytes of `word` that equal `byte`.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    let difference = word ^ (ONES * u64::from(byte));
    difference.wrapping_sub(ONES) & !difference & TOPS
}

/// How many bytes stand before the lowest mark; 8 if there is none.
#[inline(always)]
fn unmarked(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// The number that the first `count` ≤ 8 bytes write; `values` has digit values (0 … 9) there, and anything above.
#[inline(always)]
fn combine(values: u64, count: usize) -> u64 {
    // In two steps, because a shift by 64 is none. What is shifted out at the top is what stands after the number;
    // what comes in at the bottom are leading zeros.
    let shift = 4 * (8 - count as u32);
    let digits = (values << shift) << shift;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let evens = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(100 + (1_000_000 << 32));
    let odds = ((pairs >> 16) & 0x0000_00FF_0000_00FF).wrapping_mul(1 + (10_000 << 32));
    evens.wrapping_add(odds) >> 32
}

/// The values of the digits at the start of a word, and how many there are.
#[inline(always)]
fn leading_digits(word: u64) -> (u64, usize) {
    let values = word ^ ZERO_DIGITS;
    let over_nine = values.wrapping_add(ONES * (0x7F - 9)) | values;
    (values, unmarked(over_nine & TOPS))
}

/// The number of 1 to 15 digits at `at`, and where the first byte after it is.
///
/// `None` says nothing: there is no digit, or there are more, or the text ends within 16 bytes.
#[inline(always)]
pub(super) fn short_number(text: &[u8], at: usize) -> Option<(u64, usize)> {
    let (values, count) = leading_digits(word(text, at)?);
    let first = combine(values, count);
    if count < 8 {
        return (count > 0).then_some((first, at + count));
    }
    let (values, count) = leading_digits(word(text, at + 8)?);
    let power = *POWERS_OF_TEN.get(count)?;
    Some((first * power + combine(values, count), at + 8 + count))
}

/// The word of the name of up to seven bytes at `at`, and where the delimiter or line end after it is.
///
/// `None` says nothing: the name is longer, or the text ends within eight bytes.
#[inline(always)]
pub(super) fn short_name(text: &[u8], at: usize, delimiter: u8) -> Option<(u64, usize)> {
    let word = word(text, at)?;
    let count = unmarked(equal(word, delimiter) | equal(word, b'\n') | equal(word, b'\r'));
    if count == 8 {
        return None;
    }
    Some((with_length(word & ((1 << (8 * count)) - 1), count), at + count))
}

/// What [`short_name`] gives for `name`; a value that it never gives if `name` is longer than seven bytes.
pub(super) fn name_word(name: &[u8]) -> u64 {
    if name.len() > 7 {
        return u64::MAX;
    }
    with_length(name.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)), name.len())
}

/// A name of `count` ≤ 7 bytes with its length in the eighth, since a name may end with zeros.
#[inline(always)]
fn with_length(name: u64, count: usize) -> u64 {
    name | (count as u64) << 56
}

/// The number that a whole field of digits writes, however many; `None` if it is not `[0-9]+` or above 2^63−1.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    if field.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for &byte in field {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (value <= i64::MAX as u64).then_some(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the fast readers promise, by the plainest means.
    fn plain_short_number(text: &[u8]) -> Option<(u64, usize)> {
        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let value = std::str::from_utf8(&text[..count]).unwrap().parse().ok()?;
        (count < 16).then_some((value, count))
    }

    proptest! {
        #[test]
        fn short_numbers_are_read_exactly(digits in "[0-9]{0,18}", after in any::<[u8; 16]>()) {
            let text = [digits.as_bytes(), &after].concat();
            prop_assert_eq!(short_number(&text, 0), plain_short_number(&text));
        }

        #[test]
        fn short_names_end_at_the_first_delimiter_or_line_end(
            text in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b','), Just(b'\n'), Just(b'\r')], 8..20),
        ) {
            let count = text.iter().position(|byte| b",\n\r".contains(byte)).filter(|&count| count < 8);
            prop_assert_eq!(short_name(&text, 0, b','), count.map(|count| (name_word(&text[..count]), count)));
        }

        #[test]
        fn numbers_are_those_that_u128_reads(field in "(0{0,30}[0-9]{0,25}|[ -~]{0,4})") {
            let digits = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit());
            let value = digits.then(|| field.parse::<u128>().ok()).flatten().filter(|&value| value < 1 << 63);
            prop_assert_eq!(number(field.as_bytes()).map(u128::from), value);
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(number(b"9223372036854775807"), Some(i64::MAX as u64));
        assert_eq!(number(b"9223372036854775808"), None);
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(&[b'0'; 70_000]), Some(0));
        assert_eq!(short_number(b"99999999;.......", 0), Some((99_999_999, 8)));
        assert_eq!(short_number(b"999999999999999;", 0), Some((999_999_999_999_999, 15)));
        assert_eq!(short_number(b"1234567", 0), None);
    }

    #[test]
    fn long_names_have_a_word_of_their_own() {
        assert_eq!(name_word(b"purchase"), u64::MAX);
        assert_eq!(short_name(&[0xFF; 8], 0, b','), None);
        assert_eq!(short_name(b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF,", 0, b','), Some((7 << 56 | u64::MAX >> 8, 7)));
        assert_ne!(name_word(b"pv\0"), name_word(b"pv"));
    }
}
