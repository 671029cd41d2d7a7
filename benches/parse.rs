//! Rows a second on one core: the reader of the sources beside the `csv` crate, on the same text in the same run.
//!
//! `cargo bench --bench parse [-- ROWS]` (10 million rows unless told otherwise). CPU time of this thread, median of
//! five rounds, in which the candidates take turns; wall time where the system does not tell CPU time.

#![expect(clippy::print_stdout, reason = "what a benchmark finds is what it prints")]

use std::hint::black_box;
use std::time::Instant;

use eddyline::sources::files::CHUNK_BYTES;
use eddyline::sources::{Columns, Dialect, FileLog, Format, MessageFormat, Options, ParsedChunk, Reading, parse};

const ROUNDS: usize = 5;

fn main() {
    let rows = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(10_000_000);
    let events = generate(rows, ",", "\n", "");
    let crlf = generate(rows / 10, ",", "\r\n", "");
    let tianchi = generate(rows / 10, ",", "\n", ",1,3,2,4711,815,99");
    let blanks = generate(rows / 10, ", ", "\n", "");
    let objects = to_objects(&events[..events.len() / 10], "");
    let nested = to_objects(&events[..events.len() / 10], ",\"context\":{\"page\":[3,\"x\"],\"price\":12.50}");
    let csv_messages = MessageFormat::csv(&Columns::EVENTS, Dialect::default()).expect("a preset");
    let json_messages = MessageFormat::json(&Columns::EVENTS, Dialect::default()).expect("a preset");
    let file = tempfile::NamedTempFile::new().expect("a place for temporary files");
    std::fs::write(file.path(), &events).expect("room for the rows");
    let log = FileLog::open(&[file.path().to_owned()], &Options::default()).expect("the file was just written");
    let mut benches = [
        Bench::new("events", || read_all(&events, Columns::EVENTS)),
        Bench::new("events, from a file in the page cache", || read_file(&log)),
        Bench::new("csv crate, byte records, the same rows", || read_with_csv_crate(&events)),
        Bench::new("CRLF", || read_all(&crlf, Columns::EVENTS)),
        Bench::new("tianchi, six further columns", || read_all(&tianchi, Columns::TIANCHI)),
        Bench::new("a blank before each field (careful reader)", || read_all(&blanks, Columns::EVENTS)),
        Bench::new("messages, CSV", || read_messages(&csv_messages, &events)),
        Bench::new("messages, JSON", || read_messages(&json_messages, &objects)),
        Bench::new("messages, JSON with a nested field (careful reader)", || read_messages(&json_messages, &nested)),
        Bench::new("serde_json into a struct, the same as above but one", || read_with_serde(&objects)),
    ];
    for _ in 0..ROUNDS {
        benches.iter_mut().for_each(Bench::round);
    }
    println!(
        "{rows} rows, {:.1} bytes a row; median of {ROUNDS} rounds (least … most)",
        events.len() as f64 / rows as f64
    );
    benches.iter().for_each(Bench::print);
}

struct Bench<'a> {
    name: &'static str,
    run: Box<dyn Fn() -> u64 + 'a>,
    nanoseconds_a_row: Vec<f64>,
}

impl<'a> Bench<'a> {
    /// `run` reads everything once and gives the number of rows.
    fn new(name: &'static str, run: impl Fn() -> u64 + 'a) -> Bench<'a> {
        Bench { name, run: Box::new(run), nanoseconds_a_row: Vec::new() }
    }

    fn round(&mut self) {
        let started = Clock::now();
        let rows = (self.run)();
        self.nanoseconds_a_row.push(started.elapsed_ns() / rows as f64);
    }

    fn print(&self) {
        let mut sorted = self.nanoseconds_a_row.clone();
        sorted.sort_by(f64::total_cmp);
        let (least, median, most) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
        let name = self.name;
        println!("{:6.2} M rows/s  {median:6.1} ns/row ({least:.1} … {most:.1})  {name}", 1e3 / median);
    }
}

/// CPU time of this thread where the system tells it, else wall time.
struct Clock {
    wall: Instant,
    cpu_ns: Option<u64>,
}

impl Clock {
    fn now() -> Clock {
        Clock { wall: Instant::now(), cpu_ns: thread_cpu_ns() }
    }

    fn elapsed_ns(&self) -> f64 {
        match (self.cpu_ns, thread_cpu_ns()) {
            (Some(before), Some(after)) => (after - before) as f64,
            _ => self.wall.elapsed().as_nanos() as f64,
        }
    }
}

fn thread_cpu_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

fn read_all(text: &[u8], columns: Columns) -> u64 {
    let Columns::Preset(positions) = columns else { unreachable!("only presets are measured") };
    let format = Format::new(Dialect::default(), positions, false).expect("a preset");
    let mut chunk = ParsedChunk::default();
    let (mut rows, mut start) = (0, 0);
    while start < text.len() {
        let end = text.len().min(start + CHUNK_BYTES);
        let end = memchr::memchr(b'\n', &text[end - 1..]).map_or(text.len(), |more| end + more);
        parse(&format, &text[start..end], start == 0, &mut chunk);
        rows += count(&mut chunk);
        start = end;
    }
    rows
}

fn read_file(log: &FileLog) -> u64 {
    let Reading::Chunks(chunks) = log.reading(0) else { unreachable!("a plain file") };
    let (mut buffer, mut chunk) = (Vec::new(), ParsedChunk::default());
    let mut rows = 0;
    for number in 0..chunks {
        let text = log.read_chunk(0, number, &mut buffer).expect("the file is there");
        parse(log.partitions()[0].format(), &buffer[text], number == 0, &mut chunk);
        rows += count(&mut chunk);
    }
    rows
}

fn count(chunk: &mut ParsedChunk) -> u64 {
    assert_eq!(chunk.rejected().len(), 0, "the generated rows are all good");
    black_box(chunk).rows.len() as u64
}

/// Takes each line for a message; to find them is measured, too.
fn read_messages(format: &MessageFormat, text: &[u8]) -> u64 {
    let (mut rows, mut start) = (0, 0);
    for end in memchr::memchr_iter(b'\n', text) {
        rows += u64::from(black_box(format.read_at(text, start..end)).is_ok_and(|row| row.is_some()));
        start = end + 1;
    }
    rows
}

fn read_with_serde(text: &[u8]) -> u64 {
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        user: u64,
        item: u64,
        behavior: &'a str,
        time: u64,
    }
    let names = ["pv", "cart", "fav", "buy"];
    let mut rows = 0;
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let Message { user, item, behavior, time } = serde_json::from_slice(line).expect("the generated rows are good");
        black_box((user, item, names.iter().position(|name| *name == behavior), time * 1000));
        rows += 1;
    }
    rows
}

/// The rows as JSON objects with `further` members.
fn to_objects(text: &[u8], further: &str) -> Vec<u8> {
    use std::io::Write;
    let mut objects = Vec::new();
    for line in std::str::from_utf8(text).expect("ASCII").lines() {
        if let [user, item, behavior, time] = line.split(',').collect::<Vec<_>>()[..] {
            let fields = format_args!("\"user\":{user},\"item\":{item},\"behavior\":\"{behavior}\",\"time\":{time}");
            writeln!(objects, "{{{fields}{further}}}").expect("memory takes it");
        }
    }
    objects
}

fn read_with_csv_crate(text: &[u8]) -> u64 {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).quoting(false).from_reader(text);
    let mut record = csv::ByteRecord::new();
    let number =
        |field: &[u8]| -> u64 { field.iter().fold(0, |value, byte| value * 10 + u64::from(byte.wrapping_sub(b'0'))) };
    let mut rows = 0;
    let names: [&[u8]; 4] = [b"pv", b"cart", b"fav", b"buy"];
    while reader.read_byte_record(&mut record).expect("the generated rows are all good") {
        let behavior = names.iter().position(|name| *name == &record[2]);
        black_box((number(&record[0]), number(&record[1]), behavior, number(&record[3]) * 1000));
        rows += 1;
    }
    rows
}

/// Rows of 500,000 users and 200,000 items over 48 hours, 89 % of them page views.
fn generate(rows: usize, delimiter: &str, line_end: &str, further: &str) -> Vec<u8> {
    use std::io::Write;
    let mut text = Vec::with_capacity(rows * (28 + 3 * delimiter.len() + further.len()));
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for row in 0..rows {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let user = state % 500_000;
        let item = (state >> 20) % 200_000;
        let behavior = match (state >> 40) % 100 {
            0..89 => "pv",
            89..95 => "cart",
            95..98 => "fav",
            _ => "buy",
        };
        let time = 1_511_544_070 + row * 172_800 / rows;
        write!(text, "{user}{delimiter}{item}{delimiter}{behavior}{delimiter}{time}{further}{line_end}")
            .expect("memory takes it");
    }
    text
}
