//! The first pass's kernels: int8 products of 64 items with up to [`USERS_MAX`] users, compared with each user's
//! threshold before they leave the registers.
//!
//! The threshold is part of the sums' start, so that a sum is ≥ 0 exactly where an item is worth a closer look, and the
//! conjunction of all sums' signs tells in one branch that none is: with a good threshold, nearly always.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod vnni;

use super::Instructions;
use std::ops::Range;

/// Items of a group.
pub(crate) const GROUP: usize = 64;
/// Users that the widest kernel takes at once.
pub(crate) const USERS_MAX: usize = 6;

/// What sums start from, for each user of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Starts {
    /// Without bias: the start itself. With bias: `start + bias · inverse`, in f32, rounded to an integer.
    pub(crate) start: [f32; USERS_MAX],
    pub(crate) inverse: [f32; USERS_MAX],
}

/// The sums that a call found to be ≥ 0.
#[derive(Clone, Debug)]
pub(crate) struct Hits {
    /// One bit an item of the group.
    pub(crate) masks: [u64; USERS_MAX],
    /// Of users whose mask is not 0: all sums.
    pub(crate) sums: [[i32; GROUP]; USERS_MAX],
}

impl Default for Hits {
    fn default() -> Self {
        Hits { masks: [0; USERS_MAX], sums: [[0; GROUP]; USERS_MAX] }
    }
}

/// A table of int8 rows in groups of 64, as the kernel reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Groups<'a> {
    /// Group by group, quad of columns by quad, 64 words: an item's four values + 128 each, lowest column lowest.
    pub(crate) words: &'a [u32],
    /// One value an item, or none.
    pub(crate) bias: &'a [f32],
    /// Quads of columns.
    pub(crate) quads: usize,
}

/// The largest magnitude of a user's values that these instructions multiply exactly. AVX2 adds two products of a value up
/// to 255 in 16 bits.
pub(crate) fn user_max(instructions: Instructions) -> i8 {
    if instructions == Instructions::Avx2Int8 { 63 } else { 127 }
}

/// Looks for the first of `groups` where start + Σ (item + 128)·user ≥ 0 for some item and user; says which, and fills
/// `hits` for it. `users` holds each user's values, up to ± [`user_max`], as one word a quad, for 1 to [`USERS_MAX`] users.
///
/// # Panics
/// Where the processor lacks the instructions, they have no int8 pass, or the shapes do not fit.
pub(crate) fn search(
    instructions: Instructions,
    table: Groups<'_>,
    groups: Range<usize>,
    users: &[u32],
    starts: &Starts,
    hits: &mut Hits,
) -> Option<usize> {
    assert!(groups.end * table.quads * GROUP <= table.words.len(), "groups lie in the table");
    assert!(table.bias.is_empty() || groups.end * GROUP <= table.bias.len(), "every item has a bias, or none");
    let count = users.len() / table.quads;
    assert!((1..=USERS_MAX).contains(&count), "the kernels take 1 to {USERS_MAX} users, not {count}");
    instructions.assert_available();
    match instructions {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions, and the shapes are asserted.
        Instructions::Avx512Vnni => unsafe { vnni::search(table, groups, users, starts, hits) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Instructions::Avx2Int8 => unsafe { avx2::search(table, groups, users, starts, hits) },
        _ => {
            let _ = (starts, hits);
            panic!("{instructions:?} has no int8 pass")
        }
    }
}
