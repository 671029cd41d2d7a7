//! A value as it was given, before anyone knows what type it ought to have.

use std::fmt;
use toml::Value;

/// A value from a TOML file, or bare text from the environment or the command line, whose type the key decides.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    Toml(Value),
    Text(String),
}

impl Given {
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Given::Toml(value) => value.as_integer(),
            Given::Text(text) => text.trim().parse().ok().or_else(|| toml_value(text)?.as_integer()),
        }
    }

    /// A finite number, also a whole one.
    pub(super) fn number(&self) -> Option<f64> {
        let number = match self {
            Given::Toml(value) => value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))?,
            Given::Text(text) => text.trim().parse().ok()?,
        };
        number.is_finite().then_some(number)
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self {
            Given::Toml(value) => value.as_bool(),
            Given::Text(text) => text.trim().parse().ok(),
        }
    }

    /// Text may stand in quotes, and then has TOML's escapes; a tab is hard to give otherwise.
    pub(super) fn string(&self) -> Option<String> {
        match self {
            Given::Toml(value) => value.as_str().map(str::to_owned),
            Given::Text(text) if text.starts_with(['"', '\'']) => toml_value(text)?.as_str().map(str::to_owned),
            Given::Text(text) => Some(text.clone()),
        }
    }

    /// Text is a TOML array, or what stands between its commas.
    pub(super) fn list(&self) -> Option<Vec<Given>> {
        let of_values = |value: &Value| Some(value.as_array()?.iter().cloned().map(Given::Toml).collect());
        match self {
            Given::Toml(value) => of_values(value),
            Given::Text(text) if text.trim_start().starts_with('[') => of_values(&toml_value(text)?),
            Given::Text(text) if text.trim().is_empty() => Some(Vec::new()),
            Given::Text(text) => Some(text.split(',').map(|part| Given::Text(part.trim().to_owned())).collect()),
        }
    }

    pub(super) fn table(&self) -> Option<toml::Table> {
        match self {
            Given::Toml(value) => value.as_table().cloned(),
            Given::Text(text) if text.trim_start().starts_with('{') => toml_value(text)?.as_table().cloned(),
            Given::Text(_) => None,
        }
    }
}

/// As it would stand in a TOML file.
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Given::Toml(value) => write!(f, "{value}"),
            Given::Text(text) => write!(f, "{}", Value::String(text.clone())),
        }
    }
}

fn toml_value(text: &str) -> Option<Value> {
    text.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(text: &str) -> Given {
        Given::Text(text.to_owned())
    }

    #[test]
    fn the_key_decides_what_text_means() {
        assert_eq!(text("5").integer(), Some(5));
        assert_eq!(text("5").string().unwrap(), "5");
        assert_eq!(text("1e-3").number(), Some(1e-3));
        assert_eq!(text("nan").number(), None);
        assert_eq!(text("true").boolean(), Some(true));
        assert_eq!(text("\"\\t\"").string().unwrap(), "\t");
        assert_eq!(text(" 1, 2").list().unwrap(), [text("1"), text("2")]);
        assert_eq!(text("[1, 2]").list().unwrap().len(), 2);
        assert_eq!(text("").list().unwrap(), []);
        assert_eq!(text("{ a = 1 }").table().unwrap().len(), 1);
    }

    #[test]
    fn a_file_says_its_types() {
        let quoted = Given::Toml(Value::String("5".into()));
        assert_eq!(quoted.integer(), None);
        assert_eq!(quoted.number(), None);
        assert_eq!(Given::Toml(Value::Integer(1)).number(), Some(1.0));
        assert_eq!(quoted.string().unwrap(), "5");
        assert_eq!(quoted.list(), None);
        assert_eq!(quoted.to_string(), "\"5\"");
    }
}
