use super::scan::{Live, Place, append_decision, header, live};
use super::*;
use proptest::prelude::*;
use std::io::Write;

fn read(text: impl AsRef<[u8]>) -> Result<Journal, JournalError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Journal::read(file.path(), 2)
}

#[test]
fn advances_hold_from_their_offset_on() {
    let journal = read(
        "{\"entry\":\"advance\",\"partition\":1,\"offset\":5,\"watermark\":300}\n\n\
         {\"entry\":\"advance\",\"partition\":1,\"offset\":2,\"watermark\":100}\n\
         {\"entry\":\"epoch\",\"epoch\":2}\n\
         {\"entry\":\"partition\",\"partition\":0,\"watermark\":70}\n",
    )
    .unwrap();
    let watermarks = |partition| {
        let (mut advances, mut clock) = (journal.advances(partition), PartitionClock::new(0));
        [0, 2, 4, 5, 6].map(|offset| {
            advances.apply(offset, &mut clock);
            clock.watermark()
        })
    };
    assert_eq!(watermarks(0), [70; 5]);
    assert_eq!(watermarks(1), [0, 100, 100, 300, 300]);
    assert_eq!(watermarks(7), [0; 5]);
}

#[test]
fn what_cannot_be_repeated_is_refused() {
    let message = |text| read(text).unwrap_err().to_string();
    assert!(message("{\"entry\":\"forget\",\"user\":1,\"time\":5}").contains("line 1: unknown variant `forget`"));
    assert!(message("\n{\"entry\":\"advance\"}").contains("line 2: missing field"));
    assert!(message("{\"entry\":\"partition\",\"partition\":2,\"watermark\":1}").contains("partition 2 in line 1"));
    assert!(message("{\"entry\":\"loss\",\"partition\":2,\"from\":1,\"to\":2}").contains("partition 2 in line 1"));
    assert!(
        message("{\"entry\":\"loss\",\"partition\":0,\"from\":2,\"to\":2}").contains("line 1: the loss from 2 to 2")
    );
    assert!(message("{\"entry\":\"journal\",\"version\":2,\"pipeline\":\"f\",\"more\":1}").contains("has format 2"));
    let late = "{\"entry\":\"partition\",\"partition\":0,\"watermark\":253402300800000}";
    assert!(message(late).contains("line 1: the watermark 253402300800000 lies after 9999-12-31"));
    assert!(read(late.replace("800000", "799999")).is_ok());
    assert!(message("rubbish").contains("line 1"));
}

proptest! {
    #[test]
    fn losses_are_just_the_offsets_in_them(losses in prop::collection::vec((0u64..60, 1u64..20), 0..8)) {
        let decisions: Vec<Decision> =
            losses.iter().map(|&(from, length)| Decision::Loss { partition: 3, from, to: from + length }).collect();
        let mut advances = Journal::new(&decisions).advances(3);
        prop_assert_eq!(advances.have_losses(), !losses.is_empty());
        for offset in 0..100 {
            let lost = losses.iter().any(|&(from, length)| (from..from + length).contains(&offset));
            prop_assert_eq!(advances.is_lost(offset), lost, "offset {}", offset);
        }
    }

    #[test]
    fn a_journal_is_read_with_and_without_checksums(decisions in prop::collection::vec(decision(), 0..20)) {
        let with = text(&decisions, "f").0;
        let without: String = decisions.iter().map(|d| serde_json::to_string(d).unwrap() + "\n").collect();
        let expected = Journal::new(&decisions);
        for text in [with, without.into_bytes()] {
            let journal = read(text).unwrap();
            for partition in 0..2 {
                let (mut a, mut b) = (journal.advances(partition), expected.advances(partition));
                let (mut x, mut y) = (PartitionClock::new(0), PartitionClock::new(0));
                for offset in 0..60 {
                    a.apply(offset, &mut x);
                    b.apply(offset, &mut y);
                    prop_assert_eq!((x.watermark(), a.is_lost(offset)), (y.watermark(), b.is_lost(offset)));
                }
            }
        }
    }
}

pub(crate) fn decision() -> impl Strategy<Value = Decision> {
    let (partition, offset) = (0u32..2, 0u64..50);
    prop_oneof![
        (partition.clone(), offset.clone(), 0..=dataflows::time::TIME_MAX)
            .prop_map(|(partition, offset, watermark)| Decision::Advance { partition, offset, watermark }),
        (partition.clone(), 0u64..1000).prop_map(|(partition, watermark)| Decision::Partition { partition, watermark }),
        (partition, offset, 1u64..20).prop_map(|(partition, from, length)| Decision::Loss {
            partition,
            from,
            to: from + length
        }),
        any::<u64>().prop_map(|epoch| Decision::Epoch { epoch }),
    ]
}

/// A live journal, and the place behind each of its lines.
fn text(decisions: &[Decision], pipeline: &str) -> (Vec<u8>, Vec<Place>) {
    let (mut text, mut place) = header(pipeline);
    let mut places = vec![place];
    for decision in decisions {
        append_decision(decision, &mut place, &mut text);
        places.push(place);
    }
    (text, places)
}

fn some_decisions() -> Vec<Decision> {
    vec![
        Decision::Epoch { epoch: 1 },
        Decision::Advance { partition: 0, offset: 17, watermark: 1_704_067_200_000 },
        Decision::Partition { partition: 1, watermark: 5 },
        Decision::Loss { partition: 0, from: 20, to: 40 },
        Decision::Epoch { epoch: 2 },
    ]
}

fn read_live(text: &[u8]) -> Result<(Live, Vec<(Place, Decision)>), JournalError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text).unwrap();
    let mut found = Vec::new();
    let end = live(file.path(), Some("f"), |place, decision| found.extend(decision.map(|decision| (place, decision))))?;
    Ok((end, found))
}

#[test]
fn a_live_journal_is_cut_off_where_an_append_was() {
    let decisions = some_decisions();
    let (text, places) = text(&decisions, "f");
    for length in places[0].bytes as usize..=text.len() {
        // Also with room that came before its bytes.
        for zeros in [0, 1, 100] {
            let left = [&text[..length], &vec![0; zeros]].concat();
            let (live, found) = read_live(&left).unwrap();
            // A line that lacks no more than its end is kept.
            let whole = places.iter().filter(|place| place.bytes <= length as u64 + 1).count();
            let end = places[whole - 1];
            assert_eq!((live.end, live.lacks_line_end), (end, end.bytes == length as u64 + 1));
            let torn_bytes = left.len() as u64 - end.bytes.min(length as u64);
            assert_eq!(live.torn_bytes > 0, torn_bytes > 0 || live.lacks_line_end, "{length} {zeros}");
            assert!(found.into_iter().eq(places[1..].iter().copied().zip(decisions.clone()).take(whole - 1)));
        }
    }
    assert!(read_live(&text[..0]).unwrap_err().to_string().contains("line 1: the file is empty"));
}

/// Every bit of every byte, also of the line ends and of the last line.
#[test]
fn no_flipped_bit_in_a_live_journal_is_believed() {
    let (text, _) = text(&some_decisions(), "f");
    let mut refused = 0;
    for bit in 0..text.len() * 8 {
        let mut damaged = text.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = read_live(&damaged).expect_err("a flipped bit");
        assert!(error.to_string().contains("line ") || error.to_string().contains("another pipeline"), "{error}");
        refused += 1;
    }
    assert_eq!(refused, text.len() * 8);
}

#[test]
fn lines_that_are_lost_doubled_moved_or_foreign_are_refused() {
    let (whole, _) = text(&some_decisions(), "f");
    let lines: Vec<&[u8]> = whole.split_inclusive(|&byte| byte == b'\n').collect();
    for at in 1..lines.len() - 1 {
        let without: Vec<u8> = [&lines[..at], &lines[at + 1..]].concat().concat();
        assert!(read_live(&without).unwrap_err().to_string().contains(&format!("in line {}", at + 1)));
        let doubled: Vec<u8> = [&lines[..=at], &lines[at..]].concat().concat();
        assert!(read_live(&doubled).unwrap_err().to_string().contains(&format!("in line {}", at + 2)));
        let mut moved = lines.clone();
        moved.swap(at, at + 1);
        assert!(read_live(&moved.concat()).is_err());
    }
    assert!(matches!(read_live(&text(&[], "g").0), Err(JournalError::Foreign { .. })));
    let unsealed = b"{\"entry\":\"journal\",\"version\":1,\"pipeline\":\"f\"}\n";
    assert!(read_live(unsealed).unwrap_err().to_string().contains("line 1: it has no checksum"));
}

#[test]
fn a_later_format_is_named_and_not_called_damaged() {
    let mut text = Vec::new();
    sealed::seal(br#"{"entry":"journal","version":9,"pipeline":"f","more":[]}"#, 0, &mut text);
    let error = read_live(&text).unwrap_err().to_string();
    assert!(error.contains("has format 9, and this program knows formats up to 1"), "{error}");
}

#[test]
fn a_replay_tells_of_a_line_that_was_cut_off() {
    let (mut whole, _) = text(&some_decisions(), "f");
    whole.truncate(whole.len() - 9);
    let error = read(&whole).unwrap_err().to_string();
    assert!(error.starts_with("the last line (6) of the journal"), "{error}");
    let mut mixed = text(&some_decisions(), "f").0;
    mixed.extend(b"{\"entry\":\"epoch\",\"epoch\":3}\n");
    assert!(read(&mixed).unwrap_err().to_string().contains("line 7: it has no checksum, unlike those before"));
}
