//! The summary as text for a terminal, 80 columns wide: one block for each set of events, one for the differences, one for
//! the lists.

use super::format::{UNDEFINED, counted, fixed, grouped, optional, signed};
use super::summary::{Estimate, Summary};
use super::{Scores, Sets};
use comfy_table::{Attribute, Cell, CellAlignment, Color, LineStyle, Table, TableStyle};
use std::fmt::Write as _;

/// How a table is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No escape sequence: for files, pipes, and where NO_COLOR is set.
    Plain,
    /// With bold headings, and differences whose interval excludes zero in green or red.
    Terminal,
}

/// The metrics, with an interval under each number.
pub fn table(summary: &Summary, style: Style) -> String {
    let mut text = headline(summary);
    if summary.events == 0 {
        return text;
    }
    let blocks = [
        scores_block("all events", summary, style, |sets| sets.all_events),
        scores_block("with a list", summary, style, |sets| sets.with_list),
        differences_block(summary, style),
        lists_block(summary, style),
    ];
    for block in blocks {
        let _ = write!(text, "\n{}\n", block.trim_fmt());
    }
    text.push_str("\n* The interval of this difference, over all events, excludes zero.\n");
    text
}

fn headline(summary: &Summary) -> String {
    let events = counted(summary.events, "event", "events");
    if summary.events == 0 {
        return format!("Evaluation: {events}, so there is nothing to measure.\n");
    }
    format!(
        "Evaluation of {events} of {}, lists of {}.\n{:.0} % intervals from {} resamples of users, seed {}.\n",
        counted(summary.users, "user", "users"),
        summary.n,
        summary.intervals.confidence * 100.0,
        grouped(summary.intervals.resamples as u64),
        summary.intervals.seed,
    )
}

type Selected = fn(Sets<Scores<Option<Estimate>>>) -> Scores<Option<Estimate>>;

fn scores_block(title: &str, summary: &Summary, style: Style, select: Selected) -> Table {
    let mut table = metrics_table(title, summary.n, style);
    for method in &summary.methods {
        let cells = select(method.scores).into_array().map(|estimate| cell(&estimate_text(estimate, fixed)));
        table.add_row(row(method.method, cells));
    }
    table
}

fn differences_block(summary: &Summary, style: Style) -> Table {
    let mut table = metrics_table("recommended less", summary.n, style);
    for difference in &summary.differences {
        let cells = difference.scores.all_events.into_array().map(|estimate| {
            let clear = estimate.filter(Estimate::excludes_zero);
            let text = estimate_text(estimate, signed);
            let text = if clear.is_some() { text.replacen('\n', " *\n", 1) } else { text };
            match clear {
                Some(estimate) if style == Style::Terminal => {
                    cell(&text).fg(if estimate.value > 0.0 { Color::Green } else { Color::Red })
                }
                _ => cell(&text),
            }
        });
        table.add_row(row(difference.baseline, cells));
    }
    table
}

fn lists_block(summary: &Summary, style: Style) -> Table {
    let mut table =
        empty_table("lists", ["events with one", "put out", "coverage", "novelty"].map(String::from), style);
    for method in &summary.methods {
        let share = method.events_with_list as f64 / summary.events as f64;
        let cells = [
            format!("{} %", fixed(share * 100.0, 1)),
            grouped(method.lists),
            optional(method.coverage, |share| format!("{} %", fixed(share * 100.0, 2))),
            optional(method.novelty_bits, |bits| format!("{} bits", fixed(bits, 2))),
        ];
        table.add_row(row(method.method, cells.map(|text| cell(&text))));
    }
    table
}

fn metrics_table(title: &str, n: usize, style: Style) -> Table {
    empty_table(title, ["hit rate".into(), format!("NDCG@{n}"), format!("MRR@{n}"), "reward".into()], style)
}

pub(super) fn empty_table(title: &str, headings: [String; 4], style: Style) -> Table {
    let mut table = Table::new();
    let rule = if style == Style::Plain { '-' } else { '─' };
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill(rule).junction(rule)));
    // Whether to style is the caller's decision alone: standard output may not be where the text goes.
    table.force_no_tty();
    let mut header = row(title, headings.map(|text| cell(&text)));
    if style == Style::Terminal {
        table.enforce_styling();
        header = header.into_iter().map(|cell| cell.add_attribute(Attribute::Bold)).collect();
    }
    table.set_header(header);
    table.set_constraints(
        [16, 14, 14, 14, 14]
            .map(|width| comfy_table::ColumnConstraint::LowerBoundary(comfy_table::Width::Fixed(width))),
    );
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 0));
    });
    table
}

pub(super) fn row(label: &str, cells: [Cell; 4]) -> Vec<Cell> {
    std::iter::once(Cell::new(label)).chain(cells).collect()
}

pub(super) fn cell(text: &str) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The number, and under it the interval.
fn estimate_text(estimate: Option<Estimate>, format: fn(f64, usize) -> String) -> String {
    const DECIMALS: usize = 4;
    estimate.map_or_else(
        || UNDEFINED.to_owned(),
        |Estimate { value, low, high }| {
            format!("{}\n{}…{}", format(value, DECIMALS), fixed(low, DECIMALS), fixed(high, DECIMALS))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{sample, summarise};
    use dataflows::evaluation::Evaluation;

    #[test]
    fn plain_text_has_no_escape_sequence_and_fits_80_columns() {
        let text = table(&summarise(&sample::evaluation(300), 1), Style::Plain);
        assert!(!text.contains('\u{1b}'));
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        for word in ["all events", "repeat-recent", "NDCG@8", "coverage", "*"] {
            assert!(text.contains(word), "{word} is missing in\n{text}");
        }
    }

    #[test]
    fn a_terminal_gets_the_same_text_with_colours() {
        let summary = summarise(&sample::evaluation(300), 1);
        let styled = table(&summary, Style::Terminal);
        assert!(styled.contains('\u{1b}'));
        assert!(styled.contains("recommended"));
    }

    #[test]
    fn an_empty_log_says_so() {
        assert_eq!(
            table(&summarise(&Evaluation::default(), 1), Style::Plain),
            "Evaluation: 0 events, so there is nothing to measure.\n"
        );
    }

    #[test]
    fn undefined_numbers_are_dashes() {
        let text = table(&summarise(&sample::without_lists(), 1), Style::Plain);
        assert!(!text.contains("NaN"));
        assert!(text.contains(UNDEFINED), "{text}");
    }
}
