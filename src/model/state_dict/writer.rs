//! Writes the zip format: the entries, their order and the pickle's instructions are those of `torch.save`, without
//! what varies from run to run.

use std::io::{Cursor, Write};

use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use super::{StateDict, StateDictError, Tensor};
use crate::model::error::excerpt;

/// PyTorch aligns storages to this, so that they can be mapped into memory.
const ALIGNMENT: u16 = 64;

/// Which dicts the dotted keys become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nesting {
    /// One dict; a key is used as it stands.
    Flat,
    /// A dict of dicts: what comes before a key's first dot names the inner dict. Keys of one inner dict must follow
    /// each other.
    ByFirstDot,
}

pub(super) fn write(state: &StateDict, nesting: Nesting) -> Result<Vec<u8>, StateDictError> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, data: &[u8]| {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .with_alignment(ALIGNMENT)
            .large_file(data.len() >= u32::MAX as usize);
        archive.start_file(format!("archive/{name}"), options)?;
        archive.write_all(data)?;
        Ok::<(), zip::result::ZipError>(())
    };
    let object = object(state, nesting)?;
    let mut add_all = || {
        add("data.pkl", &object)?;
        add(".format_version", b"1")?;
        add(".storage_alignment", ALIGNMENT.to_string().as_bytes())?;
        add("byteorder", b"little")?;
        for (index, (_, tensor)) in state.iter().enumerate() {
            let data: Vec<u8> = tensor.data().iter().flat_map(|value| value.to_le_bytes()).collect();
            add(&format!("data/{index}"), &data)?;
        }
        add("version", b"3\n")
    };
    add_all().map_err(|e| StateDictError::Zip(excerpt(&e.to_string())))?;
    let cursor = archive.finish().map_err(|e| StateDictError::Zip(excerpt(&e.to_string())))?;
    Ok(cursor.into_inner())
}

/// `data.pkl`.
fn object(state: &StateDict, nesting: Nesting) -> Result<Vec<u8>, StateDictError> {
    let mut pickle = Pickler { bytes: vec![0x80, 2] };
    match nesting {
        Nesting::Flat => {
            pickle.ordered_dict(state.iter().enumerate().map(|(index, (key, tensor))| (index, key, tensor)))
        }
        Nesting::ByFirstDot => {
            let mut entries = Vec::with_capacity(state.iter().len());
            for (index, (key, tensor)) in state.iter().enumerate() {
                let (outer, inner) = key.split_once('.').ok_or_else(|| StateDictError::Kind {
                    place: format!("\"{}\"", excerpt(key)),
                    found: "a key without a dot",
                    expected: "one with a dot",
                })?;
                entries.push((outer, (index, inner, tensor)));
            }
            pickle.put(b"}(");
            for group in entries.chunk_by(|(a, _), (b, _)| a == b) {
                pickle.string(group[0].0);
                pickle.ordered_dict(group.iter().map(|(_, entry)| *entry));
            }
            pickle.put(b"u");
        }
    }
    pickle.put(b".");
    Ok(pickle.bytes)
}

/// Writes the few instructions that a state_dict takes; [`crate::model::pickle`] lists them by name.
struct Pickler {
    bytes: Vec<u8>,
}

impl Pickler {
    fn put(&mut self, instructions: &[u8]) {
        self.bytes.extend_from_slice(instructions);
    }

    fn string(&mut self, text: &str) {
        self.put(b"X");
        self.put(&u32::try_from(text.len()).expect("keys are short").to_le_bytes());
        self.put(text.as_bytes());
    }

    fn size(&mut self, size: usize) {
        if let Ok(byte) = u8::try_from(size) {
            self.put(&[b'K', byte]);
        } else if let Ok(short) = u16::try_from(size) {
            self.put(b"M");
            self.put(&short.to_le_bytes());
        } else if let Ok(int) = i32::try_from(size) {
            self.put(b"J");
            self.put(&int.to_le_bytes());
        } else {
            // LONG1 is signed: a ninth byte keeps the sign bit clear.
            self.put(&[0x8a, 9]);
            self.put(&(size as u64).to_le_bytes());
            self.put(&[0]);
        }
    }

    fn sizes(&mut self, sizes: &[usize]) {
        self.put(b"(");
        sizes.iter().for_each(|size| self.size(*size));
        self.put(b"t");
    }

    fn empty_ordered_dict(&mut self) {
        self.put(b"ccollections\nOrderedDict\n)R");
    }

    fn ordered_dict<'a>(&mut self, entries: impl Iterator<Item = (usize, &'a str, &'a Tensor)>) {
        self.empty_ordered_dict();
        self.put(b"(");
        for (index, key, tensor) in entries {
            self.string(key);
            self.tensor(index, tensor);
        }
        self.put(b"u");
    }

    fn tensor(&mut self, index: usize, tensor: &Tensor) {
        self.put(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.string("storage");
        self.put(b"ctorch\nFloatStorage\n");
        self.string(&index.to_string());
        self.string("cpu");
        self.size(tensor.data().len());
        self.put(b"tQK\x00");
        self.sizes(tensor.shape());
        self.sizes(&row_major_strides(tensor.shape()));
        self.put(b"\x89");
        self.empty_ordered_dict();
        self.put(b"tR");
    }
}

fn row_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1_usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}
