//! `eddyline check`: says what a run would stumble over, all of it at once.

use super::configuration::ConfigArgs;
use super::failure::{Told, message, report};
use super::stdout;
use crate::config::{self, Config, ConfigError};
use crate::live;
use crate::model::algorithm::Algorithm;
use crate::model::directory::ModelDirectory;
use crate::replay::source_options;
use crate::sources::FileLog;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Check configuration, model, input files, topic and stores, and say what is wrong
#[derive(Debug, Args)]
#[command(after_help = "Example: eddyline check -c shop.toml --model-dir model events.csv --store results.db")]
pub(super) struct CheckArgs {
    /// Input files to look at
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the configuration in force, as TOML with the origin of each value, instead of what was checked
    #[arg(long)]
    show: bool,
    /// Embedded store to look at, or none
    #[arg(long, value_name = "PATH", default_value = "none")]
    store: PathBuf,
    /// The log's name, where the run is given one
    #[arg(long, value_name = "NAME")]
    log_name: Option<String>,
    /// Do not ask Kafka and databases
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &CheckArgs) -> Result<()> {
    let mut findings = Findings { show: !args.show, worst: None };
    match Config::load(&args.config.layers()?) {
        Err(errors) => {
            errors.0.iter().for_each(|error| report(&error.to_string()));
            findings.worst = Some(Told::Configuration);
            inputs_and_store(args, None, &mut findings)?;
        }
        Ok(loaded) => {
            if args.show {
                stdout::write(loaded.to_toml().as_bytes())?;
            }
            findings.add("configuration", Ok("right".into()))?;
            if let Some(dir) = &loaded.config.model.dir {
                findings.add("model", model(&loaded.config, dir))?;
            }
            inputs_and_store(args, Some(&loaded.config), &mut findings)?;
            if loaded.is_live() && !args.offline {
                for (what, found) in live::check(&loaded.config, args.log_name.as_deref()) {
                    findings.add(&what, found.map_err(anyhow::Error::from))?;
                }
            }
        }
    }
    findings.worst.map_or(Ok(()), |told| Err(told.into()))
}

/// Without a configuration, inputs are not read.
fn inputs_and_store(args: &CheckArgs, config: Option<&Config>, findings: &mut Findings) -> Result<()> {
    for path in args.files.iter().filter(|path| path.as_os_str() != "-") {
        findings.add(&path.display().to_string(), input(path, config))?;
    }
    if args.store.as_os_str() != "none" {
        findings.add(&format!("store {}", args.store.display()), store(&args.store))?;
    }
    Ok(())
}

/// What was found so far.
struct Findings {
    /// Whether to print what is in order.
    show: bool,
    worst: Option<Told>,
}

impl Findings {
    fn add(&mut self, what: &str, finding: Result<String>) -> Result<()> {
        match finding {
            Ok(note) if self.show => stdout::write(format!("{what}: {note}\n").as_bytes()),
            Ok(_) => Ok(()),
            Err(error) => {
                let is_configuration = self.worst == Some(Told::Configuration) || error.is::<ConfigError>();
                self.worst = Some(if is_configuration { Told::Configuration } else { Told::Failed });
                report(&format!("{what}: {}", message(&error)));
                Ok(())
            }
        }
    }
}

fn algorithm(configured: config::Algorithm) -> Algorithm {
    match configured {
        config::Algorithm::Reinforce => Algorithm::Reinforce,
        config::Algorithm::Ddpg => Algorithm::Ddpg,
        config::Algorithm::Bcq => Algorithm::Bcq,
    }
}

fn model(config: &Config, dir: &Path) -> Result<String> {
    let model = ModelDirectory::load(dir, algorithm(config.model.algorithm))?;
    config.sequence_length(Some(model.weights.history))?;
    let (users, items) = (model.users.len(), model.items.len());
    Ok(format!("{}, a {} policy of {users} users and {items} items", dir.display(), model.algorithm))
}

fn input(path: &Path, config: Option<&Config>) -> Result<String> {
    let metadata = path.metadata()?;
    if metadata.is_dir() {
        bail!("is a directory; name the files in it");
    }
    if !metadata.is_file() {
        return Ok("is a pipe, and is read only once".into());
    }
    if File::open(path)?.read(&mut [0])? == 0 {
        return Ok("is empty, a log without events".into());
    }
    let Some(config) = config else { return Ok("can be opened".into()) };
    let log = FileLog::open(&[path.to_owned()], &source_options(config, None, 1)?)?;
    let hints = log.diagnose(0)?;
    if let Some(hint) = hints.first() {
        bail!("{hint}");
    }
    Ok("can be read".into())
}

/// The call boundary of the embedded store's room.
fn store(path: &Path) -> Result<String> {
    if path.is_dir() {
        bail!("is a directory; name a file in it");
    }
    if path.exists() {
        File::options().write(true).open(path)?;
        return Ok("can be written".into());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let metadata = parent.metadata().with_context(|| format!("there is no directory {}", parent.display()))?;
    if !metadata.is_dir() || metadata.permissions().readonly() {
        bail!("can't make a file in {}", parent.display());
    }
    Ok("new".into())
}
