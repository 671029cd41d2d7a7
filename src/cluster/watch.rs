//! Turns the panics of a run's threads into values.
//!
//! timely reports a dead peer by panicking in the thread that reads from it, and lets that spread. A panic hook, installed
//! once, recognises the threads of a run by a thread-local mark, reports what happened to whoever supervises that run,
//! and keeps the panic's own words off the terminal. Panics of all other threads go to the hook that was there before.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Once};

/// What a thread does for its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It is the worker of this index.
    Worker(usize),
    /// It sends to, or receives from, the process of this index.
    Link(usize),
    /// It waits for the other threads to end.
    Join,
}

/// A panic of a run's thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) part: Part,
    /// The panic's message.
    pub(super) message: String,
    /// `file:line`, where known.
    pub(super) place: String,
}

/// Takes the faults of one run, in the order in which they happen.
pub(super) type Report = Arc<dyn Fn(Fault) + Send + Sync>;

thread_local! {
    static MARK: RefCell<Option<(Part, Report)>> = const { RefCell::new(None) };
}

/// Marks this thread as part of a run; its panics go to `report` from now on.
pub(super) fn mark(part: Part, report: &Report) {
    MARK.set(Some((part, Arc::clone(report))));
}

/// Installs the panic hook, the first time.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match report(info) {
            None => before(info),
            // Someone who asks for backtraces is after a bug of ours; a lost peer is none.
            Some(fault) if is_bug(&fault) && Backtrace::capture().status() == BacktraceStatus::Captured => before(info),
            Some(_) => {}
        }));
    });
}

fn is_bug(fault: &Fault) -> bool {
    matches!(fault.part, Part::Worker(_)) && !fault.message.starts_with("MergeQueue poisoned")
}

/// Reports the panic if this thread is part of a run.
fn report(info: &PanicHookInfo<'_>) -> Option<Fault> {
    let (part, report) = MARK.with_borrow(Option::clone)?;
    let message = info.payload_as_str().unwrap_or("no message").to_owned();
    let place = info.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
    let fault = Fault { part, message, place };
    report(fault.clone());
    Some(fault)
}
