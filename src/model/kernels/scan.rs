//! The exact pass: every item's score for every user, selected as it is made.
//!
//! The table stays in memory once, row by row. Thirty-two rows at a time are transposed into a panel that the first-level
//! cache holds, all users are scored against it, and only scores that may be among a user's k best leave the registers.

use super::dense::PANEL;
use super::lanes::{Lanes, accumulate, for_user_groups};
use super::{Aligned, Entry, Instructions, Matrix, Selection, portable::Portable};

/// A table of items to be scored: score_j = bias_j (or 0) + row_j · query, as a chain in index order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    /// count × depth values.
    pub(crate) rows: &'a [f32],
    pub(crate) depth: usize,
    /// count values, or none.
    pub(crate) bias: Option<&'a [f32]>,
}

impl<'a> Table<'a> {
    pub(crate) fn count(&self) -> usize {
        self.rows.len() / self.depth
    }

    pub(crate) fn row(&self, item: u32) -> &'a [f32] {
        &self.rows[item as usize * self.depth..][..self.depth]
    }
}

/// A panel's memory, kept between calls.
#[derive(Debug, Default)]
pub(crate) struct Panel {
    columns: Aligned<f32>,
    bias: Aligned<f32>,
    scores: [f32; PANEL],
}

/// Offers each row of `queries` every item of `table` that `wanted(query, item)` admits.
pub(crate) fn scan(
    instructions: Instructions,
    table: Table<'_>,
    queries: &Matrix,
    panel: &mut Panel,
    selection: &mut Selection,
    wanted: impl Fn(usize, u32) -> bool,
) {
    assert!(table.depth <= queries.stride() && queries.rows() <= selection.thresholds().len());
    instructions.assert_available();
    panel.columns.resize(table.depth * PANEL);
    panel.bias.resize(PANEL);
    for first in (0..table.count()).step_by(PANEL) {
        let width = PANEL.min(table.count() - first);
        if let Some(bias) = table.bias {
            panel.bias[..width].copy_from_slice(&bias[first..][..width]);
        }
        transpose(instructions, &table.rows[first * table.depth..][..width * table.depth], table.depth, panel);
        let mut tile = Tile { first: first as u32, width, depth: table.depth, panel, selection, wanted: &wanted };
        // SAFETY: the instruction set is there; panel and queries have `depth` steps.
        unsafe {
            match instructions {
                Instructions::Portable => scan_with::<Portable, _>(&mut tile, queries),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx2 | Instructions::Avx2Int8 => scan_avx2(&mut tile, queries),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx512 | Instructions::Avx512Vnni => scan_avx512(&mut tile, queries),
                #[cfg(not(target_arch = "x86_64"))]
                _ => unreachable!("asserted to be available"),
            }
        }
    }
}

/// Up to 32 items in a panel, and where their scores go.
struct Tile<'a, W> {
    first: u32,
    width: usize,
    depth: usize,
    panel: &'a mut Panel,
    selection: &'a mut Selection,
    wanted: &'a W,
}

/// Rows of `depth` values into the panel's columns.
fn transpose(instructions: Instructions, rows: &[f32], depth: usize, panel: &mut Panel) {
    let done = transpose_vectors(instructions, rows, depth, panel);
    for (column, row) in rows.chunks_exact(depth).enumerate() {
        for (k, &value) in row.iter().enumerate().skip(done) {
            panel.columns[k * PANEL + column] = value;
        }
    }
}

/// Transposes as many columns of a full panel as vectors can take; says how many.
#[cfg(target_arch = "x86_64")]
fn transpose_vectors(instructions: Instructions, rows: &[f32], depth: usize, panel: &mut Panel) -> usize {
    if instructions == Instructions::Portable || rows.len() < PANEL * depth {
        return 0;
    }
    assert!(panel.columns.len() >= PANEL * depth, "the panel has room");
    // SAFETY: AVX2 is there; both arrays have PANEL · depth values.
    unsafe { transpose_eights(rows, depth, &mut panel.columns) };
    depth / 8 * 8
}

#[cfg(not(target_arch = "x86_64"))]
fn transpose_vectors(_: Instructions, _: &[f32], _: usize, _: &mut Panel) -> usize {
    0
}

/// The columns that make up whole eights.
///
/// # Safety
/// The processor must have AVX2, and both arrays PANEL · depth values.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn transpose_eights(rows: &[f32], depth: usize, columns: &mut [f32]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // The next panel's rows are called for a cache line at a time: strides like these escape the processor's own guess.
    let line = super::aligned::LINE;
    for row in (0..PANEL).step_by(8) {
        for k in (0..depth / 8 * 8).step_by(8) {
            for ahead in (0..64).step_by(line) {
                _mm_prefetch::<_MM_HINT_T0>(
                    rows.as_ptr().wrapping_add(rows.len() + row * depth + 8 * k + ahead).cast(),
                );
            }
            // SAFETY: rows row … row+7 and columns k … k+7 lie in both arrays.
            unsafe {
                let to = columns.as_mut_ptr().add(k * PANEL + row);
                super::avx2::transpose_8x8(rows.as_ptr().add(row * depth + k), depth, to, PANEL);
            }
        }
    }
}

/// # Safety
/// As [`scan_with`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn scan_avx2<W: Fn(usize, u32) -> bool>(tile: &mut Tile<'_, W>, queries: &Matrix) {
    // SAFETY: passed on.
    unsafe { scan_with::<super::avx2::Avx2, W>(tile, queries) }
}

/// # Safety
/// As [`scan_with`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn scan_avx512<W: Fn(usize, u32) -> bool>(tile: &mut Tile<'_, W>, queries: &Matrix) {
    // SAFETY: passed on.
    unsafe { scan_with::<super::avx512::Avx512, W>(tile, queries) }
}

/// # Safety
/// The processor must have L's instructions; the panel must have `depth` steps, and the queries as many columns.
#[inline(always)]
unsafe fn scan_with<L: Lanes, W: Fn(usize, u32) -> bool>(tile: &mut Tile<'_, W>, queries: &Matrix) {
    for column in (0..tile.width).step_by(2 * L::N) {
        // SAFETY: the column lies in the panel; the users are rows of `queries`.
        unsafe {
            for_user_groups!(L, queries.rows(), |user| score_group(tile, queries, user, column));
        }
    }
}

/// Scores 2·N items for U users and offers those that exceed a user's threshold.
///
/// # Safety
/// As [`scan_with`]; the column must lie in the panel, the U users in `queries`.
#[inline(always)]
unsafe fn score_group<L: Lanes, const U: usize>(
    tile: &mut Tile<'_, impl Fn(usize, u32) -> bool>,
    queries: &Matrix,
    user: usize,
    column: usize,
) {
    // SAFETY: column and users are in range, by this function's contract.
    let sums = unsafe {
        let bias = tile.panel.bias.as_ptr().add(column);
        let start = [L::load(bias), L::load(bias.add(L::N))];
        let factors = queries.cells().as_ptr().add(user * queries.stride());
        accumulate::<L, U>(tile.panel.columns.as_ptr().add(column), factors, queries.stride(), tile.depth, start)
    };
    for (u, [left, right]) in sums.into_iter().enumerate() {
        // SAFETY: the scores have room for 2·N ≤ PANEL values.
        let hits = unsafe {
            let threshold = L::splat(tile.selection.threshold(user + u));
            let hits = left.exceeds(threshold) | right.exceeds(threshold) << L::N;
            if hits == 0 {
                continue;
            }
            left.store(tile.panel.scores.as_mut_ptr());
            right.store(tile.panel.scores.as_mut_ptr().add(L::N));
            hits
        };
        tile.offer(user + u, column, hits);
    }
}

impl<W: Fn(usize, u32) -> bool> Tile<'_, W> {
    /// Offers the items of the set bits, which stand for columns from `column` on.
    #[cold]
    fn offer(&mut self, user: usize, column: usize, mut hits: u32) {
        while hits != 0 {
            let lane = hits.trailing_zeros() as usize;
            hits &= hits - 1;
            let index = self.first + (column + lane) as u32;
            if column + lane < self.width && (self.wanted)(user, index) {
                self.selection.offer(user, Entry { score: self.panel.scores[lane], index });
            }
        }
    }
}
