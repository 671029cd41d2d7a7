//! Random texts that are nearly logs.

use proptest::prelude::*;

use crate::sources::columns::Positions;
use crate::sources::format::{Dialect, Format, TimeUnit};

/// Pieces of text; `,` stands for the delimiter.
const PIECES: [&[u8]; 66] = [
    b",",
    b",",
    b",",
    b",",
    b",",
    b",",
    b"\n",
    b"\n",
    b"\n",
    b"\n",
    b"\r\n",
    b"\r\n",
    b"\r",
    b" ",
    b"\t",
    b" \t ",
    b"1,2,pv,3",
    b"1,2,pv,3",
    b"1,2,pv,3\n",
    b"7,8,buy,1511544070\r\n",
    b"123456,98765,cart,1511544070",
    b"12345678,123456789,fav,1511544070,further,\xC3\xA9\n",
    b"5,6,7",
    b"5,6,1511544070\n",
    b"1511544070,x,3,pv,4\n",
    b" 1 ,2\t, buy , 3 \n",
    b",,,",
    b"12345678,123456789,pv,1511544070000\n",
    b"x\xC3\xA9,1,2,3,4\n",
    b"\xFF,1,2,3,4\n",
    b"0",
    b"7",
    b"42",
    b"123456",
    b"1234567",
    b"12345678",
    b"123456789",
    b"1234567890",
    b"1511544070123",
    b"123456789012345",
    b"1234567890123456",
    b"9223372036854775807",
    b"9223372036854775808",
    b"99999999999999999999999",
    b"253402300799",
    b"253402300800",
    b"253402300799999",
    b"253402300800000",
    b"0000000000000000000000000001",
    b"pv",
    b"cart",
    b"fav",
    b"buy",
    b"purchase",
    b"view",
    b"PV",
    b"pvx",
    b"\0",
    b"\xC3\xA9",
    b"\xE2\x80\x83",
    b"\xFF",
    b"\xC3",
    b"\xEF\xBB\xBF",
    b"-1",
    b"1.5",
    b"\"1\"",
];

/// A text of up to `pieces` pieces and stray bytes, with `delimiter`.
fn text(pieces: usize, delimiter: u8) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..pieces).prop_map(move |tokens| {
        let mut text = Vec::new();
        for token in tokens {
            match PIECES.get(usize::from(token % 80)) {
                Some(piece) => text.extend(piece.iter().map(|&byte| if byte == b',' { delimiter } else { byte })),
                None => text.push(token),
            }
        }
        text
    })
}

/// A format and a text that it may fit.
pub(super) fn format_and_text(pieces: usize) -> impl Strategy<Value = (Format, Vec<u8>)> {
    let position = |user, item, behavior, time| Positions { user, item, behavior, time };
    let positions = prop_oneof![
        4 => Just(position(0, 1, Some(2), 3)),
        2 => Just(position(0, 1, None, 2)),
        1 => Just(position(4, 2, Some(3), 0)),
        1 => Just(position(1, 0, Some(3), 2)),
        1 => Just(position(1, 2, None, 4)),
    ];
    let delimiter = prop_oneof![4 => Just(","), 1 => Just("\t"), 1 => Just(" "), 1 => Just(";")];
    let unit = prop_oneof![Just(TimeUnit::Seconds), Just(TimeUnit::Milliseconds)];
    (positions, delimiter, unit, any::<bool>()).prop_flat_map(move |(positions, delimiter, time_unit, header)| {
        let behaviors = ["pv", "cart", "fav", "buy", "purchase"].map(str::to_owned).to_vec();
        let delimiter = delimiter.parse().expect("a good delimiter");
        let dialect = Dialect { delimiter, time_unit, behaviors };
        let format = Format::new(dialect, positions, header).expect("a good format");
        (Just(format), text(pieces, delimiter.byte()))
    })
}
