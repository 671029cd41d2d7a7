//! Realistic behaviour logs: what `eddyline generate` writes.
//!
//! ```text
//!  sessions ───▶ delivery ───▶ rows ───▶ output
//!  who does      a little      text,     files or
//!  what, when    disorder,     and       a stream
//!     ▲          some late     rubbish
//!  catalogue: popularity that drifts, what follows what ───▶ model: a policy that knows
//! ```
//!
//! Events are made second by second in order of time, never collected: memory holds the popularity tables (8 bytes a
//! user, 12 an item), the sessions that are under way and the events that are held back, however long the log is.
//!
//! **Determinism.** Equal options give equal bytes on every machine: all random numbers come from [`random`], all
//! decisions are made on integers, and the few real functions behind the tables are our own ([`numerics`]). Each
//! concern has its own stream of random numbers, so that disorder, rubbish, partitions and format change nothing about
//! what happened.

mod catalogue;
mod delivery;
mod draw;
mod error;
mod features;
#[cfg(test)]
mod hits;
mod model;
mod numerics;
mod options;
mod output;
mod random;
mod rhythm;
mod rows;
mod sessions;
#[cfg(test)]
mod statistics;
mod tables;
mod wheel;

pub use error::GenerateError;
pub use model::{Model, ModelShape, model};
pub use options::{Columns, Options, Rubbish, TimeUnit};

use delivery::Delivery;
use output::{Output, partition_paths};
use random::{Chance, Random, Stream, mix};
use rows::Rows;
use sessions::{Drawn, Simulation};
use std::io::Write;
use std::path::PathBuf;

/// What to write, and where.
pub enum Target<'a> {
    /// The log as a file; with several partitions `NAME.csv` stands for `NAME-0.csv`, `NAME-1.csv`, …
    File(PathBuf),
    /// The log to a stream; one partition only.
    Stream(&'a mut dyn Write),
    /// The raw Tianchi tables `user.csv`, `item.csv` and `user_behavior.csv`, without headers, in this directory, which
    /// is made if need be (contract, section 8, `prepare`). One partition only; columns and header are theirs.
    Tianchi(PathBuf),
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events, exactly as many as asked for.
    pub events: u64,
    /// Events among them that were held back for `late_ms` or more.
    pub late: u64,
    /// Rows of rubbish by kind, in the order of [`Rubbish::ALL`].
    pub rubbish: [u64; 8],
    /// Sessions.
    pub sessions: u64,
    /// Time of the oldest event, in ms.
    pub first_ms: u64,
    /// Time of the newest event, in ms.
    pub last_ms: u64,
    /// Bytes of the log (not of the tables of users and items).
    pub bytes: u64,
    /// Files written, tables included.
    pub files: Vec<PathBuf>,
}

/// Events between two calls of `progress`.
const PROGRESS_EVENTS: u64 = 1 << 16;

/// Generates a log, and calls `progress` now and then with the number of events so far.
///
/// # Errors
/// If an option is out of range, or a file can't be written; then the file that was being written is not there.
pub fn run(options: &Options, target: Target<'_>, progress: &mut dyn FnMut(u64)) -> Result<Summary, GenerateError> {
    options.validate()?;
    if options.partitions > 1 && !matches!(target, Target::File(_)) {
        return Err(GenerateError::Contradiction("several partitions need a file name to be numbered"));
    }
    match target {
        Target::File(path) => {
            let paths = partition_paths(&path, options.partitions);
            let outputs = paths.iter().map(|path| Output::file(path)).collect::<Result<_, _>>()?;
            write_log(options, outputs, progress)
        }
        Target::Stream(stream) => write_log(options, vec![Output::stream(stream)], progress),
        Target::Tianchi(directory) => {
            let mut files = tables::write(options, &directory)?;
            let options = Options { columns: Columns::Events, header: false, ..options.clone() };
            let log = Output::file(&directory.join("user_behavior.csv"))?;
            let mut summary = write_log(&options, vec![log], progress)?;
            files.append(&mut summary.files);
            Ok(Summary { files, ..summary })
        }
    }
}

fn write_log(
    options: &Options,
    outputs: Vec<Output<'_>>,
    progress: &mut dyn FnMut(u64),
) -> Result<Summary, GenerateError> {
    let mut simulation = Simulation::new(options);
    let mut delivery = Delivery::new(options);
    let mut log = Log::new(options, outputs);
    let (mut sent, mut arrived) = (Vec::new(), Vec::new());
    let mut next_report = PROGRESS_EVENTS;
    while !simulation.is_over() || !delivery.is_over() {
        simulation.next_second(&mut sent);
        delivery.next_second(&mut sent, &mut arrived);
        for event in arrived.drain(..) {
            log.append(&event)?;
        }
        if log.summary.events >= next_report {
            progress(log.summary.events);
            next_report = log.summary.events + PROGRESS_EVENTS;
        }
    }
    progress(log.summary.events);
    log.finish(simulation.started, delivery.held_back)
}

/// The log's files, and what went into them.
struct Log<'a> {
    rows: Rows,
    outputs: Vec<Output<'a>>,
    rubbish: RubbishMaker,
    start_ms: u64,
    summary: Summary,
}

impl<'a> Log<'a> {
    fn new(options: &Options, mut outputs: Vec<Output<'a>>) -> Log<'a> {
        let rows = Rows::new(options);
        if options.header {
            outputs.iter_mut().for_each(|output| rows.header(&mut output.buffer));
        }
        let summary = Summary { first_ms: u64::MAX, ..Summary::default() };
        Log { rows, outputs, rubbish: RubbishMaker::new(options), start_ms: options.start_ms, summary }
    }

    #[inline]
    fn append(&mut self, event: &Drawn) -> Result<(), GenerateError> {
        let partition = match self.outputs.len() {
            1 => 0,
            several => (mix(u64::from(event.user)) % several as u64) as usize,
        };
        let output = &mut self.outputs[partition];
        if let Some((kind, bits)) = self.rubbish.next() {
            self.rows.rubbish(event, kind, bits, &mut output.buffer);
            self.summary.rubbish[kind as usize] += 1;
        }
        self.rows.event(event, &mut output.buffer);
        self.summary.events += 1;
        self.summary.first_ms = self.summary.first_ms.min(self.start_ms + event.since_start_ms);
        self.summary.last_ms = self.summary.last_ms.max(self.start_ms + event.since_start_ms);
        output.flush_full()
    }

    fn finish(mut self, sessions: u64, late: u64) -> Result<Summary, GenerateError> {
        for output in self.outputs {
            let (bytes, path) = output.finish()?;
            self.summary.bytes += bytes;
            self.summary.files.extend(path);
        }
        Ok(Summary { sessions, late, ..self.summary })
    }
}

/// Decides where a row of rubbish stands, and of which kind it is.
struct RubbishMaker {
    random: Random,
    /// Of a row of rubbish before an event.
    chance: Chance,
    kinds: Vec<Rubbish>,
}

impl RubbishMaker {
    fn new(options: &Options) -> RubbishMaker {
        // So many for an event are the share of all rows that was asked for.
        let for_an_event = options.rubbish / (1.0 - options.rubbish);
        let (rare, common): (Vec<Rubbish>, Vec<Rubbish>) =
            options.rubbish_kinds.iter().partition(|&&kind| kind == Rubbish::TooLong);
        let mut kinds = common.repeat(100);
        kinds.extend(rare);
        RubbishMaker { random: Random::new(options.seed, Stream::Rubbish), chance: Chance::new(for_an_event), kinds }
    }

    /// The kind of rubbish before the next event, if any, and bits to choose a flaw by.
    #[inline]
    fn next(&mut self) -> Option<(Rubbish, u64)> {
        if self.chance == Chance::default() || !self.random.happens(self.chance) {
            return None;
        }
        let kind = self.kinds[self.random.below(self.kinds.len() as u64) as usize];
        Some((kind, self.random.bits() >> 32))
    }
}
