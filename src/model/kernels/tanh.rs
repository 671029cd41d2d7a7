//! tanh without a mathematics library, so that its bits are the same wherever it runs.

/// Terms of the exponential's series: |r| ≤ ln(2)/2, so the first one left out is below 2⁻⁵⁶ of the result.
const TERMS: u32 = 14;

/// tanh(x) within 0.501 units in the last place of the exact value; odd; NaN gives NaN.
///
/// With y = 2|x| and e = exp(y) − 1, tanh|x| = e / (e + 2). e comes from y = n·ln 2 + r, |r| ≤ ln(2)/2, as 2ⁿ(exp(r) − 1) +
/// (2ⁿ − 1), with the series of exp(r) − 1, all in f64 with +, −, × and ÷ alone, each of which rounds alike everywhere.
pub(crate) fn tanh(x: f32) -> f32 {
    // Beyond 9.02 the exact value is nearer to 1 than to the f32 before 1.
    if x.abs() >= 9.1 {
        return x.signum();
    }
    let e = exp_minus_1(2.0 * f64::from(x.abs()));
    let magnitude = (e / (e + 2.0)) as f32;
    magnitude.copysign(x)
}

/// exp(y) − 1 for 0 ≤ y < 1000, with a relative error below 2⁻⁵¹; NaN gives NaN.
fn exp_minus_1(y: f64) -> f64 {
    // ln 2 in two parts: the first has so few bits that its product with n is exact.
    const LN2_HIGH: f64 = 6.931_471_803_691_238_2e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let n = (y * std::f64::consts::LOG2_E + 0.5) as i32;
    let r = (y - f64::from(n) * LN2_HIGH) - f64::from(n) * LN2_LOW;
    let mut series = 1.0;
    for term in (2..=TERMS).rev() {
        series = 1.0 + series * r * (1.0 / f64::from(term));
    }
    let power = f64::from_bits(((1023 + i64::from(n)) as u64) << 52);
    power * (series * r) + (power - 1.0)
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
    fn its_ends_are_exact() {
        assert_eq!(tanh(0.0).to_bits(), 0.0f32.to_bits());
        assert_eq!(tanh(-0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!([tanh(f32::INFINITY), tanh(f32::NEG_INFINITY), tanh(20.0)], [1.0, -1.0, 1.0]);
        assert_eq!(tanh(f32::from_bits(1)), f32::from_bits(1));
    }
}
