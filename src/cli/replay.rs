//! `eddyline replay`: flags → [`ReplayPlan`].

use super::cluster::ClusterArgs;
use super::configuration::ConfigArgs;
use super::failure::usage;
use super::{Terminal, outcome, parse, signals};
use crate::config::{ConfigError, ConfigErrors, Duration, Format, Ids, Loaded};
use crate::replay::{self, Dataflows, OtherPipeline, ReplayPlan};
use anyhow::Result;
use clap::Args;
use dataflows::event::Time;
use std::path::{Path, PathBuf};

/// Run logs of behaviour through the pipeline: the same results every time, for any number of workers
#[derive(Debug, Args)]
#[command(after_help = "Example: eddyline replay day1.csv.gz day2.csv.gz -w 4 --store results.db --evaluate")]
pub(super) struct ReplayArgs {
    /// CSV files, plain, gzip or zstd, each a partition of the log; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Stop when time has reached this: milliseconds since 1970, or a date such as 2017-12-03T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    until: Option<Time>,
    /// Repeat the decisions of a live run
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Name of the log, instead of one made from its first 64 KiB; for standard input and growing files
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    log_name: Option<String>,
    /// Fail at the first record that can't be read, instead of counting it
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    results: ResultArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Where results go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
struct ResultArgs {
    /// Run only some of the dataflows; recommend implies recent, and takes popular items where popular runs
    #[arg(long, value_name = "DATAFLOWS", value_delimiter = ',')]
    only: Vec<Dataflow>,
    /// Embedded store (SQLite) for the results, or none
    #[arg(long, value_name = "PATH", default_value = "none")]
    store: PathBuf,
    /// Delete what another pipeline left in the store
    #[arg(long, conflicts_with = "new_generation")]
    purge: bool,
    /// Keep what another pipeline left in the store until the new results are complete
    #[arg(long)]
    new_generation: bool,
    /// Write the canonical files (JSON Lines) into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Measure how well the recommendations foretell what users do next
    #[arg(long)]
    evaluate: bool,
    /// Write the evaluation as one HTML page with plots
    #[arg(long, value_name = "FILE", requires = "evaluate")]
    report: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: ReplayArgs, terminal: Terminal) -> Result<()> {
    let (json, report) = (args.results.json, args.results.report.clone());
    let style = terminal.style();
    let plan = plan(args, terminal)?;
    match replay::run(&plan)? {
        Some(outcome) => outcome::show(&plan, &outcome, json, report.as_deref(), style),
        None => Ok(()),
    }
}

fn plan(args: ReplayArgs, terminal: Terminal) -> Result<ReplayPlan> {
    let ReplayArgs { files, until, journal, log_name, strict, results, cluster, config } = args;
    if files.iter().filter(|file| file.as_os_str() == "-").count() > 1 {
        return Err(usage!("- is given twice, but there is one standard input"));
    }
    let other_pipeline = results.other_pipeline()?;
    let dataflows = results.dataflows();
    if results.evaluate && !(dataflows.recommend && dataflows.popular) {
        return Err(usage!(
            "--evaluate compares recommendations with popular items: let --only name recommend and popular, or leave it out"
        ));
    }
    let loaded = config.load()?;
    if loaded.config.source.format == Format::Json {
        let message = "source.format = \"json\" is for messages of Kafka; a replay reads files of \"csv\"";
        return Err(ConfigErrors::from(ConfigError::Inconsistent(message.into())).into());
    }
    if let Some(until) = until {
        is_frontier(until, loaded.config.time.tick)?;
    }
    let store = results.store();
    ids_are_known(&loaded, store)?;
    Ok(ReplayPlan {
        files,
        workers: cluster.workers(),
        processes: cluster.cluster()?,
        dataflows,
        store: store.map(Path::to_owned),
        other_pipeline,
        out: results.out,
        evaluate: results.evaluate,
        strict,
        until,
        journal,
        log_name,
        progress: terminal.progress,
        stop: signals::stop_flag()?,
        config: loaded.config,
    })
}

/// A dataflow, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Dataflow {
    /// Trending lists
    Popular,
    /// Every user's last items
    Recent,
    /// Recommendations
    Recommend,
}

impl ResultArgs {
    fn dataflows(&self) -> Dataflows {
        let runs = |dataflow| self.only.is_empty() || self.only.contains(&dataflow);
        Dataflows {
            popular: runs(Dataflow::Popular),
            recent: runs(Dataflow::Recent) || runs(Dataflow::Recommend),
            recommend: runs(Dataflow::Recommend),
        }
    }

    fn store(&self) -> Option<&Path> {
        (self.store.as_os_str() != "none").then_some(&self.store)
    }

    fn other_pipeline(&self) -> Result<OtherPipeline> {
        let (flag, choice) = match (self.purge, self.new_generation) {
            (true, _) => ("--purge", OtherPipeline::Purge),
            (_, true) => ("--new-generation", OtherPipeline::NewGeneration),
            (false, false) => return Ok(OtherPipeline::Refuse),
        };
        if self.store().is_none() {
            return Err(usage!("{flag} is about a store: add --store PATH"));
        }
        Ok(choice)
    }
}

/// Time stops at ends of ticks only.
fn is_frontier(until: Time, tick: Duration) -> Result<()> {
    let before = until - until % tick.ms();
    if before == until {
        return Ok(());
    }
    let after = before.saturating_add(tick.ms());
    Err(usage!("--until {until}: not the end of a tick (time.tick = {tick}); the nearest are {before} and {after}"))
}

/// A store of model indices needs a model.
fn ids_are_known(loaded: &Loaded, store: Option<&Path>) -> Result<(), ConfigErrors> {
    let Loaded { config, .. } = loaded;
    if config.output.ids == Ids::Raw || config.model.dir.is_some() || store.is_none() {
        return Ok(());
    }
    Err(replay::ids_need_a_model().into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn time_stops_at_ends_of_ticks() {
        let tick = Duration::from_ms(20_000).unwrap();
        assert!(is_frontier(40_000, tick).is_ok());
        let message = is_frontier(50_000, tick).unwrap_err().to_string();
        assert!(message.ends_with("the nearest are 40000 and 60000"), "{message}");
    }
}
