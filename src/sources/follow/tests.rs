use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::*;
use crate::sources::Header;

fn options() -> Options {
    Options { log_name: Some("growing".to_owned()), ..Options::default() }
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("a place to write");
    file.write_all(text.as_bytes()).expect("room");
}

/// Everything that a reader hands over until it has nothing more: offset, and the line or the event's user.
fn all(reader: &mut FollowReader, bytes_max: usize) -> Vec<(u64, String)> {
    let mut lines = Vec::new();
    loop {
        std::thread::sleep(LOOK_INTERVAL);
        let mut fetched = Fetched::new(bytes_max);
        reader.poll(&mut fetched).expect("it is read");
        if fetched.is_empty() {
            return lines;
        }
        lines.extend(
            fetched.records().map(|record| (record.offset, String::from_utf8_lossy(record.value()).into_owned())),
        );
    }
}

fn open(path: &Path, options: Options, until_end: bool) -> FollowReader {
    let log = FollowLog::open(&[path.to_owned()], options, until_end).expect("it opens");
    log.reader(log.description())
}

fn line(offset: u64, text: &str) -> (u64, String) {
    (offset, text.to_owned())
}

#[test]
fn whole_lines_come_as_the_file_grows() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log.csv");
    append(&path, "");
    let mut reader = open(&path, options(), false);
    reader.assign(0, 0).expect("from the start");
    assert!(all(&mut reader, 1000).is_empty() && reader.format(0).is_none());
    append(&path, "\u{feff}user,item,beh");
    assert!(all(&mut reader, 1000).is_empty());
    append(&path, "avior,time\n1,2,pv,3\r\n\n4,5");
    assert_eq!(all(&mut reader, 1), [line(1, "1,2,pv,3\r"), line(2, "")]);
    assert_eq!(reader.status(0).position, 3);
    append(&path, ",buy,6\n");
    assert_eq!(all(&mut reader, 1000), [line(3, "4,5,buy,6")]);
    let status = reader.status(0);
    assert!(status.at_end.is_some() && status.end == Some(4) && !status.ended);
    reader.set_paused(0, true);
    append(&path, "7,8,pv,9\n");
    assert!(all(&mut reader, 1000).is_empty() && reader.status(0).at_end.is_none());
    reader.set_paused(0, false);
    assert_eq!(all(&mut reader, 1000), [line(4, "7,8,pv,9")]);
    let before = reader.status(0).idle_for();
    assert!(all(&mut reader, 1000).is_empty() && reader.status(0).idle_for() > before);

    let mut again = open(&path, options(), false);
    again.assign(0, 3).expect("from line 3");
    assert!(again.format(0).is_some());
    assert_eq!(all(&mut again, 1000), [line(3, "4,5,buy,6"), line(4, "7,8,pv,9")]);
    let error = again.assign(0, 6).expect_err("there are five lines").to_string();
    assert!(error.contains("reading is to go on at offset 6, but the log ends at 5"), "{error}");
}

#[test]
fn until_the_end_is_until_the_size_at_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log.csv");
    append(&path, "1,2,pv,3\n4,5,buy,6");
    let log = FollowLog::open(std::slice::from_ref(&path), options(), true).expect("it opens");
    assert_eq!(log.description().partitions, [Extent { begin: 0, end: Some(2), bytes: Some(18) }]);
    append(&path, "7\n8,9,pv,10\n");
    let mut reader = log.reader(log.description());
    reader.assign(0, 0).expect("from the start");
    assert_eq!(all(&mut reader, 5), [line(0, "1,2,pv,3"), line(1, "4,5,buy,6")]);
    assert!(reader.status(0).ended);
    reader.assign(0, 2).expect("at the end");
    assert!(reader.status(0).ended && all(&mut reader, 5).is_empty());
}

#[test]
fn long_lines_are_kept_as_far_as_they_matter() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log.csv");
    append(&path, &"x".repeat(300_000));
    let mut reader = open(&path, Options { header: Header::Absent, ..options() }, false);
    reader.assign(0, 0).expect("from the start");
    assert!(all(&mut reader, 1000).is_empty());
    append(&path, &format!("{}\n1,2,pv,3\n", "y".repeat(600_000)));
    let lines = all(&mut reader, 1000);
    assert_eq!((lines[0].0, lines[0].1.len(), &lines[1]), (0, 65_544, &line(1, "1,2,pv,3")));
    let mut again = open(&path, options(), false);
    again.assign(0, 1).expect("from line 1");
    assert_eq!(all(&mut again, 1000), [line(1, "1,2,pv,3")]);
}

#[test]
fn what_is_not_the_same_file_any_more_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log.csv");
    append(&path, "1,2,pv,3\n4,5,pv,6\n");
    let fails = |change: &dyn Fn()| {
        let mut reader = open(&path, options(), false);
        reader.assign(0, 0).expect("from the start");
        assert_eq!(all(&mut reader, 1000).len(), 2);
        change();
        std::thread::sleep(LOOK_INTERVAL);
        reader.poll(&mut Fetched::new(1000)).expect_err("it changed").to_string()
    };
    let shrank = fails(&|| fs::write(&path, "1,2,pv,3\n").expect("room"));
    assert!(shrank.contains("shrank while it was read"), "{shrank}");
    append(&path, "4,5,pv,6\n");
    let replaced = fails(&|| {
        let other = directory.path().join("other");
        fs::write(&other, "1,2,pv,3\n4,5,pv,6\n7,8,pv,9\n").expect("room");
        fs::rename(&other, &path).expect("the same directory");
    });
    assert!(replaced.contains("replaced by another file"), "{replaced}");
    fs::write(&path, b"\x1F\x8B\x08\x00").expect("room");
    let mut reader = open(&path, options(), false);
    reader.assign(0, 0).expect("it is not read yet");
    let packed = reader.poll(&mut Fetched::new(1000)).expect_err("gzip").to_string();
    assert!(packed.contains("is packed (gzip)"), "{packed}");
}

#[test]
fn a_closed_pipe_has_ended() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo is there");
    let mut reader = open(&path, options(), false);
    reader.assign(0, 0).expect("from the start");
    let mut writer = OpenOptions::new().write(true).open(&path).expect("it is being read");
    writer.write_all(b"1,2,pv,3\n4,5").expect("room");
    let mut lines = Vec::new();
    while lines.is_empty() {
        lines = all(&mut reader, 1000);
    }
    assert_eq!(lines, [line(0, "1,2,pv,3")]);
    drop(writer);
    let mut lines = Vec::new();
    while !reader.status(0).ended {
        lines.extend(all(&mut reader, 1000));
    }
    assert_eq!(lines, [line(1, "4,5")]);
    let error = reader.assign(0, 1).expect_err("it is a pipe").to_string();
    assert!(error.contains("cannot be read from line 1 on"), "{error}");
}

#[test]
fn a_growing_log_needs_a_name() {
    let error = FollowLog::open(&["x.csv".into()], Options::default(), false).expect_err("no name");
    assert!(matches!(error, LiveError::NoLogName));
}
