//! What snapshots cost.

use crate::services::{Services, median, produced, run, timed};

/// CPU and wall time of a run over `events` events with snapshots as often as they can be, every 10 seconds, and never: five
/// rounds in turn.
pub(crate) fn snapshots(services: &Services, events: u64) {
    let directory = tempfile::tempdir().unwrap();
    let options = ["--users", "200000", "--items", "50000", "--duration", "24h"];
    let (topic, _) = produced(services, directory.path(), events, &options);
    let intervals = ["24h", "10s", "1s", "1ms"];
    let mut results = vec![Vec::new(); intervals.len()];
    for round in 0..5 {
        for (interval, results) in intervals.iter().zip(&mut results) {
            let mut command = run(services, &topic, &directory.path().join(format!("state{round}{interval}")));
            command.arg("--until-end").args(services.store("redis", directory.path()));
            results.push(timed(command.args(["--set", &format!("state.snapshot_interval={interval}")])));
            // A run looks through all keys when it begins.
            let mut redis = redis::Client::open(services.redis.as_str()).unwrap().get_connection().unwrap();
            redis::cmd("FLUSHALL").exec(&mut redis).unwrap();
        }
    }
    let never: Vec<(f64, f64)> = results[0].clone();
    for (interval, results) in intervals.iter().zip(results) {
        let ratios = |of: fn(&(f64, f64)) -> f64| {
            let (middle, least, most) =
                median(results.iter().zip(&never).map(|(with, without)| of(with) / of(without) - 1.0).collect());
            format!("{:+.1} % ({:+.1} to {:+.1})", middle * 100.0, least * 100.0, most * 100.0)
        };
        let (wall, ..) = median(results.iter().map(|result| result.0).collect());
        println!(
            "every {interval:<4} {:>8.0} events/s   wall {}   CPU {}",
            events as f64 / wall,
            ratios(|result| result.0),
            ratios(|result| result.1)
        );
    }
}
