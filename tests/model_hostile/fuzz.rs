//! Random damage to valid files and messages: no reader panics, and none allocates more than [`limit_bytes`].
//!
//! `cargo test` runs a modest number of inputs; `PROPTEST_CASES` raises that of the shrinking test,
//! `EDDYLINE_FUZZ_INPUTS` that of the fast loop (`EDDYLINE_FUZZ_SEED` starts it elsewhere). A failure in the loop
//! prints the number that reproduces it as seed.

use eddyline::model::{
    algorithm::Algorithm,
    layers,
    maps::IdMap,
    npy,
    pickle::Pickle,
    state_dict::{EXPANSION_MAX, StateDict},
    weights::{Embedding, Linear, Policy, Weights},
};
use eddyline::sources::{Columns, Dialect, MessageFormat};
use proptest::prelude::*;

use crate::{
    counting_allocator::peak_bytes,
    files::{legacy_pt, unzip, zip_pt},
};

/// What is fuzzed: a name, a valid input, and a reader of it.
struct Target {
    name: &'static str,
    seed: Vec<u8>,
    /// Says whether the input was accepted.
    read: fn(&[u8]) -> bool,
}

/// What a reader may hold at once for a file of this length: the raw storages, their decoded values and the tensors,
/// each within the expansion limit; values of a pickle; an error's text.
fn limit_bytes(file_bytes: usize) -> usize {
    3 * (file_bytes * EXPANSION_MAX as usize + (1 << 20)) + file_bytes * 256 + (64 << 10)
}

/// A DDPG model with d = 1, H = 1, h = 2, two users and two items: small, so that mutations hit its structure.
pub(crate) fn small_model() -> Vec<u8> {
    let table = |rows: usize| Embedding { rows, dim: 1, data: vec![0.5; rows] };
    let linear = |outputs: usize, inputs: usize| Linear {
        inputs,
        outputs,
        weight: vec![0.25; outputs * inputs],
        bias: vec![-1.0; outputs],
    };
    let policy = Policy::Ddpg { fc: [linear(2, 2), linear(2, 2), linear(1, 2)] };
    layers::write(&Weights { users: table(2), items: table(3), policy, history: 1, hidden: 2 }).unwrap()
}

fn read_state_dict(bytes: &[u8]) -> bool {
    let Ok(state) = said(StateDict::read(bytes)) else { return false };
    Algorithm::ALL.into_iter().for_each(|algorithm| drop(said(layers::weights_of(state.clone(), algorithm))));
    true
}

/// The archive's checksums would catch most damage to a pickle inside, so the archive is made around the damaged one.
fn read_zipped_pickle(object: &[u8]) -> bool {
    read_state_dict(&zip_pt(object, &[&[0; 8], &[0; 12], &[0; 16], &[0; 8], &[0; 16], &[0; 8], &[0; 8], &[0; 4]]))
}

const JSON: &[u8] = br#"{"user":17,"item":"2000000","behavior":"buy","time":1511544070,"more":[{"a":1.5e3}]}"#;

/// An event, or why it is none, with what is told of that.
fn read_message(format: &MessageFormat, bytes: &[u8]) -> bool {
    match format.read(bytes) {
        Ok(row) => row.is_some(),
        Err(reason) => {
            let told = format.explain("fuzz", 0, reason, bytes);
            assert!(!told.contains(char::is_control), "{told:?}");
            false
        }
    }
}

fn read_csv(bytes: &[u8]) -> bool {
    thread_local!(static FORMAT: MessageFormat =
        MessageFormat::csv(&Columns::EVENTS, Dialect::default()).expect("default columns"));
    FORMAT.with(|format| read_message(format, bytes))
}

fn read_json(bytes: &[u8]) -> bool {
    thread_local!(static FORMAT: MessageFormat =
        MessageFormat::json(&Columns::EVENTS, Dialect::default()).expect("default columns"));
    FORMAT.with(|format| read_message(format, bytes))
}

/// Writes the error down, which must not fail either.
fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn targets() -> Vec<Target> {
    let archive = small_model();
    let object = unzip(&archive, "/data.pkl");
    let storages: Vec<Vec<u8>> = (0..8).map(|index| unzip(&archive, &format!("/data/{index}"))).collect();
    let legacy = legacy_pt(&object, &storages.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let table = npy::write(&Embedding { rows: 2, dim: 2, data: vec![1.0; 4] });
    let map = IdMap::from_ids(vec![17, 4, 2_000_000, 9]).unwrap().write();
    vec![
        Target { name: "npy", seed: table, read: |bytes| said(npy::read(bytes)).is_ok() },
        Target { name: "map", seed: map, read: |bytes| said(IdMap::read(bytes)).is_ok() },
        Target { name: "pickle", seed: object.clone(), read: |bytes| said(Pickle::read(bytes)).is_ok() },
        Target { name: "legacy .pt", seed: legacy, read: read_state_dict },
        Target { name: "zip .pt", seed: archive, read: read_state_dict },
        Target { name: "pickle in zip .pt", seed: object, read: read_zipped_pickle },
        Target { name: "line of CSV", seed: b"17,2000000,buy,1511544070".to_vec(), read: read_csv },
        Target { name: "message in JSON", seed: JSON.to_vec(), read: read_json },
    ]
}

/// Reads an input and gives whether it was accepted.
fn check(target: &Target, input: &[u8]) -> bool {
    let (accepted, peak) = peak_bytes(|| (target.read)(input));
    assert!(peak <= limit_bytes(input.len()), "{}: {peak} bytes held for an input of {}", target.name, input.len());
    accepted
}

/// Values that lengths, counts and indices go wrong at.
const INTERESTING: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, i64::MAX as u64, u64::MAX];

/// One damage, chosen by the bits of `choice`.
fn mutate(bytes: &mut Vec<u8>, choice: u64) {
    if bytes.is_empty() {
        bytes.push(choice as u8);
        return;
    }
    let at = (choice >> 8) as usize % bytes.len();
    let other = (choice >> 32) as usize % bytes.len();
    let length = 1 + (choice >> 28) as usize % 16;
    let value = INTERESTING[(choice >> 24) as usize % INTERESTING.len()].to_le_bytes();
    match choice % 10 {
        0 => bytes[at] ^= 1 << (choice >> 40 & 7),
        1 => bytes[at] = (choice >> 40) as u8,
        2 => bytes[at] = bytes[other],
        3 => bytes.insert(at, (choice >> 40) as u8),
        4 => drop(bytes.drain(at..(at + length).min(bytes.len()))),
        5 => bytes.truncate(at),
        6 => {
            let copy = bytes[other..(other + length).min(bytes.len())].to_vec();
            drop(bytes.splice(at..at, copy));
        }
        width => {
            let value = &value[..1 << (width - 6)];
            let end = (at + value.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&value[..end - at]);
        }
    }
}

proptest! {
    #[test]
    fn damaged_files_neither_panic_nor_swell(index in 0_usize..8, choices in proptest::collection::vec(any::<u64>(), 0..9)) {
        let target = &targets()[index];
        let mut input = target.seed.clone();
        choices.iter().for_each(|choice| mutate(&mut input, *choice));
        let _ = check(target, &input);
    }

    #[test]
    fn any_bytes_neither_panic_nor_swell(index in 0_usize..8, input in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = check(&targets()[index], &input);
    }
}

/// Marsaglia's xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Says which input it was when a reader panics.
struct Tell(&'static str, u64);

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}: EDDYLINE_FUZZ_SEED={} EDDYLINE_FUZZ_INPUTS=1", self.0, self.1);
        }
    }
}

#[test]
fn many_damaged_files_neither_panic_nor_swell() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (inputs, seed) = (number("EDDYLINE_FUZZ_INPUTS", 16_000), number("EDDYLINE_FUZZ_SEED", 0));
    let targets = targets();
    let mut input = Vec::new();
    let mut accepted = vec![0; targets.len()];
    for case in seed..seed + inputs {
        let index = case as usize % targets.len();
        let target = &targets[index];
        let _tell = Tell(target.name, case);
        let mut random = Random(case.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        input.clone_from(&target.seed);
        for _ in 0..1 + random.next() % 6 {
            let choice = random.next();
            mutate(&mut input, choice);
        }
        accepted[index] += u64::from(check(target, &input));
    }
    for (target, accepted) in targets.iter().zip(&accepted) {
        println!("{}: {accepted} of {} damaged inputs accepted", target.name, inputs / targets.len() as u64);
        // Where nothing or everything gets through, the damage does not reach the reader's depths.
        assert!(inputs < 1000 || (*accepted > 0 && *accepted < inputs / targets.len() as u64), "{}", target.name);
    }
}
