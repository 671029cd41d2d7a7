//! Small valid files, cut at every byte and with every bit flipped.

use eddyline::model::{maps::IdMap, npy, pickle::Pickle, state_dict::StateDict, weights::Embedding};

use crate::files::{legacy_pt, unzip, zip_pt};
use crate::fuzz::small_model;

/// A small model's `.pt` in both formats, and its pickle.
fn files() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let archive = small_model();
    let object = unzip(&archive, "/data.pkl");
    let count = StateDict::read(&archive).unwrap().iter().len();
    let storages: Vec<Vec<u8>> = (0..count).map(|index| unzip(&archive, &format!("/data/{index}"))).collect();
    let storages: Vec<&[u8]> = storages.iter().map(Vec::as_slice).collect();
    (zip_pt(&object, &storages), legacy_pt(&object, &storages), object)
}

#[test]
fn both_formats_hold_the_same() {
    let (zip, legacy, _) = files();
    assert_eq!(StateDict::read(&zip), StateDict::read(&legacy));
    assert_eq!(StateDict::read(&zip), StateDict::read(&small_model()));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let (zip, legacy, object) = files();
    for file in [&zip, &legacy, &small_model()] {
        for cut in 0..file.len() {
            let error = StateDict::read(&file[..cut]).expect_err("a cut file").to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }
    for cut in 0..object.len() {
        Pickle::read(&object[..cut]).expect_err("a cut pickle");
    }
    let map = IdMap::from_ids(vec![17, 4, 2_000_000]).unwrap().write();
    for cut in 0..map.len() {
        IdMap::read(&map[..cut]).expect_err("a cut map");
    }
}

/// A flipped bit gives an error or, where it hits what does not matter, the same tensors. The older format has no
/// checksums, so there a flipped bit may also be another number.
#[test]
fn flipped_bits_never_panic_and_checksums_catch_them() {
    let (zip, legacy, object) = files();
    let intact = StateDict::read(&zip).unwrap();
    each_flip(&zip, |flipped| {
        if let Ok(state) = StateDict::read(flipped) {
            assert_eq!(state, intact);
        }
    });
    each_flip(&legacy, |flipped| drop(StateDict::read(flipped)));
    each_flip(&object, |flipped| drop(Pickle::read(flipped)));
    each_flip(&IdMap::from_ids(vec![17, 4, 2_000_000]).unwrap().write(), |flipped| drop(IdMap::read(flipped)));
    each_flip(&npy::write(&Embedding { rows: 2, dim: 2, data: vec![1.0; 4] }), |flipped| drop(npy::read(flipped)));
}

fn each_flip(bytes: &[u8], mut check: impl FnMut(&[u8])) {
    let mut bytes = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}
