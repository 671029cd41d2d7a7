//! Forming batches of updates that are due when they come.

use crate::event::Time;
use differential_dataflow::batcher::{Batcher, Extract};
use differential_dataflow::consolidation::consolidate_updates;
use differential_dataflow::trace::Builder;
use timely::progress::frontier::{Antichain, AntichainRef};

/// Collects updates as they come, and sorts them once, when a batch is asked for.
///
/// Differential's own batcher merges sorted runs all the time, so as to be ready for updates far in the future. Behind a
/// delay line nearly all updates go into the next batch, and one sort of them costs a third.
pub(crate) struct SortingBatcher<Bu: Builder<Time = Time>> {
    updates: Vec<Bu::Input>,
    pending: Antichain<Time>,
}

impl<Bu: Builder<Time = Time>> SortingBatcher<Bu> {
    pub(crate) fn new() -> Self {
        SortingBatcher { updates: Vec::new(), pending: Antichain::new() }
    }
}

impl<D, Bu> Extract for SortingBatcher<Bu>
where
    D: Ord + Clone + 'static,
    Bu: Builder<Time = Time, Input = Vec<(D, Time, i64)>>,
{
    type Time = Time;
    type Output = Bu::Output;

    fn extract<'a>(&'a mut self, upper: AntichainRef<'_, Time>) -> (Option<Bu::Output>, AntichainRef<'a, Time>) {
        let (mut due, mut later) = (Vec::new(), Vec::new());
        for mut updates in self.updates.drain(..) {
            if updates.iter().any(|(_, time, _)| upper.less_equal(time)) {
                later.extend(updates.extract_if(.., |(_, time, _)| upper.less_equal(time)));
            }
            if due.is_empty() { due = updates } else { due.append(&mut updates) }
        }
        self.pending.clear();
        if let Some(least) = later.iter().map(|(_, time, _)| *time).min() {
            self.pending.insert(least);
            self.updates.push(later);
        }
        consolidate_updates(&mut due);
        if due.is_empty() {
            return (None, self.pending.borrow());
        }
        let keys = due.chunk_by(|a, b| a.0 == b.0).count();
        let mut builder = Bu::with_capacity(keys, keys, due.len());
        builder.push(&mut due);
        (builder.done(), self.pending.borrow())
    }
}

impl<D, Bu> Batcher<Vec<(D, Time, i64)>> for SortingBatcher<Bu>
where
    D: Ord + Clone + 'static,
    Bu: Builder<Time = Time, Input = Vec<(D, Time, i64)>>,
{
    fn insert(&mut self, container: &mut Vec<(D, Time, i64)>) {
        match self.updates.last_mut() {
            Some(updates) => updates.append(container),
            None => self.updates.push(std::mem::take(container)),
        }
    }
}
