//! [`Lanes`] in plain Rust: what defines the results, and the fast path where the compiler targets FMA (as on aarch64).

use super::lanes::Lanes;

/// Eight lanes in an array.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

impl Lanes for Portable {
    const N: usize = 8;
    const USERS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Portable([x; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: valid for eight values, by the trait's contract.
        Portable(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: valid for eight values, by the trait's contract.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn fused_multiply_add(self, factor: Self, sum: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i].mul_add(factor.0[i], sum.0[i])))
    }

    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Portable(self.0.map(|x| if x > 0.0 { x } else { 0.0 }))
    }

    #[inline(always)]
    #[allow(clippy::neg_cmp_op_on_partial_ord)]
    unsafe fn exceeds(self, bound: Self) -> u32 {
        (0..8).map(|i| u32::from(!(self.0[i] <= bound.0[i])) << i).sum()
    }
}
