//! The command line (contract, section 6): what was typed → a plan → the room that does it → an exit code.
//!
//! Each command is one file here, which knows its flags and turns them into what its room takes. Data goes to standard
//! output, everything else to standard error; [`failure`] alone turns errors into lines and exit codes.

mod check;
mod cluster;
mod completions;
mod configuration;
mod evaluate;
mod failure;
mod generate;
mod man;
mod outcome;
mod output_file;
mod parse;
mod prepare;
mod produce;
mod replay;
mod run;
mod signals;
mod stdout;
mod train;

use crate::evaluate::Style;
use crate::progress::Progress;
use crate::telemetry::{self, LogFormat};
use crate::train::{Plan, Summary};
use clap::{ArgAction, Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

/// A real-time recommender: a stream of behaviour goes in; recommendations, trending items and a clean log come out.
#[derive(Debug, Parser)]
#[command(name = "eddyline", version, arg_required_else_help = true, subcommand_required = true)]
#[command(max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 usage, 78 configuration. Documentation: docs/cli.md.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: GlobalArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Replay(Box<replay::ReplayArgs>),
    Run(Box<run::RunArgs>),
    Generate(Box<generate::GenerateArgs>),
    Prepare(Box<prepare::PrepareArgs>),
    Evaluate(Box<evaluate::EvaluateArgs>),
    Produce(Box<produce::ProduceArgs>),
    Train(Box<train::TrainArgs>),
    Check(check::CheckArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct GlobalArgs {
    /// More about what happens; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Nothing but errors: no progress bar, no warnings
    #[arg(short, long, global = true)]
    quiet: bool,
    /// How messages are written to standard error
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Colours; auto is for terminals, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
}

/// What a command may show besides its data.
struct Terminal {
    progress: Progress,
    color: ColorChoice,
}

impl Terminal {
    /// How tables on standard output are drawn.
    fn style(&self) -> Style {
        if is_colored(self.color, std::io::stdout().is_terminal()) { Style::Terminal } else { Style::Plain }
    }
}

/// What trains, in the program that is linked with libtorch.
#[derive(Clone, Copy, Debug)]
pub struct Trainer(pub fn(&Plan, &Progress, &AtomicBool) -> anyhow::Result<Summary>);

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    start(None)
}

/// Runs the command that the process was started with; `train` by `trainer` and not in another program.
pub fn main_with(trainer: Trainer) -> ExitCode {
    start(Some(trainer))
}

fn start(trainer: Option<Trainer>) -> ExitCode {
    failure::install_panic_hook();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    failure::guard(|| run(&arguments, trainer))
}

fn run(arguments: &[OsString], trainer: Option<Trainer>) -> anyhow::Result<()> {
    let color = typed_color(arguments);
    failure::set_color(is_colored(color, std::io::stderr().is_terminal()));
    let matches = match command().color(color).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return failure::usage_or_help(&error),
    };
    let Cli { command, global } = Cli::from_arg_matches(&matches)?;
    let terminal = terminal(&global)?;
    match command {
        Command::Replay(args) => replay::run(*args, terminal),
        Command::Run(args) => run::run(*args),
        Command::Produce(args) => produce::run(*args, &terminal),
        Command::Train(args) => train::run(&args, &terminal, trainer),
        Command::Generate(args) => generate::run(&args, &terminal),
        Command::Prepare(args) => prepare::run(*args),
        Command::Evaluate(args) => evaluate::run(*args, &terminal),
        Command::Check(args) => check::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

fn command() -> clap::Command {
    // A negative number is a flag's value, and out of its range: clap would take it for a flag that does not exist.
    let takes_number = |argument: &clap::Arg| argument.get_action().takes_values() && !argument.is_positional();
    let told = |argument: clap::Arg| {
        let number = takes_number(&argument);
        argument.allow_negative_numbers(number)
    };
    Cli::command().mut_subcommands(|command| command.mut_args(told))
}

fn terminal(global: &GlobalArgs) -> anyhow::Result<Terminal> {
    failure::set_format(global.log_format);
    let color = is_colored(global.color, std::io::stderr().is_terminal());
    let shown = !global.quiet && global.log_format == LogFormat::Text;
    let progress = if shown { Progress::on_terminal(color) } else { Progress::hidden() };
    let verbosity = if global.quiet { -1 } else { i8::try_from(global.verbose).unwrap_or(i8::MAX) };
    let filter = configuration::log_filter(telemetry::default_filter(verbosity))?;
    telemetry::init(global.log_format, filter, color, &progress);
    Ok(Terminal { progress, color: global.color })
}

/// `--color`, before anything is parsed: errors of parsing have a colour, too.
fn typed_color(arguments: &[OsString]) -> ColorChoice {
    let mut arguments = arguments.iter().filter_map(|argument| argument.to_str());
    let mut choice = None;
    while let Some(argument) = arguments.next() {
        match argument.split_once('=') {
            _ if argument == "--" => break,
            Some(("--color", value)) => choice = Some(value),
            None if argument == "--color" => choice = arguments.next(),
            _ => {}
        }
    }
    choice.and_then(|choice| choice.parse().ok()).unwrap_or(ColorChoice::Auto)
}

fn is_colored(choice: ColorChoice, is_terminal: bool) -> bool {
    let refused = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => is_terminal && !refused(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn color_is_known_before_parsing() {
        let typed = |arguments: &[&str]| typed_color(&arguments.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(typed(&["eddyline"]), ColorChoice::Auto);
        assert_eq!(typed(&["eddyline", "--color", "never"]), ColorChoice::Never);
        assert_eq!(typed(&["eddyline", "replay", "--color=always"]), ColorChoice::Always);
        assert_eq!(typed(&["eddyline", "replay", "--", "--color=always"]), ColorChoice::Auto);
        assert_eq!(typed(&["eddyline", "--color"]), ColorChoice::Auto);
        assert!(is_colored(ColorChoice::Always, false));
        assert!(!is_colored(ColorChoice::Never, true));
    }
}
