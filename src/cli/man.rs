//! `eddyline man`

use super::stdout;
use anyhow::Context;
use clap::Args;
use clap_mangen::Man;
use std::path::{Path, PathBuf};

/// Print the manual page, or write a page for every command: eddyline man --out /usr/local/share/man/man1
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write eddyline.1, eddyline-replay.1, … into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs) -> anyhow::Result<()> {
    let mut command = super::command();
    command.build();
    let Some(dir) = &args.out else {
        return stdout::write(&page(command)?);
    };
    std::fs::create_dir_all(dir).with_context(|| format!("can't make the directory {}", dir.display()))?;
    for subcommand in command.get_subcommands() {
        let name = format!("eddyline-{}", subcommand.get_name());
        write(dir, &name, subcommand.clone().display_name(name.clone()))?;
    }
    write(dir, "eddyline", command)
}

fn write(dir: &Path, name: &str, command: clap::Command) -> anyhow::Result<()> {
    let path = dir.join(format!("{name}.1"));
    std::fs::write(&path, page(command)?).with_context(|| format!("can't write {}", path.display()))
}

fn page(command: clap::Command) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page).context("can't render a manual page")?;
    Ok(page)
}
