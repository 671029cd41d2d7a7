//! Builds `.pt` files around any pickle, well-formed but for it.

use std::io::{Cursor, Read, Write};

use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

/// A zip archive with these entries.
pub(crate) fn zip(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in entries {
        archive.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        archive.write_all(data).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// An archive as torch.save makes it, with storages `0`, `1`, ….
pub(crate) fn zip_pt(object: &[u8], storages: &[&[u8]]) -> Vec<u8> {
    let names: Vec<String> = (0..storages.len()).map(|index| format!("m/data/{index}")).collect();
    let mut entries: Vec<(&str, &[u8])> = vec![("m/data.pkl", object), ("m/byteorder", b"little")];
    entries.extend(names.iter().map(String::as_str).zip(storages.iter().copied()));
    zip(&entries, CompressionMethod::Stored)
}

/// The entry of an archive whose name ends so.
pub(crate) fn unzip(archive: &[u8], end: &str) -> Vec<u8> {
    let mut archive = ZipArchive::new(Cursor::new(archive)).unwrap();
    let name = archive.file_names().map(Result::unwrap).find(|name| name.ends_with(end)).unwrap().into_owned();
    let mut data = Vec::new();
    archive.by_name(&name).unwrap().read_to_end(&mut data).unwrap();
    data
}

/// A file as torch.save made it before PyTorch 1.6, with storages `0`, `1`, … of f32.
pub(crate) fn legacy_pt(object: &[u8], storages: &[&[u8]]) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    file.extend(b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.");
    file.extend(object);
    file.extend(b"\x80\x02](");
    for index in 0..storages.len() {
        file.extend(string(&index.to_string()));
    }
    file.extend(b"e.");
    for storage in storages {
        file.extend((storage.len() as i64 / 4).to_le_bytes());
        file.extend(*storage);
    }
    file
}

/// The instruction that pushes a string.
pub(crate) fn string(text: &str) -> Vec<u8> {
    [b"X", (text.len() as u32).to_le_bytes().as_slice(), text.as_bytes()].concat()
}

/// The instruction that pushes an integer.
pub(crate) fn int(value: i64) -> Vec<u8> {
    [&[0x8a, 8], value.to_le_bytes().as_slice()].concat()
}

/// The instructions that push a tuple.
pub(crate) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", items.concat().as_slice(), b"t"].concat()
}

/// The instructions that push a tensor of f32.
pub(crate) fn tensor(storage: &str, count: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let sizes = |sizes: &[i64]| tuple(&sizes.iter().map(|size| int(*size)).collect::<Vec<_>>());
    let description =
        tuple(&[string("storage"), b"ctorch\nFloatStorage\n".to_vec(), string(storage), string("cpu"), int(count)]);
    let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
    let arguments = tuple(&[
        [description.as_slice(), b"Q"].concat(),
        int(offset),
        sizes(shape),
        sizes(strides),
        b"\x89".to_vec(),
        hooks,
    ]);
    [b"ctorch._utils\n_rebuild_tensor_v2\n", arguments.as_slice(), b"R"].concat()
}

/// A pickle of a dict with these keys and the instructions of its values.
pub(crate) fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = entries.iter().flat_map(|(key, value)| [string(key), value.clone()].concat()).collect();
    [b"\x80\x02}(", items.as_slice(), b"u."].concat()
}
