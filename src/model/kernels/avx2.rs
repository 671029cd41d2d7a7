//! [`Lanes`] on AVX2 with FMA.

use super::lanes::Lanes;
use std::arch::x86_64::*;

/// Eight lanes in a ymm register.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

// SAFETY for every block below: the trait's contract puts them on a processor with AVX2 and FMA, and vouches for pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Lanes for Avx2 {
    const N: usize = 8;
    const USERS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Avx2(unsafe { _mm256_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Avx2(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn fused_multiply_add(self, factor: Self, sum: Self) -> Self {
        Avx2(unsafe { _mm256_fmadd_ps(self.0, factor.0, sum.0) })
    }

    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // The instruction gives its second operand where the first is NaN or both are zeros.
        Avx2(unsafe { _mm256_max_ps(self.0, _mm256_setzero_ps()) })
    }

    #[inline(always)]
    unsafe fn exceeds(self, bound: Self) -> u32 {
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLE_UQ>(self.0, bound.0)) as u32 }
    }
}

/// Transposes an 8 × 8 block: rows `from_stride` apart into rows `to_stride` apart.
///
/// # Safety
/// Needs AVX2; `from` and `to` must be valid for eight rows of eight values.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn transpose_8x8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    let (mut rows, mut pairs, mut quads) =
        ([_mm256_setzero_ps(); 8], [_mm256_setzero_ps(); 8], [_mm256_setzero_ps(); 8]);
    for (i, row) in rows.iter_mut().enumerate() {
        // SAFETY: rows 0 … 7 are valid, by this function's contract.
        *row = unsafe { _mm256_loadu_ps(from.add(i * from_stride)) };
    }
    for i in 0..4 {
        pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    for i in [0, 1, 4, 5] {
        let at = i / 4 * 4 + i % 4 * 2;
        quads[at] = _mm256_shuffle_ps::<0x44>(pairs[i], pairs[i + 2]);
        quads[at + 1] = _mm256_shuffle_ps::<0xEE>(pairs[i], pairs[i + 2]);
    }
    for i in 0..4 {
        // SAFETY: rows 0 … 7 are valid, by this function's contract.
        unsafe {
            _mm256_storeu_ps(to.add(i * to_stride), _mm256_permute2f128_ps::<0x20>(quads[i], quads[i + 4]));
            _mm256_storeu_ps(to.add((i + 4) * to_stride), _mm256_permute2f128_ps::<0x31>(quads[i], quads[i + 4]));
        }
    }
}
