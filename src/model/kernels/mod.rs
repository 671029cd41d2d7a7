//! The arithmetic of scoring, once per instruction set, all with the same bits.
//!
//! What is computed is defined by one scalar program: every sum is a chain of fused multiply-adds in index order, started
//! at the bias or at 0. Vector lanes therefore run over items or outputs, never along a sum, and a wider register only
//! computes more chains at once. The kernels are written once over [`lanes::Lanes`] and compiled for each instruction
//! set; only the int8 first pass ([`int8`]), whose results are bounds and not scores, is written for each that has one.

mod aligned;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dense;
mod elementary;
mod int8;
mod lanes;
mod portable;
mod rescore;
mod scan;
mod selection;
mod shadow;

pub(crate) use aligned::{Aligned, Matrix};
pub(crate) use dense::{Activation, Panels, dense};
pub(crate) use elementary::{exp, ln, tanh};
pub(crate) use int8::{GROUP, Hits, Starts, USERS_MAX};
pub(crate) use rescore::rescore;
pub(crate) use scan::{Panel, Table, scan};
pub(crate) use selection::{Entry, Selection};

pub(crate) use shadow::{Bounds, Shadow, ShadowQuery, Tile};

/// Which of the processor's instructions scoring uses. The choice changes the time, never a bit of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// Whatever the compiler was allowed to use; right on every processor, and the definition of the results.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F.
    Avx512,
    /// x86-64 with AVX2 and FMA: an int8 pass with an error bound finds the few items worth an exact score.
    Avx2Int8,
    /// x86-64 with AVX-512 F and VNNI: the same with instructions that are made for it.
    Avx512Vnni,
}

impl Instructions {
    /// All there are, slowest first.
    pub const ALL: [Instructions; 5] = [
        Instructions::Portable,
        Instructions::Avx2,
        Instructions::Avx512,
        Instructions::Avx2Int8,
        Instructions::Avx512Vnni,
    ];

    /// The fastest that this processor has.
    pub fn best() -> Instructions {
        Self::ALL.into_iter().rev().find(|set| set.is_available()).unwrap_or(Instructions::Portable)
    }

    /// Whether this processor has them.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2 && is_x86_feature_detected!("avx512f");
            match self {
                Instructions::Portable => true,
                Instructions::Avx2 | Instructions::Avx2Int8 => avx2,
                Instructions::Avx512 => avx512,
                Instructions::Avx512Vnni => avx512 && is_x86_feature_detected!("avx512vnni"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Instructions::Portable
        }
    }

    /// Whether they have an int8 pass.
    pub(crate) fn has_first_pass(self) -> bool {
        matches!(self, Instructions::Avx2Int8 | Instructions::Avx512Vnni)
    }

    /// Panics where the processor lacks them: the one gate before every kernel that needs them.
    pub(crate) fn assert_available(self) {
        assert!(self.is_available(), "this processor lacks the instructions asked for ({self:?})");
    }
}
