//! Values that are right on their own and do not fit each other.

use super::columns::Header;
use super::duration::Duration;
use super::error::ConfigError;
use super::sections::Config;
use super::settings::{Origin, Settings};

/// Length of a sequence where neither the configuration nor a model says one (contract, section 3).
pub(super) const LENGTH_DEFAULT: usize = 10;

/// Every contradiction in `config`, whose values come from `settings`.
pub(super) fn contradictions(config: &Config, settings: &Settings) -> Vec<ConfigError> {
    let named = |key: &str| name(settings, key);
    let checks = [
        not_a_multiple(config.popular.slide, config.time.tick, &named("popular.slide"), &named("time.tick")),
        not_a_multiple(config.popular.window, config.popular.slide, &named("popular.window"), &named("popular.slide")),
        weights(config, &named),
        rewards(config, &named),
        min_history(config, &named),
        page_view(config, &named),
        header(config, &named),
        delimiter(config, &named),
    ];
    checks.into_iter().flatten().map(ConfigError::Inconsistent).collect()
}

/// `key = value (where)`, to start or to stand in a sentence.
fn name(settings: &Settings, key: &str) -> String {
    match settings.get(key) {
        None => key.to_owned(),
        Some(setting) if setting.origin == Origin::Default => format!("{key} = {} (the default)", setting.given),
        Some(setting) => format!("{key} = {} ({})", setting.given, setting.origin),
    }
}

fn not_a_multiple(long: Duration, unit: Duration, long_name: &str, unit_name: &str) -> Option<String> {
    if long.is_multiple_of(unit) {
        return None;
    }
    let below = long.ms() - long.ms() % unit.ms();
    let nearest = [below, below + unit.ms()].into_iter().filter(|ms| *ms > 0).filter_map(Duration::from_ms);
    let nearest: Vec<String> = nearest.map(|duration| duration.to_string()).collect();
    Some(format!("{long_name} is not a multiple of {unit_name}; the nearest: {}", nearest.join(", ")))
}

fn weights(config: &Config, named: &impl Fn(&str) -> String) -> Option<String> {
    let (weights, names) = (&config.popular.weights, &config.behaviors.names);
    if weights.len() != names.len() {
        return Some(count_mismatch(named("popular.weights"), weights.len(), names));
    }
    weights
        .iter()
        .all(|weight| *weight == 0)
        .then(|| format!("{} counts nothing; give at least one behaviour a weight over 0", named("popular.weights")))
}

fn rewards(config: &Config, named: &impl Fn(&str) -> String) -> Option<String> {
    let (rewards, names) = (&config.behaviors.rewards, &config.behaviors.names);
    (rewards.len() != names.len()).then(|| count_mismatch(named("behaviors.rewards"), rewards.len(), names))
}

fn count_mismatch(what: String, count: usize, names: &[String]) -> String {
    let (numbers, behaviours) = (plural(count, "number"), plural(names.len(), "behaviour"));
    format!("{what} has {numbers} for {behaviours} (behaviors.names: {})", names.join(", "))
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn min_history(config: &Config, named: &impl Fn(&str) -> String) -> Option<String> {
    // Without a length of its own, a model's decides, once it is read.
    let length = match (config.recent.length, &config.model.dir) {
        (Some(length), _) => length,
        (None, None) => LENGTH_DEFAULT,
        (None, Some(_)) => return None,
    };
    (config.recommend.min_history > length).then(|| {
        let (shortest, length_name) = (named("recommend.min_history"), named("recent.length"));
        let auto = if config.recent.length.is_none() { ", which is 10 without a model" } else { "" };
        format!(
            "{shortest} is more than a sequence can have, so nobody would get a recommendation: {length_name}{auto}"
        )
    })
}

fn page_view(config: &Config, named: &impl Fn(&str) -> String) -> Option<String> {
    let has_name = config.behaviors.names.iter().any(|name| name == "pv");
    (!config.source.columns.have_behavior() && !has_name).then(|| {
        format!("{} has no behavior, so each event is a \"pv\", which behaviors.names lacks", named("source.columns"))
    })
}

fn header(config: &Config, named: &impl Fn(&str) -> String) -> Option<String> {
    let columns = config.source.columns.named();
    let column = columns.first()?;
    (config.source.header == Header::Absent).then(|| {
        format!(
            "{} leaves no header in which to find the column \"{column}\" of source.columns",
            named("source.header")
        )
    })
}

fn delimiter(config: &Config, named: &impl Fn(&str) -> String) -> Option<String> {
    let within = |text: &&str| text.as_bytes().contains(&config.source.delimiter);
    let behavior = config.behaviors.names.iter().map(String::as_str).find(within);
    let column = config.source.columns.named().into_iter().find(within);
    let (what, text) = match (behavior, column) {
        (Some(behavior), _) => ("behaviour", behavior),
        (None, Some(column)) => ("column", column),
        (None, None) => return None,
    };
    Some(format!("{} stands within the {what} \"{text}\", which could then never be read", named("source.delimiter")))
}
