//! Deaths: whatever happens, the same command ends with the files of an undisturbed run.

use super::*;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn killed_ten_times_it_ends_as_if_undisturbed() {
    let place = Place::new();
    let calm = place.embedded("calm");
    for (subject, epochs) in [("embeddings", "4"), ("reinforce", "2"), ("ddpg", "4"), ("bcq", "3")] {
        let stormy = place.path(&format!("stormy-{subject}"));
        let calm = if subject == "embeddings" { place.path("calm-embeddings") } else { calm.clone() };
        if subject != "embeddings" {
            copy_tables(&calm, &stormy);
        }
        // A checkpoint after every batch, so that runs stop in the middle of epochs.
        let flags = ["--epochs", epochs, "--checkpoint", "0s", "-q"];
        let began = Instant::now();
        succeed(&place.train(subject, &calm, &flags));
        let mut took = began.elapsed();
        let mut kills = 0;
        for attempt in 1..=200 {
            let mut child = eddyline(&place.train(subject, &stormy, &flags)).stderr(Stdio::null()).spawn().unwrap();
            let until = Instant::now() + took.mul_f64(0.4 + 0.03 * f64::from(attempt % 7));
            while Instant::now() < until && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
            if child.try_wait().unwrap().is_some() {
                if kills >= 10 {
                    break;
                }
                // Done too soon, perhaps as the machine is less busy than it was: from the start, for more deaths.
                took = took.mul_f64(0.8);
                let restart = ["--restart", "--epochs", "1", "--checkpoint", "0s", "-q"];
                succeed(&place.train(subject, &stormy, &restart));
                continue;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        }
        assert!(kills >= 10, "{subject}: {kills}");
        succeed(&place.train(subject, &stormy, &flags));
        let different: Vec<String> = differences(&calm, &stormy)
            .into_iter()
            .filter(|name| name.contains(subject) || name.contains("tianchi"))
            .collect();
        assert_eq!(different, [""; 0], "{subject}");
    }
}

fn copy_tables(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in ["tianchi_user_embeddings.npy", "tianchi_item_embeddings.npy", "user_map.json", "item_map.json"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn a_signal_leaves_a_checkpoint_and_a_word() {
    let place = Place::new();
    let dir = place.embedded("model");
    let arguments = place.train("reinforce", &dir, &["--epochs", "100000", "-q"]);
    let child = eddyline(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    let history = dir.join("checkpoint_reinforce.safetensors");
    let until = Instant::now() + Duration::from_secs(60);
    while !history.exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let told = failure(&place.train("reinforce", &dir, &["--epochs", "1"]));
    assert!(
        told.ends_with("another train reinforce is at work in it; wait until it is done, or use another directory"),
        "{told}"
    );
    let kill = format!("kill -TERM {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let told = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("stopped at epoch") && told.lines().count() == 1, "{told}");
    assert!(!dir.join("model_reinforce.pt").exists());
}

#[test]
fn new_embeddings_that_were_killed_go_on_without_being_told_again() {
    let place = Place::new();
    let dir = place.embedded("model");
    succeed(&place.train("ddpg", &dir, &["--epochs", "1", "-q"]));
    let flags = ["--seed", "2", "--epochs", "100000", "--checkpoint", "0s", "-q"];
    let restart = [&flags[..], &["--restart"]].concat();
    let mut child = eddyline(&place.train("embeddings", &dir, &restart)).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = dir.join("checkpoint_embeddings.safetensors");
    // The one of the embeddings that are there is gone first.
    let is_new = || {
        let bytes = std::fs::read(&checkpoint).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\\', "").contains("\"seed\":2")
    };
    let until = Instant::now() + Duration::from_secs(60);
    while !is_new() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(dir.join("model_ddpg.pt").exists());
    // Another training has no leave.
    let told = failure(&place.train("embeddings", &dir, &["--seed", "3", "--epochs", "1"]));
    assert!(told.contains("model_ddpg.pt, trained on the embeddings that are there now"), "{told}");
    let goes_on = ["--seed", "2", "--epochs", "1", "-q"];
    succeed(&place.train("embeddings", &dir, &goes_on));
    assert!(!dir.join("model_ddpg.pt").exists() && !dir.join("replacing_policies").exists());
}
