//! Forming batches of updates that are due when they come.

use crate::event::Time;
use differential_dataflow::batcher::merge::Sealer;
use differential_dataflow::batcher::{Batcher, Extract};
use differential_dataflow::consolidation::consolidate_updates;
use std::marker::PhantomData;
use timely::progress::frontier::{Antichain, AntichainRef};

/// Collects updates as they come, and sorts them once, when a batch is asked for.
///
/// Differential's own batcher merges sorted runs all the time, so as to be ready for updates far in the future. Behind a
/// delay line nearly all updates go into the next batch, and one sort of them costs a third.
pub(crate) struct SortingBatcher<D, S> {
    updates: Vec<(D, Time, i64)>,
    pending: Antichain<Time>,
    sealer: PhantomData<S>,
}

impl<D, S> SortingBatcher<D, S> {
    pub(crate) fn new() -> Self {
        SortingBatcher { updates: Vec::new(), pending: Antichain::new(), sealer: PhantomData }
    }
}

impl<D: Ord, S: Sealer<Vec<(D, Time, i64)>>> Extract for SortingBatcher<D, S> {
    type Time = Time;
    type Output = S::Output;

    fn extract<'a>(&'a mut self, upper: AntichainRef<'_, Time>) -> (Option<S::Output>, AntichainRef<'a, Time>) {
        let later: Vec<_> = self.updates.extract_if(.., |(_, time, _)| upper.less_equal(time)).collect();
        let mut due = std::mem::replace(&mut self.updates, later);
        self.pending.clear();
        self.updates.iter().for_each(|(_, time, _)| {
            self.pending.insert(*time);
        });
        consolidate_updates(&mut due);
        let batch = if due.is_empty() { None } else { S::seal(&mut vec![due]) };
        (batch, self.pending.borrow())
    }
}

impl<D: Ord, S: Sealer<Vec<(D, Time, i64)>>> Batcher<Vec<(D, Time, i64)>> for SortingBatcher<D, S> {
    fn insert(&mut self, container: &mut Vec<(D, Time, i64)>) {
        self.updates.append(container);
    }
}
