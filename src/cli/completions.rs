//! `eddyline completions`

use super::stdout;
use clap::{Args, ValueEnum};
use clap_complete::Shell;

/// Print the shell's completions: eddyline completions bash > /etc/bash_completion.d/eddyline
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL", value_parser = shell_names())]
    shell: String,
}

fn shell_names() -> clap::builder::PossibleValuesParser {
    Shell::value_variants().iter().filter_map(ValueEnum::to_possible_value).into()
}

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let shell =
        <Shell as ValueEnum>::from_str(&args.shell, false).map_err(|error| super::failure::usage!("{error}"))?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "eddyline", &mut script);
    stdout::write(&script)
}
