//! `eddyline prepare`: flags → [`Options`] of the preparation.

use super::configuration::ConfigArgs;
use super::failure::usage;
use super::{parse, stdout};
use crate::learn::LogFormat;
use crate::prepare::{self, Group, Options, Summary};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Make the log that models learn from: of the Tianchi tables, or of a plain log of events
#[derive(Debug, Args)]
#[command(after_help = "Equal input and flags give equal bytes.\n\nExample: eddyline prepare tables --out prepared")]
pub(super) struct PrepareArgs {
    /// Directory with user_behavior.csv and, each if there is one, user.csv and item.csv; or a file of events. Plain, gzip or zstd
    #[arg(value_name = "DIR|FILE")]
    input: PathBuf,
    /// Directory for the result: tianchi.csv, or events.csv where there are no features
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Events of a light user, repeats left out: 6-50, or 6- without an upper end
    #[arg(long, value_name = "RANGE", default_value = "6-50", value_parser = range)]
    light_events: Range,
    /// Light users to draw, or all
    #[arg(long, value_name = "COUNT", default_value = "60k", value_parser = count_or_all)]
    light_users: u64,
    /// Events of a heavy user
    #[arg(long, value_name = "RANGE", default_value = "51-200", value_parser = range)]
    heavy_events: Range,
    /// Heavy users to draw, or all
    #[arg(long, value_name = "COUNT", default_value = "20k", value_parser = count_or_all)]
    heavy_users: u64,
    /// Which users are drawn
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    least: u64,
    most: u64,
}

pub(super) fn run(args: PrepareArgs) -> Result<()> {
    let (light, heavy) = (args.light_events, args.heavy_events);
    if light.most >= heavy.least {
        return Err(usage!("--light-events must end before --heavy-events start: a user is in one group only"));
    }
    let loaded = args.config.load()?;
    let group = |range: Range, users_max| Group { events_min: range.least, events_max: range.most, users_max };
    let options = Options {
        input: args.input,
        out: args.out,
        format: LogFormat::of(&loaded.config)?,
        groups: [group(light, args.light_users), group(heavy, args.heavy_users)],
        seed: args.seed,
    };
    let summary = prepare::run(&options)?;
    warn(&summary);
    let text = if args.json { format!("{}\n", serde_json::to_string(&summary)?) } else { table(&summary) };
    stdout::write(text.as_bytes())
}

/// What may be a mistake.
fn warn(summary: &Summary) {
    let tables = [&summary.user_table, &summary.item_table].into_iter().flatten();
    let rejected = tables.filter_map(|table| table.first_rejected.as_ref()).chain(&summary.read.first_rejected);
    for first in rejected {
        tracing::warn!("{first}; rows like this were left out");
    }
    let unjoined = summary.rows_without_user + summary.rows_without_item;
    if unjoined > summary.rows {
        tracing::warn!(
            "{unjoined} of {} kept rows have no features; are the tables of one data set?",
            unjoined + summary.rows
        );
    }
}

fn table(summary: &Summary) -> String {
    let Summary { selection, read, .. } = summary;
    let mut rows = vec![
        ("events", format!("{} of {} lines", read.events, read.lines)),
        ("rejected", read.rejected_text()),
        ("duplicates", summary.duplicates.to_string()),
        ("users", selection.users.to_string()),
        ("light users", format!("{} of {}", selection.kept_light, selection.users_light)),
        ("heavy users", format!("{} of {}", selection.kept_heavy, selection.users_heavy)),
        (
            "too few events, too many, between",
            format!("{}, {}, {}", selection.users_below, selection.users_above, selection.users_between),
        ),
    ];
    for (name, table) in [("user table", &summary.user_table), ("item table", &summary.item_table)] {
        let text = table.as_ref().map_or("none".to_owned(), |table| {
            format!(
                "{} rows, {} rejected, {} repeated, {} kept",
                table.rows, table.rejected, table.repeated, table.kept
            )
        });
        rows.push((name, text));
    }
    rows.push((
        "rows without their user, item",
        format!("{}, {}", summary.rows_without_user, summary.rows_without_item),
    ));
    let written =
        format!("{}: {} rows, {} users, {} items", summary.file.display(), summary.rows, summary.users, summary.items);
    rows.push(("written", written));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

fn range(text: &str) -> Result<Range, String> {
    let expected = || "expected a range of at least 1 event, such as 6-50, or 6- without an upper end".to_owned();
    let (least, most) = text.split_once('-').ok_or_else(expected)?;
    let most = if most.is_empty() { Some(u64::MAX) } else { most.parse().ok() };
    match (least.parse::<u64>().ok(), most) {
        (Some(least), Some(most)) if least >= 1 && least <= most => Ok(Range { least, most }),
        _ => Err(expected()),
    }
}

fn count_or_all(text: &str) -> Result<u64, String> {
    match text {
        "all" => Ok(u64::MAX),
        text => parse::count(text).map_err(|message| format!("{message}; or all")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_something() {
        assert_eq!(range("6-50"), Ok(Range { least: 6, most: 50 }));
        assert_eq!(range("7-7"), Ok(Range { least: 7, most: 7 }));
        assert_eq!(range("51-"), Ok(Range { least: 51, most: u64::MAX }));
        for wrong in ["", "6", "-", "-5", "0-5", "9-8", "a-b", "1-2-3"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
        assert_eq!(count_or_all("all"), Ok(u64::MAX));
        assert_eq!(count_or_all("60k"), Ok(60_000));
    }
}
