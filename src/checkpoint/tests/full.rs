//! A disk that is really full: a small file system in memory, where this machine lets us mount one.

use super::*;
use std::process::Command;

struct Mount(PathBuf);

impl Mount {
    fn new(path: &Path, bytes: usize) -> Option<Mount> {
        let size = format!("size={bytes}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output().ok()?;
        mount.status.success().then(|| Mount(path.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

fn rows(frontier: Time, users: u64) -> SnapshotRows {
    let entry = |n: u64| Entry { time: n * 977, position: Position::new(0, n * 31).unwrap(), item: ItemId(n) };
    let user = |user| UserState {
        user: UserId(user * 3),
        entries: (frontier..frontier + 10).map(entry).collect(),
        standing: None,
    };
    SnapshotRows { frontier, users: (0..users).map(user).collect(), panes: vec![], positions: vec![], last: None }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped has to be seen")]
fn a_disk_that_is_really_full_is_survived() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::new(directory.path(), 700 << 10) else {
        eprintln!("SKIP: a full disk: this user can't mount a tmpfs; run as root");
        return;
    };
    let path = directory.path().join("state");
    let ballast = directory.path().join("ballast");
    let (mut state, _) = open(&path).unwrap();
    let mut model = Model::default();
    let mut failures = 0;
    for frontier in 1..=30 {
        let rows = rows(frontier, 1000);
        fs::write(&ballast, vec![1; 200 << 10]).unwrap_or_default();
        let mut published = state.publish(&rows);
        if let Err(error) = &published {
            assert!(error.is_retryable() && error.to_string().ends_with("the disk is full"), "{error}");
            failures += 1;
            // Whatever the failed one left is gone, or this would not fit either.
            fs::remove_file(&ballast).unwrap();
            published = state.publish(&rows);
        }
        match published {
            Ok(()) => model.publish(&rows),
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
    // Nothing fits any more, not even a decision; but nothing is lost.
    let mut file = fs::File::create(directory.path().join("rest")).unwrap();
    while std::io::Write::write(&mut file, &[1; 4096]).is_ok() {}
    let mut decisions = 0;
    let error = loop {
        match state.append(&[Decision::Advance { partition: 0, offset: decisions, watermark: 1 }]) {
            Ok(()) => decisions += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_retryable(), "{error}");
    assert!(failures > 0, "the disk was never full");
    drop(state);
    fs::remove_file(directory.path().join("rest")).unwrap();
    let (_state, recovered) = open(&path).unwrap();
    assert_eq!(loaded(&recovered), model.loaded());
    let advances = recovered.decisions.iter().filter(|decision| matches!(decision, Decision::Advance { .. }));
    assert_eq!(advances.count() as u64, decisions);
    assert_no_leaks(&path);
}
