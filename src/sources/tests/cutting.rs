//! The same text in chunks: where the cuts are must not show.

use std::convert::Infallible;
use std::io::{Cursor, Read};

use proptest::prelude::*;

use crate::sources::chunk::ParsedChunk;
use crate::sources::columns::{Columns, Positions};
use crate::sources::csv::parse;
use crate::sources::cut::{LINE_BYTES_KEPT, lines_starting_in};
use crate::sources::format::{Dialect, Format};
use crate::sources::inputs::Opened;
use crate::sources::stream::Stream;

use super::dialect::lines;
use super::reference::{self, Line};
use super::texts::format_and_text;

/// By position, chunk after chunk.
fn read_chunks(format: &Format, text: &[u8], chunk_bytes: usize) -> Vec<Line> {
    let (mut buffer, mut chunk, mut all) = (Vec::new(), ParsedChunk::default(), Vec::new());
    for start in (0..text.len()).step_by(chunk_bytes) {
        let span = start as u64..text.len().min(start + chunk_bytes) as u64;
        let read_at = |bytes: &mut [u8], position: u64| {
            bytes.copy_from_slice(&text[position as usize..][..bytes.len()]);
            Ok::<(), Infallible>(())
        };
        let Ok(part) = lines_starting_in(span, text.len() as u64, &mut buffer, read_at);
        let part = &buffer[part];
        assert!(part.len() <= chunk_bytes + LINE_BYTES_KEPT);
        parse(format, part, start == 0, &mut chunk);
        all.extend(lines(&chunk));
    }
    all
}

/// From front to back, through a pipe that gives `trickle` bytes at a time.
fn read_stream(format: &Format, text: &[u8], chunk_bytes: usize, trickle: usize) -> Vec<Line> {
    let reader = Trickle { text: Cursor::new(text.to_vec()), bytes: trickle };
    let opened = Opened::pipe("a pipe".to_owned(), Box::new(reader)).expect("memory is read");
    let mut stream = Stream::start(opened.content.take_text().expect("a pipe"), chunk_bytes).expect("a thread");
    let (mut buffer, mut chunk, mut all, mut first) = (Vec::new(), ParsedChunk::default(), Vec::new(), true);
    while let Some(part) = stream.next_chunk(&mut buffer).expect("memory is read") {
        assert!(part.len() <= 2 * chunk_bytes.max(LINE_BYTES_KEPT) + LINE_BYTES_KEPT);
        parse(format, part, first, &mut chunk);
        all.extend(lines(&chunk));
        first = false;
    }
    assert_eq!(stream.read_bytes(), text.len() as u64);
    assert!(stream.next_chunk(&mut buffer).expect("the end stays the end").is_none());
    all
}

struct Trickle {
    text: Cursor<Vec<u8>>,
    bytes: usize,
}

impl Read for Trickle {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(self.bytes);
        self.text.read(&mut bytes[..count])
    }
}

proptest! {
    #[test]
    fn chunks_by_position_read_as_the_whole((format, text) in format_and_text(60), chunk_bytes in 1_usize..50) {
        prop_assert_eq!(read_chunks(&format, &text, chunk_bytes), reference::read(&format, &text));
    }

    #[test]
    fn chunks_of_a_stream_read_as_the_whole(
        (format, text) in format_and_text(60),
        chunk_bytes in 1_usize..50,
        trickle in 1_usize..50,
    ) {
        prop_assert_eq!(read_stream(&format, &text, chunk_bytes, trickle), reference::read(&format, &text));
    }
}

/// Lines around the longest that is kept, and around each other, with every line end and mark.
fn texts_with_long_lines() -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    for length in [65_534, 65_535, 65_536, 65_537, 65_538, 65_545, 131_072, 200_000] {
        for (mark, end) in
            [("", "\n"), ("\u{FEFF}", "\n"), ("", "\r\n"), ("\u{FEFF}", "\r\n"), ("", ""), ("\u{FEFF}", "\r")]
        {
            let long = format!("1,2,pv,3,{}", "x".repeat(length - 9));
            texts.push(format!("{mark}{long}{end}").into_bytes());
            texts.push(format!("{mark}1,2,pv,3\r\n{long}{end}").into_bytes());
            if !end.is_empty() {
                texts.push(format!("{mark}{long}{end}{long}{end}4,5,fav,6\n{long}\n\n7,8,buy,9").into_bytes());
            }
        }
    }
    texts
}

#[test]
fn long_lines_are_cut_alike_wherever_the_chunks_are() {
    let Columns::Preset(events) = Columns::EVENTS else { unreachable!() };
    let far = Positions { user: 0, item: 1, behavior: Some(2), time: 4 };
    for positions in [events, far] {
        let format = Format::new(Dialect::default(), positions, false).expect("good positions");
        for text in texts_with_long_lines() {
            let expected = reference::read(&format, &text);
            for chunk_bytes in [7_919, 65_536, 70_001, 1 << 20] {
                assert_eq!(read_chunks(&format, &text, chunk_bytes), expected, "{chunk_bytes}");
                assert_eq!(read_stream(&format, &text, chunk_bytes, 50_000), expected, "{chunk_bytes}");
            }
        }
    }
}

#[test]
fn a_long_first_line_is_cut_alike_in_chunks_of_a_byte() {
    let format = Format::new(Dialect::default(), Positions { user: 0, item: 1, behavior: Some(2), time: 3 }, false)
        .expect("good positions");
    for mark in ["", "\u{FEFF}"] {
        for length in [65_536, 65_537] {
            let text = format!("{mark}1,2,pv,3,{}\n1,2,pv,3\n", "x".repeat(length - 9)).into_bytes();
            let mut buffer = Vec::new();
            let read_at = |bytes: &mut [u8], position: u64| {
                bytes.copy_from_slice(&text[position as usize..][..bytes.len()]);
                Ok::<(), Infallible>(())
            };
            let Ok(part) = lines_starting_in(0..1, text.len() as u64, &mut buffer, read_at);
            let mut chunk = ParsedChunk::default();
            parse(&format, &buffer[part], true, &mut chunk);
            assert_eq!(lines(&chunk), reference::read(&format, &text)[..1]);
        }
    }
}
