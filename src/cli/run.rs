//! `eddyline run`: flags → [`LivePlan`].

use super::cluster::ClusterArgs;
use super::configuration::ConfigArgs;
use super::failure::usage;
use super::signals;
use crate::config::{Config, ConfigError, ConfigErrors, Ids};
use crate::live::{self, LivePlan};
use crate::sinks::identity::OtherPipeline;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Keep recommendations, trending items and the behaviour log up to date from a live log, until told to stop
#[derive(Debug, Args)]
#[command(after_help = "Example: eddyline run -c shop.toml -w 2 --serve 127.0.0.1:8080\n\n\
    Ctrl-C and SIGTERM end it cleanly; started again, it goes on where it was. docs/live.md has more.")]
pub(super) struct RunArgs {
    /// CSV files to follow as they grow, instead of Kafka's topic, each a partition; - is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Take the log's end, as it is now, for the end of all, and stop there
    #[arg(long)]
    until_end: bool,
    /// Go on without records that were deleted before they were read
    #[arg(long)]
    accept_loss: bool,
    /// Read the log from its beginning again, and not from a snapshot
    #[arg(long)]
    from_start: bool,
    /// Name of the log, instead of one made from its content; for standard input and growing files
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    log_name: Option<String>,
    /// Delete what another pipeline left in the state directory and the stores
    #[arg(long, conflicts_with = "new_generation")]
    purge: bool,
    /// Keep what another pipeline left in the stores until the new results have caught up with the log
    #[arg(long)]
    new_generation: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    places: PlaceArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Flags that stand for a key.
#[derive(Debug, Args)]
#[command(next_help_heading = "Places")]
struct PlaceArgs {
    /// Embedded store (short for --set embedded.path=PATH)
    #[arg(long, value_name = "PATH")]
    store: Option<String>,
    /// Directory of journal and snapshots (short for --set state.dir=DIR)
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
    /// Health and metrics over HTTP (short for --set serve.listen=HOST:PORT)
    #[arg(long, value_name = "HOST:PORT")]
    serve: Option<String>,
}

pub(super) fn run(args: RunArgs) -> Result<()> {
    let plan = plan(args)?;
    let ended = live::run(&plan)?;
    tracing::info!("{}", if ended { "the log has ended, and all results are out" } else { "stopped" });
    Ok(())
}

fn plan(args: RunArgs) -> Result<LivePlan> {
    let RunArgs { files, until_end, accept_loss, from_start, log_name, purge, new_generation, cluster, places, config } =
        args;
    if files.iter().filter(|file| file.as_os_str() == "-").count() > 1 {
        return Err(usage!("- is given twice, but there is one standard input"));
    }
    let mut layers = config.layers()?;
    let flags = [
        ("--store", "embedded.path", places.store),
        ("--state", "state.dir", places.state),
        ("--serve", "serve.listen", places.serve),
    ];
    layers.flags.extend(flags.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value?))));
    let config = Config::load(&layers)?.config;
    check(&config, !files.is_empty())?;
    let other_pipeline = match (purge, new_generation) {
        (true, _) => OtherPipeline::Purge,
        (_, true) => OtherPipeline::NewGeneration,
        (false, false) => OtherPipeline::Refuse,
    };
    Ok(LivePlan {
        config,
        files,
        workers: cluster.workers(),
        processes: cluster.cluster()?,
        other_pipeline,
        until_end,
        accept_loss,
        from_start,
        log_name,
        stop: signals::stop_flag()?,
    })
}

/// What `run` alone wants of a configuration.
fn check(config: &Config, follows_files: bool) -> Result<(), ConfigErrors> {
    let stores = &config.stores;
    let somewhere = stores.embedded.is_some()
        || stores.mongodb_uri.is_some()
        || stores.mysql_url.is_some()
        || stores.redis_url.is_some();
    let refuse = |message: &str| Err(ConfigErrors::from(ConfigError::Inconsistent(message.into())));
    if !somewhere {
        return refuse("there is no place for results: give --store PATH, or set mongodb.uri, mysql.url or redis.url");
    }
    if config.output.ids == Ids::Model && config.model.dir.is_none() {
        return refuse(
            "output.ids = \"model\" needs a model's maps: give --model-dir DIR, or set output.ids to \"raw\"",
        );
    }
    if follows_files && config.source.format == crate::config::Format::Json {
        return refuse("source.format = \"json\" is for messages of Kafka; files are read as \"csv\"");
    }
    Ok(())
}
