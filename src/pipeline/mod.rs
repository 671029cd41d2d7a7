//! The one place where sources, dataflows, model and sinks are wired together.
//!
//! ```text
//!            events ─┬─ popular ──────────┬──────────────┬─ (every worker has every list) ─┐
//!                    ├─ recent ─ ticks ─ recommend ──────┼─ rows ── to worker 0 ───────────┼─ collect ─ Batch ─ sinks
//!                    └───────────────────── evaluate ────┘                                 │
//! reports (log rows, counts) ────────────────────────────────── to worker 0 ───────────────┘
//! ```
//!
//! A source hands over events with their logical times, in any order, and promises with its frontier which ticks are
//! complete. Everything here is the same for a replay and for a live run.
//!
//! Every worker builds the same operators in the same order, whatever it will have to do: timely names channels by that
//! order.

mod collect;
mod report;
mod rows;

pub use collect::{Collected, Sending, Sinks};
pub use report::{Counts, Report};

use crate::digest::Digest;
use dataflows::evaluate::{Evaluate, evaluate};
use dataflows::evaluation::Evaluation;
use dataflows::event::{Event, Time};
use dataflows::popular::{Popular, popular};
use dataflows::recent::{arrange_recent, recent};
use dataflows::recommend::{Recommend, Recommended, Scorer, recommend};
use dataflows::rows::PopularList;
use dataflows::time::Steps;
use serde::Serialize;
use std::cell::RefCell;
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::vec::{Filter, Map, ToStream};
use timely::dataflow::operators::{Input, Inspect, Probe};
use timely::dataflow::{InputHandle, ProbeHandle, Scope, StreamVec};
use timely::worker::Worker;

/// Which dataflows run, and with which settings: everything that changes results, but for the source and the model.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Length of a tick.
    pub tick: Steps,
    /// Trending lists.
    pub popular: Popular,
    /// Whether there are any.
    pub popular_enabled: bool,
    /// Length of a user's sequence, at least 1.
    pub length: usize,
    /// Whether there are sequences.
    pub recent_enabled: bool,
    /// Whether sequences are held in an arrangement, for whoever reads them.
    pub arrange: bool,
    /// Recommendations.
    pub recommend: Recommend,
    /// Whether there are any; they need sequences.
    pub recommend_enabled: bool,
    /// Whether to compare recommendations with what came.
    pub evaluate: Option<Evaluate>,
    /// Rows beyond this time are not put out.
    pub until: Time,
}

/// Digests of all outputs (contract, section 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Digests {
    /// Trending lists.
    pub popular: Digest,
    /// Sequences.
    pub recent: Digest,
    /// Recommendations.
    pub recommendations: Digest,
    /// Late events.
    pub late: Digest,
    /// Rejected records.
    pub rejected: Digest,
}

/// One worker's ends of the pipeline.
pub struct Pipeline {
    /// Events that take part. Records may be of later ticks than the handle's time, never of earlier ones.
    pub events: InputHandle<Time, CapacityContainerBuilder<Vec<Event>>>,
    /// What else a source has to say; not aligned with ticks.
    pub reports: InputHandle<Time, CapacityContainerBuilder<Vec<Report>>>,
    /// What has been put out.
    pub probe: ProbeHandle<Time>,
    /// Whether everything is complete, the evaluation too, once it is done.
    pub complete: ProbeHandle<Time>,
    /// On worker 0, what there is to know of the whole run once `complete` is done.
    pub collected: Rc<RefCell<Collected>>,
    /// On worker 0, the evaluation, if one was asked for and `complete` is done.
    pub evaluation: Rc<RefCell<Option<Evaluation>>>,
}

/// Builds the pipeline on one worker. `sending` is worker 0's way to the sinks, if there are any.
pub fn build(
    worker: &mut Worker,
    settings: &Settings,
    scorer: impl Scorer + 'static,
    sending: Option<Sending>,
    wants_rows: bool,
) -> Pipeline {
    let collected = Rc::new(RefCell::new(Collected::new(settings.popular.window, sending)));
    let evaluation = Rc::new(RefCell::new(None));
    let (probe, complete, sink) = (ProbeHandle::new(), ProbeHandle::new(), evaluation.clone());
    let (events, reports) = worker.dataflow::<Time, _, _>(|scope| {
        let (events_handle, events) = scope.new_input::<Vec<Event>>();
        let (reports_handle, reports) = scope.new_input::<Vec<Report>>();
        let lists = match settings.popular_enabled {
            true => popular(events.clone(), &settings.popular),
            false => nothing(scope),
        };
        let recommended = recommendations(events.clone(), lists.clone(), settings, scorer);
        if let Some(options) = &settings.evaluate {
            let until = settings.until;
            let lists = lists.clone().filter(move |list| list.window_end <= until);
            evaluate(events, recommended.clone(), lists, options)
                .inspect(move |done| *sink.borrow_mut() = Some(done.clone()))
                .probe_with(&complete);
        }
        let rows = rows::rows(recommended, settings.until, wants_rows);
        collect::collect(reports, lists, rows, settings.until, &collected).probe_with(&probe).probe_with(&complete);
        (events_handle, reports_handle)
    });
    Pipeline { events, reports, probe, complete, collected, evaluation }
}

fn recommendations<'s>(
    events: StreamVec<'s, Time, Event>,
    lists: StreamVec<'s, Time, PopularList>,
    settings: &Settings,
    scorer: impl Scorer + 'static,
) -> StreamVec<'s, Time, Rc<Recommended>> {
    if !settings.recent_enabled {
        return nothing(events.scope());
    }
    let recent = recent(events, settings.tick, settings.length, settings.arrange);
    if settings.arrange {
        arrange_recent(recent.differences);
    }
    match settings.recommend_enabled {
        true => recommend(recent.ticks, lists, settings.recommend.clone(), scorer),
        false => recent.ticks.map(|tick| Rc::new(Recommended { tick, ..Recommended::default() })),
    }
}

fn nothing<'s, D: Clone + 'static>(scope: Scope<'s, Time>) -> StreamVec<'s, Time, D> {
    None.to_stream(scope)
}
