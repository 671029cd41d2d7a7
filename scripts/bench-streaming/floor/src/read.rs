//! Reads `user,item,behaviour,time` rows of well-formed numbers, in blocks.

use std::io::{self, Read};

const BLOCK: usize = 1 << 20;

/// Calls `row` with user, item and time of every row of `log`; their number.
pub fn for_each_row(log: &mut impl Read, mut row: impl FnMut(u64, u64, u64)) -> io::Result<u64> {
    let mut buffer = vec![0; 2 * BLOCK];
    let (mut held, mut rows) = (0, 0);
    loop {
        let read = log.read(&mut buffer[held..held + BLOCK])?;
        if read == 0 {
            break;
        }
        let filled = held + read;
        let whole = buffer[..filled].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        rows += rows_of(&buffer[..whole], &mut row);
        buffer.copy_within(whole..filled, 0);
        held = filled - whole;
        if held > BLOCK {
            return Err(io::Error::other("a row of a megabyte"));
        }
    }
    buffer.truncate(held);
    if held > 0 {
        buffer.push(b'\n');
        rows += rows_of(&buffer, &mut row);
    }
    Ok(rows)
}

fn rows_of(mut bytes: &[u8], row: &mut impl FnMut(u64, u64, u64)) -> u64 {
    let mut rows = 0;
    while !bytes.is_empty() {
        let user = number(&mut bytes);
        let item = number(&mut bytes);
        while let [byte, rest @ ..] = bytes {
            bytes = rest;
            if *byte == b',' {
                break;
            }
        }
        let time = number(&mut bytes);
        row(user, item, time);
        rows += 1;
    }
    rows
}

/// The digits at the start of `bytes`, which it skips together with the byte after them.
#[inline]
fn number(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    while let [byte, rest @ ..] = *bytes {
        *bytes = rest;
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value * 10 + u64::from(digit);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_across_blocks_and_without_a_last_line_end() {
        let text: String = (0..100_000_u64).map(|i| format!("{i},{},pv,{}\n", i * 3, i * 7)).collect();
        let mut seen = 0;
        let rows = for_each_row(&mut text.trim_end().as_bytes(), |user, item, time| {
            assert_eq!((user, item, time), (seen, seen * 3, seen * 7));
            seen += 1;
        });
        assert_eq!((rows.unwrap(), seen), (100_000, 100_000));
    }
}
