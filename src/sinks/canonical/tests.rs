use super::*;
use crate::sinks::RejectReason;
use dataflows::event::{Behavior, ItemId, Position, UserId};
use std::fs;

fn behaviors() -> Vec<String> {
    ["pv", "cart", "fav", "b\"uy"].map(String::from).to_vec()
}

fn event(partition: u32, offset: u64, behavior: u8, late: bool) -> Event {
    Event {
        user: UserId(3),
        item: ItemId((1 << 63) - 1),
        time: 3000,
        logical: 70_000,
        position: Position::new(partition, offset).unwrap(),
        behavior: Behavior(behavior),
        late,
    }
}

fn rejected(partition: u32, offset: u64, record: &[u8]) -> Rejected {
    Rejected {
        position: Position::new(partition, offset).unwrap(),
        reason: RejectReason::TooLong,
        record: record.to_vec(),
    }
}

/// Two rows or more of everything, records out of order.
fn batch() -> Batch {
    let mut batch = Batch {
        frontier: 100_000,
        records: vec![event(1, 2, 3, true), event(0, 10, 0, true), event(0, 11, 0, false), event(0, 9, 1, true)],
        rejected: vec![rejected(1, 0, b"\xff\n"), rejected(0, 12, b"")],
        popular: vec![PopularList { window_end: 80_000, items: vec![(ItemId(100), 3), (ItemId(101), 1)] }],
        ..Batch::default()
    };
    batch.recent.push(SequenceKey { time: 20_000, user: UserId(1) }, &[ItemId(100), ItemId(101)]);
    batch.recent.push(SequenceKey { time: 20_000, user: UserId(2) }, &[ItemId(100)]);
    batch.recent.push(SequenceKey { time: 40_000, user: UserId(1) }, &[ItemId(7)]);
    let key = |user, last_reward| RecommendationKey { time: 80_000, user: UserId(user), from_model: 1, last_reward };
    batch.recommendations.push(key(1, -1), &[ItemId(100), ItemId(102)]);
    batch.recommendations.push(key(2, 5), &[ItemId(100)]);
    batch
}

const END: End = End { frontier: Time::MAX, popular: None };

fn write(directory: &Path, sort_bytes: usize) {
    let mut files = CanonicalFiles::with_sort_bytes(directory, &behaviors(), sort_bytes).unwrap();
    files.write(&batch()).unwrap();
    files.finish(&END).unwrap();
}

#[test]
fn files_are_as_the_contract_shows_them() {
    let directory = tempfile::tempdir().unwrap();
    // With and without runs on the disk.
    for sort_bytes in [1 << 20, 1] {
        write(directory.path(), sort_bytes);
        let read = |name| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("popular.jsonl"), "{\"window_end\":80000,\"items\":[100,101],\"counts\":[3,1]}\n");
        assert_eq!(
            read("recent.jsonl"),
            "{\"time\":20000,\"user\":1,\"items\":[100,101]}\n\
             {\"time\":20000,\"user\":2,\"items\":[100]}\n\
             {\"time\":40000,\"user\":1,\"items\":[7]}\n"
        );
        assert_eq!(
            read("recommendations.jsonl"),
            "{\"time\":80000,\"user\":1,\"items\":[100,102],\"from_model\":1,\"last_reward\":-1}\n\
             {\"time\":80000,\"user\":2,\"items\":[100],\"from_model\":1,\"last_reward\":5}\n"
        );
        assert_eq!(
            read("late.jsonl"),
            "{\"partition\":0,\"offset\":9,\"user\":3,\"item\":9223372036854775807,\"behavior\":\"cart\",\"time\":3000}\n\
             {\"partition\":0,\"offset\":10,\"user\":3,\"item\":9223372036854775807,\"behavior\":\"pv\",\"time\":3000}\n\
             {\"partition\":1,\"offset\":2,\"user\":3,\"item\":9223372036854775807,\"behavior\":\"b\\\"uy\",\"time\":3000}\n"
        );
        assert_eq!(
            read("rejected.jsonl"),
            "{\"partition\":0,\"offset\":12,\"reason\":\"too_long\",\"record\":\"\"}\n\
             {\"partition\":1,\"offset\":0,\"reason\":\"too_long\",\"record\":\"/wo=\"}\n"
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 5, "nothing but the five files is left");
    }
}

#[test]
fn an_abort_leaves_the_files_of_the_run_before() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), 1);
    let before = fs::read(directory.path().join("recent.jsonl")).unwrap();
    let mut files = CanonicalFiles::create(directory.path(), &behaviors()).unwrap();
    files.write(&batch()).unwrap();
    drop(files);
    assert_eq!(fs::read(directory.path().join("recent.jsonl")).unwrap(), before);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 5);
}

#[test]
fn files_of_a_run_before_are_replaced_also_by_empty_ones() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), 1);
    let mut files = CanonicalFiles::create(directory.path(), &behaviors()).unwrap();
    files.finish(&END).unwrap();
    for name in FILE_NAMES {
        assert_eq!(fs::metadata(directory.path().join(name)).unwrap().len(), 0, "{name}");
    }
}

#[test]
fn what_is_no_directory_is_refused_in_one_line() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "x").unwrap();
    let message = |path: &Path| CanonicalFiles::create(path, &behaviors()).err().expect("refused").to_string();
    let name = file.display();
    assert_eq!(
        message(&file),
        format!("cannot write results to {name}: it is not a directory; name a directory, or one to be made")
    );
    let below = file.join("out");
    assert_eq!(
        message(&below),
        format!("cannot make the directory {}: a file of that name is in the way", below.display())
    );
    let nowhere = parent.path().join("a/b");
    assert_eq!(
        message(&nowhere),
        format!("cannot make the directory {}: there is no such file or directory", nowhere.display())
    );
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn a_result_file_that_cannot_be_replaced_is_named() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("popular.jsonl")).unwrap();
    let mut files = CanonicalFiles::create(directory.path(), &behaviors()).unwrap();
    let error = files.finish(&END).unwrap_err();
    let path = directory.path().join("popular.jsonl");
    assert_eq!(error.to_string(), format!("cannot replace {}: a directory of that name is in the way", path.display()));
    assert!(!error.is_retryable());
}
