//! Metrics as points with intervals, one plot a metric; and the differences between methods around zero.

use super::figure;
use super::markup::Markup;
use super::plot::{self, Anchor, Area};
use super::scale::{Scale, Tick, decimal, round_ticks};
use crate::evaluate::format::{fixed, signed};
use crate::evaluate::summary::{Difference, Estimate, MethodSummary, Summary};

const ROW: f64 = 30.0;
const TOP: f64 = 8.0;
const BELOW: f64 = 42.0;

/// What the numbers of a plot are.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Values,
    /// Shown with a sign, and with zero in sight.
    Differences,
}

/// One line of a plot of intervals.
pub(super) struct Row {
    pub(super) label: String,
    /// Whose mark it bears.
    pub(super) method: usize,
    pub(super) kind: Kind,
    pub(super) estimate: Option<Estimate>,
}

/// One plot for each metric, over all events.
pub(super) fn metrics(markup: &mut Markup, summary: &Summary) {
    for (metric, name) in metric_names(summary.n).into_iter().enumerate() {
        let row = |(method, summary): (usize, &MethodSummary)| Row {
            label: summary.method.to_owned(),
            method,
            kind: Kind::Values,
            estimate: summary.scores.all_events.into_array()[metric],
        };
        let rows: Vec<Row> = summary.methods.iter().enumerate().map(row).collect();
        figure(markup, &format!("{name}, all events"), |markup| plot_rows(markup, &rows, &axis_title(metric, &name)));
    }
}

/// The first method less each of the others: one plot a metric.
pub(super) fn differences(markup: &mut Markup, summary: &Summary) {
    for (metric, name) in metric_names(summary.n).into_iter().enumerate() {
        let row = |(index, difference): (usize, &Difference)| Row {
            label: format!("less {}", difference.baseline),
            method: index + 1,
            kind: Kind::Differences,
            estimate: difference.scores.all_events.into_array()[metric],
        };
        let rows: Vec<Row> = summary.differences.iter().enumerate().map(row).collect();
        let title = format!("Difference in {name}, all events");
        figure(markup, &title, |markup| plot_rows(markup, &rows, "recommended less baseline"));
    }
}

/// The metrics' names in the order of `Scores`.
pub(super) fn metric_names(n: usize) -> [String; 4] {
    ["hit rate".into(), format!("NDCG@{n}"), format!("MRR@{n}"), "reward".into()]
}

fn axis_title(metric: usize, name: &str) -> String {
    match metric {
        0 => "share of events that hit".to_owned(),
        3 => "mean reward weight per event".to_owned(),
        _ => format!("mean {name} per event"),
    }
}

pub(super) fn plot_rows(markup: &mut Markup, rows: &[Row], title: &str) {
    let height = TOP + ROW * rows.len() as f64 + BELOW;
    let area = Area { left: 128.0, right: plot::WIDTH - 22.0, top: TOP, bottom: height - BELOW };
    let ticks = interval_ticks(rows);
    let scale = area.across(&ticks);
    let description: Vec<String> = rows.iter().map(Row::describe).collect();
    plot::svg(markup, height, &format!("{title}: {}.", description.join("; ")), |markup| {
        plot::x_grid(markup, area, scale, &ticks);
        if ticks.iter().any(|tick| tick.value == 0.0) {
            plot::line(markup, "zero", (scale.at(0.0), area.top), (scale.at(0.0), area.bottom));
        }
        for (index, row) in rows.iter().enumerate() {
            row.draw(markup, area, scale, area.top + (index as f64 + 0.6) * ROW);
        }
        plot::x_axis(markup, area, scale, &ticks, title);
    });
}

impl Row {
    fn show(&self, value: f64) -> String {
        match self.kind {
            Kind::Values => fixed(value, 4),
            Kind::Differences => signed(value, 4),
        }
    }

    fn describe(&self) -> String {
        match self.estimate {
            None => format!("{}: not defined", self.label),
            Some(Estimate { value, low, high }) => {
                let [value, low, high] = [value, low, high].map(|value| self.show(value));
                format!("{} {value} (95 % {low} to {high})", self.label)
            }
        }
    }

    fn draw(&self, markup: &mut Markup, area: Area, scale: Scale, y: f64) {
        plot::text(markup, "name", (area.left - 10.0, y + 4.0), Anchor::End, &self.label);
        let Some(Estimate { value, low, high }) = self.estimate else { return };
        let (x, from, to) = (scale.at(value), scale.at(low), scale.at(high));
        let class = format!("whisker {}", plot::method_class(self.method));
        plot::line(markup, &class, (from, y), (to, y));
        plot::line(markup, &class, (from, y - 4.0), (from, y + 4.0));
        plot::line(markup, &class, (to, y - 4.0), (to, y + 4.0));
        plot::marker(markup, self.method, (x, y), 4.5);
        // The number stands over the mark, held within the plot.
        let x = x.clamp(area.left + 24.0, area.right - 24.0);
        plot::text(markup, "value", (x, y - 7.0), Anchor::Middle, self.show(value));
        let area = Area { left: 0.0, right: area.right, top: y - ROW / 2.0, bottom: y + ROW / 2.0 };
        plot::rect(markup, "hover", area, &self.describe());
    }
}

/// Ticks around the intervals; those of values reach to zero unless that would squeeze the intervals into less than half of
/// the plot.
fn interval_ticks(rows: &[Row]) -> Vec<Tick> {
    let estimates = rows.iter().filter_map(|row| row.estimate);
    let (low, high) = estimates.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), e| {
        (low.min(e.low).min(e.value), high.max(e.high).max(e.value))
    });
    if low > high {
        return round_ticks(0.0, 1.0, 5, decimal);
    }
    let with_zero = rows.iter().any(|row| row.kind == Kind::Differences);
    let low = if low > 0.0 && (with_zero || low < 0.6 * high) { 0.0 } else { low };
    let high = if high < 0.0 && (with_zero || high > 0.6 * low) { 0.0 } else { high };
    match (low == high, with_zero) {
        (false, _) => round_ticks(low, high, 5, decimal),
        // A single number, with no interval: between it and zero, or around zero.
        (true, false) => round_ticks(low.min(0.0), high.max(0.0), 5, decimal),
        (true, true) => round_ticks(-0.1, 0.1, 4, decimal),
    }
}
