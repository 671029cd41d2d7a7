//! Events a second into stores.

use crate::services::{Services, eddyline, median, produced, run, timed};
use std::process::Command;

/// Kafka → stores, each alone and all together, beside a replay of the same files into the embedded store: events a second,
/// median of three.
pub(crate) fn throughput(services: &Services, events: u64, groups: &[&str]) {
    const GROUPS: [&str; 6] =
        ["embedded", "mysql", "redis", "mongodb", "embedded,mysql,redis", "embedded,mysql,redis,mongodb"];
    let groups = if groups.is_empty() { &GROUPS[..] } else { groups };
    let directory = tempfile::tempdir().unwrap();
    let (topic, files) = produced(services, directory.path(), events, &["--users", "50000", "--items", "20000"]);
    let mut fresh = 0;
    let mut measure = |name: &str, command: &mut dyn FnMut(usize) -> Command| {
        let runs: Vec<(f64, f64)> = (0..3)
            .map(|_| {
                fresh += 1;
                timed(&mut command(fresh))
            })
            .collect();
        let (wall, least, most) = median(runs.iter().map(|run| run.0).collect());
        let (cpu, ..) = median(runs.iter().map(|run| run.1).collect());
        println!(
            "{name:<28} {:>9.0} events/s  ({:.2} s, {:.2}–{:.2}; {:.2} µs CPU an event)",
            events as f64 / wall,
            wall,
            least,
            most,
            cpu * 1e6 / events as f64
        );
    };
    for sinks in [&[][..], &["embedded"]] {
        let name = if sinks.is_empty() { "replay, digests" } else { "replay, embedded store" };
        measure(name, &mut |number| {
            let mut command = eddyline("replay");
            command.args(&files).args(["-w", "2", "-q"]);
            if !sinks.is_empty() {
                command.arg("--store").arg(directory.path().join(format!("replay{number}.db")));
            }
            command
        });
    }
    for sinks in groups.iter().map(|group| group.split(',').collect::<Vec<_>>()) {
        measure(&format!("run, {}", sinks.join(" + ")), &mut |number| {
            let mut command = run(services, &topic, &directory.path().join(format!("state{number}")));
            command.arg("--until-end");
            for sink in &sinks {
                let options = services.store(sink, directory.path());
                // `--store none` once is enough, and not beside a store.
                let skip = if sinks.contains(&"embedded") && *sink != "embedded" { 2 } else { 0 };
                let skip = if sink != &sinks[0] { 2 } else { skip };
                command.args(&options[skip.min(options.len())..]);
            }
            command
        });
    }
}
