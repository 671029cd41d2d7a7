//! What can't be trained is told in one line, and leaves the model directory as it was.

use super::*;
use std::fs;

#[test]
fn what_is_missing_or_does_not_fit_is_named() {
    let place = Place::new();
    let empty = place.path("empty");
    let told = failure(&place.train("ddpg", &empty, &["--epochs", "1"]));
    assert!(told.contains("no embeddings; run first: eddyline train embeddings"), "{told}");
    assert!(!empty.exists(), "nothing is made for a training that can't begin");

    let dir = place.embedded("model");
    let before = files(&dir);
    let mut other = fs::read_to_string(&place.log).unwrap();
    other.push_str("999999999999,5,pv,1511600000,1,1,1,1,1,1\n");
    let other_log = place.path("other.csv");
    fs::write(&other_log, other).unwrap();
    let told = failure(&["train", "ddpg", text(&other_log), "--model-dir", text(&dir), "--epochs", "1"]);
    assert!(told.contains("its users are not those of"), "{told}");
    let told = failure(&place.train("ddpg", &dir, &["--epochs", "1", "--device", "cuda:77"]));
    assert!(told.starts_with("--device cuda:77: "), "{told}");
    let told = failure(&place.train("ddpg", &dir, &["--epochs", "1", "--device", "tpu"]));
    assert!(told.contains("expected \"cpu\", \"cuda\" or \"cuda:N\""), "{told}");
    let told = failure(&["train", "ddpg", text(&place.path("none.csv")), "--model-dir", text(&dir)]);
    assert!(told.contains("none.csv"), "{told}");
    assert!(files(&dir) == before);
}

#[test]
fn logs_that_teach_nothing_are_refused() {
    let place = Place::new();
    let dir = place.path("model");
    for (name, log, expected, method) in [
        ("empty.csv", "", "none of its 0 lines is an event", "dssm"),
        ("one.csv", "1,5,pv,1511600000\n2,5,pv,1511600001\n", "1 item; a model needs two to choose from", "dssm"),
        ("apart.csv", "1,5,pv,1511600000\n2,6,pv,1511600001\n", "no user has two training events", "spectral"),
    ] {
        let path = place.path(name);
        fs::write(&path, log).unwrap();
        let told = failure(&["train", "embeddings", text(&path), "--model-dir", text(&dir), "--method", method]);
        assert!(told.contains(expected), "{told}");
        assert!(!dir.exists());
    }
}

#[test]
fn too_little_to_hold_a_part_out_is_told_before_training() {
    let place = Place::new();
    let log = place.path("few.csv");
    // 24 events, of which 19 train.
    let rows = |users: std::ops::Range<u32>, events: u32| {
        users.flat_map(move |user| (0..events).map(move |n| format!("{user},{},pv,{}\n", n % 4, 1_511_600_000 + n)))
    };
    let text_of = |rows: Vec<String>| rows.concat();
    fs::write(&log, text_of(rows(0..1, 24).collect())).unwrap();
    let dir = place.path("model");
    let train = |subject, more: &[&str]| -> Vec<String> {
        let flags = ["train", subject, text(&log), "--model-dir", text(&dir), "--epochs", "2", "--threads", "1"];
        flags.iter().chain(more).map(|&flag| flag.to_owned()).collect()
    };
    let arguments = train("embeddings", &["--patience", "1"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let told = failure(&arguments);
    let expected =
        "the training parts have 19 events; --patience holds out a twentieth of them, which takes 20 at least";
    assert!(told.contains(expected) && !dir.exists(), "{told}");
    // One more is enough.
    fs::write(&log, text_of(rows(0..1, 25).collect())).unwrap();
    succeed(&[&arguments[..], &["-q"]].concat());
}

#[test]
fn a_loss_that_is_no_number_stops_with_epoch_and_batch() {
    let place = Place::new();
    let dir = place.embedded("model");
    succeed(&place.train("ddpg", &dir, &["--epochs", "1", "-q"]));
    let before = fs::read(dir.join("model_ddpg.pt")).unwrap();
    let told = failure(&place.train("ddpg", &dir, &["--epochs", "3", "--lr", "1e30", "--restart"]));
    assert!(told.starts_with("ddpg: ") && told.contains("_loss is ") && told.contains(" at epoch 1, batch "), "{told}");
    assert!(told.ends_with("a smaller --lr than 1000000000000000000000000000000 may help"), "{told}");
    assert!(fs::read(dir.join("model_ddpg.pt")).unwrap() == before, "the old model stays");
}

#[test]
fn another_run_is_not_continued_and_policies_are_not_orphaned() {
    let place = Place::new();
    let dir = place.embedded("model");
    succeed(&place.train("ddpg", &dir, &["--epochs", "1", "-q"]));
    let told = failure(&place.train("ddpg", &dir, &["--epochs", "2", "--seed", "9"]));
    assert!(told.contains("a checkpoint of a run with seed = 9") || told.contains("seed"), "{told}");
    let told = failure(&place.train("embeddings", &dir, &["--epochs", "1"]));
    assert!(told.contains("model_ddpg.pt, trained on the embeddings that are there now"), "{told}");
    succeed(&place.train("embeddings", &dir, &["--epochs", "1", "--restart", "-q"]));
    assert!(!dir.join("model_ddpg.pt").exists() && !dir.join("checkpoint_ddpg.safetensors").exists());
    // The leave to remove policies is not one to remove later ones.
    succeed(&place.train("ddpg", &dir, &["--epochs", "1", "-q"]));
    for epochs in ["1", "2"] {
        let told = failure(&place.train("embeddings", &dir, &["--epochs", epochs]));
        assert!(told.contains("model_ddpg.pt, trained on the embeddings that are there now"), "{told}");
    }
    fs::write(dir.join("checkpoint_bcq.safetensors"), b"not one").unwrap();
    let told = failure(&place.train("bcq", &dir, &["--epochs", "1"]));
    assert!(told.contains("checkpoint_bcq.safetensors: not a checkpoint of this program"), "{told}");
}

/// A small file system in memory, where this machine lets us mount one.
struct Mount(PathBuf);

impl Mount {
    fn new(path: &Path, bytes: usize) -> Option<Mount> {
        fs::create_dir_all(path).unwrap();
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

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped has to be seen")]
fn a_full_disk_leaves_the_old_model() {
    let place = Place::new();
    let dir = place.path("mount");
    let Some(_mount) = Mount::new(&dir, 4 << 20) else {
        eprintln!("SKIP: a full disk: this user can't mount a tmpfs; run as root");
        return;
    };
    succeed(&place.train("embeddings", &dir, &["--epochs", "1", "-q"]));
    fs::remove_file(dir.join("checkpoint_embeddings.safetensors")).unwrap();
    succeed(&place.train("ddpg", &dir, &["--epochs", "1", "-q"]));
    let before = fs::read(dir.join("model_ddpg.pt")).unwrap();
    let mut ballast = fs::File::create(dir.join("ballast")).unwrap();
    while std::io::Write::write(&mut ballast, &[1; 4096]).is_ok() {}
    let told = failure(&place.train("ddpg", &dir, &["--epochs", "3", "--restart"]));
    assert!(told.contains("cannot write") && told.contains("No space left on device"), "{told}");
    assert!(fs::read(dir.join("model_ddpg.pt")).unwrap() == before);
}
