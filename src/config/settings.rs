//! The layers: which value each key has, and where it comes from.
//!
//! `config/default.toml` is the list of keys: a key that is not there does not exist.

use super::error::ConfigError;
use super::given::Given;
use std::ffi::OsString;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The defaults, with a comment on every key.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// How environment variables that set a key begin.
const VARIABLE_PREFIX: &str = "EDDYLINE_";

/// Below this similarity (Jaro-Winkler, 0 to 1) a suggestion confuses more than it helps.
const SIMILARITY_MIN: f64 = 0.8;

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In a file, at a line (from 1).
    File(PathBuf, usize),
    /// In the environment variable of this name.
    Variable(String),
    /// By `--set`.
    Set,
    /// By a flag of its own.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => write!(f, "default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) => write!(f, "environment variable {name}"),
            Origin::Set => write!(f, "--set"),
            Origin::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// One key's value.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// `section.key`
    pub(super) key: String,
    pub(super) given: Given,
    pub(super) origin: Origin,
    pub(super) default: Given,
}

impl Setting {
    /// Puts `value` in the place of what it was read from. `None` has no TOML, and was a word already.
    pub(super) fn understand(&mut self, value: &impl serde::Serialize) {
        self.given = match (toml::Value::try_from(value), &self.given) {
            (Ok(value), _) => Given::Toml(value),
            (Err(_), Given::Text(word)) => Given::Toml(toml::Value::String(word.clone())),
            (Err(_), given) => given.clone(),
        };
    }
}

/// Every key's value, in the order of `config/default.toml`.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    all: Vec<Setting>,
}

impl Settings {
    /// # Panics
    /// If the embedded defaults are not TOML; a test reads them.
    pub(super) fn defaults() -> Settings {
        let document = DeTable::parse(DEFAULT_TOML).expect("the embedded defaults are TOML");
        let mut errors = Vec::new();
        let all = leaves(&document, &mut |_, section| errors.push(section.to_owned()))
            .into_iter()
            .map(|(key, given, _)| Setting { key, default: given.clone(), given, origin: Origin::Default })
            .collect();
        debug_assert!(errors.is_empty(), "outside of a section: {errors:?}");
        Settings { all }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.all.iter()
    }

    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        self.all.iter().find(|setting| setting.key == key)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Setting> {
        self.all.iter_mut().find(|setting| setting.key == key)
    }

    pub(super) fn apply_file(&mut self, path: &Path, errors: &mut Vec<ConfigError>) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) => return errors.push(ConfigError::Read { path: path.to_owned(), source }),
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        match DeTable::parse(text) {
            Err(error) => errors.push(ConfigError::Syntax {
                path: path.to_owned(),
                line: line(text, error.span()),
                message: error.message().split_whitespace().collect::<Vec<_>>().join(" "),
            }),
            Ok(document) => self.apply_document(path, text, &document, errors),
        }
    }

    fn apply_document(
        &mut self,
        path: &Path,
        text: &str,
        document: &Spanned<DeTable<'_>>,
        errors: &mut Vec<ConfigError>,
    ) {
        let origin = |span: Range<usize>| Origin::File(path.to_owned(), line(text, Some(span)));
        let mut outside = Vec::new();
        let leaves = leaves(document, &mut |span, key| outside.push((span, key.to_owned())));
        for (span, key) in outside {
            let suggestion = self.suggest(&key);
            errors.push(ConfigError::UnknownKey { origin: origin(span), key, suggestion });
        }
        for (key, given, span) in leaves {
            if let Err(error) = self.apply(&key, given, origin(span)) {
                errors.push(error);
            }
        }
    }

    /// Applies `EDDYLINE_SECTION__KEY`. A variable without `__` is none of ours (a Kubernetes service named `eddyline`
    /// makes several), unless it is a key with an underscore too few.
    pub(super) fn apply_variables(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        errors: &mut Vec<ConfigError>,
    ) {
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX)) else { continue };
            let slip =
                self.all.iter().map(|setting| variable(&setting.key)).find(|right| right.replace("__", "_") == name);
            if let Err(error) = match slip {
                Some(right) => Err(unknown(Origin::Variable(name.to_owned()), name, Some(right))),
                None if name[VARIABLE_PREFIX.len()..].contains("__") => self.apply_variable(name, value),
                None => Ok(()),
            } {
                errors.push(error);
            }
        }
    }

    fn apply_variable(&mut self, name: &str, value: OsString) -> Result<(), ConfigError> {
        let origin = Origin::Variable(name.to_owned());
        let key = name[VARIABLE_PREFIX.len()..].replacen("__", ".", 1).to_lowercase();
        let known = self.get(&key).filter(|setting| variable(&setting.key) == name).is_some();
        match value.into_string() {
            _ if !known => Err(unknown(origin, name, self.suggest(&key).map(|key| variable(&key)))),
            Ok(text) => self.apply(&key, Given::Text(text), origin),
            Err(bytes) => Err(ConfigError::Value {
                origin,
                key,
                value: bytes.to_string_lossy().into_owned(),
                expected: "UTF-8".into(),
            }),
        }
    }

    /// Gives `key` a value, over the one it has.
    pub(super) fn apply(&mut self, key: &str, given: Given, origin: Origin) -> Result<(), ConfigError> {
        match self.get_mut(key) {
            Some(setting) => {
                setting.given = given;
                setting.origin = origin;
                Ok(())
            }
            None => Err(unknown(origin, key, self.suggest(key))),
        }
    }

    /// The key that was probably meant: a similar one, or one of the same name in another section.
    fn suggest(&self, wrong: &str) -> Option<String> {
        let wrong_name = wrong.rsplit('.').next().unwrap_or(wrong);
        let similarity = |key: &str| {
            let name = key.rsplit('.').next().unwrap_or(key);
            strsim::jaro_winkler(wrong, key).max(strsim::jaro_winkler(wrong_name, name) * 0.99)
        };
        self.all
            .iter()
            .map(|setting| (similarity(&setting.key), &setting.key))
            .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .map(|(_, key)| key.clone())
    }
}

fn unknown(origin: Origin, key: &str, suggestion: Option<String>) -> ConfigError {
    ConfigError::UnknownKey { origin, key: key.to_owned(), suggestion }
}

/// The environment variable that sets `key`.
fn variable(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.replacen('.', "__", 1).to_uppercase())
}

/// The line (from 1) on which a span begins.
fn line(text: &str, span: Option<Range<usize>>) -> usize {
    let before = span.map_or(0, |span| span.start.min(text.len()));
    text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Every `section.key` with its value and place, in the order of the file. What stands outside of a section goes to
/// `outside`.
fn leaves(
    document: &Spanned<DeTable<'_>>,
    outside: &mut impl FnMut(Range<usize>, &str),
) -> Vec<(String, Given, Range<usize>)> {
    let mut leaves = Vec::new();
    for (section, content) in document.get_ref() {
        match content.get_ref() {
            DeValue::Table(keys) => leaves.extend(
                keys.iter()
                    .map(|(key, value)| {
                        (
                            format!("{section}.{key}", section = section.get_ref(), key = key.get_ref()),
                            value,
                            key.span(),
                        )
                    })
                    .map(|(key, value, span)| (key, Given::Toml(plain(value.get_ref())), span)),
            ),
            _ => outside(section.span(), section.get_ref()),
        }
    }
    leaves.sort_by_key(|(_, _, span)| span.start);
    leaves
}

/// The value without its spans. A number that does not fit becomes its text, and so an error of type where it is read.
fn plain(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| toml::Value::String(number.to_string()), toml::Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| toml::Value::String(number.to_string()), toml::Value::Float)
        }
        DeValue::Boolean(truth) => toml::Value::Boolean(*truth),
        DeValue::Datetime(date) => toml::Value::Datetime(*date),
        DeValue::Array(values) => values.iter().map(|value| plain(value.get_ref())).collect::<Vec<_>>().into(),
        DeValue::Table(entries) => entries
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref())))
            .collect::<toml::Table>()
            .into(),
    }
}
