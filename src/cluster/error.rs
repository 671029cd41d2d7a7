//! What can go wrong between processes, each in one plain line.

use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Why a run ended before its work was done.
#[derive(Debug, Error)]
pub enum ExecuteError<E> {
    /// The cluster could not be formed, or fell apart.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A worker's own error; the first, if several fail.
    #[error("{0}")]
    Work(E),
}

/// A cluster that could not be formed, or fell apart.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// No worker threads were asked for.
    #[error("at least one worker is needed")]
    NoWorkers,
    /// The process index is not below the number of processes.
    #[error("{}", index_text(*index, *processes))]
    Index {
        /// The index given.
        index: usize,
        /// The number of processes given.
        processes: usize,
    },
    /// The number of addresses is not the number of processes.
    #[error("{processes} processes need as many addresses, but {}", count_text(*addresses))]
    Addresses {
        /// Addresses given.
        addresses: usize,
        /// Processes given.
        processes: usize,
    },
    /// Two processes were given one address.
    #[error("processes {first} and {second} have the same address {address}")]
    SameAddress {
        /// The lower index.
        first: usize,
        /// The higher index.
        second: usize,
        /// What both have.
        address: String,
    },
    /// A host file could not be read.
    #[error("cannot read the host file {}: {}", path.display(), io_text(cause))]
    HostFile {
        /// Which file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A line of a host file is no address.
    #[error("{} line {line}: {text:?} is not host:port", path.display())]
    HostLine {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What stands there, cut to 80 characters.
        text: String,
    },
    /// A host file names no host.
    #[error("the host file {} names no host; it wants one host:port a line", path.display())]
    HostFileEmpty {
        /// Which file.
        path: PathBuf,
    },
    /// This process's own address cannot be listened on.
    #[error("process {index} cannot listen on {address}: {}", listen_text(cause))]
    Listen {
        /// This process.
        index: usize,
        /// Its address.
        address: String,
        /// Why not.
        cause: io::Error,
    },
    /// A process did not come in time.
    #[error("process {index} at {address} did not answer within {} ({cause}); is it running with -p {index}?",
        seconds(*waited))]
    Missing {
        /// Which process.
        index: usize,
        /// Its address.
        address: String,
        /// How long it was waited for.
        waited: Duration,
        /// How the last attempt to reach it ended.
        cause: String,
    },
    /// Two processes were not started alike; both say the same.
    #[error("processes {first} and {second} disagree on {what}; start all with the same flags and files")]
    Disagreement {
        /// The lower index.
        first: usize,
        /// The higher index.
        second: usize,
        /// Names of the differing parts, with the values of `first` and `second`.
        what: String,
    },
    /// Two processes speak different handshakes.
    #[error("the process at {address} runs another version of eddyline; start the same build everywhere")]
    Version {
        /// Where it is, or came from.
        address: String,
    },
    /// Another process refused this one, or gave up for all.
    #[error("process {index} at {address} gave up: {reason}")]
    GaveUp {
        /// Which process.
        index: usize,
        /// Its address.
        address: String,
        /// Its own words.
        reason: String,
    },
    /// A process was lost after all had agreed, before work began.
    #[error("process {index} at {address} stopped while the run was starting")]
    WentAway {
        /// Which process.
        index: usize,
        /// Its address.
        address: String,
    },
    /// A process was lost during the run.
    #[error("lost the connection to process {index} ({address}): {cause}")]
    Lost {
        /// Which process.
        index: usize,
        /// Its address.
        address: String,
        /// How it showed.
        cause: String,
    },
    /// A socket could not be prepared, or a thread not be started.
    #[error("cannot {action}: {}", io_text(cause))]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        cause: io::Error,
    },
    /// A worker panicked.
    #[error("worker {worker} failed, which is a bug in eddyline: {message}")]
    Panicked {
        /// Which worker.
        worker: usize,
        /// The panic's message and place, on one line.
        message: String,
    },
}

fn index_text(index: usize, processes: usize) -> String {
    match processes {
        0 => "at least one process is needed".to_owned(),
        1 => format!("process index {index} does not fit 1 process: it is 0 (did you mean -n {}?)", index + 1),
        _ => {
            format!("process index {index} does not fit {processes} processes: they count from 0 to {}", processes - 1)
        }
    }
}

fn count_text(addresses: usize) -> String {
    if addresses == 1 { "1 is given".to_owned() } else { format!("{addresses} are given") }
}

fn listen_text(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "the port is in use; is this process running already?".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address; is -p right?".to_owned(),
        _ => io_text(cause),
    }
}

/// What the system says, without its number.
pub(super) fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// A duration as a person writes it: `30 s`, `1.5 s`.
fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
