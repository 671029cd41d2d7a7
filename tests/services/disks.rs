//! Disks that are full, and states that are damaged.

use crate::table::{Random, effort, passed};
use crate::world::{Running, Target, World, events, stderr, was_killed};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A small file system, gone when it is dropped. `None`, after saying so, where none can be made.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn new(megabytes: u32) -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "eddyline-test"]).arg(directory.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIP: a small file system can only be mounted by root");
            return None;
        }
        Some(SmallDisk { directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.directory.path()).status();
    }
}

/// Takes all room but `left` bytes.
fn fill(disk: &SmallDisk, left: u64) -> PathBuf {
    let ballast = disk.path("ballast");
    let free = || {
        let output = Command::new("df").args(["--output=avail", "-B1"]).arg(disk.directory.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().nth(1).unwrap().trim().parse::<u64>().unwrap()
    };
    fs::write(&ballast, vec![0; usize::try_from(free().saturating_sub(left)).unwrap()]).unwrap();
    ballast
}

/// A run over `target` that finds the disk full in its middle. It waits, or ends with one line that says so; when there is room
/// again, it or the next run completes.
fn run_on_full_disk(target: &Target<'_>, ballast: &Path, what: &str) {
    let log = target.state().with_extension("stderr");
    let mut command = target.run();
    let mut run = Running::spawn(command.stderr(fs::File::create(&log).unwrap()));
    let told = || fs::read_to_string(&log).unwrap();
    let started = Instant::now();
    let is_full = || told().contains("No space left on device") || told().contains("full");
    while !is_full() {
        let ended = run.ended();
        assert!(ended.is_none() || is_full(), "{what}: the disk was not full: {ended:?} {}", told());
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: it does not fill: {}", told());
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    fs::remove_file(ballast).unwrap();
    let waited = run.output().status.success();
    if !waited {
        let output = target.run().output().unwrap();
        assert!(output.status.success(), "{what}: {}", stderr(&output));
    }
    target.check(what);
    let how = if waited { "the run waited for room" } else { "the run ended with one line; the next one completed it" };
    passed(&format!("disk full: {what}"), 1, how);
}

#[test]
fn a_full_disk_below_the_embedded_store_is_waited_for() {
    let Some(world) = World::new(events(), 2) else { return };
    let Some(disk) = SmallDisk::new(64) else { return };
    let mut stores = world.embedded();
    stores.embedded = Some(disk.path("store.db"));
    let target = world.target(stores);
    let ballast = fill(&disk, 400_000);
    run_on_full_disk(&target, &ballast, "embedded store");
}

#[test]
fn a_full_disk_below_the_state_is_waited_for() {
    let Some(world) = World::new(5 * events(), 2) else { return };
    let Some(disk) = SmallDisk::new(64) else { return };
    let mut target = world.target(world.embedded());
    target.set_state(disk.path("state"));
    let ballast = fill(&disk, 30_000);
    run_on_full_disk(&target, &ballast, "state directory");
}

/// Files of a state directory, with their lengths.
fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::metadata(&path).unwrap().len()));
        }
    }
    found.sort();
    found
}

/// How often a run may end before its first snapshot counts.
const MISSES_MAX: usize = 20;

/// Tears a file off or flips one of its bits. What was done.
fn damage(directory: &Path, random: &mut Random) -> String {
    let files: Vec<_> = files(directory).into_iter().filter(|(_, length)| *length > 0).collect();
    let (path, length) = &files[usize::try_from(random.below(files.len() as u64)).unwrap()];
    let mut bytes = fs::read(path).unwrap();
    let at = usize::try_from(random.below(*length)).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let done = if random.below(2) == 0 {
        bytes.truncate(at);
        format!("{name} torn off at {at} of {length}")
    } else {
        bytes[at] ^= 1 << random.below(8);
        format!("a bit of {name} flipped, byte {at} of {length}")
    };
    fs::write(path, bytes).unwrap();
    done
}

/// A run is killed, its state is damaged, and it goes on: from an older snapshot, or it is refused in one line and begins again.
#[test]
fn a_damaged_state_is_passed_over_or_refused_and_never_believed() {
    let Some(world) = World::new(5 * events(), 2) else { return };
    let mut random = Random(4);
    let wanted = if effort() == 1 { 4 } else { 4 * effort() };
    let (mut times, mut refused, mut misses) = (0, 0, 0);
    while times < wanted {
        let target = world.target(world.embedded());
        if !was_killed(&target.run().env("EDDYLINE_FAULT", "snapshot.published:1").output().unwrap()) {
            target.check("ended before a snapshot counted");
            misses += 1;
            assert!(misses < MISSES_MAX, "no snapshot counts before the end");
            continue;
        }
        // So that there may be an older one.
        if random.below(2) == 0
            && !was_killed(&target.run().env("EDDYLINE_FAULT", "worker.advanced:3").output().unwrap())
        {
            // It has come to the end before that, so its state is that of a finished run.
            target.check("finished before the damage");
        }
        let damage = damage(target.state(), &mut random);
        let output = target.run().output().unwrap();
        if !output.status.success() {
            refused += 1;
            let told = stderr(&output);
            let error: Vec<&str> = told.lines().filter(|line| line.starts_with("error")).collect();
            assert_eq!(error.len(), 1, "{damage}: {told}");
            let again = target.run().args(["--purge"]).output().unwrap();
            assert!(again.status.success(), "{damage}: {told} {}", stderr(&again));
        }
        target.check(&damage);
        times += 1;
    }
    passed("state torn or flipped between two runs", times, &format!("{refused} refused in one line, then --purge"));
}
