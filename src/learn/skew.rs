//! Whether what training sees is what the running pipeline forms: the sequences of *recent*, from the same file, against the
//! histories of [`sessions`](super::sessions).
//!
//! The file is replayed, by the pipeline itself and with its configuration: lateness, ticks and all. Each sequence that it puts
//! out, of a user as of T, must be the history of the user's first row at or after T, as a model is given it: up to H items, left-padded,
//! with the padding index for what the catalogue lacks. A tick with several events of a user has one sequence, so that the
//! histories within it are not compared; a shorter tick (`time.tick`) compares more of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use dataflows::event::{ItemId, Time};
use dataflows::rows::SequenceKey;
use hashbrown::HashMap;
use serde::Serialize;

use super::interactions::Interactions;
use super::sessions::history_before;
use crate::config::Config;
use crate::plan::Dataflows;
use crate::progress::Progress;
use crate::replay::{self, OtherPipeline, ReplayError, ReplayPlan};
use crate::sinks::{Batch, End, Sink, SinkError};

/// What the comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Skew {
    /// Sequences that the pipeline put out, each compared.
    pub sequences: u64,
    /// Those that are not what training sees.
    pub different: u64,
    /// The first of these, by (time, user).
    pub first_different: Option<String>,
    /// Training samples whose history is among the sequences.
    pub samples_compared: u64,
    /// Training samples.
    pub samples: u64,
    /// Events that came so late that the pipeline left them out, which training does not (`time.lateness`, `time.late`).
    pub late: u64,
}

/// Replays the log at `path`, from which `log` was read, and compares. `history` is H.
///
/// # Errors
/// As of a replay.
pub fn check(path: &Path, config: &Config, log: &Arc<Interactions>, history: usize) -> Result<Skew, ReplayError> {
    let mut config = config.clone();
    // The length is what matters of a model here.
    config.model.dir = None;
    config.recent.length = Some(history);
    config.output.ids = crate::config::Ids::Raw;
    let plan = ReplayPlan {
        config,
        files: vec![path.to_owned()],
        workers: 1,
        processes: None,
        dataflows: Dataflows { popular: false, recent: true, recommend: false },
        store: None,
        other_pipeline: OtherPipeline::Refuse,
        out: None,
        evaluate: false,
        strict: false,
        until: None,
        journal: None,
        log_name: None,
        progress: Progress::hidden(),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let found = Arc::new(Mutex::new(Found::default()));
    let comparison = Comparison::new(log.clone(), history, found.clone());
    let outcome = replay::run_into(&plan, vec![Box::new(comparison)])?;
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    let samples: usize = (0..log.users.len()).map(|user| log.train(user).len()).sum();
    Ok(Skew {
        samples: samples as u64,
        late: outcome.map_or(0, |outcome| outcome.summary.late),
        first_different: found.different.into_iter().next().map(|(_, _, text)| text),
        ..found.skew
    })
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    skew: Skew,
    /// The first differences.
    different: BTreeSet<(Time, u64, String)>,
}

/// Takes the sequences of a replay.
struct Comparison {
    log: Arc<Interactions>,
    users: HashMap<u64, u32>,
    items: HashMap<u64, u32>,
    expected: Vec<u32>,
    given: Vec<u32>,
    found: Arc<Mutex<Found>>,
    durable: Time,
    written: Time,
}

impl Comparison {
    fn new(log: Arc<Interactions>, history: usize, found: Arc<Mutex<Found>>) -> Comparison {
        let indices = |ids: &[u64]| ids.iter().copied().zip(0..).collect();
        Comparison {
            users: indices(&log.users),
            items: indices(&log.items),
            expected: vec![0; history],
            given: vec![0; history],
            log,
            found,
            durable: 0,
            written: 0,
        }
    }

    fn compare(&mut self, key: &SequenceKey, items: &[ItemId]) {
        let log = &*self.log;
        let padding = log.catalogue as u32;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.skew.sequences += 1;
        let same = self.users.get(&key.user.0).is_some_and(|&user| {
            let rows = log.rows(user as usize);
            let before = log.time[rows.clone()].partition_point(|&time| (time as u64) < key.time);
            let row = rows.start + before;
            history_before(log, user as usize, row, &mut self.expected);
            found.skew.samples_compared += u64::from(row < log.train(user as usize).end);
            let known = self.given.len().saturating_sub(items.len());
            self.given.fill(padding);
            for (place, item) in self.given[known..].iter_mut().zip(items) {
                *place = self.items.get(&item.0).copied().unwrap_or(padding).min(padding);
            }
            self.given == self.expected
        });
        if !same {
            found.skew.different += 1;
            let text = format!(
                "user {} as of {} ms: the pipeline gives {:?}, training {:?} ({padding} is padding)",
                key.user.0, key.time, self.given, self.expected
            );
            found.different.insert((key.time, key.user.0, text));
            if found.different.len() > 1 {
                found.different.pop_last();
            }
        }
    }
}

impl Sink for Comparison {
    fn name(&self) -> &'static str {
        "comparison"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        batch.recent.iter().for_each(|(key, items)| self.compare(key, items));
        self.written = batch.frontier;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.durable = self.written;
        Ok(())
    }

    fn durable(&self) -> Time {
        self.durable
    }

    fn finish(&mut self, _: &End) -> Result<(), SinkError> {
        self.flush()
    }
}
