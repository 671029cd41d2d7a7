//! The first pass's kernel: int8 products of 64 items with up to [`USERS_MAX`] users, compared with each user's
//! threshold before they leave the registers.
//!
//! The threshold is part of the sums' start, so that a sum is ≥ 0 exactly where an item is worth a closer look, and the
//! conjunction of all sums' signs tells in one branch that none is: with a good threshold, nearly always.

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

/// Looks for the first of `groups` where start + Σ (item + 128)·user ≥ 0 for some item and user; says which, and fills
/// `hits` for it. `users` holds each user's int8 values as one word a quad, for 1 to [`USERS_MAX`] users.
///
/// # Panics
/// Where the processor lacks AVX-512 VNNI, or the shapes do not fit.
pub(crate) fn search(
    table: Groups<'_>,
    groups: std::ops::Range<usize>,
    users: &[u32],
    starts: &Starts,
    hits: &mut Hits,
) -> Option<usize> {
    assert!(groups.end * table.quads * GROUP <= table.words.len(), "groups lie in the table");
    assert!(table.bias.is_empty() || groups.end * GROUP <= table.bias.len(), "every item has a bias, or none");
    super::Instructions::Avx512Vnni.assert_available();
    #[cfg(target_arch = "x86_64")]
    {
        let biased = !table.bias.is_empty();
        // SAFETY: the processor has the instructions, and the shapes are asserted; `users.len()` decides U.
        unsafe {
            match (users.len() / table.quads, biased) {
                (1, false) => x86::search::<1, false>(table, groups, users, starts, hits),
                (2, false) => x86::search::<2, false>(table, groups, users, starts, hits),
                (3, false) => x86::search::<3, false>(table, groups, users, starts, hits),
                (4, false) => x86::search::<4, false>(table, groups, users, starts, hits),
                (5, false) => x86::search::<5, false>(table, groups, users, starts, hits),
                (6, false) => x86::search::<6, false>(table, groups, users, starts, hits),
                (1, true) => x86::search::<1, true>(table, groups, users, starts, hits),
                (2, true) => x86::search::<2, true>(table, groups, users, starts, hits),
                (3, true) => x86::search::<3, true>(table, groups, users, starts, hits),
                (4, true) => x86::search::<4, true>(table, groups, users, starts, hits),
                (5, true) => x86::search::<5, true>(table, groups, users, starts, hits),
                (6, true) => x86::search::<6, true>(table, groups, users, starts, hits),
                (users, _) => panic!("the kernel takes 1 to {USERS_MAX} users, not {users}"),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (users, starts, hits);
        unreachable!("asserted to be available")
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{GROUP, Groups, Hits, Starts};
    use std::arch::x86_64::*;

    /// Registers that a group fills.
    const REGISTERS: usize = GROUP / 16;

    /// # Safety
    /// The processor must have AVX-512 F and VNNI; `groups` must lie in the table (and the bias, where BIASED), and
    /// `users` hold U × quads words.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn search<const U: usize, const BIASED: bool>(
        table: Groups<'_>,
        groups: std::ops::Range<usize>,
        users: &[u32],
        starts: &Starts,
        hits: &mut Hits,
    ) -> Option<usize> {
        let zero = _mm512_setzero_si512();
        for group in groups {
            // SAFETY: the group lies in table and bias, by this function's contract.
            let sums: [[__m512i; REGISTERS]; U] = unsafe {
                let bias = if BIASED { table.bias.as_ptr().add(group * GROUP) } else { std::ptr::null() };
                let sums = start::<U, BIASED>(bias, starts);
                multiply(table.words.as_ptr().add(group * table.quads * GROUP), users.as_ptr(), table.quads, sums)
            };
            let signs = sums.iter().flatten().fold(_mm512_set1_epi32(-1), |signs, &sum| _mm512_and_si512(signs, sum));
            if _mm512_cmplt_epi32_mask(signs, zero) == u16::MAX {
                continue;
            }
            for (sums, (mask, values)) in sums.iter().zip(hits.masks.iter_mut().zip(&mut hits.sums)) {
                *mask = 0;
                for (register, &sum) in sums.iter().enumerate() {
                    *mask |= u64::from(_mm512_cmpge_epi32_mask(sum, zero)) << (16 * register);
                }
                if *mask != 0 {
                    for (values, &sum) in values.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
                        // SAFETY: sixteen i32 are as large as the register.
                        unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), sum) };
                    }
                }
            }
            return Some(group);
        }
        None
    }

    /// # Safety
    /// As [`search`]; where BIASED, `bias` must be valid for a group.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn start<const U: usize, const BIASED: bool>(
        bias: *const f32,
        starts: &Starts,
    ) -> [[__m512i; REGISTERS]; U] {
        std::array::from_fn(|u| {
            let start = _mm512_set1_ps(starts.start[u]);
            std::array::from_fn(|register| {
                if !BIASED {
                    return _mm512_cvtps_epi32(start);
                }
                // SAFETY: the group's bias is valid, by this function's contract.
                let bias = unsafe { _mm512_loadu_ps(bias.add(16 * register)) };
                _mm512_cvtps_epi32(_mm512_fmadd_ps(bias, _mm512_set1_ps(starts.inverse[u]), start))
            })
        })
    }

    /// Adds Σ item · user to the sums.
    ///
    /// # Safety
    /// `items` must be valid for a group's words, `users` for U × quads words.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn multiply<const U: usize>(
        items: *const u32,
        users: *const u32,
        quads: usize,
        mut sums: [[__m512i; REGISTERS]; U],
    ) -> [[__m512i; REGISTERS]; U] {
        for quad in 0..quads {
            // SAFETY: quad < quads and u < U, for which the caller vouches.
            let items: [__m512i; REGISTERS] = std::array::from_fn(|register| unsafe {
                _mm512_loadu_si512(items.add(quad * GROUP + 16 * register).cast())
            });
            for (u, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let user = _mm512_set1_epi32(unsafe { *users.add(u * quads + quad) } as i32);
                for (sum, items) in sums.iter_mut().zip(items) {
                    *sum = _mm512_dpbusd_epi32(*sum, items, user);
                }
            }
        }
        sums
    }
}
