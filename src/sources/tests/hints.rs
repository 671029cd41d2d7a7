//! What people are told about settings that do not fit.

use crate::sinks::RejectReason;
use crate::sources::columns::Header;
use crate::sources::csv::read_record;
use crate::sources::diagnose::{Hint, explain, hints, unit_warning};
use crate::sources::files::Options;
use crate::sources::format::{Dialect, Format, TimeUnit};
use crate::sources::inputs::Opened;

fn format(columns: &str, dialect: Dialect, header: Header, text: &[u8]) -> Format {
    let options = Options { columns: columns.parse().expect("good columns"), header, dialect, ..Options::default() };
    let opened = Opened::pipe("log.csv".to_owned(), Box::new(std::io::Cursor::new(text.to_vec())));
    opened.and_then(|opened| opened.format(&options)).expect("good settings")
}

fn said(columns: &str, unit: TimeUnit, header: Header, text: &[u8]) -> Vec<String> {
    let dialect = Dialect { time_unit: unit, ..Dialect::default() };
    hints(&format(columns, dialect, header, text), text).iter().map(Hint::to_string).collect()
}

#[test]
fn settings_that_do_not_fit_are_told() {
    use Header::{Absent, Auto, Present};
    use TimeUnit::{Milliseconds, Seconds};
    let cases: [(&str, TimeUnit, Header, &str, &str); 19] = [
        ("events", Seconds, Auto, "1,2,pv,1511544070\n", ""),
        ("events", Seconds, Auto, "user,item,behavior,time\n1,2,pv,1511544070\n", ""),
        (
            "events",
            Seconds,
            Auto,
            "1;2;pv;1511544070\n3;4;buy;1511544071\n",
            "the delimiter seems to be `;` (source.delimiter = \";\")",
        ),
        (
            "events",
            Seconds,
            Auto,
            "1\t2\tpv\t1511544070\n",
            "the delimiter seems to be `\\t` (source.delimiter = \"\\t\")",
        ),
        (
            "events",
            Seconds,
            Absent,
            "u,i,b,t\n1,2,pv,1511544070\n2,2,pv,1511544070\n",
            "row 0 looks like a header (source.header = \"auto\" or \"true\")",
        ),
        (
            "events",
            Seconds,
            Present,
            "1,2,pv,1511544070\n",
            "row 0 is passed over as a header but looks like an event (source.header = \"auto\" or \"false\")",
        ),
        (
            "events",
            Seconds,
            Auto,
            "item,user,behavior,time\n1,2,pv,1511544070\n",
            "the header calls column 0 `item`, but it is read as user; list the columns in their order (source.columns)",
        ),
        ("events", Seconds, Auto, "1,2,pv,1511544070123\n", "times look like milliseconds (source.time_unit = \"ms\")"),
        ("events", Milliseconds, Auto, "1,2,pv,1511544070\n", "times look like seconds (source.time_unit = \"s\")"),
        ("events", Milliseconds, Auto, "1,2,pv,1511544070123\n", ""),
        (
            "events",
            Milliseconds,
            Auto,
            "1,2,pv,1511544070123456\n",
            "times look like microseconds or nanoseconds; write them in ms (source.time_unit = \"ms\")",
        ),
        (
            "events",
            Seconds,
            Auto,
            "1,2,pv,99999999999999999999\n",
            "times look like microseconds or nanoseconds; write them in ms (source.time_unit = \"ms\")",
        ),
        (
            "events",
            Seconds,
            Auto,
            "1,2,pv,2017-11-25 01:21:10\n",
            "times like `2017-11-25 01:21:10` are no whole numbers; write seconds or milliseconds since 1970-01-01 UTC (source.time_unit)",
        ),
        (
            "events",
            Seconds,
            Auto,
            "1,2,view,3\n1,2,click,3\n1,2,view,3\n",
            "behaviours like `view`, `click` are unknown; known are pv, cart, fav, buy",
        ),
        (
            "events",
            Seconds,
            Auto,
            "1,2,77,pv,3\n",
            "behaviours seem to be in column 3, but are read from column 2, counted from 0 (source.columns)",
        ),
        (
            "events",
            Seconds,
            Auto,
            "1,2,3\n",
            "the rows look like those of the preset flinkrl (source.columns = \"flinkrl\")",
        ),
        (
            "flinkrl",
            Seconds,
            Auto,
            "1,2,pv,3\n",
            "the rows look like those of the preset events (source.columns = \"events\")",
        ),
        ("events", Seconds, Auto, "1,2\n", "rows have 2 columns where 4 are needed (source.columns, source.delimiter)"),
        (
            "events",
            Seconds,
            Absent,
            "\"1\",\"2\",\"pv\",\"3\"\n1,2,pv,3\n\"1\",\"2\",\"pv\",\"3\"\n\"1\",\"2\",\"pv\",\"3\"\n",
            "row 0 looks like a header (source.header = \"auto\" or \"true\")|fields seem to be in quotes, which are not read; write them without",
        ),
    ];
    for (columns, unit, header, text, expected) in cases {
        assert_eq!(said(columns, unit, header, text.as_bytes()).join("|"), expected, "{text}");
    }
    let expected = ["the first 64 KiB hold no line end; give a text file with one row a line"];
    assert_eq!(said("events", Seconds, Auto, &[b'x'; 70_000]), expected);
    let utf16: Vec<u8> = "1,2,pv,3\n4,5,pv,6\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let expected = ["the text seems to be UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"];
    assert_eq!(said("events", Seconds, Auto, &utf16), expected);
    assert_eq!(said("events", Seconds, Auto, &[b"\xFF\xFE", &utf16[..]].concat()), expected);
}

#[test]
fn a_few_bad_rows_draw_no_hint() {
    let text = "1,2,pv,1511544070\n".repeat(20) + "1;2;pv;1511544070\nx\n";
    assert!(said("events", TimeUnit::Seconds, Header::Auto, text.as_bytes()).is_empty());
}

#[test]
fn every_reason_is_explained_in_one_line() {
    let format = format("events", Dialect::default(), Header::Absent, b"");
    let long = vec![b'x'; 70_000];
    let cases: [(&[u8], &str); 8] = [
        (&long, "the row is longer than 65536 bytes"),
        (b"1,2,\xFF,3", "the row is not UTF-8 at byte 4"),
        (b"1,2,pv", "the row has 3 columns where 4 are needed: `1,2,pv`"),
        (b"\n,2,pv,3", "column 0 (user): `\\n` is no whole number from 0 to 9223372036854775807"),
        (b"1, -2 ,pv,3", "column 1 (item): `-2` is no whole number from 0 to 9223372036854775807"),
        (b"1,2,view,3", "column 2 (behavior): `view` is none of pv, cart, fav, buy"),
        (
            b"1,2,pv,253402300800",
            "column 3 (time): `253402300800` is no whole number of seconds from 1970-01-01 to 9999-12-31",
        ),
        (b"1,2,pv,", "column 3 (time): `` is no whole number of seconds from 1970-01-01 to 9999-12-31"),
    ];
    for (record, problem) in cases {
        let reason = read_record(&format, record).expect_err("this is no event");
        let expected = format!("log.csv: row 17 (counted from 0): {problem}");
        assert_eq!(explain(&format, "log.csv", 17, reason, record), expected);
    }
    let jump = explain(&format, "log.csv", 0, RejectReason::Jump, b"1,2,pv,9");
    assert_eq!(
        jump,
        "log.csv: row 0 (counted from 0): column 3 (time): `9` is further beyond the largest time before it than source.max_jump"
    );
}

#[test]
fn a_span_that_no_log_has_draws_a_warning() {
    const CENTURY: u64 = 36_525 * 24 * 3_600_000;
    let warning =
        "the log's times span less than a second when read as milliseconds; check source.time_unit, which is \"ms\"";
    assert_eq!(unit_warning(5, 1004, TimeUnit::Milliseconds).as_deref(), Some(warning));
    assert_eq!(unit_warning(5, 1005, TimeUnit::Milliseconds), None);
    assert_eq!(unit_warning(5, 5 + CENTURY, TimeUnit::Seconds), None);
    let warning =
        "the log's times span more than a century when read as seconds; check source.time_unit, which is \"s\"";
    assert_eq!(unit_warning(5, 6 + CENTURY, TimeUnit::Seconds).as_deref(), Some(warning));
}
