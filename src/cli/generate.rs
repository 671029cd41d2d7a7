//! `eddyline generate`: flags → [`Options`] of the generator, one for one.

use super::failure::usage;
use super::stdout::StdoutClosed;
use super::{Terminal, parse};
use crate::config::Duration;
use crate::generate::{self, Columns, GenerateError, ModelShape, Options, Rubbish, Summary, Target, TimeUnit};
use crate::model::directory::ModelDirectory;
use crate::model::maps::IdMap;
use crate::progress::Update;
use anyhow::{Context, Result};
use clap::{ArgGroup, Args};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Write a realistic log of behaviour, and a model that fits it
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").required(true)))]
#[command(after_help = "Equal flags give equal bytes.\n\nExample: eddyline generate log.csv --events 10M --late 0.01 \
                        --model-dir model")]
pub(super) struct GenerateArgs {
    /// The log, CSV; - is standard output. Of several partitions log.csv makes log-0.csv, log-1.csv, …
    #[arg(value_name = "FILE", group = "target")]
    file: Option<PathBuf>,
    /// Instead of a log, write the Tianchi tables user.csv, item.csv and user_behavior.csv into this directory
    #[arg(long, value_name = "DIR", group = "target")]
    tianchi: Option<PathBuf>,
    #[command(flatten)]
    size: SizeArgs,
    #[command(flatten)]
    behavior: BehaviorArgs,
    #[command(flatten)]
    faults: FaultArgs,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Size")]
struct SizeArgs {
    /// Events in all, such as 500k or 10M
    #[arg(long, value_name = "COUNT", value_parser = parse::count, default_value = "1M")]
    events: u64,
    /// Users there are
    #[arg(long, value_name = "COUNT", value_parser = parse::count_small, default_value = "50k")]
    users: u32,
    /// Items there are
    #[arg(long, value_name = "COUNT", value_parser = parse::count_small, default_value = "20k")]
    items: u32,
    /// Everything random follows from it
    #[arg(long, value_name = "NUMBER", default_value_t = Options::default().seed)]
    seed: u64,
    /// Where event time starts: milliseconds since 1970, or a date
    #[arg(long, value_name = "TIME", value_parser = parse::time, default_value = "2017-11-25T00:00:00Z")]
    start: u64,
    /// How much event time the log spans
    #[arg(long, value_name = "DURATION", default_value = "48h")]
    duration: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Behaviour")]
struct BehaviorArgs {
    /// Zipf's exponent of the users' activity, 0 to 3
    #[arg(long, value_name = "NUMBER", default_value_t = Options::default().user_exponent)]
    user_exponent: f64,
    /// Zipf's exponent of the items' popularity, 0 to 3
    #[arg(long, value_name = "NUMBER", default_value_t = Options::default().item_exponent)]
    item_exponent: f64,
    /// After this long the popularity of half of the items has changed; or off
    #[arg(long, value_name = "DURATION", value_parser = parse::duration_or_off, default_value = "24h")]
    drift_half_life: OrOff,
    /// Mean number of events of a session
    #[arg(long, value_name = "NUMBER", default_value_t = Options::default().session_events)]
    session_events: f64,
    /// Mean time between events of a session
    #[arg(long, value_name = "DURATION", default_value = "40s")]
    gap: Duration,
    /// How much of the daily rhythm shows, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = Options::default().rhythm)]
    rhythm: f64,
    /// Chance that an item follows from the one before it
    #[arg(long, value_name = "SHARE", default_value_t = Options::default().successor)]
    successor: f64,
    /// Chance that a user goes back to an item of the session
    #[arg(long, value_name = "SHARE", default_value_t = Options::default().revisit)]
    revisit: f64,
    /// Chance of one of the user's own favourites, where nothing else decides
    #[arg(long, value_name = "SHARE", default_value_t = Options::default().loyalty)]
    loyalty: f64,
    /// Chance that what is viewed goes into the cart
    #[arg(long, value_name = "SHARE", default_value_t = Options::default().cart)]
    cart: f64,
    /// Chance that what is viewed becomes a favourite
    #[arg(long, value_name = "SHARE", default_value_t = Options::default().favourite)]
    favourite: f64,
    /// Chance that what is in the cart is bought
    #[arg(long, value_name = "SHARE", default_value_t = Options::default().cart_to_buy)]
    cart_to_buy: f64,
    /// Chance that a favourite is bought
    #[arg(long, value_name = "SHARE", default_value_t = Options::default().favourite_to_buy)]
    favourite_to_buy: f64,
}

/// `None` is off; clap would take an `Option` for a flag that may be absent.
type OrOff = std::option::Option<Duration>;

#[derive(Debug, Args)]
#[command(next_help_heading = "Faults")]
struct FaultArgs {
    /// How far an event may stand behind a later one without being late on purpose
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    disorder: Duration,
    /// Share of events that are held back
    #[arg(long, value_name = "SHARE", default_value_t = Options::default().late)]
    late: f64,
    /// By how much they are held back, up to twice this
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    late_by: Duration,
    /// Share of rows that are rubbish
    #[arg(long, value_name = "SHARE", default_value_t = Options::default().rubbish)]
    rubbish: f64,
    /// Which kinds, with commas between: columns, user, item, behavior, time, encoding, blank, too_long [default: all but too_long]
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    rubbish_kinds: Vec<Rubbish>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Form")]
struct FormArgs {
    /// Files, with the users dealt among them
    #[arg(long, value_name = "COUNT", default_value_t = Options::default().partitions)]
    partitions: u32,
    /// Start each file with a row of column names
    #[arg(long)]
    header: bool,
    /// Unit of the times
    #[arg(long, value_name = "UNIT", value_parser = ["s", "ms"], default_value = "s")]
    time_unit: String,
    /// One ASCII character; \t is a tab
    #[arg(long, value_name = "CHARACTER", value_parser = parse::delimiter, default_value = ",")]
    delimiter: u8,
    /// Which columns there are
    #[arg(long, value_name = "PRESET", value_parser = ["events", "flinkrl", "tianchi"], default_value = "events")]
    columns: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
struct ModelArgs {
    /// Also write a model directory (DDPG) that fits the log
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// Its embedding size, an even number from 8 to 256
    #[arg(long, value_name = "NUMBER", requires = "model_dir", default_value_t = ModelShape::default().dim)]
    model_dim: usize,
    /// The items of a sequence that it sees, 1 to 100
    #[arg(long, value_name = "NUMBER", requires = "model_dir", default_value_t = ModelShape::default().history)]
    model_history: usize,
}

pub(super) fn run(args: &GenerateArgs, terminal: &Terminal) -> Result<()> {
    let options = options(args);
    options.validate().map_err(refused)?;
    // Before the log, which may take long.
    if let Some(dir) = &args.model.model_dir {
        write_model(&options, &args.model, dir)?;
    }
    let mut stdout = io::stdout().lock();
    let target = match (&args.tianchi, &args.file) {
        (Some(dir), _) => Target::Tianchi(dir.clone()),
        (None, Some(file)) if file.as_os_str() != "-" => Target::File(file.clone()),
        _ => Target::Stream(&mut stdout),
    };
    let is_stream = matches!(target, Target::Stream(_));
    let mut show = |events| {
        terminal.progress.update(&Update { done: events, total: Some(options.events), events, ..Update::default() });
    };
    let outcome = generate::run(&options, target, &mut show);
    terminal.progress.finish();
    match outcome {
        Ok(summary) => tell(&summary),
        Err(GenerateError::Output { source, .. }) if is_stream && source.kind() == ErrorKind::BrokenPipe => {
            return Err(StdoutClosed.into());
        }
        Err(error) => return Err(refused(error)),
    }
    Ok(())
}

fn options(args: &GenerateArgs) -> Options {
    let GenerateArgs { size, behavior, faults, form, .. } = args;
    let kinds = &faults.rubbish_kinds;
    Options {
        events: size.events,
        users: size.users,
        items: size.items,
        seed: size.seed,
        start_ms: size.start,
        duration_ms: size.duration.ms(),
        user_exponent: behavior.user_exponent,
        item_exponent: behavior.item_exponent,
        drift_half_life_ms: behavior.drift_half_life.map(Duration::ms),
        session_events: behavior.session_events,
        gap_ms: behavior.gap.ms(),
        rhythm: behavior.rhythm,
        successor: behavior.successor,
        revisit: behavior.revisit,
        loyalty: behavior.loyalty,
        cart: behavior.cart,
        favourite: behavior.favourite,
        cart_to_buy: behavior.cart_to_buy,
        favourite_to_buy: behavior.favourite_to_buy,
        disorder_ms: faults.disorder.ms(),
        late: faults.late,
        late_ms: faults.late_by.ms(),
        rubbish: faults.rubbish,
        rubbish_kinds: if kinds.is_empty() { Options::default().rubbish_kinds } else { kinds.clone() },
        partitions: form.partitions,
        header: form.header,
        time_unit: if form.time_unit == "ms" { TimeUnit::Milliseconds } else { TimeUnit::Seconds },
        delimiter: form.delimiter,
        columns: match form.columns.as_str() {
            "tianchi" => Columns::Tianchi,
            "flinkrl" => Columns::FlinkRl,
            _ => Columns::Events,
        },
    }
}

fn write_model(options: &Options, args: &ModelArgs, dir: &Path) -> Result<()> {
    let shape = ModelShape { dim: args.model_dim, history: args.model_history };
    let model = generate::model(options, &shape).map_err(refused)?;
    let ids = |ids| IdMap::from_ids(ids).context("the generated ids do not make a map");
    ModelDirectory::save(dir, model.weights, ids(model.users)?, ids(model.items)?)?;
    tracing::info!(directory = %dir.display(), "wrote the model");
    Ok(())
}

fn tell(summary: &Summary) {
    let rubbish: u64 = summary.rubbish.iter().sum();
    let files: Vec<String> = summary.files.iter().map(|file| file.display().to_string()).collect();
    tracing::info!(
        events = summary.events,
        late = summary.late,
        rubbish,
        sessions = summary.sessions,
        bytes = summary.bytes,
        files = files.join(" "),
        "wrote the log"
    );
}

/// A value out of range is a usage error, and named like its flag.
fn refused(error: GenerateError) -> anyhow::Error {
    match error {
        GenerateError::Option { option, expected, given } => {
            let (name, unit) = match option.strip_suffix("_ms") {
                Some("late") => ("late_by", " ms"),
                Some(name) => (name, " ms"),
                None if option == "model dimension" => ("model_dim", ""),
                None => (option, ""),
            };
            let flag = name.replace(" + ", " + --").replace("model ", "model_").replace('_', "-");
            usage!("--{flag} must be {expected}{unit}, not {given}")
        }
        GenerateError::Contradiction(message) => usage!("{message}"),
        error @ GenerateError::Output { .. } => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    #[test]
    fn without_flags_the_options_are_the_generators_own() {
        let command = GenerateArgs::augment_args(clap::Command::new("generate"));
        let matches = command.try_get_matches_from(["generate", "log.csv"]).expect("it is right");
        let args = GenerateArgs::from_arg_matches(&matches).expect("clap checked it");
        assert_eq!(options(&args), Options::default());
    }
}
