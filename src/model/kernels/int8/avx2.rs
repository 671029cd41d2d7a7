//! AVX2: products in pairs, in 16 bits; two users of a call at once, on half a group, as 16 registers hold no more.

use super::{GROUP, Groups, Hits, Starts};
use std::arch::x86_64::*;
use std::ops::Range;

/// Items that a register holds a quad of.
const WIDTH: usize = 8;
/// Registers that are looked at together.
const REGISTERS: usize = 4;
/// Items in them.
const PART: usize = REGISTERS * WIDTH;

/// [`super::search`] with AVX2.
///
/// # Safety
/// The processor must have AVX2 and FMA; `groups` must lie in the table and its bias, if any, and `users` hold 1 to
/// [`super::USERS_MAX`] users of `quads` words.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn search(
    table: Groups<'_>,
    groups: Range<usize>,
    users: &[u32],
    starts: &Starts,
    hits: &mut Hits,
) -> Option<usize> {
    // SAFETY: passed on.
    unsafe {
        if table.bias.is_empty() {
            search_with::<false>(table, groups, users, starts, hits)
        } else {
            search_with::<true>(table, groups, users, starts, hits)
        }
    }
}

/// # Safety
/// As [`search`]; BIASED says whether there is a bias.
#[target_feature(enable = "avx2,fma")]
unsafe fn search_with<const BIASED: bool>(
    table: Groups<'_>,
    mut groups: Range<usize>,
    users: &[u32],
    starts: &Starts,
    hits: &mut Hits,
) -> Option<usize> {
    let count = users.len() / table.quads;
    let group = groups.find(|&group| {
        (0..count).step_by(2).any(|first| {
            (0..GROUP).step_by(PART).any(|item| {
                // SAFETY: group, items and users are there, by this function's contract.
                unsafe {
                    if first + 1 < count {
                        signs(sums::<2, BIASED>(table, group, item, users, first, starts)) != 0
                    } else {
                        signs(sums::<1, BIASED>(table, group, item, users, first, starts)) != 0
                    }
                }
            })
        })
    })?;
    for user in 0..count {
        hits.masks[user] = 0;
        for item in (0..GROUP).step_by(PART) {
            // SAFETY: as above.
            let [sums] = unsafe { sums::<1, BIASED>(table, group, item, users, user, starts) };
            for (register, sum) in sums.into_iter().enumerate() {
                let at = item + register * WIDTH;
                let negative = _mm256_movemask_ps(_mm256_castsi256_ps(sum)) as u8;
                hits.masks[user] |= u64::from(!negative) << at;
                // SAFETY: eight i32 are as large as the register.
                unsafe { _mm256_storeu_si256(hits.sums[user][at..at + WIDTH].as_mut_ptr().cast(), sum) };
            }
        }
    }
    Some(group)
}

/// The items that have a sum ≥ 0, a bit for each of some eight places; 0 if none has.
#[inline]
#[target_feature(enable = "avx2")]
fn signs<const U: usize>(sums: [[__m256i; REGISTERS]; U]) -> u8 {
    let all = sums.into_iter().flatten().fold(_mm256_set1_epi32(-1), |signs, sum| _mm256_and_si256(signs, sum));
    !(_mm256_movemask_ps(_mm256_castsi256_ps(all)) as u8)
}

/// The sums of U users from `first` on, for the items from `item` on of a group.
///
/// # Safety
/// As [`search_with`], where group, items and users are there.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sums<const U: usize, const BIASED: bool>(
    table: Groups<'_>,
    group: usize,
    item: usize,
    users: &[u32],
    first: usize,
    starts: &Starts,
) -> [[__m256i; REGISTERS]; U] {
    let mut sums: [[__m256i; REGISTERS]; U] = std::array::from_fn(|u| {
        let start = _mm256_set1_ps(starts.start[first + u]);
        std::array::from_fn(|register| {
            if !BIASED {
                return _mm256_cvtps_epi32(start);
            }
            let at = group * GROUP + item + register * WIDTH;
            // SAFETY: the group's bias is there, by this function's contract.
            let bias = unsafe { _mm256_loadu_ps(table.bias.as_ptr().add(at)) };
            _mm256_cvtps_epi32(_mm256_fmadd_ps(bias, _mm256_set1_ps(starts.inverse[first + u]), start))
        })
    });
    let ones = _mm256_set1_epi16(1);
    for quad in 0..table.quads {
        // SAFETY: the group and the users are there, by this function's contract.
        let words: [__m256i; REGISTERS] = std::array::from_fn(|register| unsafe {
            let at = (group * table.quads + quad) * GROUP + item + register * WIDTH;
            _mm256_loadu_si256(table.words.as_ptr().add(at).cast())
        });
        for (u, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let user = unsafe { *users.as_ptr().add((first + u) * table.quads + quad) };
            let user = _mm256_set1_epi32(user as i32);
            for (sum, words) in sums.iter_mut().zip(words) {
                // Two products of at most 255 · 63 each are inside 16 bits.
                let pairs = _mm256_maddubs_epi16(words, user);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    sums
}
