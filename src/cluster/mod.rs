//! Starts timely workers, in one process or in several, so that nothing that a network can do ends in a panic.
//!
//! ```text
//!  execute ── one process ─────────────────────────────┐
//!     │                                                ├─▶ workers ─▶ results, or the first failure
//!     └── several ─▶ mesh: listen, dial, handshake,    │
//!                    compare, wait for all ─▶ sockets ─┘
//! ```
//!
//! timely itself takes whoever connects first for its peer, waits for ever for one that never comes, and panics when one
//! dies. So sockets are connected here (`mesh`), each after a `handshake` in which both sides compare what they were
//! started with, and only then handed to timely; and its panics are caught and named (`watch`).
//!
//! **Invariants.** No dataflow is built in any process before every pair of processes has agreed. A stranger on the port
//! delays nobody. The first failure of a worker, a link or a peer is the one that [`execute`] returns, at once; and a
//! worker that failed takes no further step, so that its closed inputs never pass for the end of the input elsewhere.

mod error;
mod handshake;
mod hostfile;
mod liveness;
mod meet;
mod mesh;
mod run;
mod watch;

pub use error::{ClusterError, ExecuteError};
pub use hostfile::{default_addresses, parse_hostfile};

use mesh::Connected;
use std::time::Duration;
use timely::CommunicationConfig;
use timely::worker::Worker;

/// How long [`Cluster::default`] waits for all processes to come: time to start the others by hand.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The workers of a run, and this process's place among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Worker threads in each process, at least one.
    pub workers: usize,
    /// Processes, at least one.
    pub processes: usize,
    /// Which of them this one is, from 0.
    pub index: usize,
    /// `host:port` of each process, by index; not read where there is one process only.
    pub addresses: Vec<String>,
    /// How long to wait for the others.
    pub connect_timeout: Duration,
}

impl Default for Cluster {
    /// One worker in one process.
    fn default() -> Self {
        Cluster { workers: 1, processes: 1, index: 0, addresses: Vec::new(), connect_timeout: CONNECT_TIMEOUT }
    }
}

impl Cluster {
    /// `workers` threads in this process, and no other.
    pub fn local(workers: usize) -> Cluster {
        Cluster { workers, ..Cluster::default() }
    }

    fn check(&self) -> Result<(), ClusterError> {
        if self.workers == 0 {
            return Err(ClusterError::NoWorkers);
        }
        if self.index >= self.processes {
            return Err(ClusterError::Index { index: self.index, processes: self.processes });
        }
        if self.processes == 1 {
            return Ok(());
        }
        if self.addresses.len() != self.processes {
            return Err(ClusterError::Addresses { addresses: self.addresses.len(), processes: self.processes });
        }
        hostfile::check_distinct(&self.addresses)
    }
}

/// What the processes tell each other before they work together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// What all must have in common: name (`configuration`, `input day1.csv`) and digest of each part. Two processes whose
    /// digests differ refuse to work together and say which part it is. A digest is printed cut to 24 characters.
    pub parts: Vec<(String, String)>,
    /// What process 0 decides for all, in words of the caller's own; those of other processes don't count.
    pub wishes: Vec<String>,
}

/// Runs `work` on every worker of this process until all dataflows that it built are complete, and returns its results by
/// worker. `work` is given process 0's [`Agreement::wishes`].
///
/// With several processes, first waits for all of them and makes sure that all were started alike. It returns at the
/// first failure of anything: `work` that returns an error or panics, a peer that dies. **After an error the caller must
/// end the process** soon (and with it tell the peers), because the other workers' threads cannot be interrupted and still
/// run; the failed worker's is parked for good, its dataflows as they were.
///
/// # Errors
/// [`ExecuteError::Work`] if `work` returns an error on any worker of this process, [`ExecuteError::Cluster`] for
/// everything else.
pub fn execute<T, E, F>(cluster: &Cluster, agreement: &Agreement, work: F) -> Result<Vec<T>, ExecuteError<E>>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Fn(&mut Worker, &[String]) -> Result<T, E> + Send + Sync + 'static,
{
    cluster.check()?;
    if cluster.processes > 1 {
        let Connected { sockets, wishes } = mesh::connect(cluster, agreement)?;
        return run::across_processes(cluster, sockets, move |worker| work(worker, &wishes));
    }
    let threads =
        if cluster.workers == 1 { CommunicationConfig::Thread } else { CommunicationConfig::Process(cluster.workers) };
    let wishes = agreement.wishes.clone();
    run::within_process(threads, move |worker| work(worker, &wishes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use timely::container::CapacityContainerBuilder;
    use timely::dataflow::operators::{Inspect, Probe, ToStream};
    use timely::dataflow::{InputHandle, ProbeHandle};

    fn check(cluster: Cluster) -> String {
        match execute(&cluster, &Agreement::default(), |_, _| Ok::<_, Infallible>(())) {
            Err(error) => error.to_string(),
            Ok(_) => "ok".to_owned(),
        }
    }

    #[test]
    fn a_cluster_that_cannot_be_is_refused() {
        assert_eq!(check(Cluster::local(0)), "at least one worker is needed");
        let two = Cluster { processes: 2, index: 2, ..Cluster::default() };
        assert_eq!(check(two.clone()), "process index 2 does not fit 2 processes: they count from 0 to 1");
        let two = Cluster { index: 1, addresses: vec!["localhost:2101".to_owned()], ..two };
        assert_eq!(check(two.clone()), "2 processes need as many addresses, but 1 is given");
        let two = Cluster { addresses: vec!["localhost:2101".to_owned(); 2], ..two };
        assert_eq!(check(two), "processes 0 and 1 have the same address localhost:2101");
    }

    #[test]
    fn results_come_by_worker() {
        for workers in [1, 3] {
            let results = execute(&Cluster::local(workers), &Agreement::default(), |worker, _| {
                let index = worker.index();
                worker.dataflow::<u64, _, _>(|scope| {
                    (0..10).to_stream(scope).container::<Vec<_>>().inspect(|_| ());
                });
                Ok::<_, Infallible>(index)
            });
            assert_eq!(results.expect("nothing fails"), (0..workers).collect::<Vec<_>>());
        }
    }

    #[test]
    fn one_failing_worker_ends_the_run_while_the_others_never_end() {
        let error = execute(&Cluster::local(3), &Agreement::default(), |worker, _| {
            if worker.index() == 1 {
                return Err("disk full");
            }
            loop {
                worker.step_or_park(None);
            }
            #[expect(unreachable_code, reason = "gives the closure its type")]
            Ok(())
        });
        assert!(matches!(error, Err(ExecuteError::Work("disk full"))), "{error:?}");
    }

    #[test]
    fn a_failed_workers_inputs_never_look_complete() {
        let completed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&completed);
        let error = execute(&Cluster::local(2), &Agreement::default(), move |worker, _| {
            let probe = ProbeHandle::new();
            let mut input: InputHandle<u64, CapacityContainerBuilder<Vec<u64>>> = InputHandle::new();
            worker.dataflow::<u64, _, _>(|scope| {
                input.to_stream(scope).probe_with(&probe);
            });
            if worker.index() == 1 {
                return Err("disk full");
            }
            input.close();
            while !probe.done() {
                worker.step_or_park(None);
            }
            seen.store(true, Ordering::Release);
            Ok(())
        });
        assert!(matches!(error, Err(ExecuteError::Work("disk full"))), "{error:?}");
        // Time enough for a wrong end to show; a right program passes however short it is.
        std::thread::sleep(Duration::from_millis(100));
        assert!(!completed.load(Ordering::Acquire));
    }

    #[test]
    fn a_panicking_worker_is_an_error() {
        let error = execute(&Cluster::local(2), &Agreement::default(), |worker, _| {
            assert_ne!(worker.index(), 1, "two by two");
            loop {
                worker.step_or_park(None);
            }
            #[expect(unreachable_code, reason = "gives the closure its type")]
            Ok::<(), Infallible>(())
        });
        let text = error.expect_err("worker 1 panics").to_string();
        assert!(text.starts_with("worker 1 failed, which is a bug in eddyline: "), "{text}");
        assert!(text.contains("two by two") && text.contains("cluster/mod.rs"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
