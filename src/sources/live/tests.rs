use super::*;
use crate::sources::columns::Columns;
use crate::sources::format::Dialect;

#[test]
fn records_come_out_as_they_went_in() {
    let mut fetched = Fetched::new(20);
    assert!(fetched.is_empty() && !fetched.is_full());
    let long = vec![b'x'; 70_000];
    for (offset, value) in
        [Some(&b"1,2,pv,3"[..]), None, Some(b""), Some(&long[..]), Some(b"4,5,buy,6\r\n")].iter().enumerate()
    {
        fetched.push(7, offset as u64, *value);
    }
    assert!(fetched.is_full());
    let format = MessageFormat::csv(&Columns::EVENTS, Dialect::default()).expect("a preset");
    let read: Vec<_> = fetched.records().map(|record| (record.offset, record.read(&format))).collect();
    assert_eq!(read[0].1.expect("a row").map(|row| (row.user.0, row.time)), Some((1, 3000)));
    assert_eq!(read[1], (1, Err(RejectReason::Columns)));
    assert_eq!(read[2], (2, Ok(None)));
    assert_eq!(read[3], (3, Err(RejectReason::TooLong)));
    assert_eq!(read[4].1.expect("a row").map(|row| (row.user.0, row.time)), Some((4, 6000)));
    assert_eq!(fetched.records().map(|record| record.value().len()).collect::<Vec<_>>(), [8, 0, 0, 65_544, 11]);
    fetched.clear();
    assert_eq!(fetched.len(), 0);
}

#[test]
fn idleness_is_what_answers_prove() {
    let since = Instant::now();
    let status = |at_end| PartitionStatus { position: 3, end: Some(3), at_end, ended: false };
    assert_eq!(status(None).idle_for(), Duration::ZERO);
    let seen = since + Duration::from_secs(2);
    assert_eq!(status(Some(AtEnd { since, seen })).idle_for(), Duration::from_secs(2));
    assert_eq!(status(Some(AtEnd { since: seen, seen: since })).idle_for(), Duration::ZERO);
}
