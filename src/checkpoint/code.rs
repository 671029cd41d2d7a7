//! Numbers in few bytes: the lower 7 bits first, the eighth set while there are more; signed ones folded around zero.

/// The most bytes that a number takes.
const BYTES_MAX: usize = 10;

/// Appends `number`.
#[inline]
pub(super) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    let mut code = [0; BYTES_MAX];
    let mut length = 0;
    while number >= 0x80 {
        code[length] = number as u8 | 0x80;
        number >>= 7;
        length += 1;
    }
    code[length] = number as u8;
    bytes.extend_from_slice(&code[..=length]);
}

/// Appends `number`, few bytes for one near zero.
#[inline]
pub(super) fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put(bytes, fold(number));
}

/// Appends `to − from`, modulo 2^64: few bytes for two that are near each other, and right for any two.
#[inline]
pub(super) fn put_step(bytes: &mut Vec<u8>, from: u64, to: u64) {
    put_signed(bytes, to.wrapping_sub(from).cast_signed());
}

/// 0, −1, 1, −2, … as 0, 1, 2, 3, …
#[inline]
pub(super) fn fold(number: i64) -> u64 {
    (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned()
}

/// The number that [`fold`] was given.
#[inline]
pub(super) fn unfold(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Numbers, read one after the other. `None` where the bytes end or are no number.
pub(super) struct Numbers<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Numbers<'a> {
    /// The numbers in `bytes`, from `at` on.
    #[inline]
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Numbers<'a> {
        Numbers { bytes, at }
    }

    /// How many bytes have been read, or lie before the first.
    #[inline]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Whether all have been read.
    #[inline]
    pub(super) fn are_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// How many bytes are left: no fewer than numbers.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next one.
    #[inline]
    pub(super) fn next(&mut self) -> Option<u64> {
        let first = *self.bytes.get(self.at)?;
        self.at += 1;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        let mut number = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                return None;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
            shift += 7;
        }
    }

    /// The next one, signed.
    #[inline]
    pub(super) fn next_signed(&mut self) -> Option<i64> {
        self.next().map(unfold)
    }

    /// The next one, which was put as a step from `from`.
    #[inline]
    pub(super) fn step(&mut self, from: u64) -> Option<u64> {
        self.next_signed().map(|step| from.wrapping_add(step.cast_unsigned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(numbers in prop::collection::vec((any::<u64>(), 0u32..64), 0..20)) {
            let numbers: Vec<u64> = numbers.into_iter().map(|(number, shift)| number >> shift).collect();
            let mut bytes = Vec::new();
            for &number in &numbers {
                put(&mut bytes, number);
                put_signed(&mut bytes, number.cast_signed());
                put_step(&mut bytes, 77, number);
            }
            let mut found = Numbers::new(&bytes, 0);
            for number in numbers {
                prop_assert_eq!(found.next(), Some(number));
                prop_assert_eq!(found.next_signed(), Some(number.cast_signed()));
                prop_assert_eq!(found.step(77), Some(number));
            }
            prop_assert!(found.are_done());
        }

        #[test]
        fn rubbish_is_no_number_or_one(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            let mut found = Numbers::new(&bytes, 0);
            while found.next().is_some() {}
            prop_assert!(found.at() <= bytes.len());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut bytes = vec![0xff; 9];
        bytes.push(1);
        assert_eq!(Numbers::new(&bytes, 0).next(), Some(u64::MAX));
        bytes[9] = 2;
        assert_eq!(Numbers::new(&bytes, 0).next(), None);
    }
}
