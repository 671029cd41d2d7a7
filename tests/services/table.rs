//! What was tried, and how often: lines of `docs/faults.md`.

use std::io::Write;

/// How much is tried: 1 is what `cargo test` does.
pub(crate) fn effort() -> usize {
    std::env::var("EDDYLINE_FAULTS").map_or(1, |text| text.parse().unwrap())
}

/// Notes that `fault` was injected `times` times and every store was right in the end.
pub(crate) fn passed(fault: &str, times: usize, how: &str) {
    let line = format!("| {fault} | {times} | {how} |\n");
    eprint!("{line}");
    if let Ok(path) = std::env::var("EDDYLINE_FAULTS_TABLE") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// Numbers that look random and are the same every time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Below `bound`. (SplitMix64, Steele et al. 2014.)
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
