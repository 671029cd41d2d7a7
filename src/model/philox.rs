//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011), and the
//! noise z that BCQ draws from it (contract, section 4).
//!
//! A counter-based generator has no state, so a draw is a pure function of what it is keyed by, and no request's
//! noise depends on which others were scored before it. The construction, which is part of the result:
//!
//! - key = the seed, low word first;
//! - counter = (user low, user high, T low, T high | block << 16), with the raw user id and T in milliseconds: T stays
//!   below 2^48 (the year 10889), so the upper 16 bits of its word count the blocks of four numbers;
//! - number i of a request is word i mod 4 of block i / 4: a word w stands for the probability p = (w + ½) / 2³²;
//! - z_i is the normal quantile of p, clamped to [−½, ½], rounded to f32. Within the clamp |p − ½| < 0.1915, where the
//!   quantile is one rational function in p: it takes only +, ×, ÷ of f64, which every processor rounds alike.

/// The standard normal distribution's value at ½, less ½: beyond this distance from ½ a probability is clamped.
const CLAMPED_FROM: f64 = 0.191_462_461_274_013_1;

/// What one request's noise is keyed by, beside the seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draw {
    /// The raw user id.
    pub user: u64,
    /// T, in milliseconds.
    pub time_ms: u64,
}

/// Fills `noise` with clamp(N(0, 1), −½, ½), as the module's construction says.
pub fn fill_clamped_normal(seed: u64, draw: Draw, noise: &mut [f32]) {
    let key = [low(seed), high(seed)];
    for (block, values) in (0u32..).zip(noise.chunks_mut(4)) {
        let counter = [low(draw.user), high(draw.user), low(draw.time_ms), high(draw.time_ms) ^ (block << 16)];
        for (value, word) in values.iter_mut().zip(philox4x32_10(counter, key)) {
            *value = clamped_normal((f64::from(word) + 0.5) / 4_294_967_296.0);
        }
    }
}

fn low(x: u64) -> u32 {
    x as u32
}

fn high(x: u64) -> u32 {
    (x >> 32) as u32
}

/// Ten rounds of Philox4x32.
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = u64::from(counter[0]) * 0xD251_1F53;
        let second = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [high(second) ^ counter[1] ^ key[0], low(second), high(first) ^ counter[3] ^ key[1], low(first)];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// The normal quantile of `p`, clamped to [−½, ½]: the central branch of Wichura's PPND16 (AS 241, 1988).
fn clamped_normal(p: f64) -> f32 {
    const NUMERATOR: [f64; 8] = [
        2.509_080_928_730_122_6e3,
        3.343_057_558_358_813e4,
        6.726_577_092_700_87e4,
        4.592_195_393_154_987e4,
        1.373_169_376_550_946e4,
        1.971_590_950_306_551_3e3,
        1.331_416_678_917_843_8e2,
        3.387_132_872_796_366_5,
    ];
    const DENOMINATOR: [f64; 8] = [
        5.226_495_278_852_854e3,
        2.872_908_573_572_194_3e4,
        3.930_789_580_009_271e4,
        2.121_379_430_158_659_7e4,
        5.394_196_021_424_751e3,
        6.871_870_074_920_579e2,
        4.231_333_070_160_091e1,
        1.0,
    ];
    let q = p - 0.5;
    if q.abs() >= CLAMPED_FROM {
        return if q > 0.0 { 0.5 } else { -0.5 };
    }
    let r = 0.180_625 - q * q;
    let horner = |coefficients: [f64; 8]| coefficients.into_iter().reduce(|sum, c| sum * r + c).expect("eight of them");
    (q * horner(NUMERATOR) / horner(DENOMINATOR)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that come with the authors' Random123.
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    /// Quantiles from tables of the normal distribution.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (p, z) in [(0.5, 0.0), (0.6, 0.253_347_1), (0.55, 0.125_661_35), (0.4, -0.253_347_1), (0.69, 0.495_850_35)]
        {
            assert!((clamped_normal(p) - z as f32).abs() < 1e-7, "{p}: {}", clamped_normal(p));
        }
        assert_eq!([0.0, 0.2, 0.8, 1.0].map(clamped_normal), [-0.5, -0.5, 0.5, 0.5]);
        assert!(clamped_normal(0.5 + CLAMPED_FROM - 1e-9) <= 0.5);
    }

    #[test]
    fn noise_is_clamped_centred_and_keyed_by_everything() {
        let draw = |seed, user, time_ms| {
            let mut noise = vec![0.0; 4000];
            fill_clamped_normal(seed, Draw { user, time_ms }, &mut noise);
            noise
        };
        let noise = draw(7, 1, 20_000);
        assert!(noise.iter().all(|z| (-0.5..=0.5).contains(z)));
        let at_the_ends = noise.iter().filter(|z| z.abs() == 0.5).count() as f64 / noise.len() as f64;
        assert!((at_the_ends - 0.617).abs() < 0.03, "{at_the_ends}");
        assert!(noise.iter().sum::<f32>().abs() / 4000.0 < 0.03);
        assert_eq!(noise, draw(7, 1, 20_000));
        assert_eq!(noise[..8], draw(7, 1, 20_000)[..8], "a shorter draw is a prefix of a longer one");
        for other in [draw(8, 1, 20_000), draw(7, 2, 20_000), draw(7, 1, 20_001), draw(7, 1 << 32, 20_000)] {
            assert_ne!(noise, other);
        }
    }

    /// A change of these bits changes published recommendations. They were computed from the module's words by another
    /// program, in another language.
    #[test]
    fn the_construction_is_pinned() {
        let mut noise = [0.0; 14];
        fill_clamped_normal(
            0x0123_4567_89AB_CDEF,
            Draw { user: 987_654_321_012, time_ms: 1_511_544_000_000 },
            &mut noise,
        );
        let expected = [
            0x3f00_0000,
            0x3f00_0000,
            0xbf00_0000,
            0xbd07_ca0c,
            0xbf00_0000,
            0xbeb1_463d,
            0x3f00_0000,
            0xbd9f_da9b,
            0xbe42_2065,
            0x3efe_2c96,
            0xbf00_0000,
            0x3e92_1a02,
            0x3e91_8027,
            0xbf00_0000,
        ];
        assert_eq!(noise.map(f32::to_bits), expected);
    }
}
