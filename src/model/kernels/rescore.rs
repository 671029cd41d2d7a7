//! Exact scores of a few given items.

use super::{Entry, Instructions, scan::Table};

/// Rows whose chains run side by side, to hide the latency of each.
const ROWS: usize = 8;

/// The exact score of each entry's item with `query`, by the same chain as the exact pass.
pub(crate) fn rescore(instructions: Instructions, table: Table<'_>, query: &[f32], entries: &mut [Entry]) {
    instructions.assert_available();
    match instructions {
        Instructions::Portable => rescore_with(table, query, entries),
        // SAFETY: the processor has FMA.
        #[cfg(target_arch = "x86_64")]
        _ => unsafe { rescore_fma(table, query, entries) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("asserted to be available"),
    }
}

/// # Safety
/// The processor must have FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn rescore_fma(table: Table<'_>, query: &[f32], entries: &mut [Entry]) {
    rescore_with(table, query, entries);
}

#[inline(always)]
fn rescore_with(table: Table<'_>, query: &[f32], entries: &mut [Entry]) {
    let bias = |entry: Entry| table.bias.map_or(0.0, |bias| bias[entry.index as usize]);
    let row = |entry: Entry| table.row(entry.index);
    let query = &query[..table.depth];
    let (groups, rest) = entries.as_chunks_mut::<ROWS>();
    for group in groups {
        let rows = group.map(row);
        let mut scores = group.map(bias);
        for (k, &factor) in query.iter().enumerate() {
            for (score, row) in scores.iter_mut().zip(rows) {
                *score = row[k].mul_add(factor, *score);
            }
        }
        for (entry, score) in group.iter_mut().zip(scores) {
            entry.score = score;
        }
    }
    for entry in rest {
        entry.score = row(*entry).iter().zip(query).fold(bias(*entry), |sum, (&w, &x)| w.mul_add(x, sum));
    }
}
