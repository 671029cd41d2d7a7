//! How an input is packed, told by its first bytes and never by its name.

use std::fmt;
use std::io::{self, Read};

/// How an input is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// It is not.
    None,
    /// gzip, of one or several members.
    Gzip,
    /// Zstandard, of one or several frames.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "plain",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}

/// As many of the first bytes as [`Compression::detect`] looks at.
pub(super) const MAGIC_BYTES: usize = 16;

/// First bytes of what people mistake for a CSV file, each long enough that no first line of one is refused.
const UNSUPPORTED: [(&[u8], &str); 6] = [
    (b"\xFD7zXZ\x00", "xz"),
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive"),
    (b"\x04\x22\x4D\x18", "lz4"),
    (b"PAR1\x15", "a Parquet file"),
    (b"SQLite format 3\0", "a SQLite database"),
];

impl Compression {
    /// How an input that starts with `magic` is packed.
    ///
    /// # Errors
    /// The name of a container that is not read.
    pub(super) fn detect(magic: &[u8]) -> Result<Compression, &'static str> {
        if magic.starts_with(b"\x1F\x8B") {
            return Ok(Compression::Gzip);
        }
        // A zstd stream may start with a frame to be skipped, as pzstd's do.
        let skippable = matches!(magic, [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..]);
        if magic.starts_with(b"\x28\xB5\x2F\xFD") || skippable {
            return Ok(Compression::Zstd);
        }
        if magic.starts_with(b"BZh") && magic[3..].get(1..7) == Some(b"1AY&SY") {
            return Err("bzip2");
        }
        match UNSUPPORTED.iter().find(|(start, _)| magic.starts_with(start)) {
            Some((_, kind)) => Err(kind),
            None => Ok(Compression::None),
        }
    }

    /// The text of `packed`.
    pub(super) fn unpack<'a>(self, packed: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Compression::None => Box::new(packed),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(packed)?),
        })
    }
}
