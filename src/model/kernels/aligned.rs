//! Arrays that start on a cache line, so that no vector load of a kernel straddles two.

use std::ops::{Deref, DerefMut};

/// One cache line of four-byte values.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line<T>([T; LINE]);

/// Four-byte values a cache line holds.
pub(crate) const LINE: usize = 16;

/// A growing array of four-byte values that starts on a cache line; grown memory is zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aligned<T> {
    lines: Vec<Line<T>>,
    len: usize,
}

/// Four-byte values without padding or invalid bits.
pub(crate) trait Word: Copy + Default {}
impl Word for f32 {}
impl Word for u32 {}
impl Word for i32 {}

impl<T: Word> Aligned<T> {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut array = Aligned { lines: Vec::new(), len: 0 };
        array.resize(len);
        array
    }

    /// Makes it `len` long; keeps memory when it shrinks. What was there before stays, as far as it fits.
    pub(crate) fn resize(&mut self, len: usize) {
        self.lines.resize(len.div_ceil(LINE), Line([T::default(); LINE]));
        self.len = len;
    }
}

impl<T: Word> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `Line<T>` is repr(C) over [T; 16], and T is four bytes (`Word`), so a line is 64 bytes without padding
        // and consecutive lines are consecutive Ts; `len` ≤ 16 × lines by `resize`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast::<T>(), self.len) }
    }
}

impl<T: Word> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<T>(), self.len) }
    }
}

/// Rows of f32, each starting on a cache line and padded to whole panels, so that kernels can write whole vectors.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    rows: usize,
    columns: usize,
    stride: usize,
    data: Aligned<f32>,
}

impl Matrix {
    /// Makes it rows × columns; what the cells hold is unspecified.
    pub(crate) fn reshape(&mut self, rows: usize, columns: usize) {
        self.rows = rows;
        self.columns = columns;
        self.stride = columns.next_multiple_of(super::dense::PANEL);
        self.data.resize(rows * self.stride);
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Distance between the starts of two rows.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..][..self.columns]
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.stride..][..self.columns]
    }

    /// All cells, rows `stride` apart.
    pub(crate) fn cells(&self) -> &[f32] {
        &self.data
    }

    pub(crate) fn cells_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}
