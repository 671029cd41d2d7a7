//! JSON as the outputs write it: no spaces, integers in full. Appends to a byte buffer, allocates nothing.

/// Appends `n`.
pub(super) fn push_u64(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends `n`.
pub(super) fn push_i64(out: &mut Vec<u8>, n: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends an array of integers.
pub(super) fn push_list(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u64>) {
    let mut digits = itoa::Buffer::new();
    let mut before = b'[';
    for n in numbers {
        out.push(before);
        out.extend_from_slice(digits.format(n).as_bytes());
        before = b',';
    }
    if before == b'[' {
        out.push(b'[');
    }
    out.push(b']');
}

/// Appends `bytes` in base64 (RFC 4648, section 4, with padding), without quotes.
pub(super) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let mut triple = [0; 3];
        triple[..chunk.len()].copy_from_slice(chunk);
        let [_, a, b, c] =
            (u32::from(triple[0]) << 16 | u32::from(triple[1]) << 8 | u32::from(triple[2])).to_be_bytes();
        let sextets = [a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63];
        for (i, sextet) in sextets.into_iter().enumerate() {
            out.push(if i <= chunk.len() { ALPHABET[usize::from(sextet)] } else { b'=' });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(fill: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        fill(&mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn base64_agrees_with_the_rfc() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (plain, coded) in vectors {
            assert_eq!(text(|out| push_base64(out, plain.as_bytes())), coded);
        }
        assert_eq!(text(|out| push_base64(out, &[0xfb, 0xff, 0xbf])), "+/+/");
    }

    #[test]
    fn numbers_are_written_in_full() {
        assert_eq!(text(|out| push_u64(out, u64::MAX)), "18446744073709551615");
        assert_eq!(text(|out| push_i64(out, -1)), "-1");
        assert_eq!(text(|out| push_list(out, [])), "[]");
        assert_eq!(text(|out| push_list(out, [7])), "[7]");
        assert_eq!(text(|out| push_list(out, [7, 0, 10])), "[7,0,10]");
    }
}
