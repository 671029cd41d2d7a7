//! tanh, exp and ln without a mathematics library, so that their bits are the same wherever they run: +, −, × and ÷ of
//! f64 alone, each of which rounds alike everywhere.

/// Terms of the exponential's series: |r| ≤ ln(2)/2, so the first one left out is below 2⁻⁵⁶ of the result.
const TERMS: u32 = 14;
/// ln 2 in two parts: the first has so few bits that its product with a small integer is exact.
const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// tanh(x) within 0.501 units in the last place of the exact value; odd; NaN gives NaN.
///
/// With y = 2|x| and e = exp(y) − 1, tanh|x| = e / (e + 2). e comes from y = n·ln 2 + r, |r| ≤ ln(2)/2, as 2ⁿ(exp(r) − 1) +
/// (2ⁿ − 1), with the series of exp(r) − 1.
pub(crate) fn tanh(x: f32) -> f32 {
    // Beyond 9.02 the exact value is nearer to 1 than to the f32 before 1.
    if x.abs() >= 9.1 {
        return x.signum();
    }
    let e = exp_minus_1(2.0 * f64::from(x.abs()));
    let magnitude = (e / (e + 2.0)) as f32;
    magnitude.copysign(x)
}

/// exp(y) − 1 for 0 ≤ y < 700, with a relative error below 2⁻⁵¹; NaN gives NaN.
fn exp_minus_1(y: f64) -> f64 {
    let n = (y * std::f64::consts::LOG2_E + 0.5) as i32;
    let power = power_of_two(n);
    power * reduced_exp_minus_1(y, n) + (power - 1.0)
}

/// exp(x) for x ≤ 0, with a relative error below 2⁻⁵¹, or 0 below −700; NaN gives NaN.
pub(crate) fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let n = (x * std::f64::consts::LOG2_E - 0.5) as i32;
    power_of_two(n) * (1.0 + reduced_exp_minus_1(x, n))
}

/// exp(r) − 1 of r = y − n·ln 2, |r| ≤ ln(2)/2, by its series.
fn reduced_exp_minus_1(y: f64, n: i32) -> f64 {
    let r = (y - f64::from(n) * LN2_HIGH) - f64::from(n) * LN2_LOW;
    let mut series = 1.0;
    for term in (2..=TERMS).rev() {
        series = 1.0 + series * r * (1.0 / f64::from(term));
    }
    series * r
}

/// 2ⁿ for −1022 ≤ n ≤ 1023.
fn power_of_two(n: i32) -> f64 {
    f64::from_bits(((1023 + i64::from(n)) as u64) << 52)
}

/// ln(x) for normal x ≥ 1, with an absolute error below 2⁻⁵¹ of max(1, ln x); infinity and NaN give themselves.
///
/// x = 2ⁿ·m with m in (¾, 3/2], and ln m = 2·artanh(s) = 2(s + s³/3 + s⁵/5 + …), s = (m − 1)/(m + 1), |s| ≤ 1/5.
pub(crate) fn ln(x: f64) -> f64 {
    if !x.is_finite() {
        return x;
    }
    let bits = x.to_bits();
    let mut n = (bits >> 52) as i32 - 1023;
    let mut m = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if m > 1.5 {
        (m, n) = (m / 2.0, n + 1);
    }
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let series = (0..12u32).rev().fold(0.0, |sum, term| sum * square + 1.0 / f64::from(2 * term + 1));
    f64::from(n) * LN2_HIGH + (2.0 * s * series + f64::from(n) * LN2_LOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the platform's f64 tanh, itself right to about 1 unit of f64: every 997th f32 there is.
    #[test]
    fn tanh_is_within_its_stated_error() {
        for bits in (0..=u32::MAX).step_by(997) {
            let x = f32::from_bits(bits);
            let (exact, got) = (f64::from(x).tanh(), tanh(x));
            if x.is_nan() {
                assert!(got.is_nan());
                continue;
            }
            let unit = f64::from(got.abs().next_up() - got.abs()).min(2f64.powi(-24));
            let unit = if got.abs() == 1.0 { 2f64.powi(-24) } else { unit };
            assert!((f64::from(got) - exact).abs() <= 0.501 * unit, "tanh({x}) = {got}, not {exact}");
            assert_eq!(tanh(-x).to_bits(), (-got).to_bits());
        }
    }

    #[test]
    fn exp_and_ln_agree_with_the_platform() {
        for step in 0..70_000 {
            let x = -f64::from(step) / 100.0;
            assert!((exp(x) - x.exp()).abs() <= 2f64.powi(-50) * x.exp(), "exp({x}) = {}", exp(x));
        }
        assert_eq!([exp(0.0), exp(-701.0), exp(f64::NEG_INFINITY)], [1.0, 0.0, 0.0]);
        assert!(exp(f64::NAN).is_nan());
        for step in 0..100_000 {
            let x = 1.0 + f64::from(step) * f64::from(step) / 977.0;
            assert!((ln(x) - x.ln()).abs() <= 2f64.powi(-50) * x.ln().max(1.0), "ln({x}) = {}", ln(x));
        }
        assert_eq!([ln(1.0), ln(f64::INFINITY)], [0.0, f64::INFINITY]);
    }

    #[test]
    fn its_ends_are_exact() {
        assert_eq!(tanh(0.0).to_bits(), 0.0f32.to_bits());
        assert_eq!(tanh(-0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!([tanh(f32::INFINITY), tanh(f32::NEG_INFINITY), tanh(20.0)], [1.0, -1.0, 1.0]);
        assert_eq!(tanh(f32::from_bits(1)), f32::from_bits(1));
    }
}
