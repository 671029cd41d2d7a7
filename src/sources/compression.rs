//! How an input is packed, told by its first bytes and never by its name.

use flate2::bufread::GzDecoder;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

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
            Compression::Gzip => Box::new(Members::of(packed)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(packed)?),
        })
    }
}

/// What stands behind a gzip stream is neither another member nor zeros.
#[derive(Debug, thiserror::Error)]
#[error("it goes on with something else")]
pub(super) struct Trailing;

/// The text of all members of a gzip file. As gzip does, it passes over zeros behind a member, by which tapes and block
/// devices fill up.
struct Members<R> {
    /// `None` at the end.
    member: Option<GzDecoder<Packed<R>>>,
}

impl<R: Read> Members<R> {
    fn of(packed: R) -> Members<R> {
        let packed = Packed { held: None, rest: BufReader::with_capacity(PACKED_BYTES, packed) };
        Members { member: Some(GzDecoder::new(packed)) }
    }
}

/// Bytes that are unpacked at a time.
const PACKED_BYTES: usize = 32 << 10;

impl<R: Read> Read for Members<R> {
    fn read(&mut self, text: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let length = member.read(text)?;
            if length > 0 || text.is_empty() {
                return Ok(length);
            }
            // Where that fails, nothing can be read on.
            let packed = self.member.take().map(GzDecoder::into_inner);
            self.member = packed.map_or(Ok(None), Packed::next_member)?.map(GzDecoder::new);
        }
        Ok(0)
    }
}

/// Bytes of a gzip file, of which one that was read can be put back.
struct Packed<R> {
    held: Option<[u8; 1]>,
    rest: BufReader<R>,
}

impl<R: Read> Packed<R> {
    /// Until there are bytes, or there is an end. A signal that interrupts a call must not look like one.
    fn wait(&mut self) -> io::Result<()> {
        loop {
            match self.rest.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                filled => return filled.map(drop),
            }
        }
    }

    /// At the start of the next member, if there is one.
    fn next_member(mut self) -> io::Result<Option<Packed<R>>> {
        loop {
            self.wait()?;
            let bytes = self.rest.fill_buf()?;
            let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            match bytes.get(zeros) {
                None if zeros == 0 => return Ok(None),
                None => self.rest.consume(zeros),
                Some(0x1F) => {
                    self.rest.consume(zeros + 1);
                    self.held = Some([0x1F]);
                    break;
                }
                Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, Trailing)),
            }
        }
        self.wait()?;
        match self.rest.fill_buf()?.first() {
            Some(0x8B) => Ok(Some(self)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, Trailing)),
        }
    }
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(into)?;
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Packed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &self.held {
            Some(held) => Ok(held),
            None => self.rest.fill_buf(),
        }
    }

    fn consume(&mut self, length: usize) {
        match self.held.take_if(|_| length > 0) {
            Some(_) => {}
            None => self.rest.consume(length),
        }
    }
}
