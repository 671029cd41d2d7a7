//! [`Lanes`] on AVX-512 F.

use super::lanes::Lanes;
use std::arch::x86_64::*;

/// Sixteen lanes in a zmm register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

// SAFETY for every block below: the trait's contract puts them on a processor with AVX-512 F, and vouches for pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Lanes for Avx512 {
    const N: usize = 16;
    const USERS: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Avx512(unsafe { _mm512_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Avx512(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn fused_multiply_add(self, factor: Self, sum: Self) -> Self {
        Avx512(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
    }

    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // The instruction gives its second operand where the first is NaN or both are zeros.
        Avx512(unsafe { _mm512_max_ps(self.0, _mm512_setzero_ps()) })
    }

    #[inline(always)]
    unsafe fn exceeds(self, bound: Self) -> u32 {
        u32::from(unsafe { _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(self.0, bound.0) })
    }
}
