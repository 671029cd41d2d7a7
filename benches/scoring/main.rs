//! Time of exact top-10 over whole catalogues: `cargo bench --bench scoring -- [--quick]` prints a table.
//!
//! Each figure is the median of the samples with the least and the largest, in microseconds of wall time a query, and the
//! processor time beside it; it includes the gathering of states and the forward pass. `--data DIR` scores the data in
//! DIR instead, as commanded on stdin: how `scripts/bench-scoring.py` lets this program and its peers take turns.
//!
//! The policies are built so that every query vector is known: DDPG's layers hand the user's vector u on (as relu(u) −
//! relu(−u)), and REINFORCE's head sees [relu(u) ; relu(−u)]. Their shapes, and so their times, are those of real ones.

#![allow(clippy::print_stdout, missing_docs)]

mod measure;
mod policies;

use eddyline::model::Instructions;
use eddyline::model::scorer::{PackedModel, Ranked, Requests, Scorer};
use measure::{Sample, Summary, measure, peak_gflops};
use policies::{Data, HISTORY, Head};
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;

/// Items asked for.
const K: usize = 10;
/// The batch sizes measured.
const BATCHES: [usize; 4] = [1, 32, 256, 1024];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--data") {
        let directory = arguments.get(at + 1).ok_or("--data needs a directory")?;
        return obey(Path::new(directory));
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let counts: &[usize] = if quick { &[290_000] } else { &[160_000, 290_000] };
    let peak = peak_gflops();
    println!("fused multiply-add peak of one thread: {peak:.0} GFLOP/s\n");
    println!(
        "    items  head              path         batch  threads   µs/query (least … largest)   CPU µs   of peak"
    );
    for &count in counts {
        for head in [Head::Items, Head::Softmax] {
            let data = Data::generate(count, head);
            for instructions in Instructions::ALL.into_iter().skip(1) {
                if instructions.is_available() && !(quick && instructions != Instructions::best()) {
                    table(&data, instructions, peak);
                }
            }
        }
    }
    Ok(())
}

/// Prints the rows of one model and one set of instructions.
fn table(data: &Data, instructions: Instructions, peak: f64) {
    let mut bench = Bench::new(data, instructions);
    for batch in BATCHES {
        for threads in [1, 2] {
            let samples: Vec<Sample> = (0..7).map(|_| bench.sample(batch, threads)).collect();
            let Summary { median, least, largest, cpu_mean } = Summary::of(&samples);
            let flop = 2.0 * data.count as f64 * data.head.depth() as f64;
            let share = 100.0 * flop / (median * 1e3) / (peak * threads as f64);
            println!(
                "{:>9}  {:<16}  {:<10} {batch:>7} {threads:>8}   {median:>8.1} ({least:.1} … {largest:.1}) {cpu_mean:>8.1} {share:>8.0} %",
                data.count,
                data.head.name(),
                format!("{instructions:?}"),
            );
        }
    }
}

/// Scorers of one model, and the requests of all its users.
struct Bench {
    model: Arc<PackedModel>,
    users: usize,
    lanes: Vec<(Scorer, Requests, Ranked)>,
    next_user: usize,
}

impl Bench {
    fn new(data: &Data, instructions: Instructions) -> Bench {
        let model = Arc::new(PackedModel::with_instructions(data.weights(), None, instructions));
        let lane = || (Scorer::new(model.clone()), Requests::new(&model), Ranked::default());
        Bench { lanes: vec![lane(), lane()], users: data.users, model, next_user: 0 }
    }

    /// Batches until a tenth of a second has passed, each split over the threads (by requests).
    fn sample(&mut self, batch: usize, threads: usize) -> Sample {
        let threads = threads.min(batch);
        measure(batch, || {
            for lane in 0..threads {
                let size = batch * (lane + 1) / threads - batch * lane / threads;
                self.fill(lane, size);
            }
            std::thread::scope(|scope| {
                let (own, others) = self.lanes[..threads].split_first_mut().expect("at least one thread");
                for lane in others {
                    scope.spawn(|| score(lane));
                }
                score(own);
            });
        })
    }

    fn fill(&mut self, lane: usize, size: usize) {
        let requests = &mut self.lanes[lane].1;
        requests.clear();
        for _ in 0..size {
            let user = (self.next_user % self.users) as u32;
            let sequence: Vec<u32> =
                (0..HISTORY as u32).map(|i| (user * 97 + i * 13) % self.model.count() as u32).collect();
            requests.push(user, &sequence, Default::default()).expect("users and items are in range");
            self.next_user += 1;
        }
    }

    /// The answers of all users, as little-endian indices and scores.
    fn answers(&mut self) -> Vec<u8> {
        self.next_user = 0;
        self.fill(0, self.users);
        score(&mut self.lanes[0]);
        let ranked = &self.lanes[0].2;
        (0..ranked.len())
            .flat_map(|user| ranked.indices(user).iter().zip(ranked.scores(user)))
            .flat_map(|(index, score)| [index.to_le_bytes(), score.to_le_bytes()].concat())
            .collect()
    }
}

fn score((scorer, requests, ranked): &mut (Scorer, Requests, Ranked)) {
    scorer.top_k(requests, K, false, ranked);
}

/// Answers each line `BATCH THREADS` on stdin with `WALL_US CPU_US` a query, and `answers FILE` by writing them there.
fn obey(directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let data = Data::read(directory)?;
    let mut bench = Bench::new(&data, Instructions::best());
    println!("ready {:?} {:.1}", Instructions::best(), peak_gflops());
    std::io::stdout().flush()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["answers", file] => {
                std::fs::write(file, bench.answers())?;
                println!("written");
            }
            [batch, threads] => {
                let sample = bench.sample(batch.parse()?, threads.parse()?);
                println!("{:.3} {:.3}", sample.wall_us, sample.cpu_us);
            }
            _ => return Err(format!("not a command: {line}").into()),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}
