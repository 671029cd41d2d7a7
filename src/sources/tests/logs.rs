//! Logs in real files: plain, packed, broken.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use crate::sources::chunk::ParsedChunk;
use crate::sources::columns::Header;
use crate::sources::csv::parse;
use crate::sources::cut::LINE_BYTES_KEPT;
use crate::sources::error::SourceError;
use crate::sources::files::{FileLog, Options, Reading};

use super::dialect::lines;
use super::reference::{self, Line};

const TEXT: &[u8] = b"user,item,behavior,time\n1,2,pv,3\n4,5,buy,6\r\n\nx,1,pv,3\n7,8,cart,9";

/// A directory, and files in it that go with it.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a directory for temporary files"))
    }

    fn with(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("the directory is writable");
        path
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text).and_then(|()| packer.finish()).expect("memory takes it")
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).expect("memory takes it")
}

/// Lines that do not compress to nothing.
fn long_text(rows: u64) -> Vec<u8> {
    let row = |row: u64| format!("{},{},pv,{}\n", row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44, row % 977, row);
    (0..rows).flat_map(|at| row(at).into_bytes()).collect()
}

fn small_chunks(chunk_bytes: usize) -> Options {
    Options { chunk_bytes, ..Options::default() }
}

fn read(log: &FileLog, at: usize) -> Result<Vec<Line>, SourceError> {
    let format = log.partitions()[at].format();
    let (mut buffer, mut chunk, mut all) = (Vec::new(), ParsedChunk::default(), Vec::new());
    match log.reading(at) {
        Reading::Chunks(count) => {
            for number in 0..count {
                let text = log.read_chunk(at, number, &mut buffer)?;
                parse(format, &buffer[text], number == 0, &mut chunk);
                all.extend(lines(&chunk));
            }
        }
        Reading::Stream => {
            let mut stream = log.stream(at)?;
            let mut first = true;
            while let Some(text) = stream.next_chunk(&mut buffer)? {
                parse(format, text, first, &mut chunk);
                all.extend(lines(&chunk));
                first = false;
            }
        }
    }
    Ok(all)
}

/// What opening and reading everything ends in.
fn failure(inputs: &[PathBuf], options: &Options) -> String {
    let read_all = |log: FileLog| (0..log.partitions().len()).try_for_each(|at| read(&log, at).map(|_| ()));
    let error = FileLog::open(inputs, options).and_then(read_all).expect_err("this cannot be read");
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn plain_and_packed_files_are_the_same_log() {
    let files = Files::new();
    let halves = TEXT.split_at(20);
    let packed = [
        files.with("plain", TEXT),
        files.with("plain.gz", &gzip(TEXT)),
        files.with("members", &[gzip(halves.0), gzip(halves.1)].concat()),
        files.with("plain.csv", &zstd(TEXT)),
        files.with("frames", &[b"\x50\x2A\x4D\x18\x01\x00\x00\x00!", &zstd(halves.0)[..], &zstd(halves.1)].concat()),
    ];
    let mut ids = Vec::new();
    for path in packed {
        let log = FileLog::open(std::slice::from_ref(&path), &small_chunks(7)).expect("good files");
        let format = log.partitions()[0].format();
        assert!(format.header());
        assert_eq!(read(&log, 0).expect("good files"), reference::read(format, TEXT), "{path:?}");
        assert_eq!(log.partitions()[0].size_bytes(), Some(fs::metadata(path).expect("it is there").len()));
        ids.push(log.id());
    }
    assert!(ids.iter().all(|&id| id == ids[0] && id < 1 << 63), "{ids:?}");
}

#[test]
fn long_files_read_alike_in_any_chunks() {
    let files = Files::new();
    let text = long_text(30_000);
    let inputs = [files.with("a", &text), files.with("b", &gzip(&text)), files.with("c", &zstd(&text))];
    for chunk_bytes in [1_000, 65_536, 10 << 20] {
        let log = FileLog::open(&inputs, &small_chunks(chunk_bytes)).expect("good files");
        let expected = reference::read(log.partitions()[0].format(), &text);
        for at in 0..inputs.len() {
            assert_eq!(read(&log, at).expect("good files"), expected, "{chunk_bytes}");
        }
    }
}

#[test]
fn an_empty_file_is_a_partition_that_ends_at_once() {
    let files = Files::new();
    let inputs = [files.with("empty", b""), files.with("empty.gz", &gzip(b"")), files.with("empty.zst", &zstd(b""))];
    for columns in ["events", "user=u,item=i,time=t"] {
        let options = Options { columns: columns.parse().expect("good columns"), ..Options::default() };
        let log = FileLog::open(&inputs, &options).expect("empty files are legal");
        assert_eq!(log.reading(0), Reading::Chunks(0));
        for at in 0..inputs.len() {
            assert_eq!(read(&log, at).expect("empty files are legal"), []);
            assert_eq!(log.diagnose(at).expect("empty files are legal"), []);
        }
    }
}

#[test]
fn each_file_has_its_own_header_and_order() {
    let files = Files::new();
    let inputs = [files.with("a", b"time,item,user\n3,2,1\n"), files.with("b", b"1,2,3\n")];
    let options = Options { columns: "user,item,time".parse().expect("good columns"), ..Options::default() };
    let log = FileLog::open(&inputs, &options).expect("good files");
    let event = Line::Event(1, 2, 0, 3000);
    assert_eq!(read(&log, 0).expect("good files"), [Line::Passed, event.clone()]);
    assert_eq!(read(&log, 1).expect("good files"), [event]);
}

#[test]
fn the_id_is_that_of_the_heads_in_order_or_of_the_name() {
    let files = Files::new();
    let head = long_text(10_000);
    let (a, b) = (files.with("a", &head), files.with("b", &[&head[..], b"1,2,pv,3\n"].concat()));
    let (ab, c) = (files.with("ab", b"1,2,pv,34,5,pv,6"), files.with("c", b"1,2,pv,3"));
    let d = files.with("d", b"4,5,pv,6");
    let id = |inputs: &[&PathBuf], log_name: Option<&str>| {
        let inputs: Vec<PathBuf> = inputs.iter().map(|&path| path.clone()).collect();
        let options = Options { log_name: log_name.map(str::to_owned), ..Options::default() };
        FileLog::open(&inputs, &options).expect("good files").id()
    };
    assert!(head.len() > 65_536 + 16);
    assert_eq!(id(&[&a], None), id(&[&b], None), "the same 64 KiB");
    assert_ne!(id(&[&c, &d], None), id(&[&d, &c], None));
    assert_ne!(id(&[&c, &d], None), id(&[&ab], None));
    assert_eq!(id(&[&c], Some("x")), id(&[&d], Some("x")));
    assert_ne!(id(&[&c], Some("x")), id(&[&c], Some("y")));
    // Ids are stored: that this one changes would make every store another log's.
    assert_eq!((id(&[&c], None), id(&[&c], Some("x"))), (STORED_IDS.0, STORED_IDS.1));

    let log = FileLog::open(&[a, b], &Options::default()).expect("good files");
    let identity = |at| log.content_identity(at).expect("good files").expect("a regular file");
    assert_eq!(identity(0).hash, *blake3::hash(&head).as_bytes());
    assert_eq!(identity(0).size_bytes, head.len() as u64);
    assert_ne!(identity(0), identity(1));
}

const STORED_IDS: (u64, u64) = (8_371_573_417_042_211_927, 3_250_529_068_323_292_377);

#[test]
fn what_cannot_be_opened_is_said_in_one_line() {
    let files = Files::new();
    let directory = files.0.path().to_owned();
    let missing = directory.join("missing.csv");
    let good = files.with("good", TEXT);
    let xz = files.with("log.xz", b"\xFD7zXZ\x00\x00\x04");
    let named =
        Options { columns: "user=visitor,item=item,time=time".parse().expect("good columns"), ..Options::default() };
    let no_header = Options { header: Header::Absent, ..named.clone() };
    let dashes = vec![PathBuf::from("-"); 2];
    let of = |path: &PathBuf, options: &Options| {
        failure(std::slice::from_ref(path), options).replace(&directory.display().to_string(), "DIR")
    };
    let plain = Options::default();
    assert_eq!(failure(&[], &plain), "no input: name at least one file, or - for standard input");
    assert_eq!(of(&missing, &plain), "DIR/missing.csv: no such file; check the path");
    assert_eq!(of(&directory, &plain), "DIR is a directory; name the files in it instead");
    assert_eq!(
        of(&xz, &plain),
        "DIR/log.xz looks like xz, which is not read; unpack it first, or pack it with gzip or zstd"
    );
    assert_eq!(
        of(&good, &named),
        "DIR/good: row 0 has no column `visitor`, which source.columns wants as user; it has: user, item, behavior, time"
    );
    assert_eq!(
        of(&good, &no_header),
        "DIR/good: source.columns looks names up in a header, but source.header is false; list the columns in their order instead"
    );
    assert_eq!(
        failure(&dashes, &plain),
        "standard input can be read only once; name it once, or save it to a file first"
    );
    assert_eq!(
        failure(&vec![good; 65_537], &plain),
        "65537 files are too many: a log has at most 65536 partitions; concatenate some of them"
    );
    let denied = SourceError::io("log.csv", std::io::ErrorKind::PermissionDenied.into()).to_string();
    assert_eq!(denied, "log.csv: no permission to read it; change its mode or run as a user who may");
}

#[test]
fn a_packed_file_that_breaks_off_is_truncated_wherever_it_does() {
    let files = Files::new();
    let text = long_text(40_000);
    for (name, packed) in [("gzip", gzip(&text)), ("zstd", zstd(&text))] {
        assert!(packed.len() > 100_000, "{}", packed.len());
        for kept in [6, 100, packed.len() / 2, packed.len() - 1] {
            let path = files.with("log", &packed[..kept]);
            let message = failure(&[path], &small_chunks(10_000));
            assert!(message.contains(&format!("log is truncated: its {name} stream breaks off after ")), "{message}");
        }
    }
}

#[test]
fn a_packed_file_with_wrong_bytes_is_corrupt() {
    let files = Files::new();
    let text = long_text(40_000);
    for (name, mut packed) in [("gzip", gzip(&text)), ("zstd", zstd(&text))] {
        let middle = packed.len() / 2;
        packed[middle..middle + 64].fill(0xFF);
        let message = failure(&[files.with("log", &packed)], &small_chunks(10_000));
        assert!(message.contains(&format!("log is corrupt: its {name} stream cannot be unpacked after ")), "{message}");
    }
}

/// As gzip has it: zeros are padding, also between members, and anything else is no part of the file.
#[test]
fn what_follows_a_gzip_member_is_a_member_or_zeros_or_an_error() {
    let files = Files::new();
    let (text, zeros) = (long_text(5_000), vec![0; 40_000]);
    let (first, second) = text.split_at(text.len() / 2);
    let members = [gzip(first), gzip(second)];
    for padding in [&zeros[..0], &zeros[..1], &zeros[..511], &zeros] {
        let packed = [&members[0], padding, &members[1], padding].concat();
        let log = FileLog::open(&[files.with("log", &packed)], &small_chunks(10_000)).expect("a good file");
        let format = log.partitions()[0].format().clone();
        assert_eq!(read(&log, 0).expect("padding is no fault"), reference::read(&format, &text));
    }
    for garbage in [&b"\x1F"[..], b"\x1Fx", b"1,2,pv,3\n", b"\0\0x", &zstd(b"1,2,pv,3\n")] {
        let packed = [&gzip(&text), garbage].concat();
        let message = failure(&[files.with("log", &packed)], &small_chunks(10_000));
        let told = format!(
            "log: something that is not gzip follows its gzip stream, after {} bytes of text; cut it off, or pack the text \
             again",
            text.len()
        );
        assert!(message.ends_with(&told), "{message}");
    }
    // A member that is there in part is one all the same.
    let packed = [&members[0][..], &members[1][..4]].concat();
    let message = failure(&[files.with("log", &packed)], &small_chunks(10_000));
    assert!(message.contains("log is truncated: its gzip stream breaks off after "), "{message}");
}

#[test]
fn a_file_that_shrinks_or_grows_while_it_is_read() {
    let files = Files::new();
    let path = files.with("log", TEXT);
    let log = FileLog::open(std::slice::from_ref(&path), &small_chunks(30)).expect("a good file");
    files.with("log", &[TEXT, b"9\n1,2,pv,3\n"].concat());
    assert_eq!(read(&log, 0).expect("more is no harm"), reference::read(log.partitions()[0].format(), TEXT));
    files.with("log", &TEXT[..40]);
    let message = read(&log, 0).expect_err("bytes are gone").to_string();
    assert!(message.contains("log shrank while it was read: 64 bytes when opened, now only 40;"), "{message}");
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let files = Files::new();
    let path = files.with("log", b"1,2,pv,3\n");
    let file = fs::OpenOptions::new().write(true).open(&path).expect("it is there");
    file.set_len(64 << 20).expect("zeros take no disk");
    let log = FileLog::open(&[path], &Options::default()).expect("a good file");
    let (mut buffer, mut chunk) = (Vec::new(), ParsedChunk::default());
    let Reading::Chunks(count) = log.reading(0) else { panic!("a plain file") };
    let mut all = 0;
    for number in 0..count {
        let text = log.read_chunk(0, number, &mut buffer).expect("a good file");
        parse(log.partitions()[0].format(), &buffer[text], number == 0, &mut chunk);
        all += chunk.lines;
        assert!(buffer.capacity() <= 2 * ((256 << 10) + LINE_BYTES_KEPT));
    }
    assert_eq!(all, 2);
    let mut stream = log.stream(0).expect("a good file");
    let mut all = 0;
    while let Some(text) = stream.next_chunk(&mut buffer).expect("a good file") {
        all += memchr::memchr_iter(b'\n', text).count();
        assert!(buffer.capacity() <= 4 * (256 << 10));
    }
    assert_eq!(all, 2);
}

#[test]
fn more_plain_files_than_stay_open_are_read_alike() {
    let files = Files::new();
    let inputs = vec![files.with("log", TEXT); 600];
    let log = FileLog::open(&inputs, &Options::default()).expect("good files");
    let expected = reference::read(log.partitions()[0].format(), TEXT);
    assert!((0..600).all(|at| read(&log, at).expect("good files") == expected));
}

#[test]
fn a_file_that_grows_ends_where_it_did_when_it_was_opened() {
    let files = Files::new();
    let more = b"\n1,2,pv,3\n";
    for (name, start, end) in
        [("plain", TEXT.to_vec(), more.to_vec()), ("gz", gzip(TEXT), gzip(more)), ("zst", zstd(TEXT), zstd(more))]
    {
        let path = files.with(name, &start);
        let log = FileLog::open(std::slice::from_ref(&path), &small_chunks(30)).expect("a good file");
        let expected = reference::read(log.partitions()[0].format(), TEXT);
        files.with(name, &[start.clone(), end].concat());
        assert_eq!(read(&log, 0).expect("more is no harm"), expected, "{name}");
        let identity = log.content_identity(0).expect("more is no harm").expect("a regular file");
        assert_eq!((identity.size_bytes, identity.hash), (start.len() as u64, *blake3::hash(&start).as_bytes()));
        files.with(name, &start[..20]);
        let message = log.content_identity(0).expect_err("bytes are gone").to_string();
        assert!(message.contains("shrank while it was read") && message.contains("now only 20;"), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn pipes_of_another_process_are_not_touched() {
    let options = Options {
        reads_pipes: false,
        columns: "user=u,item=i,time=t".parse().expect("good columns"),
        ..Options::default()
    };
    let log = FileLog::open(&[PathBuf::from("-"), PathBuf::from("/dev/null")], &options).expect("nothing is read");
    for at in 0..2 {
        assert_eq!((log.reading(at), log.partitions()[at].size_bytes()), (Reading::Stream, None));
        assert_eq!(log.content_identity(at).expect("nothing is read"), None);
        assert_eq!(log.diagnose(at).expect("nothing is read"), []);
        assert!(log.stream(at).is_err());
    }
}
