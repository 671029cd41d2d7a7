use super::super::names::{chunk_name, manifest_name};
use super::*;
use proptest::prelude::*;

#[test]
fn generations() {
    use OtherPipeline::{NewGeneration, Purge, Refuse};
    use Whose::{Others, Ours, Unknown};
    let carry_on = |number, delete: &[u64]| Generation::Continue { number, delete: delete.to_vec() };
    let create = |number, delete: &[u64]| Generation::Create { number, delete: delete.to_vec() };
    type Found = &'static [(u64, Whose)];
    let cases: [(Found, [Generation; 3]); 8] = [
        (&[], [create(1, &[]), create(1, &[]), create(1, &[])]),
        (&[(1, Ours)], [carry_on(1, &[]), carry_on(1, &[]), create(2, &[1])]),
        (&[(3, Others)], [Generation::Refuse { number: 3 }, create(4, &[]), create(4, &[3])]),
        (&[(3, Others), (4, Ours)], [carry_on(4, &[]), carry_on(4, &[]), create(5, &[3, 4])]),
        (&[(3, Ours), (4, Others)], [carry_on(3, &[]), carry_on(3, &[]), create(5, &[3, 4])]),
        (&[(3, Ours), (4, Ours)], [carry_on(4, &[3]), carry_on(4, &[3]), create(5, &[3, 4])]),
        (&[(1, Unknown)], [Generation::Unknown { number: 1 }, Generation::Unknown { number: 1 }, create(2, &[1])]),
        (
            &[(1, Unknown), (2, Ours)],
            [Generation::Unknown { number: 1 }, Generation::Unknown { number: 1 }, create(3, &[1, 2])],
        ),
    ];
    for (found, expected) in cases {
        let found: BTreeMap<u64, Whose> = found.iter().copied().collect();
        for (choice, expected) in [Refuse, NewGeneration, Purge].into_iter().zip(expected) {
            assert_eq!(generation(&found, choice), expected, "{found:?}, {choice:?}");
        }
    }
}

#[test]
fn the_newest_whole_manifest_is_believed() {
    let manifests = |given: &[Result<u8, &str>]| -> Vec<(u64, Result<u8, String>)> {
        (1..).zip(given).map(|(n, given)| (9 - n, given.map_err(str::to_owned))).collect()
    };
    // Odd ones lack a chunk; 200 can't be read now.
    let whole = |manifest: &u8| match manifest {
        200 => Err("wait"),
        odd if odd % 2 == 1 => Ok(Err(format!("odd {odd}"))),
        even => Ok(Ok(*even)),
    };
    let believe = |given| believe(&manifests(given), whole);
    let skipped =
        |reasons: &[(u64, &str)]| reasons.iter().map(|(number, reason)| (*number, (*reason).to_owned())).collect();
    assert_eq!(believe(&[]), Ok(Belief::Fresh));
    assert_eq!(believe(&[Ok(2), Ok(4)]), Ok(Belief::Newest { number: 8, what: 2, skipped: vec![] }));
    assert_eq!(
        believe(&[Ok(1), Err("torn"), Ok(4), Ok(6)]),
        Ok(Belief::Newest { number: 6, what: 4, skipped: skipped(&[(8, "odd 1"), (7, "torn")]) })
    );
    assert_eq!(believe(&[Err("torn"), Ok(3)]), Ok(Belief::None { skipped: skipped(&[(8, "torn"), (7, "odd 3")]) }));
    assert_eq!(believe(&[Ok(200), Ok(2)]), Err("wait"));
}

#[test]
fn a_journal_must_begin_with_the_one_that_a_snapshot_knows() {
    let place = |bytes, check| Place { bytes, lines: bytes / 10, check };
    assert_eq!(journal_fault(&place(50, 7), &place(50, 7), Some(&place(50, 7))), None);
    assert_eq!(journal_fault(&place(50, 7), &place(90, 1), Some(&place(50, 7))), None);
    assert!(journal_fault(&place(50, 7), &place(40, 7), None).unwrap().contains("4 lines are left of at least 5"));
    assert!(
        journal_fault(&place(50, 7), &place(90, 1), Some(&place(50, 8))).unwrap().contains("first 5 lines are not")
    );
    assert!(journal_fault(&place(50, 7), &place(90, 1), None).is_some());
}

#[test]
fn what_three_manifests_name_is_kept() {
    let mut manifests = BTreeMap::from([(2, vec![1]), (4, vec![1, 3]), (6, vec![1, 3, 5]), (9, vec![7, 8])]);
    keep_newest(&mut manifests);
    assert!(manifests.keys().eq(&[4, 6, 9]));
    manifests.remove(&4);
    let names = ["journal.jsonl", "pipeline.json", "notes.txt", "manifest-000000000009.json.new"].map(str::to_owned);
    let named = (1..10).map(chunk_name).chain((1..10).map(manifest_name)).chain(names).collect();
    let garbage: BTreeSet<String> = garbage(named, &manifests, &BTreeSet::from([2])).into_iter().collect();
    let expected = [4, 6, 9].map(chunk_name).into_iter().chain([1, 2, 3, 4, 5, 7, 8].map(manifest_name));
    assert_eq!(garbage, expected.chain(["manifest-000000000009.json.new".to_owned()]).collect());
}

#[test]
fn small_chunks_wait_until_they_are_eight_and_large_ones_do_not() {
    assert_eq!(merge(&[]), None);
    assert_eq!(merge(&[1 << 30]), None);
    assert_eq!(merge(&[1 << 30, 1 << 29, 1 << 28]), None);
    assert_eq!(merge(&[1 << 30, 1 << 30]), Some(0..2));
    assert_eq!(merge(&[1 << 30, 1 << 29, 1 << 29]), Some(0..3));
    assert_eq!(merge(&[10; 7]), None);
    assert_eq!(merge(&[10; 8]), Some(0..8));
    assert_eq!(merge(&[1 << 30, 10, 10, 10, 10, 10, 10, 10, 10]), Some(1..9));
    assert_eq!(merge(&[1 << 30, 80, 10, 10, 10, 10, 10, 10, 10, 10]), Some(1..10));
    assert_eq!(merge(&[1 << 30, 81, 10, 10, 10, 10, 10, 10, 10, 10]), Some(2..10));
}

proptest! {
    /// In the worst case nothing is ever replaced, so that a merge is as large as what it merges.
    #[test]
    fn chunks_stay_few_and_rows_are_written_few_times(sizes in prop::collection::vec(1u64..1_000_000, 1..600)) {
        let (mut chunks, mut written) = (Vec::new(), 0);
        for size in &sizes {
            chunks.push(*size);
            if let Some(range) = merge(&chunks) {
                let merged: u64 = chunks[range.clone()].iter().sum();
                written += merged;
                chunks.splice(range, [merged]);
            }
            let total: u64 = chunks.iter().sum();
            let doublings = total.ilog2() as usize;
            prop_assert!(chunks.len() <= 8 + doublings, "{:?}", chunks);
        }
        let total: u64 = sizes.iter().sum();
        prop_assert!(written <= total * (u64::from(total.ilog2()) + 1), "{} of {}", written, total);
    }

    /// Where every snapshot replaces everything, the room stays within a few times the state.
    #[test]
    fn what_is_replaced_does_not_pile_up(size in 1u64..1_000_000_000, snapshots in 1usize..100) {
        let mut chunks = Vec::new();
        for _ in 0..snapshots {
            chunks.push(size);
            if let Some(range) = merge(&chunks) {
                chunks.splice(range, [size]);
            }
            prop_assert!(chunks.len() <= 8);
            prop_assert!(chunks.len() <= 2 || size < BYTES_MERGED_MIN);
        }
    }
}
