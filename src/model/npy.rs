//! Tables in NumPy's `.npy` format (versions 1 to 3): a magic string, a header that is the text of a Python dict, the
//! raw array.
//!
//! Reads two-dimensional arrays of f4 or f8, of either byte order and either memory order; writes what NumPy itself
//! writes for a C-ordered `<f4` array. The file's length must be exactly what its header promises, which is checked
//! before anything is allocated, so that memory is bounded by the length of the input.

use super::{
    error::{Shape, excerpt, looks_like},
    weights::Embedding,
};

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy's own headers for a plain array are under 200 bytes, and it refuses 10,000 and more by default.
const HEADER_BYTES_MAX: usize = 10_000;
/// NumPy aligns the array's start to this.
const ALIGNMENT: usize = 64;

/// Why bytes are not a table.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum NpyError {
    /// No NumPy magic.
    #[error("not a .npy file{0}")]
    NotNpy(&'static str),
    /// A format version that does not exist yet.
    #[error("format version {0}.{1} is not known (1.0, 2.0 and 3.0 are)")]
    Version(u8, u8),
    /// The file ends in its header.
    #[error("cut short: the header ends after {0} bytes")]
    HeaderCut(usize),
    /// The header is longer than any table's.
    #[error("a header of {0} bytes, more than the {HEADER_BYTES_MAX} that NumPy itself accepts")]
    HeaderTooLong(usize),
    /// The header is not the dict that NumPy writes.
    #[error("the header is not what NumPy writes: {0}")]
    Header(String),
    /// Elements that are not floats.
    #[error("elements of type '{0}', where '<f4' is needed (in NumPy: a.astype('<f4'))")]
    ElementType(String),
    /// An array that is not two-dimensional.
    #[error("shape {}, where two dimensions are needed", Shape(.0))]
    Dimensions(Vec<usize>),
    /// Too little or too much data.
    #[error(
        "shape {} needs {needed} bytes of data, but the file has {found}: it is damaged or cut short",
        Shape(shape)
    )]
    Length {
        /// From the header.
        shape: Vec<usize>,
        /// Bytes that the shape needs; saturated.
        needed: usize,
        /// Bytes after the header.
        found: usize,
    },
    /// NaN, infinity, or an f8 beyond f4's range.
    #[error("row {row}, column {column} is {value}, not a finite 32-bit number")]
    NotFinite {
        /// From 0.
        row: usize,
        /// From 0.
        column: usize,
        /// What stands there.
        value: f64,
    },
}

struct Header {
    element: Element,
    fortran_order: bool,
    shape: Vec<usize>,
}

#[derive(Clone, Copy)]
enum Element {
    F4Little,
    F4Big,
    F8Little,
    F8Big,
}

impl Element {
    fn bytes(self) -> usize {
        match self {
            Element::F4Little | Element::F4Big => 4,
            Element::F8Little | Element::F8Big => 8,
        }
    }

    fn decode(self, at: &[u8]) -> f64 {
        let four = || at.first_chunk().copied().expect("chunks have the element's length");
        let eight = || at.first_chunk().copied().expect("chunks have the element's length");
        match self {
            Element::F4Little => f64::from(f32::from_le_bytes(four())),
            Element::F4Big => f64::from(f32::from_be_bytes(four())),
            Element::F8Little => f64::from_le_bytes(eight()),
            Element::F8Big => f64::from_be_bytes(eight()),
        }
    }
}

/// Reads a table of finite 32-bit floats.
pub fn read(bytes: &[u8]) -> Result<Embedding, NpyError> {
    let (header, data) = split(bytes)?;
    let &[rows, dim] = header.shape.as_slice() else { return Err(NpyError::Dimensions(header.shape)) };
    let width = header.element.bytes();
    let needed = rows.saturating_mul(dim).saturating_mul(width);
    if needed != data.len() {
        return Err(NpyError::Length { shape: header.shape, needed, found: data.len() });
    }
    let mut table = Embedding { rows, dim, data: vec![0.0; rows * dim] };
    for (index, element) in data.chunks_exact(width).enumerate() {
        let (row, column) =
            if header.fortran_order { (index % rows, index / rows) } else { (index / dim, index % dim) };
        let value = header.element.decode(element);
        let narrow = value as f32;
        if !narrow.is_finite() {
            return Err(NpyError::NotFinite { row, column, value });
        }
        table.data[row * dim + column] = narrow;
    }
    Ok(table)
}

/// Writes a table as NumPy's `np.save` does.
pub fn write(table: &Embedding) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", table.rows, table.dim);
    let prefix = MAGIC.len() + 2 + 2;
    let padded = (prefix + header.len() + 1).next_multiple_of(ALIGNMENT) - prefix;
    header.extend(std::iter::repeat_n(' ', padded - 1 - header.len()));
    header.push('\n');
    let mut bytes = Vec::with_capacity(prefix + padded + table.data.len() * 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&u16::try_from(padded).expect("two numbers make a short header").to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(table.data.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// Splits a file into its header, understood, and its data.
fn split(bytes: &[u8]) -> Result<(Header, &[u8]), NpyError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| NpyError::NotNpy(looks_like(bytes)))?;
    let cut = || NpyError::HeaderCut(bytes.len());
    let ([major, minor], rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let (length, rest) = match (major, minor) {
        (1, 0) => rest.split_first_chunk().map(|(n, rest)| (usize::from(u16::from_le_bytes(*n)), rest)),
        (2 | 3, 0) => rest.split_first_chunk().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest)),
        _ => return Err(NpyError::Version(*major, *minor)),
    }
    .ok_or_else(cut)?;
    if length > HEADER_BYTES_MAX {
        return Err(NpyError::HeaderTooLong(length));
    }
    let (text, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let text = str::from_utf8(text).map_err(|_| NpyError::Header("it is not text".into()))?;
    Ok((parse_header(text)?, data))
}

/// Understands `{'descr': '<f4', 'fortran_order': False, 'shape': (60, 32), }`, the keys in any order.
fn parse_header(text: &str) -> Result<Header, NpyError> {
    let wrong = || NpyError::Header(format!("\"{}\"", excerpt(text.trim_end())));
    let mut rest = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(wrong)?.trim();
    let (mut element, mut fortran_order, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, after) = quoted(rest).ok_or_else(wrong)?;
        let value = after.trim_start().strip_prefix(':').ok_or_else(wrong)?.trim_start();
        rest = match key {
            "descr" if element.is_none() && value.starts_with('[') => {
                return Err(NpyError::ElementType("a record".into()));
            }
            "descr" if element.is_none() => {
                let (name, after) = quoted(value).ok_or_else(wrong)?;
                element = Some(parse_element(name)?);
                after
            }
            "fortran_order" if fortran_order.is_none() => {
                let (order, after) = boolean(value).ok_or_else(wrong)?;
                fortran_order = Some(order);
                after
            }
            "shape" if shape.is_none() => {
                let (inside, after) = value.strip_prefix('(').and_then(|v| v.split_once(')')).ok_or_else(wrong)?;
                shape = Some(parse_shape(inside).ok_or_else(wrong)?);
                after
            }
            _ => return Err(wrong()),
        }
        .trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if rest.is_empty() => rest,
            None => return Err(wrong()),
        };
    }
    match (element, fortran_order, shape) {
        (Some(element), Some(fortran_order), Some(shape)) => Ok(Header { element, fortran_order, shape }),
        _ => Err(wrong()),
    }
}

/// A quoted word without escapes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|&c| c == '\'' || c == '"')?;
    text[1..].split_once(quote)
}

fn boolean(text: &str) -> Option<(bool, &str)> {
    text.strip_prefix("True").map(|rest| (true, rest)).or_else(|| text.strip_prefix("False").map(|rest| (false, rest)))
}

fn parse_element(name: &str) -> Result<Element, NpyError> {
    match name {
        "<f4" => Ok(Element::F4Little),
        ">f4" => Ok(Element::F4Big),
        "<f8" => Ok(Element::F8Little),
        ">f8" => Ok(Element::F8Big),
        _ => Err(NpyError::ElementType(excerpt(name))),
    }
}

/// `60, 32` or `60,` or nothing; Python 2 wrote `60L`.
fn parse_shape(inside: &str) -> Option<Vec<usize>> {
    let inside = inside.trim();
    let inside = inside.strip_suffix(',').unwrap_or(inside);
    if inside.is_empty() {
        return Some(Vec::new());
    }
    inside.split(',').map(|size| parse_size(size.trim())).collect()
}

fn parse_size(text: &str) -> Option<usize> {
    let digits = text.strip_suffix('L').unwrap_or(text);
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(version: &[u8], header: &str, data: &[u8]) -> Vec<u8> {
        let length = match version {
            [1, _] => u16::try_from(header.len()).unwrap().to_le_bytes().to_vec(),
            _ => u32::try_from(header.len()).unwrap().to_le_bytes().to_vec(),
        };
        [MAGIC, version, &length, header.as_bytes(), data].concat()
    }

    fn header(descr: &str, order: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n")
    }

    fn message(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    #[test]
    fn every_version_element_and_order_reads_alike() {
        let expected = Embedding { rows: 2, dim: 3, data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.5] };
        let (c_order, f_order) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.5], [1.0, 4.0, 2.0, 5.0, 3.0, 6.5]);
        for version in [[1, 0], [2, 0], [3, 0]] {
            for (order, values) in [("False", c_order), ("True", f_order)] {
                let singles = values.map(|v: f64| v as f32);
                for (descr, data) in [
                    ("<f4", singles.map(f32::to_le_bytes).concat()),
                    (">f4", singles.map(f32::to_be_bytes).concat()),
                    ("<f8", values.map(f64::to_le_bytes).concat()),
                    (">f8", values.map(f64::to_be_bytes).concat()),
                ] {
                    let bytes = file(&version, &header(descr, order, "(2, 3)"), &data);
                    assert_eq!(read(&bytes), Ok(expected.clone()), "{version:?} {descr} {order}");
                }
            }
        }
    }

    #[test]
    fn what_numpy_wrote_is_written_again_byte_for_byte() {
        for name in ["models", "models_small_dims", "models_legacy"] {
            for table in ["user", "item"] {
                let path =
                    format!("{}/tests/fixtures/{name}/tianchi_{table}_embeddings.npy", env!("CARGO_MANIFEST_DIR"));
                let bytes = std::fs::read(path).unwrap();
                assert!(write(&read(&bytes).unwrap()) == bytes, "{name} {table}");
            }
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let one = 1f32.to_le_bytes();
        for (bytes, expected) in [
            (b"".to_vec(), "not a .npy file (the file is empty)"),
            (b"<!DOCTYPE html><html>".to_vec(), "not a .npy file (it is a web page: was the download refused?)"),
            (
                b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
                "not a .npy file (it is a Git LFS pointer: fetch the file itself with `git lfs pull`)",
            ),
            (file(&[4, 0], "", b""), "format version 4.0 is not known (1.0, 2.0 and 3.0 are)"),
            (MAGIC.to_vec(), "cut short: the header ends after 6 bytes"),
            ([MAGIC, &[1, 0, 200, 0], b"{}"].concat(), "cut short: the header ends after 12 bytes"),
            (
                [MAGIC, &[2, 0, 255, 255, 255, 255], b"{}"].concat(),
                "a header of 4294967295 bytes, more than the 10000 that NumPy itself accepts",
            ),
            (file(&[1, 0], "{'descr': '<f4'}\n", &one), "the header is not what NumPy writes: \"{'descr': '<f4'}\""),
            (
                file(&[1, 0], &header("<i8", "False", "(1, 1)"), &one),
                "elements of type '<i8', where '<f4' is needed (in NumPy: a.astype('<f4'))",
            ),
            (file(&[1, 0], &header("<f4", "False", "(1,)"), &one), "shape (1,), where two dimensions are needed"),
            (file(&[1, 0], &header("<f4", "False", "()"), &one), "shape (), where two dimensions are needed"),
            (
                file(&[1, 0], &header("<f4", "False", "(1, 2)"), &one),
                "shape (1, 2) needs 8 bytes of data, but the file has 4: it is damaged or cut short",
            ),
            (
                file(&[1, 0], &header("<f4", "False", "(1, 1)"), &[0; 5]),
                "shape (1, 1) needs 4 bytes of data, but the file has 5: it is damaged or cut short",
            ),
            (
                file(&[1, 0], &header("<f4", "False", "(4294967296, 4294967296)"), &one),
                "shape (4294967296, 4294967296) needs 18446744073709551615 bytes of data, but the file has 4: it is damaged or cut short",
            ),
        ] {
            assert_eq!(message(&bytes), expected);
        }
    }

    #[test]
    fn what_is_not_finite_is_named_by_row_and_column() {
        let bytes = |descr, order, data: &[u8]| file(&[1, 0], &header(descr, order, "(2, 3)"), data);
        let with_nan = [0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0].map(f32::to_le_bytes).concat();
        assert_eq!(message(&bytes("<f4", "False", &with_nan)), "row 1, column 1 is NaN, not a finite 32-bit number");
        assert_eq!(message(&bytes("<f4", "True", &with_nan)), "row 0, column 2 is NaN, not a finite 32-bit number");
        let too_large = [0.0, 0.0, -1e39, 0.0, 0.0, 0.0].map(f64::to_le_bytes).concat();
        assert_eq!(
            message(&bytes("<f8", "False", &too_large)),
            format!("row 0, column 2 is {}, not a finite 32-bit number", -1e39)
        );
    }

    proptest! {
        #[test]
        fn tables_read_back(rows in 0_usize..9, dim in 0_usize..9, values in proptest::collection::vec(-1e30_f32..1e30, 64)) {
            let table = Embedding { rows, dim, data: values[..rows * dim].to_vec() };
            let bytes = write(&table);
            prop_assert_eq!((bytes.len() - rows * dim * 4) % ALIGNMENT, 0);
            prop_assert_eq!(read(&bytes), Ok(table));
        }

        #[test]
        fn a_cut_file_is_refused(cut in 0_usize..152) {
            let bytes = write(&Embedding { rows: 2, dim: 3, data: vec![1.0; 6] });
            prop_assert_eq!(bytes.len(), 152);
            prop_assert!(read(&bytes[..cut]).is_err());
        }
    }
}
