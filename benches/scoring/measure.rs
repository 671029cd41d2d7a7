//! Clocks, medians, and the processor's peak.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// One sample: microseconds a query.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) wall_us: f64,
    pub(crate) cpu_us: f64,
}

/// Repeats `run`, which answers `queries` queries, for at least a tenth of a second.
pub(crate) fn measure(queries: usize, mut run: impl FnMut()) -> Sample {
    let (start, cpu_start) = (Instant::now(), process_cpu());
    let mut runs = 0;
    while runs == 0 || start.elapsed() < Duration::from_millis(100) {
        run();
        runs += 1;
    }
    let answered = (runs * queries) as f64;
    let cpu = process_cpu() - cpu_start;
    Sample { wall_us: start.elapsed().as_secs_f64() * 1e6 / answered, cpu_us: cpu.as_secs_f64() * 1e6 / answered }
}

/// Processor time of this process so far, all threads; zero where the system does not tell.
fn process_cpu() -> Duration {
    // Fields 14 and 15, counted after the name in brackets, in ticks of 10 ms; they include threads that are gone.
    let ticks = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    });
    Duration::from_millis(ticks.unwrap_or(0) * 10)
}

/// Median, least and largest of samples, and their mean processor time (whose clock is too coarse for one sample).
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) largest: f64,
    pub(crate) cpu_mean: f64,
}

impl Summary {
    pub(crate) fn of(samples: &[Sample]) -> Summary {
        let mut wall: Vec<f64> = samples.iter().map(|sample| sample.wall_us).collect();
        wall.sort_by(f64::total_cmp);
        let cpu_mean = samples.iter().map(|sample| sample.cpu_us).sum::<f64>() / samples.len() as f64;
        Summary { median: wall[wall.len() / 2], least: wall[0], largest: wall[wall.len() - 1], cpu_mean }
    }
}

/// The most that fused multiply-adds of f32 reach on one thread, in GFLOP/s: the best of several short runs.
pub(crate) fn peak_gflops() -> f64 {
    const STEPS: usize = 1 << 20;
    let best = (0..20)
        .map(|_| {
            let start = Instant::now();
            let flop = fused_multiply_adds(black_box(STEPS), black_box(0.999));
            flop / start.elapsed().as_secs_f64()
        })
        .fold(0.0, f64::max);
    best / 1e9
}

/// Runs independent chains of fused multiply-adds, and says how many operations that was.
fn fused_multiply_adds(steps: usize, factor: f32) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512 F.
            return unsafe { chains_avx512(steps, factor) };
        }
        if is_x86_feature_detected!("fma") {
            // SAFETY: the processor has FMA.
            return unsafe { chains_fma(steps, factor) };
        }
    }
    chains::<8>(steps, factor)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
unsafe fn chains_avx512(steps: usize, factor: f32) -> f64 {
    use std::arch::x86_64::*;
    let (factor, mut sums) = (_mm512_set1_ps(factor), [_mm512_setzero_ps(); 16]);
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, factor);
        }
    }
    black_box(sums);
    (steps * 16 * 16 * 2) as f64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn chains_fma(steps: usize, factor: f32) -> f64 {
    use std::arch::x86_64::*;
    let (factor, mut sums) = (_mm256_set1_ps(factor), [_mm256_setzero_ps(); 12]);
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, factor);
        }
    }
    black_box(sums);
    (steps * 12 * 8 * 2) as f64
}

fn chains<const N: usize>(steps: usize, factor: f32) -> f64 {
    let mut sums = [0.0f32; N];
    for _ in 0..steps {
        sums = sums.map(|sum| sum.mul_add(factor, factor));
    }
    black_box(sums);
    (steps * N * 2) as f64
}
