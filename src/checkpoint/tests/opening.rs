//! Who may open what: two runs, other pipelines, other programs' files, formats of the future, missing pieces.

use super::*;
use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const CHILD: &str = "EDDYLINE_TEST_STATE_DIRECTORY";

fn rows(frontier: Time, users: u64) -> SnapshotRows {
    let entry = Entry { time: frontier, position: Position::new(0, 1).unwrap(), item: ItemId(5) };
    let user = |user| UserState { user: UserId(user), entries: vec![entry], standing: None };
    SnapshotRows { frontier, users: (0..users).map(user).collect(), panes: vec![], positions: vec![], last: None }
}

fn error(path: &Path) -> String {
    open(path).unwrap_err().to_string()
}

/// A directory with the snapshots at 80, 160, …, made by runs that published two each.
fn directory_with(snapshots: u64) -> tempfile::TempDir {
    let directory = directory();
    let mut state = None;
    for n in 1..=snapshots {
        if n % 2 == 1 {
            drop(state.take());
        }
        let state = state.get_or_insert_with(|| open(directory.path()).unwrap().0);
        state.append(&[Decision::Advance { partition: 0, offset: n, watermark: n }]).unwrap();
        state.publish(&rows(n * 80, n)).unwrap();
    }
    directory
}

fn newest(path: &Path, prefix: &str) -> PathBuf {
    let mut names: Vec<String> = contents(path).into_keys().filter(|name| name.starts_with(prefix)).collect();
    generation(path).join(names.pop().unwrap())
}

#[test]
fn a_new_directory_is_made_with_those_it_is_in() {
    let home = directory();
    let path = home.path().join("a/b/state");
    let (state, recovered) = open(&path).unwrap();
    assert_eq!((recovered.epoch, recovered.snapshot.is_none()), (1, true));
    assert_eq!(recovered.decisions, [Decision::Epoch { epoch: 1 }]);
    assert!(state.journal_path().ends_with("generation-1/journal.jsonl"));
    drop(state);
    assert_eq!(open(&path).unwrap().1.epoch, 2);
}

#[test]
fn a_second_run_is_told_of_the_first() {
    let directory = directory();
    let (state, _) = open(directory.path()).unwrap();
    let second = open(directory.path()).unwrap_err();
    let text = second.to_string();
    let pid = std::process::id();
    assert!(text.starts_with(&format!("another run (pid {pid} on host ")) && second.is_retryable(), "{text}");
    assert!(text.ends_with("; wait for it, or name another state directory"), "{text}");
    // Either writer alone keeps others out.
    let (journal, snapshots) = state.into_writers();
    drop(journal);
    assert!(matches!(open(directory.path()), Err(CheckpointError::InUse { .. })));
    drop(snapshots);
    assert_eq!(open(directory.path()).unwrap().1.epoch, 2);
}

/// Holds a directory until it is killed.
#[test]
#[expect(clippy::print_stdout, reason = "the way to the parent")]
fn child() {
    let Ok(path) = env::var(CHILD) else { return };
    let (mut state, _) = open(Path::new(&path)).unwrap();
    for n in 1.. {
        state.append(&[Decision::Advance { partition: 0, offset: n, watermark: n }]).unwrap();
        state.publish(&rows(n * 80, n % 50 + 1)).unwrap();
        println!("\npublished {n}");
    }
}

#[test]
fn a_killed_process_leaves_the_lock_and_all_that_it_acknowledged() {
    for lines in [1, 9, 40, 200] {
        let directory = directory();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["checkpoint::tests::opening::child", "--exact", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut published = told.by_ref().filter_map(|line| line.strip_prefix("published ")?.parse::<u64>().ok());
        let acknowledged = published.by_ref().take(lines).last().unwrap();
        let text = error(directory.path());
        assert!(text.starts_with(&format!("another run (pid {} on host ", child.id())), "{text}");
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = published.last().unwrap_or(acknowledged);
        let (_state, recovered) = open(directory.path()).unwrap();
        let snapshot = recovered.snapshot.unwrap();
        assert!((acknowledged..=acknowledged + 1).contains(&(snapshot.frontier() / 80)));
        assert!(snapshot.users().all(|user| user.is_ok()));
        assert_no_leaks(directory.path());
    }
}

#[test]
fn what_is_no_state_directory_is_left_alone() {
    let home = directory();
    let file = home.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(error(&file).ends_with("it is not a directory; name a directory, or one to be made"));
    let text = error(home.path());
    assert!(text.contains("there are files in it, and it is no state directory"), "{text}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn another_pipeline_is_refused_or_gets_a_generation_of_its_own() {
    let directory = directory_with(5);
    let path = directory.path();
    let theirs = pipeline("theirs");
    let open_theirs = |choice| StateDirectory::open(&StatePlace::local(path), &theirs, choice);
    let text = open_theirs(OtherPipeline::Refuse).unwrap_err().to_string();
    assert!(text.contains(r#"(configuration is "ours" there and "theirs" here); run with --new-generation"#), "{text}");

    // Beside the old one, with a higher epoch; either can be gone on with.
    let (state, recovered) = open_theirs(OtherPipeline::NewGeneration).unwrap();
    assert_eq!((recovered.epoch, recovered.snapshot.is_none()), (4, true));
    drop(state);
    let (state, recovered) = open(path).unwrap();
    assert_eq!((recovered.epoch, recovered.snapshot.unwrap().frontier()), (5, 400));
    assert_eq!(state.snapshots.delete_older_generations().unwrap(), 0, "the later one is not done yet");
    drop(state);
    let (mut state, recovered) = open_theirs(OtherPipeline::Refuse).unwrap();
    assert_eq!(recovered.epoch, 6);
    state.publish(&rows(80, 1)).unwrap();
    for stores in [&["mysql"][..], &["mysql"], &["embedded"]] {
        state.snapshots.replacing(stores).unwrap();
    }
    assert_eq!(state.snapshots.replaced_in().unwrap(), ["embedded", "mysql"]);
    assert_eq!(state.snapshots.delete_older_generations().unwrap(), 1);
    assert!(state.snapshots.replaced_in().unwrap().is_empty());
    drop(state);
    assert!(!generation(path).exists());
    assert!(matches!(open(path), Err(CheckpointError::OtherPipeline { .. })));

    // Purged, also by the same pipeline; the epoch goes on.
    for purging in [&theirs, &ours()] {
        let (state, recovered) = StateDirectory::open(&StatePlace::local(path), purging, OtherPipeline::Purge).unwrap();
        assert!(recovered.snapshot.is_none() && recovered.epoch > 6);
        drop(state);
        assert_eq!(fs::read_dir(path).unwrap().count(), 2, "the lock and one generation");
    }
}

#[test]
fn an_interrupted_purge_does_not_bring_the_old_state_back() {
    let directory = directory_with(3);
    let old = directory.path().join("old");
    copy(&generation(directory.path()), &old);
    let (state, _) = StateDirectory::open(&StatePlace::local(directory.path()), &ours(), OtherPipeline::Purge).unwrap();
    state.purged().unwrap();
    drop(state);
    fs::rename(&old, generation(directory.path())).unwrap();
    let (_state, recovered) = open(directory.path()).unwrap();
    assert!(recovered.snapshot.is_none());
    assert!(!generation(directory.path()).exists());
}

#[test]
fn a_purge_that_did_not_reach_the_stores_is_to_be_made_again() {
    let directory = directory_with(3);
    let purge = || StateDirectory::open(&StatePlace::local(directory.path()), &ours(), OtherPipeline::Purge).unwrap();
    drop(purge());
    assert!(error(directory.path()).contains("run it once more with --purge"));
    let (state, _) = purge();
    state.purged().unwrap();
    drop(state);
    assert!(open(directory.path()).unwrap().1.snapshot.is_none());
}

#[test]
fn files_of_others_in_the_directory_stay() {
    let directory = directory_with(4);
    let note = generation(directory.path()).join("notes.txt");
    fs::write(&note, "mine").unwrap();
    fs::write(directory.path().join("notes.new"), "mine").unwrap();
    let (mut state, _) = open(directory.path()).unwrap();
    state.publish(&rows(1000, 3)).unwrap();
    assert!(note.exists() && directory.path().join("notes.new").exists());
}

/// Writes the newest manifest again as if it said something else, with the right checksum.
fn rewrite_manifest(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let manifest = newest(path, "manifest");
    let mut object: serde_json::Value =
        serde_json::from_slice(&manifest::unsealed(fs::read(&manifest).unwrap()).unwrap()).unwrap();
    change(&mut object);
    let mut text = Vec::new();
    crate::journal::sealed::seal(object.to_string().as_bytes(), 0, &mut text);
    fs::write(manifest, text).unwrap();
}

#[test]
fn formats_of_the_future_are_refused_and_nothing_is_deleted() {
    let directory = directory_with(4);
    let path = directory.path();
    let refused = |name: &str, known: u32| {
        let before = contents(path);
        let text = error(path);
        let end = format!("formats up to {known}: use the program that wrote it");
        assert!(text.contains(name) && text.ends_with(&end), "{text}");
        assert_eq!(contents(path), before);
    };
    let chunk = newest(path, "chunk");
    let mut bytes = fs::read(&chunk).unwrap();
    bytes[8] = 2;
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..80]);
    bytes[80..88].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&chunk, &bytes).unwrap();
    refused("chunk-", 1);

    rewrite_manifest(path, |manifest| {
        manifest["version"] = (super::super::manifest::VERSION + 1).into();
        manifest["news"] = "something".into();
    });
    refused("manifest-", super::super::manifest::VERSION);

    let identity = generation(path).join(names::PIPELINE);
    let mut text = Vec::new();
    crate::journal::sealed::seal(br#"{"version":2}"#, 0, &mut text);
    fs::write(identity, text).unwrap();
    refused(names::PIPELINE, 1);
}

#[test]
fn a_foreign_manifest_or_chunk_is_passed_over_and_a_foreign_journal_refused() {
    let foreign = directory();
    let (mut state, _) =
        StateDirectory::open(&StatePlace::local(foreign.path()), &pipeline("foreign"), OtherPipeline::Refuse).unwrap();
    (1..=4).for_each(|n| state.publish(&rows(n * 80, n)).unwrap());
    drop(state);
    for prefix in ["manifest", "chunk"] {
        let directory = directory_with(4);
        fs::copy(newest(foreign.path(), prefix), newest(directory.path(), prefix)).unwrap();
        let (_state, recovered) = open(directory.path()).unwrap();
        assert_eq!(recovered.skipped.len(), 1);
        assert_eq!(recovered.snapshot.unwrap().frontier(), 240, "{prefix}: {:?}", recovered.skipped);
    }
    let directory = directory_with(4);
    fs::copy(generation(foreign.path()).join(names::JOURNAL), generation(directory.path()).join(names::JOURNAL))
        .unwrap();
    assert!(error(directory.path()).contains("is that of another pipeline (fingerprint foreign, not ours)"));
}

#[test]
fn a_journal_that_lost_its_end_is_refused_also_if_the_snapshot_that_says_so_is_damaged() {
    for damage_chunk in [false, true] {
        let directory = directory_with(4);
        let journal = generation(directory.path()).join(names::JOURNAL);
        let text = fs::read_to_string(&journal).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        fs::write(&journal, lines[..lines.len() - 1].concat()).unwrap();
        if damage_chunk {
            fs::remove_file(newest(directory.path(), "chunk")).unwrap();
        }
        let text = error(directory.path());
        assert!(text.contains("it has lost its end: 6 lines are left of at least 7"), "{text}");
    }
}

#[test]
fn a_journal_of_another_run_of_the_same_pipeline_does_not_fit() {
    let (directory, other) = (directory_with(4), directory_with(1));
    let (mut state, _) = open(other.path()).unwrap();
    (0..50).for_each(|n| state.append(&[Decision::Advance { partition: 0, offset: n, watermark: 1 }]).unwrap());
    drop(state);
    let journal = |path: &Path| generation(path).join(names::JOURNAL);
    fs::copy(journal(other.path()), journal(directory.path())).unwrap();
    let text = error(directory.path());
    assert!(text.contains("its first") && text.contains("lines are not those of that time"), "{text}");
}

#[test]
fn if_no_snapshot_is_whole_nothing_is_begun_anew_by_itself() {
    let directory = directory_with(4);
    for (name, _) in contents(directory.path()).into_iter().filter(|(name, _)| name.starts_with("chunk")) {
        fs::write(generation(directory.path()).join(name), "rubbish").unwrap();
    }
    let text = error(directory.path());
    assert!(text.starts_with("no snapshot in ") && text.contains("--from-start"), "{text}");
    for (name, _) in contents(directory.path()).into_iter().filter(|(name, _)| name.starts_with("manifest")) {
        fs::write(generation(directory.path()).join(name), "rubbish").unwrap();
    }
    assert!(error(directory.path()).contains("it ends too early"));
    // The journal is whole, and tells all that was decided.
    let trusting =
        StateDirectory::open_from_start(&StatePlace::local(directory.path()), &ours(), OtherPipeline::Refuse).unwrap();
    let (state, recovered) = trusting;
    let advances = recovered.decisions.iter().filter(|decision| matches!(decision, Decision::Advance { .. })).count();
    assert_eq!((recovered.snapshot.is_none(), advances), (true, 4));
    let files = contents(directory.path()).len();
    drop(state);
    let (mut state, recovered) =
        StateDirectory::open_from_start(&StatePlace::local(directory.path()), &ours(), OtherPipeline::Refuse).unwrap();
    assert_eq!(contents(directory.path()).len(), files, "nothing goes before the run can begin");
    // What is published then does not build on what was there.
    recovered.unbelieved.unwrap().delete().unwrap();
    state.publish(&rows(80, 1)).unwrap();
    drop(state);
    let (_state, recovered) = open(directory.path()).unwrap();
    assert_eq!(recovered.snapshot.unwrap().frontier(), 80);

    let directory = directory_with(4);
    for (name, _) in contents(directory.path()).into_iter().filter(|(name, _)| name.starts_with("manifest")) {
        fs::remove_file(generation(directory.path()).join(name)).unwrap();
    }
    let text = error(directory.path());
    assert!(text.contains("it is part of a snapshot, and there is no manifest any more"), "{text}");
    let (_state, recovered) =
        StateDirectory::open(&StatePlace::local(directory.path()), &ours(), OtherPipeline::Purge).unwrap();
    assert!(recovered.snapshot.is_none());
}

#[test]
fn missing_fixed_files_are_refused() {
    let directory = directory_with(2);
    fs::remove_file(generation(directory.path()).join(names::JOURNAL)).unwrap();
    assert!(error(directory.path()).starts_with("cannot read the journal"));
    fs::remove_file(generation(directory.path()).join(names::PIPELINE)).unwrap();
    let text = error(directory.path());
    assert!(text.contains("pipeline.json is damaged (there is no such file or directory)"), "{text}");
    assert!(text.contains("--purge"));
}

#[test]
fn a_snapshot_stays_readable_while_others_take_its_place() {
    let directory = directory_with(2);
    let (mut state, recovered) = open(directory.path()).unwrap();
    let snapshot = recovered.snapshot.unwrap();
    let mut users = snapshot.users();
    assert_eq!(users.next().unwrap().unwrap().entries[0].time, 160);
    for n in 3..40 {
        state.publish(&rows(n * 80, 5)).unwrap();
        state.snapshots.wait_for_merge().unwrap();
    }
    assert_eq!(users.map(Result::unwrap).count(), 1);
    assert!(snapshot.bytes() > 0 && snapshot.epoch() == 1);
}

/// A whole directory that was copied while nobody used it goes on elsewhere.
#[test]
fn a_copy_is_as_good() {
    let directory = directory_with(5);
    let copied = directory.path().join("copy");
    copy(&generation(directory.path()), &copied.join("generation-1"));
    fs::copy(directory.path().join(names::LOCK), copied.join(names::LOCK)).unwrap();
    assert_eq!(loaded(&open(&copied).unwrap().1), loaded(&open(directory.path()).unwrap().1));
}
