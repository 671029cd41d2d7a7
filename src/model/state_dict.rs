//! A PyTorch `state_dict`: named tensors of f32, read from and written to `.pt` files (contract, section 4).
//!
//! Both of PyTorch's containers are read: the zip archive of PyTorch ≥ 1.6 ([`zip_format`]) and the older chain of
//! pickles followed by raw storages ([`legacy_format`]). In both, a pickle describes the tensors as strided views of
//! storages ([`tensors`]); it is read as data, never run ([`super::pickle`]). Dicts in dicts become dotted keys, as
//! BCQ's `generator.fc1.weight`.
//!
//! A file is untrusted. What it may make us allocate is bounded by [`EXPANSION_MAX`] times its own length, whatever
//! its headers promise.

mod legacy_format;
mod tensors;
mod writer;
mod zip_format;

use super::{
    error::{Shape, excerpt, looks_like},
    pickle::PickleError,
};

pub use writer::Nesting;

/// A file may unfold to this many times its length: views that overlap, half precision, compression of real weights
/// stay far below; a decompression bomb does not.
pub const EXPANSION_MAX: u64 = 64;
/// …plus this, so that tiny files of many zeros are not refused.
const EXPANSION_BASE_BYTES: u64 = 1 << 20;
/// BCQ has 28 tensors.
const ENTRIES_MAX: usize = 4096;
const KEY_BYTES_MAX: usize = 256;
const NESTING_MAX: usize = 4;
const DIMENSIONS_MAX: usize = 8;

/// An array of f32, row-major; `data` has as many values as the product of `shape`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Tensor {
    /// `None` where the shape's product is not the number of values.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Option<Tensor> {
        (element_count(&shape) == Some(data.len())).then_some(Tensor { shape, data })
    }

    /// Size of each dimension, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The values, row-major.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// The first NaN or infinity: its position, one index a dimension, and its value.
    pub fn first_not_finite(&self) -> Option<(Vec<usize>, f32)> {
        let mut index = self.data.iter().position(|value| !value.is_finite())?;
        let value = self.data[index];
        let mut position = vec![0; self.shape.len()];
        for (slot, size) in position.iter_mut().zip(&self.shape).rev() {
            (*slot, index) = (index % size, index / size);
        }
        Some((position, value))
    }
}

/// Tensors by dotted key, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict {
    entries: Vec<(String, Tensor)>,
}

impl StateDict {
    /// Reads a `.pt` file of either format.
    pub fn read(bytes: &[u8]) -> Result<StateDict, StateDictError> {
        if zip_format::is(bytes) {
            zip_format::read(bytes)
        } else if legacy_format::is(bytes) {
            legacy_format::read(bytes)
        } else {
            Err(StateDictError::NotPyTorch(looks_like(bytes)))
        }
    }

    /// Writes the zip format, as `torch.load(path, weights_only=True)` reads it: the same bytes for the same tensors.
    pub fn write(&self, nesting: Nesting) -> Result<Vec<u8>, StateDictError> {
        writer::write(self, nesting)
    }

    /// Adds a tensor after the others.
    pub fn push(&mut self, key: String, tensor: Tensor) -> Result<(), StateDictError> {
        if self.get(&key).is_some() {
            return Err(StateDictError::DuplicateKey(excerpt(&key)));
        }
        self.entries.push((key, tensor));
        Ok(())
    }

    /// The tensor of a key.
    pub fn get(&self, key: &str) -> Option<&Tensor> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, tensor)| tensor)
    }

    /// The tensor of a key, taken out.
    pub fn remove(&mut self, key: &str) -> Option<Tensor> {
        let index = self.entries.iter().position(|(k, _)| k == key)?;
        Some(self.entries.remove(index).1)
    }

    /// Keys and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(key, tensor)| (key.as_str(), tensor))
    }

    /// Keys in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.as_str())
    }
}

/// Why bytes are not a state_dict.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum StateDictError {
    /// Neither format.
    #[error("not a PyTorch state_dict{0}")]
    NotPyTorch(&'static str),
    /// A compiled module, not its weights.
    #[error("a TorchScript module, not a state_dict: save module.state_dict() instead")]
    TorchScript,
    /// The archive is damaged.
    #[error("the zip archive is damaged: {0}")]
    Zip(String),
    /// The archive lacks a part.
    #[error("the archive has no \"{0}\": not written by torch.save, or damaged")]
    NoEntry(String),
    /// The pickle inside was refused.
    #[error("{0}")]
    Pickle(#[from] PickleError),
    /// The older format goes on after its end.
    #[error("{0} bytes follow the last tensor: damaged, or several files in one")]
    Trailing(usize),
    /// Written on a machine of the other byte order.
    #[error("written on a big-endian machine, which is not supported")]
    BigEndian,
    /// The older format's own words do not fit.
    #[error("not the layout of torch.save: {0}")]
    Layout(&'static str),
    /// Something else than a dict of tensors.
    #[error("{place} is {found}, where {expected} is needed")]
    Kind {
        /// `"fc1.weight"`, or `the file's object`.
        place: String,
        /// What is there.
        found: &'static str,
        /// What should be.
        expected: &'static str,
    },
    /// A tensor whose description makes no sense.
    #[error("\"{key}\": {what}")]
    Tensor {
        /// Its key.
        key: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A view beyond its storage.
    #[error("\"{key}\" of shape {} goes beyond its storage of {count} elements", Shape(shape))]
    OutOfStorage {
        /// Its key.
        key: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Elements of the storage.
        count: usize,
    },
    /// A storage whose length is not what the pickle says.
    #[error("the data of storage \"{key}\" has {found} bytes, but the pickle says {expected}: damaged or cut short")]
    StorageLength {
        /// The storage's own name in the file.
        key: String,
        /// Bytes there.
        found: u64,
        /// Bytes promised.
        expected: u64,
    },
    /// One key twice.
    #[error("key \"{0}\" is given twice")]
    DuplicateKey(String),
    /// More data than a file of this length can stand for.
    #[error(
        "it describes over {limit_bytes} bytes of tensors, too much for a file of its length: damaged, cut short or hostile"
    )]
    Expansion {
        /// [`EXPANSION_MAX`] times the file's length, and a little.
        limit_bytes: u64,
    },
    /// A limit of this reader.
    #[error("{what} goes beyond {limit}, more than any state_dict of this length needs")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much.
        limit: u64,
    },
}

/// Product of a shape's sizes; `None` on overflow.
fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size))
}

/// The bytes that a file of this length may unfold to.
fn expansion_limit_bytes(file_bytes: usize) -> u64 {
    (file_bytes as u64).saturating_mul(EXPANSION_MAX).saturating_add(EXPANSION_BASE_BYTES)
}
