//! One text, one call.

use dataflows::event::{Behavior, ItemId, UserId};
use proptest::prelude::*;

use crate::sinks::RejectReason;
use crate::sources::chunk::{ParsedChunk, Row};
use crate::sources::columns::{Columns, Positions};
use crate::sources::csv::{parse, record_at};
use crate::sources::format::{Dialect, Format};

use super::reference::{self, Line};
use super::texts::format_and_text;

/// The lines of a chunk as the reference writes them.
pub(super) fn lines(chunk: &ParsedChunk) -> Vec<Line> {
    let mut lines = vec![Line::Passed; chunk.lines as usize];
    for &Row { line, behavior: Behavior(behavior), user: UserId(user), item: ItemId(item), time } in &chunk.rows {
        lines[line as usize] = Line::Event(user, item, behavior.into(), time);
    }
    for rejected in chunk.rejected() {
        lines[rejected.line as usize] = Line::Rejected(rejected.reason, rejected.record.to_vec());
    }
    lines
}

fn read(format: &Format, text: &[u8]) -> Vec<Line> {
    let mut chunk = ParsedChunk::default();
    parse(format, text, true, &mut chunk);
    let times = chunk.rows.iter().map(|row| row.time);
    assert_eq!(chunk.times, times.clone().min().zip(times.max()));
    assert!(chunk.rows.is_sorted_by_key(|row| row.line) && chunk.rejected().is_sorted_by_key(|line| line.line));
    lines(&chunk)
}

fn events(header: bool) -> Format {
    let Columns::Preset(positions) = Columns::EVENTS else { unreachable!() };
    Format::new(Dialect::default(), positions, header).expect("a preset")
}

proptest! {
    #[test]
    fn every_text_reads_as_the_reference_reads_it((format, text) in format_and_text(60)) {
        prop_assert_eq!(read(&format, &text), reference::read(&format, &text));
    }

    #[test]
    fn a_line_is_found_again_by_its_number((format, text) in format_and_text(60)) {
        let mut chunk = ParsedChunk::default();
        parse(&format, &text, true, &mut chunk);
        for rejected in chunk.rejected() {
            prop_assert_eq!(record_at(&text, true, rejected.line), Some(rejected.record));
        }
        prop_assert_eq!(record_at(&text, true, chunk.lines as u32), None);
    }
}

#[test]
fn reasons_are_checked_in_order() {
    let text = b"1,2\n\xFF,2\nx,y,z,w\n1,y,z,w\n1,2,z,w\n1,2,pv,w\n1,2,pv,253402300800\n1,2,pv,253402300799\n";
    let reasons: Vec<Option<RejectReason>> = read(&events(false), text)
        .into_iter()
        .map(|line| if let Line::Rejected(reason, _) = line { Some(reason) } else { None })
        .collect();
    use RejectReason::{Behavior, Columns, Encoding, Item, Time, User};
    let expected = [Columns, Encoding, User, Item, Behavior, Time, Time].map(Some);
    assert_eq!(reasons, [&expected[..], &[None]].concat());
}

#[test]
fn a_record_of_64_kib_is_read_and_a_longer_one_is_cut() {
    for (further, end, too_long) in
        [(65_527, "\n", false), (65_527, "\r\n", false), (65_527, "", false), (65_528, "\n", true)]
    {
        let record = format!("1,2,pv,3,{}", "x".repeat(further));
        let text = format!("{record}{end}");
        let expected = if too_long {
            Line::Rejected(RejectReason::TooLong, record.as_bytes()[..65_536].to_vec())
        } else {
            Line::Event(1, 2, 0, 3000)
        };
        assert_eq!(read(&events(false), text.as_bytes()), [expected], "{} bytes", record.len());
    }
    let skipped = Positions { user: 1, item: 2, behavior: None, time: 3 };
    let format = Format::new(Dialect::default(), skipped, false).expect("good positions");
    for length in [65_529, 65_530, 65_531, 70_000] {
        let text = format!("{},1,2,3\n", "x".repeat(length));
        assert_eq!(read(&format, text.as_bytes()), reference::read(&format, text.as_bytes()), "{length}");
    }
}

#[test]
fn a_mark_a_header_and_blank_lines_count_as_lines_only() {
    let text = b"\xEF\xBB\xBFuser,item,behavior,time\r\n\r\n \t\r\n1,2,pv,3\r\n\n4,5,buy,6";
    let event = |user, item, behavior, time| Line::Event(user, item, behavior, time);
    let passed = || Line::Passed;
    let expected = [passed(), passed(), passed(), event(1, 2, 0, 3000), passed(), event(4, 5, 3, 6000)];
    assert_eq!(read(&events(true), text), expected);
    assert_eq!(read(&events(true), b"\xEF\xBB\xBF"), []);
    assert_eq!(read(&events(true), b""), []);
    let unmarked = Line::Rejected(RejectReason::User, b"\xEF\xBB\xBF4,5,buy,6".to_vec());
    assert_eq!(read(&events(false), b"1,2,pv,3\n\xEF\xBB\xBF4,5,buy,6"), [event(1, 2, 0, 3000), unmarked]);
}

#[test]
fn a_name_that_ends_with_a_zero_byte_is_another() {
    let text = b"1,2,pv\0,3,.............\n";
    let record = text[..text.len() - 1].to_vec();
    assert_eq!(read(&events(false), text), [Line::Rejected(RejectReason::Behavior, record)]);
}

#[test]
fn a_row_is_utf8_in_the_columns_that_are_not_needed_too() {
    let positions = Positions { user: 1, item: 2, behavior: None, time: 3 };
    let format = Format::new(Dialect::default(), positions, false).expect("good positions");
    let text = b"\xC3\xA9,1,2,3,x\n\xFF,1,2,3,x\nx,1,2,3,\xFF\nx,1,2,3,..................\n";
    let rejected = |record: &[u8]| Line::Rejected(RejectReason::Encoding, record.to_vec());
    let event = || Line::Event(1, 2, 0, 3000);
    assert_eq!(read(&format, text), [event(), rejected(b"\xFF,1,2,3,x"), rejected(b"x,1,2,3,\xFF"), event()]);
}
