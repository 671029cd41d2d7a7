//! The configuration: layers of TOML, environment and flags, resolved once into plain typed data.
//!
//! ```text
//! config/default.toml  <  -c FILE …  <  EDDYLINE_SECTION__KEY  <  --set section.key=value  <  flags      (settings.rs)
//!                                          │
//!                      one value a key, and where it was set                                             (given.rs)
//!                                          │  types and ranges                                           (resolve.rs)
//!                                       Config                                                           (sections.rs)
//!                                          │  contradictions                                             (consistency.rs)
//!                                       Loaded
//! ```
//!
//! Invariants: a key that `config/default.toml` lacks is an error; no value is ignored; every error names where the value
//! was set; nothing here looks at the world except at the files of [`Layers::files`].

mod columns;
mod consistency;
mod duration;
mod error;
mod fingerprint;
mod given;
mod resolve;
mod sections;
mod settings;
mod time_format;
mod training;
mod words;

pub use columns::{Columns, Header};
pub use duration::{Duration, NotADuration};
pub use error::{ConfigError, ConfigErrors};
pub use sections::{
    BehaviorSection, Config, KafkaSection, ModelSection, OutputSection, PopularSection, RecentSection,
    RecommendSection, ServeSection, SourceSection, StateSection, StoreSections, TimeSection, TrainSection,
};
pub use settings::{DEFAULT_TOML, Origin};
pub use time_format::{TimeFormat, TimeText, time_zone};
pub use training::{Device, NotADevice, TensorBoard};
pub use words::{Algorithm, EmbeddingLoss, EmbeddingMethod, Exclude, Format, Ids, Late, Reward, TimeUnit};

use given::Given;
use settings::Settings;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

/// What lies over the defaults, from below.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// Configuration files; a later one wins.
    pub files: Vec<PathBuf>,
    /// The environment; only `EDDYLINE_…` is looked at.
    pub variables: Vec<(OsString, OsString)>,
    /// `--set`: key and value; a later one wins.
    pub sets: Vec<(String, String)>,
    /// Flags that stand for a key: the flag, the key, the value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// A configuration, and where each of its values was set.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    settings: Settings,
}

impl Config {
    /// Reads and resolves all layers.
    ///
    /// # Errors
    /// Everything that is wrong, at once: unreadable files, unknown keys, wrong values, and, where there is nothing of
    /// that kind, contradictions.
    pub fn load(layers: &Layers) -> Result<Loaded, ConfigErrors> {
        let mut errors = Vec::new();
        let mut settings = Settings::defaults();
        for file in &layers.files {
            settings.apply_file(file, &mut errors);
        }
        settings.apply_variables(layers.variables.iter().cloned(), &mut errors);
        let sets = layers.sets.iter().map(|(key, value)| (key.as_str(), value, Origin::Set));
        let flags = layers.flags.iter().map(|(flag, key, value)| (*key, value, Origin::Flag(flag)));
        for (key, value, origin) in sets.chain(flags) {
            errors.extend(settings.apply(key, Given::Text(value.clone()), origin).err());
        }
        let mut config = resolve::Reader { settings: &mut settings, errors: &mut errors }.config();
        if config.popular.weights.is_empty() {
            config.popular.weights = vec![1; config.behaviors.names.len()];
        }
        if errors.is_empty() {
            errors = consistency::contradictions(&config, &settings);
        }
        if errors.is_empty() { Ok(Loaded { config, settings }) } else { Err(ConfigErrors(errors)) }
    }

    /// The length of a sequence, next to a model whose history is `model_history`, if there is one (contract, sections 3
    /// and 4).
    ///
    /// # Errors
    /// If the configuration sets another length than the model has, or wants longer sequences than there can be.
    pub fn sequence_length(&self, model_history: Option<usize>) -> Result<usize, ConfigError> {
        let refuse = |message| Err(ConfigError::Inconsistent(message));
        let length = match (self.recent.length, model_history) {
            (Some(length), Some(history)) if length != history => {
                return refuse(format!(
                    "recent.length = {length}, but the model was trained with sequences of {history}; leave \
                     recent.length at \"auto\", or set it to {history}"
                ));
            }
            (length, history) => length.or(history).unwrap_or(consistency::LENGTH_DEFAULT),
        };
        if self.recommend.min_history > length {
            let shortest = self.recommend.min_history;
            return refuse(format!(
                "recommend.min_history = {shortest} is more than a sequence can have ({length}), so nobody would get a \
                 recommendation"
            ));
        }
        Ok(length)
    }
}

impl Default for Config {
    /// The configuration of `config/default.toml`.
    fn default() -> Config {
        Config::load(&Layers::default()).expect("the embedded defaults are right; a test reads them").config
    }
}

impl Loaded {
    /// Whether something is set, other than the default, that only a live run over servers uses.
    pub fn is_live(&self) -> bool {
        let sections = ["kafka", "mongodb", "mysql", "redis"];
        let set = self.settings.iter().filter(|setting| setting.given != setting.default);
        let mut of = set.filter_map(|setting| setting.key.split_once('.'));
        of.any(|(section, _)| sections.contains(&section))
    }

    /// The configuration as a TOML file with every key; a comment says where a value was set that is not the default.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for setting in self.settings.iter() {
            let (of, key) = setting.key.split_once('.').unwrap_or(("", &setting.key));
            if of != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{of}]");
                section = of;
            }
            let _ = match &setting.origin {
                Origin::Default => writeln!(text, "{key} = {}", setting.given),
                origin => writeln!(text, "{key} = {}  # {origin}", setting.given),
            };
        }
        text
    }
}
