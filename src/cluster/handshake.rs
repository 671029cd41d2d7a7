//! What two processes say to each other before they work together: frames of a magic word, a protocol version, a length
//! and a JSON message.
//!
//! The process with the higher index dials and says [`Message::Hello`]; the other answers with its own, and both compare
//! ([`Hello::disagreement`]) with the same result. Then each says [`Message::Ready`] once it has met all others, or
//! [`Message::Refuse`] with the reason why it won't go on. Bytes come from anyone who can reach the port: lengths are
//! capped, time is limited, and nothing is read past a frame, because the next bytes may be timely's.

use super::{Agreement, Cluster, ClusterError};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// No HTTP method, TLS record or SSH banner begins like this.
const MAGIC: [u8; 8] = *b"EDDYLINE";
/// Version of the frames and messages.
const PROTOCOL: u32 = 2;
const HEADER_LEN: usize = MAGIC.len() + 4 + 4;
/// Largest message: room for some five hundred named digests.
const MESSAGE_MAX: usize = 64 << 10;
/// Of a digest, what is printed.
const DIGEST_SHOWN: usize = 24;
/// Of another process's own words, what is printed.
const REASON_SHOWN: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// The first word of either side.
    Hello(Hello),
    /// All others were met; work begins when every process has said so.
    Ready,
    /// No further, and why.
    Refuse(String),
}

/// Who speaks, and what it was started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The speaker's index.
    pub(super) index: usize,
    /// The index of the process that it believes to be speaking to.
    pub(super) to: usize,
    /// Number of processes it was started with.
    pub(super) processes: usize,
    /// Workers in each.
    pub(super) workers: usize,
    /// The program's version.
    pub(super) version: String,
    /// Named digests.
    pub(super) parts: Vec<(String, String)>,
    /// What it wishes of all; only process 0's count.
    pub(super) wishes: Vec<String>,
}

/// Why a message could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The other side closed, or the network failed, or the time was up.
    Io(io::Error),
    /// Not one of ours: what it is instead.
    Stranger(&'static str),
    /// One of ours, of another protocol version.
    Version,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Io(error)
    }
}

impl ReadError {
    /// In plain words, for "did not answer (…)".
    pub(super) fn text(&self) -> String {
        match self {
            ReadError::Io(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                "it accepts connections but says nothing".to_owned()
            }
            ReadError::Io(error) if error.kind() == ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
            ReadError::Io(error) => error.to_string(),
            ReadError::Stranger(what) => format!("what listens there is not eddyline: {what}"),
            ReadError::Version => "it runs another version of eddyline".to_owned(),
        }
    }
}

impl Hello {
    pub(super) fn new(cluster: &Cluster, agreement: &Agreement, to: usize) -> Hello {
        Hello {
            index: cluster.index,
            to,
            processes: cluster.processes,
            workers: cluster.workers,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            parts: agreement.parts.clone(),
            wishes: agreement.wishes.clone(),
        }
    }

    /// What the two were started with differently, in the same words on both sides.
    pub(super) fn disagreement(&self, other: &Hello) -> Option<ClusterError> {
        let (a, b) = if self.index <= other.index { (self, other) } else { (other, self) };
        let mut what = Vec::new();
        let mut compare = |name: &str, a: &dyn std::fmt::Display, b: &dyn std::fmt::Display| {
            let (a, b) = (a.to_string(), b.to_string());
            if a != b {
                what.push(format!("{name} ({} and {})", shown(&a, DIGEST_SHOWN), shown(&b, DIGEST_SHOWN)));
            }
        };
        compare("the program's version", &a.version, &b.version);
        compare("the number of processes (-n)", &a.processes, &b.processes);
        compare("the number of workers (-w)", &a.workers, &b.workers);
        for name in part_names(a, b) {
            compare(&format!("the {}", shown(name, 200)), &a.part(name), &b.part(name));
        }
        if what.is_empty() && a.parts != b.parts {
            what.push("the order of their inputs".to_owned());
        }
        let what = what.join(", ");
        (!what.is_empty()).then_some(ClusterError::Disagreement { first: a.index, second: b.index, what })
    }

    fn part(&self, name: &str) -> &str {
        self.parts.iter().find(|(part, _)| part == name).map_or("none", |(_, digest)| digest)
    }
}

/// Names of the parts of either, those of `a` first.
fn part_names<'a>(a: &'a Hello, b: &'a Hello) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in a.parts.iter().chain(&b.parts) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

/// `text`, from another process and therefore not trusted: without control characters, cut.
pub(super) fn shown(text: &str, chars_max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

pub(super) fn write_message(stream: &mut impl Write, message: &Message) -> io::Result<()> {
    let json = serde_json::to_vec(message).map_err(io::Error::other)?;
    if json.len() > MESSAGE_MAX {
        return Err(io::Error::new(ErrorKind::InvalidInput, "too many inputs to compare between processes"));
    }
    let mut frame = Vec::with_capacity(HEADER_LEN + json.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&PROTOCOL.to_le_bytes());
    frame.extend_from_slice(&(json.len() as u32).to_le_bytes());
    frame.extend_from_slice(&json);
    stream.write_all(&frame)
}

/// Reads one message and not a byte more.
fn read_message(stream: &mut impl Read) -> Result<Message, ReadError> {
    // Word by word: a stranger's first bytes are enough to know it, and it may never send as many as a header.
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(ReadError::Stranger("it does not greet as eddyline does"));
    }
    let [protocol, length] = [read_u32(stream)?, read_u32(stream)?];
    if protocol != PROTOCOL {
        return Err(ReadError::Version);
    }
    if length as usize > MESSAGE_MAX {
        return Err(ReadError::Stranger("its message is too long"));
    }
    let mut json = vec![0; length as usize];
    stream.read_exact(&mut json)?;
    let message = serde_json::from_slice(&json).map_err(|_| ReadError::Stranger("its message makes no sense"))?;
    Ok(match message {
        Message::Refuse(reason) => Message::Refuse(shown(&reason, REASON_SHOWN)),
        message => message,
    })
}

fn read_u32(stream: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Reads one message from `stream` within `limit`, however slowly its bytes drip. Changes the stream's read timeout.
pub(super) fn read_message_within(stream: &TcpStream, limit: Duration) -> Result<Message, ReadError> {
    read_message(&mut Within { stream, deadline: Instant::now() + limit })
}

/// A stream that reads until a deadline for all of its reads together.
struct Within<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl Read for Within<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> Hello {
        let parts = vec![("configuration".to_owned(), "ab".to_owned()), ("input a.csv".to_owned(), "cd".to_owned())];
        Hello { index: 0, to: 1, processes: 2, workers: 4, version: "0.1.0".to_owned(), parts, wishes: Vec::new() }
    }

    fn disagreement(change: impl FnOnce(&mut Hello)) -> Option<String> {
        let mut other = Hello { index: 1, to: 0, ..hello() };
        change(&mut other);
        let [here, there] = [hello().disagreement(&other), other.disagreement(&hello())];
        let [here, there] = [here, there].map(|error| error.map(|error| error.to_string()));
        assert_eq!(here, there, "both sides say the same");
        here.map(|text| {
            let text = text.strip_prefix("processes 0 and 1 disagree on ").expect("prefix");
            text.strip_suffix("; start all with the same flags and files").expect("suffix").to_owned()
        })
    }

    #[test]
    fn like_processes_agree() {
        assert_eq!(disagreement(|_| ()), None);
    }

    #[test]
    fn differences_are_named_with_both_values() {
        let told = |change: fn(&mut Hello)| disagreement(change).expect("they differ");
        assert_eq!(told(|other| other.version = "0.2.0".into()), "the program's version (0.1.0 and 0.2.0)");
        assert_eq!(told(|other| other.processes = 3), "the number of processes (-n) (2 and 3)");
        assert_eq!(told(|other| other.workers = 1), "the number of workers (-w) (4 and 1)");
        assert_eq!(told(|other| other.parts[0].1 = "ba".into()), "the configuration (ab and ba)");
        assert_eq!(told(|other| drop(other.parts.pop())), "the input a.csv (cd and none)");
        assert_eq!(
            told(|other| other.parts[1].0 = "input b.csv\u{1b}[2J".into()),
            "the input a.csv (cd and none), the input b.csv[2J (none and cd)"
        );
        assert_eq!(told(|other| other.parts.reverse()), "the order of their inputs");
    }

    #[test]
    fn long_digests_are_cut_but_compared_in_full() {
        let digest = |last: char| format!("{}{last}", "0".repeat(63));
        let mut here = hello();
        let mut there = Hello { index: 1, ..hello() };
        here.parts[0].1 = digest('1');
        assert!(here.disagreement(&Hello { index: 1, ..here.clone() }).is_none());
        there.parts[0].1 = digest('2');
        assert!(here.disagreement(&there).is_some());
    }

    #[test]
    fn messages_come_back_and_nothing_more_is_read() {
        for message in [Message::Hello(hello()), Message::Ready, Message::Refuse("because".into())] {
            let mut bytes = Vec::new();
            write_message(&mut bytes, &message).unwrap();
            bytes.extend_from_slice(b"timely's");
            let mut reader = bytes.as_slice();
            assert_eq!(read_message(&mut reader).unwrap(), message);
            assert_eq!(reader, b"timely's");
        }
    }

    #[test]
    fn strangers_are_known_by_their_first_words() {
        let read = |bytes: &[u8]| read_message(&mut &bytes[..]).unwrap_err().text();
        assert_eq!(
            read(b"GET / HTTP/1.1\r\n"),
            "what listens there is not eddyline: it does not greet as eddyline does"
        );
        assert_eq!(read(b"EDDYLINE\x03\0\0\0\0\0\0\0"), "it runs another version of eddyline");
        assert_eq!(
            read(b"EDDYLINE\x02\0\0\0\xff\xff\xff\xff"),
            "what listens there is not eddyline: its message is too long"
        );
        assert_eq!(
            read(b"EDDYLINE\x02\0\0\0\x02\0\0\0{}"),
            "what listens there is not eddyline: its message makes no sense"
        );
        assert_eq!(read(b"EDDY"), "it closed the connection");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), ours in any::<bool>()) {
            if ours {
                let length = (bytes.len() as u32).to_le_bytes();
                bytes.splice(0..0, [&MAGIC[..], &PROTOCOL.to_le_bytes(), &length].concat());
            }
            let _ = read_message(&mut bytes.as_slice());
        }
    }
}
