//! AVX-512 VNNI: a quad of products and their sum in one instruction, all users of a call at once.

use super::{GROUP, Groups, Hits, Starts};
use std::arch::x86_64::*;
use std::ops::Range;

/// Registers that a group fills.
const REGISTERS: usize = GROUP / 16;

/// [`super::search`] with VNNI, of up to 16 items' values in an instruction.
///
/// # Safety
/// The processor must have AVX-512 F and VNNI; `groups` must lie in the table and its bias, if any, and `users` hold 1 to
/// [`super::USERS_MAX`] users of `quads` words.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn search(
    table: Groups<'_>,
    groups: Range<usize>,
    users: &[u32],
    starts: &Starts,
    hits: &mut Hits,
) -> Option<usize> {
    // SAFETY: passed on; `users.len()` decides U.
    unsafe {
        match (users.len() / table.quads, !table.bias.is_empty()) {
            (1, false) => search_for::<1, false>(table, groups, users, starts, hits),
            (2, false) => search_for::<2, false>(table, groups, users, starts, hits),
            (3, false) => search_for::<3, false>(table, groups, users, starts, hits),
            (4, false) => search_for::<4, false>(table, groups, users, starts, hits),
            (5, false) => search_for::<5, false>(table, groups, users, starts, hits),
            (_, false) => search_for::<6, false>(table, groups, users, starts, hits),
            (1, true) => search_for::<1, true>(table, groups, users, starts, hits),
            (2, true) => search_for::<2, true>(table, groups, users, starts, hits),
            (3, true) => search_for::<3, true>(table, groups, users, starts, hits),
            (4, true) => search_for::<4, true>(table, groups, users, starts, hits),
            (5, true) => search_for::<5, true>(table, groups, users, starts, hits),
            (_, true) => search_for::<6, true>(table, groups, users, starts, hits),
        }
    }
}

/// # Safety
/// As [`search`], for U users.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn search_for<const U: usize, const BIASED: bool>(
    table: Groups<'_>,
    groups: Range<usize>,
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
unsafe fn start<const U: usize, const BIASED: bool>(bias: *const f32, starts: &Starts) -> [[__m512i; REGISTERS]; U] {
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
