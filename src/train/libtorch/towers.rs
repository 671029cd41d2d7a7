//! The embeddings as the trainer sees them.

use tch::{TchError, Tensor};

use super::embeddings::{Embeddings, Negatives, Pairs};
use super::random::{Draws, Stream};
use super::trainer::{Feed, Learner};
use eddyline::learn::{Interactions, SessionRule, Sessions};

/// Makes batches of events and their negatives. A sample, here, is an event: half of a batch's samples are negatives.
#[derive(Debug)]
pub(super) struct Events<'a> {
    log: &'a Interactions,
    /// For the rows that train.
    sessions: Sessions<'a>,
    negatives: Negatives,
    seed: u64,
}

impl<'a> Events<'a> {
    pub(super) fn new(log: &'a Interactions, seed: u64) -> Events<'a> {
        let behaviors = log.behavior.iter().max().map_or(0, |&last| usize::from(last) + 1);
        let sessions = Sessions::new(log, 1, SessionRule::User, &vec![1; behaviors]);
        Events { log, sessions, negatives: Negatives::new(log), seed }
    }
}

impl Feed for Events<'_> {
    type Batch = Pairs;

    fn samples(&self) -> u64 {
        self.sessions.len() as u64
    }

    fn per_batch(&self, batch: usize) -> u64 {
        (batch / 2) as u64
    }

    fn batch(&self, epoch: u32, place: u64, samples: &[usize]) -> Pairs {
        let events: Vec<(usize, usize)> = samples.iter().map(|&sample| self.sessions.row(sample)).collect();
        let stream = if epoch == 0 { Stream::HeldOutNegatives } else { Stream::Negatives };
        Pairs::fill(self.log, &self.negatives, &events, Draws::new(self.seed, stream, epoch), place)
    }
}

impl Learner for Embeddings {
    type Batch = Pairs;

    fn losses(&self) -> &'static [&'static str] {
        Embeddings::LOSSES
    }

    fn step(&mut self, batch: &Pairs, step: i64) -> Result<Vec<f64>, TchError> {
        Embeddings::step(self, batch, step)
    }

    fn start_epoch(&mut self) {
        Embeddings::start_epoch(self);
    }

    fn metrics(&self) -> Vec<(&'static str, f64)> {
        vec![("roc_auc", self.auc())]
    }

    fn held_out(&self, batch: &Pairs) -> Result<(&'static str, f64), TchError> {
        Ok(("held_out_roc_auc", self.auc_of(batch)?))
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        Embeddings::tensors(self)
    }

    fn counts(&mut self) -> Option<&mut Vec<u64>> {
        Some(self.bins())
    }
}
