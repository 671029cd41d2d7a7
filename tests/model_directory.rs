//! Model directories: what is saved loads again, and everything that can be wrong is one plain line that names the file
//! and the key.

#![allow(clippy::unwrap_used)]

#[path = "model_directory/small.rs"]
mod small;

use std::{fs, path::Path};

use eddyline::model::{
    algorithm::Algorithm,
    directory::{MANIFEST, ModelDirectory, Tables},
    error::ModelError,
    layers,
    maps::IdMap,
    state_dict::{Nesting, StateDict, Tensor},
    weights::{Policy, Weights},
};
use tempfile::TempDir;

fn saved(algorithm: Algorithm) -> (TempDir, ModelDirectory) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("a/model");
    let saved = ModelDirectory::save(&dir, small::weights(algorithm), small::users(), small::items()).unwrap();
    (temporary, saved)
}

fn nesting(algorithm: Algorithm) -> Nesting {
    if algorithm == Algorithm::Bcq { Nesting::ByFirstDot } else { Nesting::Flat }
}

/// Damages a saved directory and gives the message, without the path of the directory.
fn message(algorithm: Algorithm, damage: impl FnOnce(&Path)) -> String {
    let (temporary, _) = saved(algorithm);
    let dir = temporary.path().join("a/model");
    damage(&dir);
    let message = ModelDirectory::load(&dir, algorithm).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message.strip_prefix(&format!("{}", dir.display())).unwrap().to_owned()
}

/// The message after an edit of the tensors, without the path of the file.
fn tensors_message(algorithm: Algorithm, change: impl FnOnce(&mut Vec<(String, Tensor)>)) -> String {
    let file = algorithm.file_name();
    let message = message(algorithm, |dir| {
        let edited = small::edit(&fs::read(dir.join(&file)).unwrap(), nesting(algorithm), change);
        fs::write(dir.join(&file), edited).unwrap();
    });
    message.strip_prefix(&format!("/{file}: ")).unwrap().to_owned()
}

fn replace(entries: &mut [(String, Tensor)], key: &str, tensor: Tensor) {
    entries.iter_mut().find(|(k, _)| k == key).unwrap().1 = tensor;
}

#[test]
fn what_is_saved_loads_again() {
    for algorithm in Algorithm::ALL {
        let (temporary, saved) = saved(algorithm);
        let dir = temporary.path().join("a/model");
        let loaded = ModelDirectory::load(&dir, algorithm).unwrap();
        assert_eq!(loaded.weights, small::weights(algorithm));
        assert_eq!((&loaded.users, &loaded.items), (&small::users(), &small::items()));
        assert_eq!((loaded.algorithm, &loaded.content_hash), (algorithm, &saved.content_hash));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 5, "no temporary files are left");
    }
}

#[test]
fn saving_is_deterministic_and_the_hash_follows_the_content() {
    let (first_dir, first) = saved(Algorithm::Ddpg);
    let (second_dir, second) = saved(Algorithm::Ddpg);
    for file in ["model_ddpg.pt", "user_map.json", "item_map.json", "tianchi_user_embeddings.npy"] {
        let read = |dir: &TempDir| fs::read(dir.path().join("a/model").join(file)).unwrap();
        assert!(read(&first_dir) == read(&second_dir), "{file}");
    }
    assert_eq!(first.content_hash, second.content_hash);
    let swapped = IdMap::from_ids(vec![101, 100, 102, 103, 104]).unwrap();
    let dir = first_dir.path().join("a/model");
    let other = ModelDirectory::save(&dir, first.weights, swapped, first.items).unwrap();
    assert_ne!(other.content_hash, second.content_hash);
    assert_eq!(ModelDirectory::load(&dir, Algorithm::Ddpg).unwrap().content_hash, other.content_hash);
}

/// Policies that are written at once, each with its word in the manifest, as trainings do.
#[test]
fn no_word_in_the_manifest_is_lost() {
    const ROUNDS: usize = 5;
    let (temporary, _) = saved(Algorithm::Ddpg);
    let dir = &temporary.path().join("a/model");
    let words = || -> serde_json::Map<String, serde_json::Value> {
        fs::read(dir.join(MANIFEST))
            .map_or_else(|_| Default::default(), |bytes| serde_json::from_slice(&bytes).unwrap())
    };
    std::thread::scope(|scope| {
        for algorithm in Algorithm::ALL {
            scope.spawn(move || {
                let state = StateDict::read(&layers::write(&small::weights(algorithm)).unwrap()).unwrap();
                for round in 0..ROUNDS {
                    let companions = |_: &str| {
                        let mut words = words();
                        std::thread::sleep(std::time::Duration::from_millis(2));
                        words.insert(format!("{algorithm} {round}"), true.into());
                        vec![(MANIFEST.to_owned(), serde_json::to_vec(&words).unwrap())]
                    };
                    ModelDirectory::save_policy(dir, algorithm, state.clone(), companions).unwrap();
                }
            });
        }
    });
    assert_eq!(words().len(), Algorithm::ALL.len() * ROUNDS);
}

/// Tables of which some are of another training: as a write leaves them that is cut short, or a hand.
#[test]
fn tables_that_do_not_go_together_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let manifest = |hash: &str| {
        vec![(MANIFEST.to_owned(), format!("{{\"embeddings\":{{\"content_hash\":\"{hash}\"}}}}").into_bytes())]
    };
    let save = |name: &str, value: f32| {
        let weights = small::weights(Algorithm::Ddpg);
        let [mut users, mut items] = [weights.users, weights.items];
        (users.data[0], items.data[0]) = (value, value);
        let dir = temporary.path().join(name);
        Tables { users, items, user_map: small::users(), item_map: small::items() }.save(&dir, manifest, &[]).unwrap();
        dir
    };
    let (old, new) = (save("old", 1.0), save("new", 2.0));
    let refused = |dir: &Path| {
        let error = Tables::load(dir).unwrap_err();
        assert!(matches!(error, ModelError::OtherTables { .. }), "{error}");
        assert!(error.to_string().contains("run train embeddings again") && !error.to_string().contains('\n'));
    };
    for name in ["tianchi_user_embeddings.npy", "tianchi_item_embeddings.npy", MANIFEST] {
        let before = fs::read(old.join(name)).unwrap();
        fs::copy(new.join(name), old.join(name)).unwrap();
        refused(&old);
        fs::write(old.join(name), before).unwrap();
        assert_eq!(Tables::load(&old).unwrap().unwrap().users.data[0], 1.0);
    }
    // What is replaced is gone from the first moment on to the last.
    fs::remove_file(old.join("item_map.json")).unwrap();
    refused(&old);
    // Tables without a word about them are taken as they are.
    fs::copy(new.join("item_map.json"), old.join("item_map.json")).unwrap();
    fs::copy(new.join("tianchi_user_embeddings.npy"), old.join("tianchi_user_embeddings.npy")).unwrap();
    fs::remove_file(old.join(MANIFEST)).unwrap();
    assert_eq!(Tables::load(&old).unwrap().unwrap().users.data[0], 2.0);
}

#[test]
fn the_unused_layers_of_the_reference_are_written_too() {
    for algorithm in Algorithm::ALL {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(algorithm.file_name());
        let reference = StateDict::read(&fs::read(fixture).unwrap()).unwrap();
        let ours = layers::state_dict_of(&small::weights(algorithm)).unwrap();
        assert!(reference.keys().eq(ours.keys()), "{algorithm}: the same keys in the same order");
    }
}

#[test]
fn missing_files_are_named() {
    for file in [
        "user_map.json",
        "item_map.json",
        "tianchi_user_embeddings.npy",
        "tianchi_item_embeddings.npy",
        "model_reinforce.pt",
    ] {
        let message = message(Algorithm::Reinforce, |dir| fs::remove_file(dir.join(file)).unwrap());
        assert_eq!(message, format!("/{file}: no such file in the model directory"));
    }
    let message = message(Algorithm::Ddpg, |dir| {
        fs::rename(dir.join("model_ddpg.pt"), dir.join("model_bcq.pt")).unwrap();
    });
    assert_eq!(message, "/model_ddpg.pt: no such file in the model directory; it has model_bcq.pt");
}

#[test]
fn things_that_are_no_files_are_named() {
    let directory = message(Algorithm::Ddpg, |dir| {
        fs::remove_file(dir.join("user_map.json")).unwrap();
        fs::create_dir(dir.join("user_map.json")).unwrap();
    });
    assert_eq!(directory, "/user_map.json: not a regular file");
    let file = message(Algorithm::Ddpg, |dir| {
        fs::remove_dir_all(dir).unwrap();
        fs::write(dir, "x").unwrap();
    });
    assert!(file.starts_with(": not a directory; a model directory holds model_{reinforce,ddpg,bcq}.pt"), "{file}");
    let nothing = message(Algorithm::Ddpg, |dir| fs::remove_dir_all(dir).unwrap());
    assert!(nothing.starts_with(": not a directory;"), "{nothing}");
}

#[cfg(unix)]
#[test]
fn a_pipe_and_a_device_do_not_hang_the_reader() {
    let device = message(Algorithm::Ddpg, |dir| {
        fs::remove_file(dir.join("item_map.json")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.join("item_map.json")).unwrap();
    });
    assert_eq!(device, "/item_map.json: not a regular file");
}

#[test]
fn files_of_another_kind_are_named() {
    for (file, content, expected) in [
        ("model_ddpg.pt", "", "not a PyTorch state_dict (the file is empty)"),
        ("model_ddpg.pt", "<!DOCTYPE html>", "not a PyTorch state_dict (it is a web page: was the download refused?)"),
        ("model_ddpg.pt", "\u{93}NUMPY", "not a PyTorch state_dict"),
        ("tianchi_item_embeddings.npy", "<html>", "not a .npy file (it is a web page: was the download refused?)"),
        (
            "user_map.json",
            "version https://git-lfs",
            "not a JSON object of raw id to index: expected value at line 1 column 1 (it is a Git LFS pointer: fetch the file itself with `git lfs pull`)",
        ),
    ] {
        let message = message(Algorithm::Ddpg, |dir| fs::write(dir.join(file), content).unwrap());
        assert_eq!(message, format!("/{file}: {expected}"));
    }
}

#[test]
fn maps_must_fit_the_tables() {
    let user_map = message(Algorithm::Bcq, |dir| fs::write(dir.join("user_map.json"), r#"{"7":0}"#).unwrap());
    assert_eq!(user_map, "/user_map.json: 1 ids, but user_embeds of model_bcq.pt has 5 rows (one a user)");
    let seven = IdMap::from_ids((0..7).collect()).unwrap().write();
    let item_map = message(Algorithm::Bcq, |dir| fs::write(dir.join("item_map.json"), &seven).unwrap());
    assert_eq!(
        item_map,
        "/item_map.json: 7 ids, but item_embeds of model_bcq.pt has 7 rows (one an item and the padding row)"
    );
    let duplicate = message(Algorithm::Bcq, |dir| fs::write(dir.join("item_map.json"), r#"{"7":0,"8":0}"#).unwrap());
    assert_eq!(duplicate, "/item_map.json: ids 7 and 8 have the same index 0");
}

#[test]
fn npy_files_must_have_the_shapes_of_the_tables() {
    let message = message(Algorithm::Bcq, |dir| {
        fs::copy(dir.join("tianchi_user_embeddings.npy"), dir.join("tianchi_item_embeddings.npy")).unwrap();
    });
    assert_eq!(
        message,
        "/tianchi_item_embeddings.npy: shape (5, 2), but generator.item_embeds.weight of model_bcq.pt has shape (7, 2)"
    );
}

#[test]
fn missing_and_unknown_keys_are_named() {
    let ddpg = Algorithm::Ddpg;
    assert_eq!(
        tensors_message(ddpg, |entries| entries.retain(|(key, _)| key != "fc2.bias")),
        "key \"fc2.bias\" of ddpg is missing"
    );
    assert_eq!(
        tensors_message(ddpg, |entries| entries.retain(|(key, _)| !key.starts_with("fc2"))),
        "key \"fc2.weight\" of ddpg is missing, and 1 more"
    );
    assert_eq!(
        tensors_message(ddpg, |entries| entries.push(("critic.fc1.weight".into(), small::zeros(&[1])))),
        "unknown key \"critic.fc1.weight\": ddpg has no such tensor"
    );
    assert_eq!(
        tensors_message(ddpg, |entries| entries.push(("attention.in_proj_weight".into(), small::zeros(&[1])))),
        "key \"attention.in_proj_weight\" belongs to the attention variant of the policies, which is not supported"
    );
    let nested = ("generator.attention.out_proj.bias".to_owned(), small::zeros(&[1]));
    assert_eq!(
        tensors_message(Algorithm::Bcq, |entries| entries.insert(3, nested)),
        "key \"generator.attention.out_proj.bias\" belongs to the attention variant of the policies, which is not supported"
    );
    let other = message(ddpg, |dir| {
        let weights = small::weights(Algorithm::Bcq);
        fs::write(dir.join("model_ddpg.pt"), layers::write(&weights).unwrap()).unwrap();
    });
    assert_eq!(other, "/model_ddpg.pt: these are the weights of bcq, not of ddpg");
}

/// Every tensor of every algorithm, grown by one along each axis and by one axis, is refused by a line that says why.
#[test]
fn every_shape_is_checked() {
    for algorithm in Algorithm::ALL {
        let file = algorithm.file_name();
        let [users, items] = [layers::users_key(algorithm), layers::items_key(algorithm)];
        for key in layers::state_dict_of(&small::weights(algorithm)).unwrap().keys() {
            for axis in [0, 1, 2] {
                let message = message(algorithm, |dir| {
                    let grow = |entries: &mut Vec<(String, Tensor)>| grow(entries, key, axis);
                    let edited = small::edit(&fs::read(dir.join(&file)).unwrap(), nesting(algorithm), grow);
                    fs::write(dir.join(&file), edited).unwrap();
                });
                // One row more in a table is a matter between it and the map, unless a layer has that size too.
                let expected = match (axis, key) {
                    (0, key) if key == users => "/user_map.json: 5 ids, but user_embeds of",
                    (0, key) if key == items && algorithm != Algorithm::Reinforce => {
                        "/item_map.json: 6 ids, but item_embeds of"
                    }
                    _ => &format!("/{file}: \""),
                };
                assert!(message.starts_with(expected), "{algorithm} {key}: {message}");
                assert!(["shape", "inputs", "rows"].iter().any(|word| message.contains(word)), "{message}");
            }
        }
    }
}

fn grow(entries: &mut [(String, Tensor)], key: &str, axis: usize) {
    let tensor = &mut entries.iter_mut().find(|(k, _)| k == key).unwrap().1;
    let mut shape = tensor.shape().to_vec();
    match shape.get_mut(axis) {
        Some(size) => *size += 1,
        None => shape.push(1),
    }
    *tensor = small::zeros(&shape);
}

#[test]
fn shapes_are_explained() {
    let ddpg = Algorithm::Ddpg;
    assert_eq!(
        tensors_message(ddpg, |entries| replace(entries, "fc3.weight", small::zeros(&[3, 4]))),
        "\"fc3.weight\" has shape (3, 4), but d = 2, H = 3, h = 4 and 6 items need (2, 4)"
    );
    assert_eq!(
        tensors_message(ddpg, |entries| replace(entries, "fc1.weight", small::zeros(&[4, 9]))),
        "\"fc1.weight\" has 9 inputs, which is not d(H+1) for d = 2 and any H of at least 1"
    );
    assert_eq!(
        tensors_message(ddpg, |entries| replace(entries, "fc1.weight", small::zeros(&[4, 2]))),
        "\"fc1.weight\" has 2 inputs, which is not d(H+1) for d = 2 and any H of at least 1"
    );
    assert_eq!(
        tensors_message(Algorithm::Bcq, |entries| replace(entries, "generator.decoder1.weight", small::zeros(&[4, 2]))),
        "\"generator.decoder1.weight\" has 2 inputs, which is not d(H+1) + 2d for d = 2 and any H of at least 1"
    );
    assert_eq!(
        tensors_message(ddpg, |entries| replace(entries, "item_embeds.weight", small::zeros(&[7]))),
        "\"item_embeds.weight\" has shape (7,), where (items + 1, d) with at least one item is needed"
    );
    for empty in [[0, 0], [1, 2], [7, 0]] {
        let message = tensors_message(ddpg, |entries| replace(entries, "item_embeds.weight", small::zeros(&empty)));
        assert!(message.ends_with("where (items + 1, d) with at least one item is needed"), "{message}");
    }
    let message = tensors_message(ddpg, |entries| replace(entries, "user_embeds.weight", small::zeros(&[0, 2])));
    assert_eq!(message, "\"user_embeds.weight\" has shape (0, 2), where (users, d) with at least one user is needed");
    let message = tensors_message(ddpg, |entries| replace(entries, "fc1.weight", small::zeros(&[0, 8])));
    assert_eq!(message, "\"fc1.weight\" has shape (0, 8), where (h, inputs) is needed");
}

#[test]
fn weights_that_are_not_finite_are_named() {
    for (value, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let message = tensors_message(Algorithm::Reinforce, |entries| {
            let mut data = vec![0.0; 16];
            data[6] = value;
            replace(entries, "fc2.weight", Tensor::new(vec![4, 4], data).unwrap());
        });
        assert_eq!(message, format!("\"fc2.weight\" at (1, 2) is {name}, not a finite number"));
    }
    let message = message(Algorithm::Reinforce, |dir| {
        let path = dir.join("tianchi_user_embeddings.npy");
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(path, bytes).unwrap();
    });
    assert_eq!(message, "/tianchi_user_embeddings.npy: row 4, column 1 is NaN, not a finite 32-bit number");
}

#[test]
fn only_weights_that_would_load_are_saved() {
    let temporary = tempfile::tempdir().unwrap();
    let refuse = |change: fn(&mut Weights)| {
        let mut weights = small::weights(Algorithm::Ddpg);
        change(&mut weights);
        let dir = temporary.path().join("refused");
        let error = ModelDirectory::save(&dir, weights, small::users(), small::items()).unwrap_err().to_string();
        assert!(!dir.exists(), "nothing was written");
        error.split_once("refused/").unwrap().1.to_owned()
    };
    assert_eq!(
        refuse(|weights| weights.history = 4),
        "model_ddpg.pt: \"fc1.weight\" has shape (4, 8), but d = 2, H = 4, h = 4 and 6 items need (4, 10)"
    );
    assert_eq!(
        refuse(|weights| weights.users.data.truncate(3)),
        "model_ddpg.pt: \"user_embeds.weight\" does not have as many values as its shape says"
    );
    assert_eq!(
        refuse(|weights| weights.items.data[3] = f32::NAN),
        "model_ddpg.pt: \"item_embeds.weight\" at (1, 1) is NaN, not a finite number"
    );
    assert_eq!(
        refuse(|weights| if let Policy::Ddpg { fc } = &mut weights.policy {
            fc[2].outputs = 1
        }),
        "model_ddpg.pt: \"fc3.weight\" does not have as many values as its shape says"
    );
    assert_eq!(
        refuse(|weights| {
            weights.users.rows = 4;
            weights.users.data.truncate(8);
        }),
        "user_map.json: 5 ids, but user_embeds of model_ddpg.pt has 4 rows (one a user)"
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let temporary = tempfile::tempdir().unwrap();
    fs::write(temporary.path().join("file"), "").unwrap();
    let dir = temporary.path().join("file/model");
    let error = ModelDirectory::save(&dir, small::weights(Algorithm::Ddpg), small::users(), small::items())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with(&format!("{}: cannot create the directory: ", dir.display())), "{error}");
}

#[test]
fn a_write_that_fails_leaves_nothing_under_a_real_name() {
    let temporary = tempfile::tempdir().unwrap();
    // A directory where a temporary file should go makes the write fail on its way.
    fs::create_dir(temporary.path().join(".item_map.json.partial")).unwrap();
    let saved = |dir: &Path| {
        ModelDirectory::save(dir, small::weights(Algorithm::Ddpg), small::users(), small::items()).map(|_| ())
    };
    let error = saved(temporary.path()).unwrap_err().to_string();
    assert!(error.contains(".item_map.json.partial: cannot write: "), "{error}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
}

/// Root reads everything, so this says something only when run as another user.
#[cfg(unix)]
#[test]
fn no_permission_is_said() {
    use std::os::unix::fs::PermissionsExt;

    let (temporary, _) = saved(Algorithm::Ddpg);
    let dir = temporary.path().join("a/model");
    let file = dir.join("user_map.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    match ModelDirectory::load(&dir, Algorithm::Ddpg) {
        Ok(_) => assert!(fs::File::open(&file).is_ok(), "SKIP: this user may read everything"),
        Err(error) => {
            assert_eq!(error.to_string(), format!("{}: cannot read: Permission denied (os error 13)", file.display()))
        }
    }
}
