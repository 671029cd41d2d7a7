//! From a pickle's description of tensors, as strided views of storages, to arrays.

use std::borrow::Cow;

use hashbrown::HashSet;

use super::{
    DIMENSIONS_MAX, ENTRIES_MAX, KEY_BYTES_MAX, NESTING_MAX, StateDict, StateDictError, Tensor, element_count,
};
use crate::model::{
    error::excerpt,
    pickle::{Global, Node, NodeId, Pickle},
};

/// How a storage's elements are stored, always little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    BF16,
}

impl Element {
    pub(super) fn bytes(self) -> usize {
        match self {
            Element::F64 => 8,
            Element::F32 => 4,
            Element::F16 | Element::BF16 => 2,
        }
    }

    /// Decodes a storage. An f64 beyond f32's range becomes infinite, which the caller's check for finite weights
    /// reports.
    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Element::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Element::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Element::F16 => bytes.as_chunks().0.iter().map(|b| half_to_single(u16::from_le_bytes(*b))).collect(),
            Element::BF16 => {
                let single = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                bytes.as_chunks().0.iter().map(single).collect()
            }
        }
    }
}

/// IEEE 754 binary16 to binary32, exactly.
fn half_to_single(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10) & 0x1f, u32::from(bits) & 0x3ff);
    match exponent {
        // Subnormal: fraction × 2^−24, exact in f32; the sign is put in afterwards to keep −0.
        0 => f32::from_bits((fraction as f32 * 2f32.powi(-24)).to_bits() | sign),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// A one-dimensional run of elements somewhere in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storage<'a> {
    /// The file's own name for it.
    pub(super) key: &'a str,
    pub(super) element: Element,
    /// Elements.
    pub(super) count: usize,
}

impl Storage<'_> {
    pub(super) fn length_bytes(&self) -> u64 {
        (self.count as u64).saturating_mul(self.element.bytes() as u64)
    }
}

/// A tensor as the pickle describes it; checked to lie within its storage.
#[derive(Debug)]
pub(super) struct View<'a> {
    key: String,
    storage: Storage<'a>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Every tensor of a pickled dict (of dicts) of tensors, in order; together at most `limit_bytes` of f32 and of
/// storages.
pub(super) fn views<'a>(pickle: &Pickle<'a>, limit_bytes: u64) -> Result<Vec<View<'a>>, StateDictError> {
    let mut walk =
        Walk { pickle, views: vec![], keys: HashSet::new(), visited: 0, bytes_left: limit_bytes, limit_bytes };
    walk.dict(pickle.root(), "", 0)?;
    Ok(walk.views)
}

/// Fills the tensors, each storage read once and dropped when all its views are filled.
pub(super) fn fill<'a, 'b>(
    views: &[View<'a>],
    mut read_storage: impl FnMut(&Storage<'a>) -> Result<Cow<'b, [u8]>, StateDictError>,
) -> Result<StateDict, StateDictError> {
    let mut tensors: Vec<Option<Tensor>> = views.iter().map(|_| None).collect();
    for first in 0..views.len() {
        if tensors[first].is_some() {
            continue;
        }
        let storage = views[first].storage;
        let values = storage.element.decode(&read_storage(&storage)?);
        for (view, tensor) in views.iter().zip(&mut tensors).skip(first) {
            if view.storage.key == storage.key {
                *tensor = Some(view.gather(&values));
            }
        }
    }
    let entries = views.iter().zip(tensors).filter_map(|(view, tensor)| Some((view.key.clone(), tensor?)));
    Ok(StateDict { entries: entries.collect() })
}

impl<'a> View<'a> {
    pub(super) fn storage(&self) -> &Storage<'a> {
        &self.storage
    }

    fn gather(&self, values: &[f32]) -> Tensor {
        let count = element_count(&self.shape).expect("the view was checked");
        let mut data = Vec::with_capacity(count);
        if count > 0 {
            gather_axis(values, self.offset, &self.shape, &self.strides, &mut data);
        }
        Tensor { shape: self.shape.clone(), data }
    }

    /// Index of the last element in the storage; `None` where there are no elements or the index overflows.
    fn end(&self) -> Option<usize> {
        self.shape
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |end, (size, stride)| end.checked_add(size.checked_sub(1)?.checked_mul(*stride)?))
    }
}

/// Recursion is at most [`DIMENSIONS_MAX`] deep.
fn gather_axis(values: &[f32], start: usize, shape: &[usize], strides: &[usize], into: &mut Vec<f32>) {
    match (shape, strides) {
        ([], _) | (_, []) => into.push(values[start]),
        ([size], [1]) => into.extend_from_slice(&values[start..start + size]),
        ([size, shape @ ..], [stride, strides @ ..]) => {
            for index in 0..*size {
                gather_axis(values, start + index * stride, shape, strides, into);
            }
        }
    }
}

struct Walk<'p, 'a> {
    pickle: &'p Pickle<'a>,
    views: Vec<View<'a>>,
    keys: HashSet<String>,
    /// Dict entries seen: a dict can hold one other many times, so the pickle's length does not bound them.
    visited: usize,
    bytes_left: u64,
    limit_bytes: u64,
}

impl<'a> Walk<'_, 'a> {
    fn dict(&mut self, id: NodeId, prefix: &str, depth: usize) -> Result<(), StateDictError> {
        let pickle = self.pickle;
        let Node::Dict(entries) = pickle.node(id) else {
            let place = "the file's object".to_owned();
            return Err(StateDictError::Kind {
                place,
                found: pickle.node(id).kind(),
                expected: "a state_dict (a dict of tensors)",
            });
        };
        for (key, value) in entries {
            self.visited += 1;
            if self.visited > ENTRIES_MAX {
                return Err(StateDictError::Limit { what: "the number of keys", limit: ENTRIES_MAX as u64 });
            }
            let Node::Str(name) = pickle.node(*key) else {
                let place = format!("a key in \"{}\"", excerpt(prefix));
                return Err(StateDictError::Kind { place, found: pickle.node(*key).kind(), expected: "a string" });
            };
            let key = join(prefix, name)?;
            match pickle.node(*value) {
                Node::Dict(_) if depth + 1 == NESTING_MAX => {
                    return Err(StateDictError::Limit { what: "the depth of dicts", limit: NESTING_MAX as u64 });
                }
                Node::Dict(_) => self.dict(*value, &key, depth + 1)?,
                _ => self.tensor(key, *value)?,
            }
        }
        Ok(())
    }

    fn tensor(&mut self, key: String, id: NodeId) -> Result<(), StateDictError> {
        let view = self.view(key, id)?;
        if self.keys.contains(&view.key) {
            return Err(StateDictError::DuplicateKey(excerpt(&view.key)));
        }
        if let Some(other) = self.views.iter().find(|v| v.storage.key == view.storage.key) {
            if other.storage != view.storage {
                return Err(wrong(&view.key, "it shares a storage under another type or length"));
            }
        } else {
            self.spend(view.storage.count)?;
        }
        self.spend(element_count(&view.shape).unwrap_or(usize::MAX))?;
        self.keys.insert(view.key.clone());
        self.views.push(view);
        Ok(())
    }

    /// Counts the f32 that a storage or a tensor will take.
    fn spend(&mut self, elements: usize) -> Result<(), StateDictError> {
        let bytes = (elements as u64).saturating_mul(size_of::<f32>() as u64);
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or(StateDictError::Expansion { limit_bytes: self.limit_bytes })?;
        Ok(())
    }

    fn view(&self, key: String, id: NodeId) -> Result<View<'a>, StateDictError> {
        let arguments = match *self.pickle.node(id) {
            Node::Tensor(arguments) => self.tuple(arguments),
            Node::Parameter(arguments) => {
                match self.tuple(arguments).and_then(|a| a.first()).map(|tensor| self.pickle.node(*tensor)) {
                    Some(Node::Tensor(arguments)) => self.tuple(*arguments),
                    _ => None,
                }
            }
            ref other => {
                let place = format!("\"{}\"", excerpt(&key));
                return Err(StateDictError::Kind { place, found: other.kind(), expected: "a tensor" });
            }
        };
        // _rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks, metadata=None)
        let Some([storage, offset, shape, strides, ..]) = arguments else {
            return Err(wrong(&key, "a tensor without storage, offset, size and stride"));
        };
        let storage = self.storage(*storage).ok_or_else(|| wrong(&key, "a tensor whose storage makes no sense"))?;
        let offset = self.size(*offset).ok_or_else(|| wrong(&key, "an offset that is no size"))?;
        let shape = self.sizes(*shape).ok_or_else(|| wrong(&key, "a shape that is none"))?;
        let strides = self.sizes(*strides).ok_or_else(|| wrong(&key, "strides that are none"))?;
        if strides.len() != shape.len() {
            return Err(wrong(&key, "shape and strides of different lengths"));
        }
        let view = View { key, storage, offset, shape, strides };
        let is_empty = view.shape.contains(&0);
        let fits = is_empty || view.end().is_some_and(|end| end < storage.count);
        if !fits || element_count(&view.shape).is_none() {
            let key = excerpt(&view.key);
            return Err(StateDictError::OutOfStorage { key, shape: view.shape, count: storage.count });
        }
        Ok(view)
    }

    /// `('storage', torch.FloatStorage, '0', 'cpu' or 'cuda:0', element count)`, in the older format followed by
    /// `None`.
    fn storage(&self, id: NodeId) -> Option<Storage<'a>> {
        let Node::Persistent(description) = *self.pickle.node(id) else { return None };
        let (tag, class, key, location, count) = match *self.tuple(description)? {
            [tag, class, key, location, count] => (tag, class, key, location, count),
            // Anything but None here is a view of a storage, as PyTorch before 0.4 wrote it.
            [tag, class, key, location, count, view] if *self.pickle.node(view) == Node::None => {
                (tag, class, key, location, count)
            }
            _ => return None,
        };
        let element = match self.pickle.node(class) {
            Node::Global(Global::FloatStorage) => Element::F32,
            Node::Global(Global::DoubleStorage) => Element::F64,
            Node::Global(Global::HalfStorage) => Element::F16,
            Node::Global(Global::BFloat16Storage) => Element::BF16,
            _ => return None,
        };
        match (self.pickle.node(tag), self.pickle.node(key), self.pickle.node(location)) {
            // The location (cpu, cuda:0, …) says where the tensor was, which does not matter here.
            (Node::Str("storage"), Node::Str(key), Node::Str(_)) => {
                Some(Storage { key, element, count: self.size(count)? })
            }
            _ => None,
        }
    }

    fn tuple(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.pickle.node(id) {
            Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    fn size(&self, id: NodeId) -> Option<usize> {
        match self.pickle.node(id) {
            Node::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    fn sizes(&self, id: NodeId) -> Option<Vec<usize>> {
        let items = self.tuple(id).filter(|items| items.len() <= DIMENSIONS_MAX)?;
        items.iter().map(|item| self.size(*item)).collect()
    }
}

fn wrong(key: &str, what: &'static str) -> StateDictError {
    StateDictError::Tensor { key: excerpt(key), what }
}

fn join(prefix: &str, name: &str) -> Result<String, StateDictError> {
    if prefix.len() + 1 + name.len() > KEY_BYTES_MAX {
        return Err(StateDictError::Limit { what: "the length of a key", limit: KEY_BYTES_MAX as u64 });
    }
    Ok(if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_decoded_exactly() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
            let magnitude = match exponent {
                0 => fraction / 1024.0 * 2f64.powi(-14),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
            };
            let expected = if bits >> 15 == 1 { -magnitude } else { magnitude };
            let single = f64::from(half_to_single(bits));
            assert!(single == expected || (single.is_nan() && expected.is_nan()), "{bits:#06x}");
            assert_eq!(half_to_single(bits).is_sign_negative(), bits >> 15 == 1, "{bits:#06x}");
        }
    }
}
