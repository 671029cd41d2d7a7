//! Another log under a name that a store knows, or the same one grown or changed: refused, not merged (contract, section 5).

use super::tables::{Tables, meta, tables};
use super::{Log, checked, eddyline};
use std::fs;
use std::path::Path;

/// Lines of 4 events a second, the same for the same `salt`.
fn lines(count: u64, salt: u64) -> String {
    (0..count).map(|at| format!("{},{},pv,{}\n", at % 17, (at * 7 + salt) % 23, at / 4)).collect()
}

fn replay(store: &Path, log: &Path, flags: &[&str]) -> Result<String, String> {
    let mut command = eddyline(&["replay", "--json", "--store", store.to_str().unwrap(), log.to_str().unwrap()]);
    let output = command.args(flags).output().unwrap();
    match output.status.success() {
        true => Ok(checked(output)),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

fn is_refused(store: &Path, log: &Path, flags: &[&str], difference: &str) {
    let before: (Tables, String) = (tables(store), meta(store, "status"));
    for workers in ["1", "3"] {
        let told = replay(store, log, &[flags, &["-w", workers]].concat()).unwrap_err();
        assert!(told.contains(difference) && told.contains("--purge"), "{told}");
        assert_eq!(told.trim_end().lines().count(), 1, "{told}");
        assert!((tables(store), meta(store, "status")) == before, "the store is as it was");
    }
}

#[test]
fn another_log_of_the_same_name_is_refused() {
    let texts = [lines(400, 0), lines(400, 1)];
    let log = Log::of(&texts.each_ref().map(|text| text.as_bytes()));
    let store = log.directory.path().join("s.db");
    replay(&store, &log.files[0], &["--log-name", "x"]).unwrap();
    is_refused(&store, &log.files[1], &["--log-name", "x"], "400 records there and as many here");
    let before = fs::read(&store).unwrap();
    replay(&store, &log.files[0], &["--log-name", "x", "-w", "2"]).unwrap();
    assert!(fs::read(&store).unwrap() == before, "the same log again changes nothing");
    replay(&store, &log.files[1], &["--log-name", "x", "--purge"]).unwrap();
    let fresh = log.directory.path().join("fresh.db");
    replay(&fresh, &log.files[1], &["--log-name", "x"]).unwrap();
    assert!(tables(&store) == tables(&fresh));
}

#[test]
fn a_log_that_has_grown_since_is_refused() {
    let log = Log::of(&[lines(8000, 0).as_bytes()]);
    let store = log.directory.path().join("s.db");
    replay(&store, &log.files[0], &[]).unwrap();
    fs::write(&log.files[0], lines(8100, 0)).unwrap();
    is_refused(&store, &log.files[0], &[], "8000 records there, 8100 here");
}

/// The first 64 KiB, by which a log is known, are the same.
#[test]
fn a_log_with_another_tail_is_refused_or_takes_the_tails_place() {
    let (head, count) = (lines(8000, 0), 500);
    assert!(head.len() > 64 << 10);
    let tail = |salt| lines(8000 + count, salt)[lines(8000, salt).len()..].to_owned();
    let [ours, theirs] = [0, 1].map(|salt| head.clone() + &tail(salt));
    let log = Log::of(&[ours.as_bytes(), theirs.as_bytes()]);
    let [ours, theirs] = [&log.files[0], &log.files[1]];
    // Tails begin at second 2000. What lies up to `time.lateness` beyond T is read, too.
    let [within, before] = [("2060000", "within.db"), ("1980000", "before.db")].map(|(until, store)| {
        let store = log.directory.path().join(store);
        replay(&store, ours, &["--until", until]).unwrap();
        store
    });
    is_refused(&within, theirs, &[], "there up to 1970-01-01T00:34:20.001Z and as many here");
    replay(&before, theirs, &[]).unwrap();
    let fresh = log.directory.path().join("fresh.db");
    replay(&fresh, theirs, &["-w", "2"]).unwrap();
    assert!(tables(&before) == tables(&fresh));
}
