//! Files that were cut, or of which a bit or a byte was changed: an older snapshot or a refusal, never a wrong answer.

use super::disk::Random;
use super::model::{Loaded, history};
use super::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const SNAPSHOTS: usize = 11;

/// For each kind of file.
const CASES: usize = 1_000;

/// A directory, and all that it may say.
struct Whole {
    directory: tempfile::TempDir,
    /// After each snapshot.
    answers: Vec<Loaded>,
    decisions: Vec<Decision>,
    /// The journal's length when the newest snapshot was made.
    journal_min: usize,
}

impl Whole {
    fn new() -> Whole {
        let directory = directory();
        let rows = history(SNAPSHOTS).new_tree(&mut TestRunner::deterministic()).unwrap().current();
        let (mut model, mut answers) = (Model::default(), Vec::new());
        let mut journal_min = 0;
        for (run, part) in rows.chunks(6).enumerate() {
            let (mut state, _) = open(directory.path()).unwrap();
            for (at, rows) in part.iter().enumerate() {
                state
                    .append(&[Decision::Advance { partition: 8, offset: (run * 10 + at) as u64, watermark: 7 }])
                    .unwrap();
                journal_min = fs::metadata(state.journal_path()).unwrap().len() as usize;
                state.publish(rows).unwrap();
                state.snapshots.wait_for_merge().unwrap();
                model.publish(rows);
                answers.push(model.loaded().unwrap());
            }
            state.append(&[Decision::Loss { partition: 8, from: 1, to: 1 + run as u64 + 1 }]).unwrap();
        }
        let path = generation(directory.path()).join(names::JOURNAL);
        let mut decisions = Vec::new();
        crate::journal::scan::live(&path, Some("ours"), |_, decision| decisions.extend(decision)).unwrap();
        Whole { directory, answers, decisions, journal_min }
    }

    fn files(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        contents(self.directory.path()).into_iter().filter(|(name, _)| name.starts_with(prefix)).collect()
    }

    /// Opens a copy in which `name` has `bytes`.
    fn open_with(&self, name: &str, bytes: &[u8]) -> Outcome {
        let home = directory();
        copy(self.directory.path(), home.path());
        fs::write(generation(home.path()).join(name), bytes).unwrap();
        let context = || format!("{name}, {} bytes", bytes.len());
        let (_state, recovered) = match open(home.path()) {
            Ok(opened) => opened,
            Err(error) => {
                let named = [CheckpointError::is_retryable(&error), error.to_string().contains('\n')];
                assert_eq!(named, [false, false], "{}: {error}", context());
                return Outcome::Refused;
            }
        };
        let decisions = recovered.decisions.split_last().unwrap().1;
        assert!(self.decisions.starts_with(decisions), "{}", context());
        let found = loaded(&recovered).unwrap();
        let at = self.answers.iter().position(|answer| *answer == found);
        let at = at.unwrap_or_else(|| panic!("a wrong answer: {}", context()));
        // What is passed over is told, and what is not is the newest.
        assert_eq!(recovered.skipped.is_empty(), at + 1 == self.answers.len(), "{}", context());
        match at + 1 == self.answers.len() {
            true if decisions.len() == self.decisions.len() => Outcome::Same,
            true => Outcome::ShorterJournal,
            false => Outcome::Older,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// As if nothing had happened.
    Same,
    /// Without the last decisions, which came after the newest snapshot.
    ShorterJournal,
    /// An older snapshot.
    Older,
    Refused,
}

fn damage(kind: &str, how: impl Fn(&mut Vec<u8>, &mut Random)) -> BTreeMap<Outcome, usize> {
    let whole = Whole::new();
    let mut random = Random::new(1);
    let files = whole.files(kind);
    let mut outcomes = BTreeMap::new();
    for _ in 0..CASES {
        let (name, bytes) = &files[random.within(0..files.len())];
        let mut damaged = bytes.clone();
        // What is overwritten may be what is written over it.
        while damaged == *bytes {
            how(&mut damaged, &mut random);
        }
        let outcome = whole.open_with(name, &damaged);
        if outcome == Outcome::ShorterJournal {
            assert!(kind == "journal" && damaged.len() + 1 >= whole.journal_min);
        }
        *outcomes.entry(outcome).or_default() += 1;
    }
    outcomes
}

fn cut(bytes: &mut Vec<u8>, random: &mut Random) {
    let length = random.within(0..bytes.len());
    bytes.truncate(length);
    // A file may have grown before its bytes came.
    if random.one_in(4) {
        bytes.resize(length + random.within(0..200), 0);
    }
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    let at = random.within(0..bytes.len());
    bytes[at] ^= 1 << random.within(0..8);
}

fn overwrite(bytes: &mut [u8], random: &mut Random) {
    let at = random.within(0..bytes.len());
    let length = random.within(1..(bytes.len() - at).min(64) + 1);
    bytes[at..at + length].iter_mut().for_each(|byte| *byte ^= random.within(1..256) as u8);
}

#[expect(clippy::print_stdout, reason = "how much was tried")]
fn report(kind: &str, how: &str, outcomes: &BTreeMap<Outcome, usize>) {
    println!("{CASES} {kind}s {how}: {outcomes:?}, no wrong answer");
}

#[test]
fn chunks_that_are_damaged_are_never_believed() {
    for (how, damaged) in [
        ("torn", damage("chunk", cut)),
        ("bit-flipped", damage("chunk", |bytes, random| flip(bytes, random))),
        ("overwritten", damage("chunk", |bytes, random| overwrite(bytes, random))),
    ] {
        report("chunk", how, &damaged);
        assert!(damaged[&Outcome::Older] > 0 && damaged[&Outcome::Refused] > 0, "{how}");
        assert!(!damaged.contains_key(&Outcome::ShorterJournal));
    }
}

#[test]
fn manifests_that_are_damaged_are_never_believed() {
    for (how, damaged) in [
        ("torn", damage("manifest", cut)),
        ("bit-flipped", damage("manifest", |bytes, random| flip(bytes, random))),
        ("overwritten", damage("manifest", |bytes, random| overwrite(bytes, random))),
    ] {
        report("manifest", how, &damaged);
        assert!(damaged[&Outcome::Older] > 0 && damaged[&Outcome::Same] > 0, "{how}");
        assert!(!damaged.contains_key(&Outcome::Refused));
    }
}

#[test]
fn journals_that_are_damaged_are_never_believed() {
    let torn = damage("journal", cut);
    report("journal", "torn", &torn);
    assert!(torn[&Outcome::ShorterJournal] > 0 && torn[&Outcome::Refused] > 0);
    for (how, damaged) in [
        ("bit-flipped", damage("journal", |bytes, random| flip(bytes, random))),
        ("overwritten", damage("journal", |bytes, random| overwrite(bytes, random))),
    ] {
        report("journal", how, &damaged);
        assert_eq!(damaged, BTreeMap::from([(Outcome::Refused, CASES)]), "{how}");
    }
}

#[test]
fn the_file_that_says_whose_state_it_is_is_never_guessed() {
    for (how, damaged) in
        [("torn", damage("pipeline", cut)), ("bit-flipped", damage("pipeline", |bytes, random| flip(bytes, random)))]
    {
        report("pipeline file", how, &damaged);
        assert_eq!(damaged, BTreeMap::from([(Outcome::Refused, CASES)]), "{how}");
    }
}

/// Every file in the place of every other of its kind.
#[test]
fn swapped_files_are_never_believed() {
    let whole = Whole::new();
    let mut swapped = 0;
    for kind in ["chunk", "manifest"] {
        let files = whole.files(kind);
        for (name, own) in &files {
            for (_, other) in files.iter().filter(|(_, other)| other != own) {
                whole.open_with(name, other);
                swapped += 1;
            }
        }
    }
    assert!(swapped > 10, "{swapped}");
}
