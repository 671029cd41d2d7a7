//! Logarithm, power, sine and cosine from the four basic operations, which IEEE 754 fixes to the last bit.
//!
//! The ones of the standard library may differ in the last bit from one platform to the next, and one bit is enough to
//! draw another item. These are good to about 1e-15 relative (1e-12 for sine and cosine), which is plenty here.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// ln(x) for finite x > 0 that is not subnormal.
pub(crate) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa > SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    // ln m = 2 artanh((m−1)/(m+1)), whose argument is at most 0.172 in size: the series ends at 1e-17.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..11).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    exponent as f64 * LN_2 + 2.0 * s * series
}

/// e^x for |x| ≤ 700.
pub(crate) fn exp(x: f64) -> f64 {
    let power = (x / LN_2).round();
    let rest = x - power * LN_2;
    let series = (1..16).rev().fold(1.0, |sum, k| 1.0 + rest / f64::from(k) * sum);
    series * f64::from_bits(((1023 + power as i64) as u64) << 52)
}

/// x^y for x > 0 and |y ln x| ≤ 700.
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    exp(y * ln(x))
}

/// (cos, sin) of a fraction of a full turn.
pub(crate) fn cos_sin(turns: f64) -> (f64, f64) {
    let angle = (turns - turns.round()) * 2.0 * PI;
    let square = angle * angle;
    // Taylor series; |angle| ≤ π, and π^28/28! is below 1e-15.
    let cos = (1..15).rev().fold(1.0, |sum, k| 1.0 - square / f64::from((2 * k - 1) * 2 * k) * sum);
    let sin = (1..15).rev().fold(1.0, |sum, k| 1.0 - square / f64::from(2 * k * (2 * k + 1)) * sum);
    (cos, angle * sin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agree_with_the_standard_library(x in 1e-6_f64..1e12, y in -3.0_f64..3.0, turns in -4.0_f64..4.0) {
            prop_assert!((ln(x) - x.ln()).abs() <= 4e-15 * x.ln().abs().max(1.0));
            prop_assert!((pow(x, y) / x.powf(y) - 1.0).abs() < 1e-13);
            let (cos, sin) = cos_sin(turns);
            prop_assert!((cos - (turns * 2.0 * PI).cos()).abs() < 1e-11);
            prop_assert!((sin - (turns * 2.0 * PI).sin()).abs() < 1e-11);
        }
    }

    #[test]
    fn exact_where_exactness_is_easy() {
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(pow(7.0, 0.0), 1.0);
        assert_eq!(cos_sin(0.0), (1.0, 0.0));
    }
}
