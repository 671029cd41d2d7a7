//! The summary as text for a terminal: one block for each kind of metric, one for the lists, one for the differences.

use comfy_table::{Cell, Color, Table};
use std::fmt::Write as _;

use super::super::format::{counted, fixed, grouped, optional, signed};
use super::super::summary::Estimate;
use super::super::table::{Style, cell, empty_table, row};
use super::scores::METRICS;
use super::summary::{MethodSummary, Summary};

/// The metrics of a block, and their headings.
type Block = [(usize, &'static str); 4];
const NEXT: Block = [(0, "hit rate"), (1, "NDCG"), (2, "MRR"), (7, "reward")];
const ALL: Block = [(3, "hit rate"), (4, "NDCG"), (5, "MRR"), (6, "recall")];

/// The metrics, with an interval under each number.
pub fn table(summary: &Summary, style: Style) -> String {
    let mut text = headline(summary);
    if summary.users == 0 {
        return text;
    }
    let blocks = [
        scores_block(&format!("next item, k = {}", summary.k), NEXT, summary, style),
        scores_block(&format!("all items, k = {}", summary.k), ALL, summary, style),
        lists_block(summary, style),
    ];
    for block in blocks {
        let _ = write!(text, "\n{}\n", block.trim_fmt());
    }
    for model in summary.methods.iter().filter(|method| !method.baseline) {
        let _ = write!(text, "\n{}\n", differences_block(&model.method, summary, style).trim_fmt());
    }
    if !summary.differences.is_empty() {
        text.push_str("\n* The interval of this difference excludes zero.\n");
    }
    text
}

fn headline(summary: &Summary) -> String {
    let users = counted(summary.users, "user", "users");
    if summary.users == 0 {
        return "Evaluation: no user has a test part (more than 3 events), so there is nothing to measure.\n"
            .to_owned();
    }
    let Summary { test_events, test_events_outside, .. } = *summary;
    format!(
        "Evaluation of {users} by {} that came after {}; {} of them of items outside the catalogue of {}.\n\
         {:.0} % intervals from {} resamples of users, seed {}.\n",
        counted(test_events, "test event", "test events"),
        counted(summary.train_events, "training event", "training events"),
        grouped(test_events_outside),
        grouped(summary.catalogue),
        summary.intervals.confidence * 100.0,
        grouped(summary.intervals.resamples as u64),
        summary.intervals.seed,
    )
}

fn scores_block(title: &str, metrics: Block, summary: &Summary, style: Style) -> Table {
    let mut table = block(title, metrics.map(|(_, name)| name), style);
    for method in &summary.methods {
        let estimates: [Estimate; METRICS] = method.scores.into_array();
        let cells = metrics.map(|(metric, _)| cell(&estimate_text(estimates[metric], fixed)));
        table.add_row(row(&method.method, cells));
    }
    table
}

fn lists_block(summary: &Summary, style: Style) -> Table {
    let mut table = block("lists", ["without a list", "different items", "coverage", "novelty, bits"], style);
    for MethodSummary { method, users_without_list, distinct_items, coverage, novelty_bits, .. } in &summary.methods {
        let cells = [
            grouped(*users_without_list),
            grouped(*distinct_items),
            format!("{} %", fixed(coverage * 100.0, 2)),
            optional(*novelty_bits, |bits| fixed(bits, 2)),
        ];
        table.add_row(row(method, cells.map(|text| cell(&text))));
    }
    table
}

/// `model` less each baseline.
fn differences_block(model: &str, summary: &Summary, style: Style) -> Table {
    const SHOWN: Block = [(0, "next hit rate"), (1, "next NDCG"), (4, "all NDCG"), (7, "reward")];
    let mut table = block(&format!("{model} less"), SHOWN.map(|(_, name)| name), style);
    for difference in summary.differences.iter().filter(|difference| difference.method == model) {
        let estimates = difference.scores.into_array();
        let cells = SHOWN.map(|(metric, _)| difference_cell(estimates[metric], style));
        table.add_row(row(&difference.baseline, cells));
    }
    table
}

fn difference_cell(estimate: Estimate, style: Style) -> Cell {
    let mark = if estimate.excludes_zero() { " *" } else { "" };
    let shown = cell(&estimate_text(estimate, |value, decimals| format!("{}{mark}", signed(value, decimals))));
    match (style, estimate.excludes_zero(), estimate.value > 0.0) {
        (Style::Terminal, true, true) => shown.fg(Color::Green),
        (Style::Terminal, true, false) => shown.fg(Color::Red),
        _ => shown,
    }
}

fn block(title: &str, metrics: [&str; 4], style: Style) -> Table {
    empty_table(title, metrics.map(String::from), style)
}

/// The number, and under it the interval.
fn estimate_text(Estimate { value, low, high }: Estimate, format: impl Fn(f64, usize) -> String) -> String {
    const DECIMALS: usize = 4;
    format!("{}\n{}…{}", format(value, DECIMALS), fixed(low, DECIMALS), fixed(high, DECIMALS))
}
