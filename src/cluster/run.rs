//! Runs the workers of one process, and waits for their results or the first failure of anything.

use super::error::io_text;
use super::watch::{self, Fault, Part, Report};
use super::{Cluster, ClusterError, ExecuteError};
use std::any::Any;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::{AllocatorBuilder, Hooks, WorkerGuards};
use timely::execute::execute_from;
use timely::worker::Worker;
use timely::{CommunicationConfig, WorkerConfig};

/// What a supervisor hears of its run.
enum Event<T, E> {
    /// A worker's dataflows are complete, and this is its result.
    Done(usize, T),
    /// A worker gave up.
    Failed(E),
    /// A thread panicked.
    Fault(Fault),
    /// All threads have ended, and all peers have said so too.
    Closed,
}

/// timely's own means of building workers, and what must outlive them.
type Allocators = (Vec<AllocatorBuilder>, Box<dyn Any + Send>);

/// Runs `work` on threads of this process alone.
pub(super) fn within_process<T, E, F>(threads: CommunicationConfig, work: F) -> Result<Vec<T>, ExecuteError<E>>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Fn(&mut Worker) -> Result<T, E> + Send + Sync + 'static,
{
    run(&[], |hooks| threads.try_build_with(hooks).map_err(io::Error::other), work)
}

/// Runs `work` on this process's workers of a cluster whose other processes are at the other ends of `sockets`.
pub(super) fn across_processes<T, E, F>(
    cluster: &Cluster,
    sockets: Vec<Option<TcpStream>>,
    work: F,
) -> Result<Vec<T>, ExecuteError<E>>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Fn(&mut Worker) -> Result<T, E> + Send + Sync + 'static,
{
    let allocators = |hooks: Hooks| {
        let local = ProcessBuilder::new_typed_vector(cluster.workers, hooks.refill.clone(), hooks.spill.clone());
        let (builders, guard) =
            initialize_networking_from_sockets(local, sockets, cluster.index, cluster.workers, hooks)?;
        Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard) as Box<dyn Any + Send>))
    };
    run(&cluster.addresses, allocators, work)
}

fn run<T, E, F>(
    addresses: &[String],
    allocators: impl FnOnce(Hooks) -> io::Result<Allocators>,
    work: F,
) -> Result<Vec<T>, ExecuteError<E>>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Fn(&mut Worker) -> Result<T, E> + Send + Sync + 'static,
{
    watch::install();
    let (events, inbox) = mpsc::channel();
    let faults = events.clone();
    let report: Report = Arc::new(move |fault| {
        let _ = faults.send(Event::Fault(fault));
    });
    let start_error = |cause| ClusterError::System { action: "start the workers", cause };
    let (builders, others) = allocators(watched_links(&report)).map_err(start_error)?;
    let (done, worker_report) = (events.clone(), Arc::clone(&report));
    let guards = execute_from(builders, others, WorkerConfig::default(), move |worker| {
        watch::mark(Part::Worker(worker.index()), &worker_report);
        work_to_the_end(worker, &work, &done);
    })
    .map_err(|error| start_error(io::Error::other(error)))?;
    join_apart(guards, events, report).map_err(start_error)?;
    first_failure_or_results(&inbox, addresses)
}

/// Hooks that mark timely's network threads; it calls this one on each as it starts.
fn watched_links(report: &Report) -> Hooks {
    let report = Arc::clone(report);
    let mark_link = move |setup: timely::communication::logging::CommunicationSetup| {
        if let Some(peer) = setup.remote {
            watch::mark(Part::Link(peer), &report);
        }
        None
    };
    Hooks { log_fn: Arc::new(mark_link), ..Hooks::default() }
}

fn work_to_the_end<T, E>(
    worker: &mut Worker,
    work: impl Fn(&mut Worker) -> Result<T, E>,
    events: &Sender<Event<T, E>>,
) {
    // Sending fails only when the supervisor has already returned another failure.
    match work(worker) {
        Ok(result) => {
            while worker.has_dataflows() {
                worker.step_or_park(None);
            }
            let _ = events.send(Event::Done(worker.index(), result));
        }
        Err(error) => {
            let _ = events.send(Event::Failed(error));
            // One more step would tell the others that this worker's inputs, closed by its return, are complete.
            loop {
                thread::park();
            }
        }
    }
}

/// Waits for all threads on a thread of its own, because after a failure some never end.
fn join_apart<T: Send + 'static, E: Send + 'static>(
    guards: WorkerGuards<()>,
    events: Sender<Event<T, E>>,
    report: Report,
) -> io::Result<()> {
    thread::Builder::new().name("cluster:join".to_owned()).spawn(move || {
        watch::mark(Part::Join, &report);
        drop(guards.join());
        let _ = events.send(Event::Closed);
    })?;
    Ok(())
}

fn first_failure_or_results<T, E>(
    inbox: &Receiver<Event<T, E>>,
    addresses: &[String],
) -> Result<Vec<T>, ExecuteError<E>> {
    let mut results = Vec::new();
    loop {
        match inbox.recv().expect("the joining thread sends, or panics and has that reported, before it lets go") {
            Event::Done(worker, result) => results.push((worker, result)),
            Event::Failed(error) => return Err(ExecuteError::Work(error)),
            Event::Fault(fault) => return Err(explain(fault, addresses).into()),
            Event::Closed => break,
        }
    }
    results.sort_by_key(|(worker, _)| *worker);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// The first fault is the cause: whatever else panics does so because of it.
fn explain(fault: Fault, addresses: &[String]) -> ClusterError {
    match fault.part {
        Part::Link(index) => {
            let address = addresses.get(index).cloned().unwrap_or_default();
            ClusterError::Lost { index, address, cause: link_cause(&fault.message) }
        }
        Part::Worker(worker) => {
            let message = format!("{} ({})", fault.message.replace(['\n', '\r'], " "), fault.place);
            ClusterError::Panicked { worker, message }
        }
        Part::Join => ClusterError::System { action: "end the workers", cause: io::Error::other(fault.message) },
    }
}

/// What happened to a link, from the words in which timely's thread panicked.
fn link_cause(message: &str) -> String {
    let Some(detail) = message.strip_prefix("timely communication error: ") else {
        return format!("what it sent makes no sense ({})", message.replace(['\n', '\r'], " "));
    };
    // "reading data: socket closed"
    let cause = detail.split_once(": ").map_or(detail, |(_, cause)| cause);
    match cause.split(" (os error").next().unwrap_or(cause) {
        "socket closed" | "Connection reset by peer" | "Broken pipe" => {
            "it stopped; its own output says why".to_owned()
        }
        "Connection timed out" | "No route to host" | "Network is unreachable" => {
            format!("the network or its machine failed ({})", io_text(&io::Error::other(cause)))
        }
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_link_is_explained() {
        let lost = |message: &str| {
            let fault = Fault { part: Part::Link(1), message: message.to_owned(), place: String::new() };
            explain(fault, &["a:1".to_owned(), "b:2".to_owned()]).to_string()
        };
        let prefix = "lost the connection to process 1 (b:2): ";
        for (message, cause) in [
            ("timely communication error: reading data: socket closed", "it stopped; its own output says why"),
            (
                "timely communication error: reading data: Connection timed out (os error 110)",
                "the network or its machine failed (Connection timed out)",
            ),
            (
                "timely communication error: flushing writer: Broken pipe (os error 32)",
                "it stopped; its own output says why",
            ),
            ("index out of\nbounds", "what it sent makes no sense (index out of bounds)"),
        ] {
            assert_eq!(lost(message), format!("{prefix}{cause}"));
        }
    }
}
