//! Tensors that describe more than there is, and archives that unfold to more than they should.

use eddyline::model::state_dict::{EXPANSION_MAX, StateDict};
use zip::CompressionMethod;

use crate::{
    counting_allocator::peak_bytes,
    files::{dict, legacy_pt, tensor, zip, zip_pt},
};

const SIX: [f32; 6] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];

fn six_bytes() -> Vec<u8> {
    SIX.map(f32::to_le_bytes).concat()
}

/// One tensor `w` over a storage of six elements, read from both containers.
fn read(offset: i64, shape: &[i64], strides: &[i64]) -> Result<Vec<f32>, String> {
    let object = dict(&[("w", tensor("0", 6, offset, shape, strides))]);
    let storage = six_bytes();
    let read = |bytes: &[u8]| {
        let state = StateDict::read(bytes).map_err(|e| e.to_string())?;
        let tensor = state.get("w").unwrap();
        assert!(tensor.shape().iter().map(|s| *s as i64).eq(shape.iter().copied()));
        Ok(tensor.data().to_vec())
    };
    let (zipped, legacy) = (read(&zip_pt(&object, &[&storage])), read(&legacy_pt(&object, &[&storage])));
    assert_eq!(zipped, legacy);
    zipped
}

#[test]
fn strided_views_are_gathered() {
    assert_eq!(read(0, &[2, 3], &[3, 1]).unwrap(), SIX);
    assert_eq!(read(0, &[3, 2], &[1, 3]).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0], "transposed");
    assert_eq!(read(1, &[2, 2], &[3, 1]).unwrap(), [1.0, 2.0, 4.0, 5.0], "columns");
    assert_eq!(read(4, &[3], &[0]).unwrap(), [4.0, 4.0, 4.0], "expanded");
    assert_eq!(read(5, &[], &[]).unwrap(), [5.0], "a scalar");
    assert_eq!(read(0, &[3], &[2]).unwrap(), [0.0, 2.0, 4.0], "every other one");
    assert_eq!(read(0, &[0, 7], &[7, 1]).unwrap(), [0.0; 0], "empty");
    assert_eq!(read(0, &[1, 2, 1, 3], &[99, 3, 99, 1]).unwrap(), SIX, "the stride of a single step does not matter");
}

#[test]
fn views_beyond_their_storage_are_refused() {
    const MAX: i64 = i64::MAX;
    for (offset, shape, strides) in [
        (0, vec![7], vec![1]),
        (1, vec![2, 3], vec![3, 1]),
        (6, vec![], vec![]),
        (0, vec![2, 3], vec![4, 1]),
        (MAX, vec![2], vec![MAX]),
        (0, vec![3, 3], vec![MAX, MAX]),
        (0, vec![MAX, MAX], vec![0, 0]),
        (0, vec![MAX, MAX, 0], vec![MAX, 0, 0]),
    ] {
        let message = read(offset, &shape, &strides).unwrap_err();
        assert!(
            message.starts_with("\"w\" of shape (") && message.contains("beyond its storage of 6 elements"),
            "{message}"
        );
    }
    for (offset, shape, strides, expected) in [
        (-1, vec![1], vec![1], "\"w\": an offset that is no size"),
        (0, vec![-1], vec![1], "\"w\": a shape that is none"),
        (0, vec![1], vec![-1], "\"w\": strides that are none"),
        (0, vec![1, 1], vec![1], "\"w\": shape and strides of different lengths"),
        (0, vec![1; 9], vec![1; 9], "\"w\": a shape that is none"),
    ] {
        assert_eq!(read(offset, &shape, &strides).unwrap_err(), expected);
    }
}

#[test]
fn views_that_multiply_are_refused() {
    let expected = "too much for a file of its length: damaged, cut short or hostile";
    let endless = dict(&[("w", tensor("0", 6, 0, &[1 << 20, 1 << 20], &[0, 0]))]);
    for bytes in [zip_pt(&endless, &[&six_bytes()]), legacy_pt(&endless, &[&six_bytes()])] {
        let message = StateDict::read(&bytes).unwrap_err().to_string();
        assert!(message.ends_with(expected), "{message}");
    }
    // A thousand views of one storage of four megabytes.
    let storage = vec![0; 4 << 20];
    let keys: Vec<String> = (0..1000).map(|index| format!("w{index}")).collect();
    let view = tensor("0", 1 << 20, 0, &[1 << 20], &[1]);
    let object = dict(&keys.iter().map(|key| (key.as_str(), view.clone())).collect::<Vec<_>>());
    for bytes in [zip_pt(&object, &[&storage]), legacy_pt(&object, &[&storage])] {
        let (result, peak) = peak_bytes(|| StateDict::read(&bytes).unwrap_err().to_string());
        assert!(result.ends_with(expected), "{result}");
        assert!(peak < 8 << 20, "{peak}");
    }
}

#[test]
fn storages_must_be_as_long_as_they_say() {
    let object = dict(&[("w", tensor("0", 6, 0, &[6], &[1]))]);
    let zip_message = |storages: &[&[u8]]| StateDict::read(&zip_pt(&object, storages)).unwrap_err().to_string();
    assert_eq!(
        zip_message(&[&[0; 20]]),
        "the data of storage \"0\" has 20 bytes, but the pickle says 24: damaged or cut short"
    );
    assert_eq!(
        zip_message(&[&[0; 28]]),
        "the length in bytes of a part of the archive goes beyond 24, more than any state_dict of this length needs"
    );
    assert_eq!(zip_message(&[]), "the archive has no \"m/data/0\": not written by torch.save, or damaged");
    let legacy_message = |storages: &[&[u8]]| StateDict::read(&legacy_pt(&object, storages)).unwrap_err().to_string();
    assert_eq!(
        legacy_message(&[&[0; 20]]),
        "not the layout of torch.save: a storage's length is not the one that its tensors were given"
    );
    assert_eq!(legacy_message(&[]), "not the layout of torch.save: a tensor's storage is not in the list of storages");
    assert_eq!(legacy_message(&[&six_bytes(), &[0; 4]]), "not the layout of torch.save: a storage that no tensor uses");
    let file = legacy_pt(&object, &[&six_bytes()]);
    assert_eq!(
        StateDict::read(&file[..file.len() - 5]).unwrap_err().to_string(),
        "the data of storage \"0\" has 19 bytes, but the pickle says 24: damaged or cut short"
    );
    assert_eq!(
        StateDict::read(&[file, vec![0; 3]].concat()).unwrap_err().to_string(),
        "3 bytes follow the last tensor: damaged, or several files in one"
    );
}

#[test]
fn one_storage_has_one_type_and_length() {
    let half = tensor("0", 6, 0, &[6], &[1]);
    let at = half.windows(12).position(|w| w == b"FloatStorage").unwrap();
    let half = [&half[..at], b"Half", &half[at + 5..]].concat();
    for second in [half, tensor("0", 5, 0, &[5], &[1])] {
        let object = dict(&[("a", tensor("0", 6, 0, &[6], &[1])), ("b", second)]);
        let message = StateDict::read(&zip_pt(&object, &[&six_bytes()])).unwrap_err().to_string();
        assert_eq!(message, "\"b\": it shares a storage under another type or length");
    }
    let twice = dict(&[("a", tensor("0", 6, 0, &[6], &[1])), ("a", tensor("0", 6, 0, &[6], &[1]))]);
    let message = StateDict::read(&zip_pt(&twice, &[&six_bytes()])).unwrap_err().to_string();
    assert_eq!(message, "key \"a\" is given twice");
}

/// 64 MiB of zeros deflate to 64 KiB: neither as a storage, nor as the pickle, nor as the byte order are they unfolded.
#[test]
fn decompression_bombs_are_refused() {
    const COUNT: i64 = 16 << 20;
    let zeros = vec![0; COUNT as usize * 4];
    let object = dict(&[("w", tensor("0", COUNT, 0, &[COUNT], &[1]))]);
    let small = dict(&[("w", tensor("0", 6, 0, &[6], &[1]))]);
    for entries in [
        [("m/data.pkl", object.as_slice()), ("m/data/0", &zeros)],
        [("m/data.pkl", &small), ("m/data/0", &zeros)],
        [("m/data.pkl", &zeros), ("m/data/0", &[])],
        [("m/data.pkl", &small), ("m/byteorder", &zeros)],
    ] {
        let bytes = zip(&entries, CompressionMethod::Deflated);
        assert!(bytes.len() < 80 << 10);
        let (result, peak) = peak_bytes(|| StateDict::read(&bytes).unwrap_err().to_string());
        assert!(result.contains("beyond") || result.contains("too much for a file"), "{result}");
        assert!(peak < bytes.len() * EXPANSION_MAX as usize + (4 << 20), "{peak}");
    }
}

#[test]
fn archives_of_another_kind_are_named() {
    let message =
        |entries: &[(&str, &[u8])]| StateDict::read(&zip(entries, CompressionMethod::Stored)).unwrap_err().to_string();
    assert_eq!(
        message(&[("m/data.pkl", b""), ("m/constants.pkl", b"")]),
        "a TorchScript module, not a state_dict: save module.state_dict() instead"
    );
    assert_eq!(
        message(&[("word/document.xml", b"")]),
        "the archive has no \"data.pkl\": not written by torch.save, or damaged"
    );
    assert_eq!(
        message(&[("m/data.pkl", b""), ("m/byteorder", b"big")]),
        "written on a big-endian machine, which is not supported"
    );
    assert_eq!(
        message(&[("m/data.pkl", b""), ("m/byteorder", b"middle")]),
        "not the layout of torch.save: the byte order is neither little nor big"
    );
}

#[test]
fn chains_of_pickles_of_another_kind_are_named() {
    let legacy = legacy_pt(&dict(&[("w", tensor("0", 6, 0, &[6], &[1]))]), &[&six_bytes()]);
    let replaced = |from: &[u8], to: &[u8]| {
        let at = legacy.windows(from.len()).position(|window| window == from).unwrap();
        let bytes = [&legacy[..at], to, &legacy[at + from.len()..]].concat();
        StateDict::read(&bytes).unwrap_err().to_string()
    };
    for (from, to, expected) in [
        (&b"endian\x88"[..], &b"endian\x89"[..], "written on a big-endian machine, which is not supported"),
        (b"endian\x88", b"endianN", "not the layout of torch.save: the byte order is not given"),
        (
            b"}X\x0d\0\0\0little_endian\x88s.",
            b"].",
            "not the layout of torch.save: the facts about the machine are no dict",
        ),
        (b"M\xe9\x03.", b"M\xe8\x03.", "not the layout of torch.save: the protocol version is not 1001"),
        (b"\x50\x19.", b"\x50\x1a.", "not a PyTorch state_dict (it is a pickle, but not one of torch.save)"),
        (b"](X\x01\0\0\x000e.", b"N.", "not the layout of torch.save: the storage keys are no list"),
        (b"](X\x01\0\0\x000e.", b"](Ne.", "not the layout of torch.save: a storage key is no string"),
    ] {
        assert_eq!(replaced(from, to), expected);
    }
}
