//! What `replay` prints when it is done: tables for people, JSON for programs, a report for browsers.

use super::output_file::write_whole;
use super::stdout;
use crate::evaluate::{self, DEFAULT_SEED, Style, report};
use crate::replay::{Outcome, ReplayPlan, Summary, time_unit};
use crate::sources::diagnose::unit_warning;
use anyhow::Result;
use serde_json::json;
use std::path::Path;

/// Shows the outcome: to standard output, and to `page` if there is one.
pub(super) fn show(plan: &ReplayPlan, outcome: &Outcome, json: bool, page: Option<&Path>, style: Style) -> Result<()> {
    let summary = &outcome.summary;
    let evaluation = outcome.evaluation.as_ref().map(|counts| (counts, evaluate::summarise(counts, DEFAULT_SEED)));
    if let Some(warning) =
        summary.times.and_then(|(least, largest)| unit_warning(least, largest, time_unit(&plan.config)))
    {
        tracing::warn!("{warning}");
    }
    if let (Some(path), Some((counts, metrics))) = (page, &evaluation) {
        let facts = facts(plan, outcome);
        write_whole(path, &report::render(metrics, counts, &facts))?;
    }
    if json {
        let value = json!({ "replay": summary, "evaluation": evaluation.map(|(_, metrics)| metrics) });
        return stdout::write(format!("{value}\n").as_bytes());
    }
    let mut text = table(summary);
    if let Some((_, metrics)) = &evaluation {
        text.push('\n');
        text.push_str(&evaluate::table(metrics, style));
    }
    if let Some(path) = page {
        text.push_str(&format!("\nReport: {}\n", path.display()));
    }
    stdout::write(text.as_bytes())
}

fn facts(plan: &ReplayPlan, outcome: &Outcome) -> report::Facts {
    let summary = &outcome.summary;
    let mut facts: Vec<(String, String)> = rows(summary);
    if let Some(dir) = &plan.config.model.dir {
        facts.push(("model".into(), format!("{} ({})", dir.display(), plan.config.model.algorithm)));
    }
    if let Some(model) = &summary.model {
        facts.push(("model hash".into(), model.clone()));
    }
    let title = format!("Replay of {}", summary.inputs.join(", "));
    report::Facts { title, facts, throughput: outcome.throughput.clone() }
}

fn rows(summary: &Summary) -> Vec<(String, String)> {
    let digests = &summary.digests;
    let by_reason: Vec<String> = summary.rejected_by_reason.iter().map(|(r, count)| format!("{count} {r}")).collect();
    let reasons = if by_reason.is_empty() { String::new() } else { format!(" ({})", by_reason.join(", ")) };
    let span =
        summary.times.map_or("none".to_owned(), |(least, largest)| format!("{} to {}", date(least), date(largest)));
    let row = |name: &str, value: String| (name.to_owned(), value);
    vec![
        row("events", format!("{} of {} lines", summary.events, summary.lines)),
        row("late", summary.late.to_string()),
        row("rejected", format!("{}{reasons}", summary.rejected)),
        row("event times", span),
        row("popular", digests.popular.to_string()),
        row("recent", digests.recent.to_string()),
        row("recommendations", digests.recommendations.to_string()),
        row("late digest", digests.late.to_string()),
        row("rejected digest", digests.rejected.to_string()),
        row("workers", summary.workers.to_string()),
        row("elapsed", format!("{:.2} s, {:.0} events/s", summary.elapsed_s, summary.events_per_s)),
    ]
}

fn table(summary: &Summary) -> String {
    let rows = rows(summary);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

pub(super) fn date(time: u64) -> String {
    let timestamp = i64::try_from(time).ok().and_then(|time| jiff::Timestamp::from_millisecond(time).ok());
    timestamp.map_or_else(|| time.to_string(), |timestamp| timestamp.to_string())
}
