//! Flags that say how many workers there are, and where (as in timely dataflow).

use super::failure::usage;
use crate::replay::{Processes, WORKERS_MAX};
use anyhow::Result;
use clap::Args;
use std::path::{Path, PathBuf};

/// More than any cluster has; each process connects to every other.
const PROCESSES_MAX: usize = 256;
/// Without a host file, process i listens on this port plus i, as in timely dataflow.
const PORT_FIRST: usize = 2101;

#[derive(Debug, Args)]
#[command(next_help_heading = "Workers and processes")]
pub(super) struct ClusterArgs {
    /// Worker threads of this process, 1 to 1024
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = workers)]
    workers: usize,
    /// Processes in all, each with the same flags but -p
    #[arg(short = 'n', long, value_name = "PROCESSES", value_parser = processes)]
    processes: Option<usize>,
    /// Which of them this is, from 0
    #[arg(short, long, value_name = "INDEX", requires = "processes", value_parser = index)]
    process: Option<usize>,
    /// A host:port a line, one for each process; without it, localhost from port 2101 on
    #[arg(long, value_name = "FILE", requires = "processes")]
    hostfile: Option<PathBuf>,
}

impl ClusterArgs {
    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    /// The cluster, if there are several processes.
    pub(super) fn cluster(&self) -> Result<Option<Processes>> {
        let processes = self.processes.unwrap_or(1);
        let index = self.process.unwrap_or(0);
        if index >= processes {
            return Err(usage!("-p {index}: with -n {processes} the processes are 0 to {}", processes - 1));
        }
        let addresses = match &self.hostfile {
            Some(path) => hosts(path, processes)?,
            None => (0..processes).map(|i| format!("localhost:{}", PORT_FIRST + i)).collect(),
        };
        Ok((processes > 1).then_some(Processes { index, addresses }))
    }
}

fn workers(text: &str) -> Result<usize, String> {
    within(text, WORKERS_MAX, "workers")
}

fn processes(text: &str) -> Result<usize, String> {
    within(text, PROCESSES_MAX, "processes")
}

fn index(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "expected a whole number from 0 on".to_owned())
}

fn within(text: &str, max: usize, what: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("expected 1 to {max} {what}"))
}

/// The first `processes` addresses of a host file; blank lines and lines from `#` on do not count.
fn hosts(path: &Path, processes: usize) -> Result<Vec<String>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| usage!("can't read the host file {name}: {error}"))?;
    let mut addresses: Vec<String> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let address = line.split('#').next().unwrap_or(line).trim();
        if address.is_empty() {
            continue;
        }
        if !is_address(address) {
            return Err(usage!("{name}:{}: expected host:port, found {address:?}", number + 1));
        }
        if let Some(first) = addresses.iter().position(|other| other == address) {
            return Err(usage!("{name}:{}: {address} is the address of process {first} already", number + 1));
        }
        addresses.push(address.to_owned());
    }
    if addresses.len() < processes {
        return Err(usage!(
            "{name} names {} of the {processes} processes of -n; add the others' host:port",
            addresses.len()
        ));
    }
    addresses.truncate(processes);
    Ok(addresses)
}

fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}
