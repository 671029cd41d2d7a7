//! A vector register of f32 as the kernels see it.

/// Registers of one instruction set. Every operation acts on each lane as its scalar twin does, bit for bit.
///
/// # Safety
/// The methods may only run on a processor that has the instruction set; pointers must be valid for [`Self::N`] values.
/// Kernels over `Lanes` are inlined into functions that enable the instruction set, which compiles the intrinsics.
pub(crate) trait Lanes: Copy {
    /// Lanes a register has; divides [`super::dense::PANEL`].
    const N: usize;
    /// Users that the widest kernel scores at once, two registers each: 8, or 4 where registers are few.
    const USERS: usize;

    /// `x` in every lane.
    unsafe fn splat(x: f32) -> Self;
    /// N values from `from`, which need not be aligned.
    unsafe fn load(from: *const f32) -> Self;
    /// N values to `to`, which need not be aligned.
    unsafe fn store(self, to: *mut f32);
    /// self · factor + sum with one rounding.
    unsafe fn fused_multiply_add(self, factor: Self, sum: Self) -> Self;
    /// x where x > 0, else +0: so −0 and NaN become +0.
    unsafe fn relu(self) -> Self;
    /// One bit a lane: not (self ≤ bound), which is 1 where either is NaN.
    unsafe fn exceeds(self, bound: Self) -> u32;
}

/// The sums of `U` users with the weights of `2·N` columns, as chains over `depth` steps.
///
/// `weights` is a panel: step k's columns lie at `k · PANEL`; user u's factors at `factors + u · stride`.
///
/// # Safety
/// As [`Lanes`]; `weights` must be valid for `depth` steps, `factors` for U users of `depth` values.
#[inline(always)]
pub(crate) unsafe fn accumulate<L: Lanes, const U: usize>(
    weights: *const f32,
    factors: *const f32,
    stride: usize,
    depth: usize,
    start: [L; 2],
) -> [[L; 2]; U] {
    let mut sums = [start; U];
    for k in 0..depth {
        // SAFETY: k < depth, for which the caller vouches.
        unsafe {
            let step = weights.add(k * super::dense::PANEL);
            let (left, right) = (L::load(step), L::load(step.add(L::N)));
            for (u, sum) in sums.iter_mut().enumerate() {
                let factor = L::splat(*factors.add(u * stride + k));
                *sum = [left.fused_multiply_add(factor, sum[0]), right.fused_multiply_add(factor, sum[1])];
            }
        }
    }
    sums
}

/// Calls `$kernel::<L, U>(first user)` for users 0 … `$users`−1 in groups of 8 (where registers allow), 4, 2 and 1.
macro_rules! for_user_groups {
    ($lanes:ty, $users:expr, |$first:ident| $kernel:ident($($argument:expr),* $(,)?)) => {{
        let mut $first = 0;
        while $first < $users {
            $first += match $users - $first {
                8.. if <$lanes>::USERS == 8 => { $kernel::<$lanes, 8>($($argument),*); 8 }
                4.. => { $kernel::<$lanes, 4>($($argument),*); 4 }
                2.. => { $kernel::<$lanes, 2>($($argument),*); 2 }
                _ => { $kernel::<$lanes, 1>($($argument),*); 1 }
            };
        }
    }};
}
pub(crate) use for_user_groups;
