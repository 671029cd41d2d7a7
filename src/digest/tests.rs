use super::*;
use crate::sinks::RejectReason;
use dataflows::event::{Behavior, Position, UserId};

fn items(ids: impl IntoIterator<Item = u64>) -> Vec<ItemId> {
    ids.into_iter().map(ItemId).collect()
}

fn event(position: (u32, u64), behavior: u8, logical: u64, late: bool) -> Event {
    Event {
        user: UserId(3),
        item: ItemId(100),
        time: 3000,
        logical,
        position: Position::new(position.0, position.1).unwrap(),
        behavior: Behavior(behavior),
        late,
    }
}

fn sequence(time: u64, user: u64) -> SequenceKey {
    SequenceKey { time, user: UserId(user) }
}

// The constants were computed with the reference C library, through Python: for a row of the fields `f…`
// xxhash.xxh3_128_intdigest(b"".join(struct.pack("<Q", x % 2**64) for x in f)).

#[test]
fn sequences_agree_with_the_reference_hash() {
    let mut hasher = RowHasher::default();
    // Long first, so that the shorter rows after it meet a buffer with something in it.
    let long = hasher.sequence_row(&sequence(1_700_000_000_000, (1 << 63) - 1), &items(1000..1040));
    assert_eq!(long, 0x303cf7428381cf286220e32afe14a132);
    let row = hasher.sequence_row(&sequence(20_000, 1), &items([100, 101]));
    assert_eq!(row, 0x71d1d163d1233bed4cd63792d0f4ea03);
    let empty = hasher.sequence_row(&sequence(20_000, 1), &[]);
    assert_eq!(empty, 0x90c341cc37ed46bd7ea5f68066ab35d9);

    let mut digest = Digest::default();
    for hash in [row, long, empty] {
        digest.add_row(hash);
    }
    assert_eq!(digest.to_string(), "3:32d20a728c9251d32d9d113e35b4c10e");
}

#[test]
fn recommendations_agree_with_the_reference_hash() {
    let key = RecommendationKey { time: 80_000, user: UserId(1), from_model: 2, last_reward: -1 };
    let row = RowHasher::default().recommendation_row(&key, &items([100, 101, 102]));
    assert_eq!(row, 0xe5aa98fcb7098ad0f2b5d4b75b81fa16);
}

#[test]
fn popular_lists_agree_with_the_reference_hash() {
    let list = PopularList { window_end: 80_000, items: vec![(ItemId(100), 3), (ItemId(101), 1)] };
    assert_eq!(RowHasher::default().popular_row(&list), 0xb3d73e2c196b6c686b61b44ff84a8637);
}

#[test]
fn events_agree_with_the_reference_hash() {
    let hasher = RowHasher::default();
    assert_eq!(hasher.late_row(&event((1, 6), 0, 70_000, true)), 0x6e3962e4028ccdcf31a297269a7121be);
    assert_eq!(hasher.record_row(&event((1, 6), 3, 70_000, true)), 0xd45fae292a60bd19839925ae1b8b8fbb);
}

#[test]
fn rejected_records_agree_with_the_reference_hash() {
    let hasher = RowHasher::default();
    let rejected = |partition, offset, reason, record: &[u8]| Rejected {
        position: Position::new(partition, offset).unwrap(),
        reason,
        record: record.to_vec(),
    };
    let row = hasher.rejected_row(&rejected(0, 8, RejectReason::User, b"x,1,pv,3"));
    // `User` has index 3.
    assert_eq!(row, 0x8a2c30358ea213c6714724dfa817f185);
    let last = rejected(Position::PARTITION_MAX, Position::OFFSET_MAX, RejectReason::Jump, b"");
    assert_eq!(hasher.rejected_row(&last), 0x094694dfd3bc6f90237a7a8337498c32);
}

proptest::proptest! {
    #[test]
    fn parts_add_up_to_the_whole(hashes: Vec<(u128, u8)>) {
        let mut whole = Digest::default();
        let mut parts = [Digest::default(); 3];
        for (hash, part) in hashes.into_iter().rev() {
            whole.add_row(hash);
            parts[usize::from(part) % 3].add_row(hash);
        }
        let mut merged = Digest::default();
        parts.iter().for_each(|part| merged.merge(part));
        proptest::prop_assert_eq!(whole, merged);
        let json = serde_json::to_string(&whole).unwrap();
        proptest::prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), whole);
    }
}

#[test]
fn the_sum_is_serialized_as_digits() {
    let digest = Digest { rows: 2, sum: 0xff };
    let json = r#"{"rows":2,"sum":"000000000000000000000000000000ff"}"#;
    assert_eq!(serde_json::to_string(&digest).unwrap(), json);
}
