//! The one place where sources, dataflows, model and sinks are wired together.
//!
//! ```text
//!      read again ───┐
//!            events ─┬┴ popular ──────────┬──────────────┬─ (every worker has every list) ─┐
//!                    ├─ recent ─ steps ─ recommend ──────┼─ rows ── to worker 0 ───────────┼─ collect ─ Batch ─ sinks
//!                    │     │               │ │           │                                 │
//!                    └─────┼───────────────┼─┼ evaluate ─┘                                 │
//!  restored users, panes ──┤               │                                               │
//!  requests (to all) ──────┘               └─ parts of snapshots, to worker 0 ─────────────┤
//! reports (log rows, counts, positions) ──────────────────────── to worker 0 ──────────────┘
//! ```
//!
//! A source hands over events with their logical times, in any order, and promises with its frontier which ticks are
//! complete. Everything here is the same for a replay and for a live run; a replay neither restores nor asks for snapshots.
//!
//! Every worker builds the same operators in the same order, whatever it will have to do: timely names channels by that
//! order.

mod collect;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod recorder;
mod report;
mod rows;
mod sending;
mod snapshots;

pub use collect::Collected;
pub use report::{Counts, Report};
pub use sending::{Sending, Sinks};

use crate::digest::Digest;
use collect::{Incoming, collect};
use dataflows::evaluate::{Evaluate, evaluate};
use dataflows::evaluation::Evaluation;
use dataflows::event::{Event, Time};
use dataflows::popular::{Popular, arrange_window_counts, popular};
use dataflows::recent::{Recent, arrange_recent, recent};
use dataflows::recommend::{Recommend, RecommendStreams, Scorer, recommend, without_recommendations};
use dataflows::rows::PopularList;
use dataflows::sizes::Sizes;
use dataflows::state::{PaneState, UserState};
use dataflows::time::Steps;
use serde::Serialize;
use std::cell::RefCell;
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::vec::{Broadcast, Filter, ToStream};
use timely::dataflow::operators::{Concat, Input as _, Inspect, Probe};
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
    /// Whether sequences are arranged, too, which nothing reads yet.
    pub arrange: bool,
    /// Recommendations.
    pub recommend: Recommend,
    /// Whether there are any; they need sequences.
    pub recommend_enabled: bool,
    /// Whether to compare recommendations with what came.
    pub evaluate: Option<Evaluate>,
    /// Rows beyond this time are not put out.
    pub until: Time,
    /// Whether snapshots may be asked for and gone on from.
    pub snapshots: bool,
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
    pub events: Input<Event>,
    /// Events that only the window of the trending lists lacks: those of the slide that the snapshot lies in which the run goes
    /// on from, before the snapshot. Open as long as any may come.
    pub read_again: Option<Input<Event>>,
    /// What else a source has to say; not aligned with ticks.
    pub reports: Input<Report>,
    /// When snapshots are wanted, for all workers; see [`Pipeline::request_snapshot`].
    requests: Input<Time>,
    tick: Steps,
    /// How far `requests` is behind the other inputs: on worker 0 so far that a snapshot can be asked for at the end of the last
    /// tick that is complete, and yet so little that nothing of that tick waits for it.
    lag: Time,
    /// Rows of snapshots, from one worker, the oldest first. No tick is worked on before this is closed everywhere.
    pub restored_users: Input<UserState>,
    /// The same for the window of the trending lists.
    pub restored_panes: Input<PaneState>,
    /// What has been put out.
    pub probe: ProbeHandle<Time>,
    /// Whether everything is complete, the evaluation too, once it is done.
    pub complete: ProbeHandle<Time>,
    /// On worker 0, what there is to know of the whole run once `complete` is done.
    pub collected: Rc<RefCell<Collected>>,
    /// On worker 0, the evaluation, if one was asked for and `complete` is done.
    pub evaluation: Rc<RefCell<Option<Evaluation>>>,
    /// How much state this worker holds.
    pub sizes: Rc<Sizes>,
}

/// One end of a stream.
pub type Input<D> = InputHandle<Time, CapacityContainerBuilder<Vec<D>>>;

impl Pipeline {
    /// Promises that nothing more comes for times before `frontier`, the end of a tick, by any input but the restored ones.
    pub fn advance_to(&mut self, frontier: Time) {
        self.events.advance_to(frontier);
        if let Some(read_again) = &mut self.read_again {
            read_again.advance_to(frontier);
        }
        self.reports.advance_to(frontier);
        self.requests.advance_to(frontier.saturating_sub(self.lag));
    }

    /// Whether all that is complete has been put out.
    pub fn all_is_out(&self) -> bool {
        !self.probe.less_than(self.requests.time())
    }

    /// On worker 0: asks for a snapshot at F, the end of the tick that is open: this worker's inputs stand there. Returns the
    /// request's time, by which partitions tell their position, so many from now on, by [`Report::positions`].
    pub fn request_snapshot(&mut self, partitions: usize) -> Time {
        self.request(*self.events.time(), partitions)
    }

    /// On worker 0: F of the snapshot that can be asked for where nothing more is to come by any input, the end of the last tick that
    /// is complete. `None` where there is no time left between it and the next tick's end.
    pub fn last_frontier(&self) -> Option<Time> {
        let request = *self.requests.time();
        (request < *self.events.time()).then(|| self.tick.start_of(request))
    }

    /// Asks for that one, as [`Pipeline::request_snapshot`] does.
    pub fn request_last_snapshot(&mut self, partitions: usize) -> Time {
        self.request(*self.requests.time(), partitions)
    }

    /// On worker 0, where time stands still: whether a snapshot that was asked for is still on its way. One that is whole leaves when
    /// time moves on, and inside of a tick that is done for it here.
    pub fn let_out_snapshot(&mut self) -> bool {
        let (request, end) = (*self.requests.time(), *self.events.time());
        let has_positions = self.collected.borrow().next_snapshot_has_positions(end);
        if has_positions == Some(true) && request < end {
            self.requests.advance_to(request + 1);
        }
        has_positions.is_some()
    }

    fn request(&mut self, request: Time, partitions: usize) -> Time {
        let frontier = self.tick.start_of(request);
        self.collected.borrow_mut().expect_positions(request, frontier, partitions);
        self.requests.send(request);
        self.requests.flush();
        request
    }

    /// All has been restored, as far as this worker is concerned.
    pub fn close_restored(&mut self) {
        self.restored_users = InputHandle::new();
        self.restored_panes = InputHandle::new();
    }

    /// Nothing more comes by any input.
    pub fn close(&mut self) {
        self.close_restored();
        self.events = InputHandle::new();
        self.read_again = None;
        self.reports = InputHandle::new();
        self.requests = InputHandle::new();
    }
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
    let sizes = Rc::new(Sizes::default());
    let lag = if worker.index() == 0 { settings.tick.length() - 1 } else { 0 };
    let mut pipeline = worker.dataflow::<Time, _, _>(|scope| {
        let (events_handle, events) = scope.new_input::<Vec<Event>>();
        let (again_handle, again) = scope.new_input::<Vec<Event>>();
        let (reports_handle, reports) = scope.new_input::<Vec<Report>>();
        let (requests_handle, requests) = scope.new_input::<Vec<Time>>();
        let (users_handle, users) = scope.new_input::<Vec<UserState>>();
        let (panes_handle, panes) = scope.new_input::<Vec<PaneState>>();
        let requests = requests.broadcast();
        // An exchange keeps what an input sends until time moves on, flushed or not; what an operator sends goes at once. A position
        // may be told when time stands still.
        let reports = reports.inspect(|_| {});
        let (lists, panes) = match settings.popular_enabled {
            true => {
                let counted = if settings.snapshots { events.clone().concat(again) } else { events.clone() };
                let trending = popular(counted, requests.clone(), panes, &settings.popular, &sizes);
                if settings.popular.differences {
                    // Its handle is for dataflows that join with it. There is none, so batches are made and not kept.
                    arrange_window_counts(trending.differences);
                }
                (trending.lists, trending.snapshots)
            }
            false => (nothing(scope), nothing(scope)),
        };
        let state = State { requests, users, sizes: &sizes };
        let RecommendStreams { recommended, snapshots: users } =
            recommendations(events.clone(), lists.clone(), state, settings, scorer);
        if let Some(options) = &settings.evaluate {
            let until = settings.until;
            let lists = lists.clone().filter(move |list| list.window_end <= until);
            evaluate(events, recommended.clone(), lists, options)
                .inspect(move |done| *sink.borrow_mut() = Some(done.clone()))
                .probe_with(&complete);
        }
        let rows = rows::rows(recommended, settings.until, wants_rows);
        let incoming = Incoming { reports, lists, rows, users, panes };
        collect(incoming, settings.until, &collected).probe_with(&probe).probe_with(&complete);
        Pipeline {
            events: events_handle,
            read_again: Some(again_handle),
            reports: reports_handle,
            requests: requests_handle,
            tick: settings.tick,
            lag,
            restored_users: users_handle,
            restored_panes: panes_handle,
            probe,
            complete,
            collected,
            evaluation,
            sizes: sizes.clone(),
        }
    });
    if !settings.snapshots {
        pipeline.close_restored();
        pipeline.read_again = None;
        pipeline.requests = InputHandle::new();
    }
    pipeline
}

/// What the users' state comes from, besides events.
struct State<'s, 'a> {
    requests: StreamVec<'s, Time, Time>,
    users: StreamVec<'s, Time, UserState>,
    sizes: &'a Rc<Sizes>,
}

fn recommendations<'s>(
    events: StreamVec<'s, Time, Event>,
    lists: StreamVec<'s, Time, PopularList>,
    state: State<'s, '_>,
    settings: &Settings,
    scorer: impl Scorer + 'static,
) -> RecommendStreams<'s> {
    if !settings.recent_enabled {
        let scope = events.scope();
        return RecommendStreams { recommended: nothing(scope), snapshots: nothing(scope) };
    }
    let options = Recent {
        tick: settings.tick,
        length: settings.length,
        differences: settings.arrange,
        snapshots: settings.snapshots,
    };
    let recent = recent(events, state.requests, state.users, options, state.sizes);
    if settings.arrange {
        // As above.
        arrange_recent(recent.differences);
    }
    match settings.recommend_enabled {
        true => recommend(recent.steps, lists, settings.recommend.clone(), scorer),
        false => without_recommendations(recent.steps),
    }
}

fn nothing<'s, D: Clone + 'static>(scope: Scope<'s, Time>) -> StreamVec<'s, Time, D> {
    None.to_stream(scope)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
