//! `eddyline evaluate`: flags → models and [`Settings`] of the hold-out evaluation, and what it prints.

use super::configuration::ConfigArgs;
use super::failure::usage;
use super::{Terminal, outcome, output_file, parse, stdout};
use crate::config::{Config, Duration, Exclude};
use crate::evaluate::holdout::{self, Candidate, Curve, Evaluation, Settings, Summary};
use crate::evaluate::{DEFAULT_SEED, report};
use crate::learn::skew::{self, Skew};
use crate::learn::{Interactions, LogFormat};
use crate::model::algorithm::Algorithm;
use crate::model::rank::Model;
use crate::plan::time_unit;
use crate::sources::diagnose::unit_warning;
use anyhow::{Result, bail};
use clap::Args;
use dataflows::event::Time;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Measure models against what users did after the events that they learned from, beside baselines
#[derive(Debug, Args)]
#[command(after_help = "Example: eddyline evaluate prepared/tianchi.csv --model-dir model --report report.html")]
pub(super) struct EvaluateArgs {
    /// The log: CSV, plain, gzip or zstd, such as tianchi.csv of prepare
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Policies to measure, with commas between: reinforce, ddpg, bcq [default: all that the model directory has]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    algorithm: Vec<Algorithm>,
    /// A further model directory to measure beside, such as the one that generate writes with a log
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// Length of the lists
    #[arg(long, value_name = "NUMBER", default_value = "10", value_parser = parse::count_small)]
    k: u32,
    /// Window of the baseline of recently popular items, before each user's first test event
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    recent_window: Duration,
    /// Most similar items that the item-kNN baseline keeps of each item
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = parse::count_small)]
    neighbours: u32,
    /// Of the random baseline and of the resamples
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_SEED)]
    seed: u64,
    /// Don't replay the log to compare the pipeline's sequences with those of training
    #[arg(long)]
    no_skew_check: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Write the evaluation as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write every list, of models and baselines, as JSON: one object a line, with method, user, history and items
    #[arg(long, value_name = "FILE")]
    lists: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Everything that is shown.
struct Evaluated {
    log: Arc<Interactions>,
    candidates: Vec<Candidate>,
    summary: Summary,
    skew: Option<Skew>,
}

pub(super) fn run(args: EvaluateArgs, terminal: &Terminal) -> Result<()> {
    let loaded = args.config.load()?;
    let config = &loaded.config;
    let settings = settings(&args, config)?;
    let candidates = candidates(&args, config)?;
    let history = candidates.first().map(|candidate| candidate.model.history());
    let settings = Settings { history: config.sequence_length(history)?, ..settings };
    let curves = match &config.model.dir {
        Some(dir) => holdout::read_histories(dir)?,
        None => Vec::new(),
    };
    let log = Arc::new(Interactions::read(&args.data, &LogFormat::of(config)?)?);
    warn_of_log(&log, config);
    candidates.iter().for_each(|candidate| warn_of_model(&log, candidate));
    let Evaluation { summary, lists } = holdout::evaluate(&log, &candidates, &settings);
    if let Some(path) = &args.lists {
        output_file::write_whole_by("lists", path, |out| {
            lists.iter().flat_map(|lists| lists.iter(&log)).try_for_each(|list| {
                serde_json::to_writer(&mut *out, &list)?;
                out.write_all(b"\n")
            })
        })?;
    }
    drop(lists);
    let skew = match args.no_skew_check {
        true => None,
        false => Some(skew::check(&args.data, config, &log, settings.history)?),
    };
    let evaluated = Evaluated { log, candidates, summary, skew };
    evaluated.warn();
    if let Some(path) = &args.report {
        let title = format!("Evaluation on {}", args.data.display());
        let page = report::render_holdout(&title, &evaluated.facts(&args.data), &evaluated.summary, &curves);
        output_file::write_whole(path, &page)?;
    }
    if args.json {
        return stdout::write(format!("{}\n", evaluated.json(&args.data, &curves)).as_bytes());
    }
    let mut text = evaluated.text(&args.data);
    text.push_str(&holdout::table(&evaluated.summary, terminal.style()));
    if let Some(path) = &args.report {
        text.push_str(&format!("\nReport: {}\n", path.display()));
    }
    if let Some(path) = &args.lists {
        text.push_str(&format!("\nLists: {}\n", path.display()));
    }
    stdout::write(text.as_bytes())
}

fn settings(args: &EvaluateArgs, config: &Config) -> Result<Settings> {
    if args.k == 0 {
        return Err(usage!("--k must be at least 1"));
    }
    if args.neighbours == 0 {
        return Err(usage!("--neighbours must be at least 1"));
    }
    if args.lists.is_some() && args.lists == args.report {
        return Err(usage!("--lists and --report name one file; each needs one of its own"));
    }
    Ok(Settings {
        k: args.k as usize,
        exclude_history: config.recommend.exclude == Exclude::Recent,
        rewards: config.behaviors.rewards.clone(),
        recent_window_ms: i64::try_from(args.recent_window.ms()).unwrap_or(i64::MAX),
        neighbours: args.neighbours as usize,
        seed: args.seed,
        keeps_lists: args.lists.is_some(),
        ..Settings::default()
    })
}

/// The policies to measure: those that were named, or all that the model directory has; and those of the reference.
fn candidates(args: &EvaluateArgs, config: &Config) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    let mut load = |dir: &Path, algorithm: Algorithm, prefix: &str| -> Result<()> {
        let model = Arc::new(Model::load(dir, algorithm, config.model.seed)?);
        candidates.push(Candidate { name: format!("{prefix}{}", algorithm.name()), model });
        Ok(())
    };
    match &config.model.dir {
        Some(dir) if args.algorithm.is_empty() => {
            for algorithm in there(dir)? {
                load(dir, algorithm, "")?;
            }
        }
        Some(dir) => {
            for (at, &algorithm) in args.algorithm.iter().enumerate() {
                if !args.algorithm[..at].contains(&algorithm) {
                    load(dir, algorithm, "")?;
                }
            }
        }
        None if args.algorithm.is_empty() => {}
        None => return Err(usage!("--algorithm is about a model: add --model-dir DIR")),
    }
    if let Some(dir) = &args.reference {
        for algorithm in there(dir)? {
            load(dir, algorithm, "reference ")?;
        }
    }
    Ok(candidates)
}

/// The policies that a model directory has.
fn there(dir: &Path) -> Result<Vec<Algorithm>> {
    let found: Vec<Algorithm> =
        Algorithm::ALL.into_iter().filter(|algorithm| dir.join(algorithm.file_name()).exists()).collect();
    if found.is_empty() {
        let names = Algorithm::ALL.map(Algorithm::file_name).join(", ");
        bail!("{}: none of {names} is there; name a directory that training or generate has written", dir.display());
    }
    Ok(found)
}

fn warn_of_log(log: &Interactions, config: &Config) {
    if let Some(first) = &log.counts.first_rejected {
        tracing::warn!("{first}; {} rows like this were left out", log.counts.rejected_rows());
    }
    let warning = log.counts.times.and_then(|(least, largest)| unit_warning(least, largest, time_unit(config)));
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
}

/// A model of another log knows few of its users and items, and would look bad for no other reason.
fn warn_of_model(log: &Interactions, Candidate { name, model }: &Candidate) {
    let known = holdout::Known::of(log, model);
    let items = log.catalogue;
    if known.items < items || known.cases < known.cases_all {
        tracing::warn!(
            "{name} knows {} of {items} items and {} of {} users with a test part: was it trained on this log?",
            known.items,
            known.cases,
            known.cases_all
        );
    }
}

impl Evaluated {
    fn warn(&self) {
        let Some(skew) = self.skew.as_ref().filter(|skew| skew.different > 0) else { return };
        let first = skew.first_different.as_deref().unwrap_or_default();
        tracing::warn!(
            "{} of {} sequences of the pipeline are not what training sees; {} events were late; the first is of {first}",
            skew.different,
            skew.sequences,
            skew.late
        );
    }

    /// Names and values, for people.
    fn facts(&self, data: &Path) -> Vec<(String, String)> {
        let Interactions { counts, catalogue, users, items, fingerprint, .. } = &*self.log;
        let span = |(least, largest): (Time, Time)| format!("{} to {}", outcome::date(least), outcome::date(largest));
        let row = |name: &str, value: String| (name.to_owned(), value);
        let mut facts = vec![
            row("log", data.display().to_string()),
            row("events", format!("{} of {} lines", counts.events, counts.lines)),
            row("rejected", counts.rejected_text()),
            row("event times", counts.times.map_or("none".to_owned(), span)),
            row("users", users.len().to_string()),
            row("items", format!("{}, {catalogue} of them in training parts", items.len())),
            row("fingerprint", fingerprint.clone()),
        ];
        for Candidate { name, model } in &self.candidates {
            facts.push(row(
                name,
                format!("{} users, {} items, {}", model.users().len(), model.items().len(), model.content_hash()),
            ));
        }
        if let Some(skew) = &self.skew {
            let Skew { sequences, different, samples_compared, samples, late, .. } = skew;
            let verdict = if *different == 0 { "all as in training".to_owned() } else { format!("{different} differ") };
            facts.push(row(
                "skew check",
                format!("{sequences} sequences of the pipeline, {verdict}; {samples_compared} of {samples} training samples compared, {late} late events"),
            ));
        }
        facts
    }

    fn text(&self, data: &Path) -> String {
        let facts = self.facts(data);
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines = facts.iter().map(|(name, value)| format!("{name:width$}  {value}\n"));
        lines.chain(["\n".to_owned()]).collect()
    }

    fn json(&self, data: &Path, curves: &[Curve]) -> serde_json::Value {
        let Interactions { counts, catalogue, users, items, fingerprint, .. } = &*self.log;
        let models = self.candidates.iter().map(|Candidate { name, model }| {
            let (users, items) = (model.users().len(), model.items().len());
            json!({ "name": name, "users": users, "items": items, "history": model.history(), "hash": model.content_hash() })
        });
        json!({
            "log": {
                "path": data, "read": counts, "users": users.len(), "items": items.len(), "catalogue": catalogue,
                "fingerprint": fingerprint,
            },
            "models": models.collect::<Vec<_>>(),
            "evaluation": self.summary,
            "skew": self.skew,
            "curves": curves.iter().map(|curve| json!({ "training": curve.training, "name": curve.name, "points": curve.points })).collect::<Vec<_>>(),
        })
    }
}
