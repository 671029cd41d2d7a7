//! Flags that choose the configuration.

use super::failure::usage;
use crate::config::{Config, ConfigError, ConfigErrors, Layers, Loaded, Origin};
use clap::Args;
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;

/// Which log messages are shown, in tracing's filter syntax.
const LOG_VARIABLE: &str = "EDDYLINE_LOG";

#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration")]
pub(super) struct ConfigArgs {
    /// Configuration file; may be given several times, the last wins
    #[arg(short, long = "config", value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Sets one key, over files and environment: --set time.tick=10s
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// The model's directory (short for --set model.dir=DIR)
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
}

impl ConfigArgs {
    /// The configuration of all layers.
    pub(super) fn load(&self) -> anyhow::Result<Loaded> {
        Ok(Config::load(&self.layers()?)?)
    }

    pub(super) fn layers(&self) -> anyhow::Result<Layers> {
        let mut flags = Vec::new();
        if let Some(dir) = &self.model_dir {
            let dir = dir.to_str().ok_or_else(|| usage!("--model-dir {}: not UTF-8", dir.display()))?;
            flags.push(("--model-dir", "model.dir", dir.to_owned()));
        }
        let variables = std::env::vars_os().collect();
        Ok(Layers { files: self.config.clone(), variables, sets: self.set.clone(), flags })
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected SECTION.KEY=VALUE, such as time.tick=10s")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// What `EDDYLINE_LOG` says, or else `default`.
pub(super) fn log_filter(default: &str) -> Result<EnvFilter, ConfigErrors> {
    let Some(value) = std::env::var_os(LOG_VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(EnvFilter::new(default));
    };
    let filter = value.to_str().and_then(|text| EnvFilter::try_new(text).ok());
    filter.ok_or_else(|| {
        ConfigErrors::from(ConfigError::Value {
            origin: Origin::Variable(LOG_VARIABLE.into()),
            key: "log filter".into(),
            value: value.to_string_lossy().into_owned(),
            expected: "a level (error, warn, info, debug, trace) or a list such as warn,eddyline=debug".into(),
        })
    })
}
