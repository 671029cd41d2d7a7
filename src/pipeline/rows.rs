//! Sequences and recommendations on their way to worker 0, digested where they are made.

use crate::digest::{Digest, RowHasher};
use dataflows::event::Time;
use dataflows::lists::Lists;
use dataflows::recommend::Recommended;
use dataflows::rows::{RecommendationKey, SequenceKey};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

/// What a worker tells worker 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Rows {
    /// The rows of a tick.
    Tick { time: Time, recent: Lists<SequenceKey>, recommendations: Lists<RecommendationKey> },
    /// At the end, the digests of all its rows.
    Digests { recent: Digest, recommendations: Digest },
}

/// Digests the rows of ticks up to `until`, and passes them on if anybody wants them.
pub(super) fn rows<'s>(
    recommended: StreamVec<'s, Time, Rc<Recommended>>,
    until: Time,
    wanted: bool,
) -> StreamVec<'s, Time, Rows> {
    recommended.unary_frontier::<CapacityContainerBuilder<Vec<Rows>>, _, _, _>(Pipeline, "rows", |capability, _| {
        let mut at_the_end = Some(capability);
        let mut hasher = RowHasher::default();
        let (mut recent, mut recommendations) = (Digest::default(), Digest::default());
        move |(input, frontier), output| {
            input.for_each(|message, ticks| {
                let mut session = output.session(&message);
                for done in ticks.drain(..).filter(|done| done.tick.time <= until) {
                    let sequences = &done.tick.sequences;
                    sequences.iter().for_each(|(key, items)| recent.add_row(hasher.sequence_row(key, items)));
                    for (key, items) in done.recommendations.iter() {
                        recommendations.add_row(hasher.recommendation_row(key, items));
                    }
                    if wanted {
                        let (time, recent) = (done.tick.time, sequences.clone());
                        session.give(Rows::Tick { time, recent, recommendations: done.recommendations.clone() });
                    }
                }
            });
            // Nothing is owed but the digests, which no frontier has to wait for.
            if let Some(capability) = at_the_end.as_mut()
                && let Some(time) = frontier.frontier().first()
            {
                capability.downgrade(time);
            }
            if frontier.is_empty()
                && let Some(capability) = at_the_end.take()
            {
                output.session(&capability).give(Rows::Digests { recent, recommendations });
            }
        }
    })
}
