//! Metrics as points with intervals, one plot a metric; and the differences between methods around zero.

use super::figure;
use super::markup::Markup;
use super::plot::{self, Anchor, Area};
use super::scale::{Scale, Tick, decimal, round_ticks};
use crate::evaluate::format::{fixed, signed};
use crate::evaluate::summary::{Difference, Estimate, MethodSummary, Summary};
use dataflows::evaluation::METHODS;

const ROW: f64 = 30.0;
const TOP: f64 = 8.0;
const BELOW: f64 = 42.0;

/// One line of a plot of intervals.
struct Row<'a> {
    label: String,
    /// Whose mark it bears.
    method: usize,
    estimate: Option<&'a Estimate>,
}

/// One plot for each metric, over all events.
pub(super) fn metrics(markup: &mut Markup, summary: &Summary) {
    for (metric, name) in metric_names(summary.n).into_iter().enumerate() {
        let estimates: Vec<_> = summary.methods.iter().map(|method| of_method(method, metric)).collect();
        let rows: Vec<_> = estimates
            .iter()
            .enumerate()
            .map(|(method, estimate)| Row { label: METHODS[method].to_owned(), method, estimate: estimate.as_ref() })
            .collect();
        figure(markup, &format!("{name}, all events"), |markup| {
            plot_rows(markup, &rows, &axis_title(metric, &name), fixed);
        });
    }
}

/// The first method less each of the others: one plot a metric.
pub(super) fn differences(markup: &mut Markup, summary: &Summary) {
    for (metric, name) in metric_names(summary.n).into_iter().enumerate() {
        let estimates: Vec<_> =
            summary.differences.iter().map(|difference| of_difference(difference, metric)).collect();
        let rows: Vec<_> = summary
            .differences
            .iter()
            .zip(&estimates)
            .enumerate()
            .map(|(index, (difference, estimate))| Row {
                label: format!("less {}", difference.baseline),
                method: index + 1,
                estimate: estimate.as_ref(),
            })
            .collect();
        figure(markup, &format!("Difference in {name}"), |markup| {
            plot_rows(markup, &rows, "recommended less baseline", signed);
        });
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

fn of_method(method: &MethodSummary, metric: usize) -> Option<Estimate> {
    method.scores.all_events.into_array()[metric]
}

fn of_difference(difference: &Difference, metric: usize) -> Option<Estimate> {
    difference.scores.all_events.into_array()[metric]
}

fn plot_rows(markup: &mut Markup, rows: &[Row<'_>], title: &str, format: fn(f64, usize) -> String) {
    let height = TOP + ROW * rows.len() as f64 + BELOW;
    let area = Area { left: 128.0, right: plot::WIDTH - 14.0, top: TOP, bottom: height - BELOW };
    let ticks = interval_ticks(rows);
    let scale = area.across(&ticks);
    let description: Vec<String> = rows.iter().map(|row| row.describe(format)).collect();
    plot::svg(markup, height, &format!("{title}: {}.", description.join("; ")), |markup| {
        plot::x_grid(markup, area, scale, &ticks);
        if ticks.iter().any(|tick| tick.value == 0.0) {
            plot::line(markup, "zero", (scale.at(0.0), area.top), (scale.at(0.0), area.bottom));
        }
        for (index, row) in rows.iter().enumerate() {
            row.draw(markup, area, scale, area.top + (index as f64 + 0.6) * ROW, format);
        }
        plot::x_axis(markup, area, scale, &ticks, title);
    });
}

impl Row<'_> {
    fn describe(&self, format: fn(f64, usize) -> String) -> String {
        match self.estimate {
            None => format!("{}: not defined", self.label),
            Some(Estimate { value, low, high }) => {
                format!("{} {} (95 % {} to {})", self.label, format(*value, 4), format(*low, 4), format(*high, 4))
            }
        }
    }

    fn draw(&self, markup: &mut Markup, area: Area, scale: Scale, y: f64, format: fn(f64, usize) -> String) {
        plot::text(markup, "name", (area.left - 10.0, y + 4.0), Anchor::End, &self.label);
        let Some(Estimate { value, low, high }) = self.estimate else { return };
        let (x, from, to) = (scale.at(*value), scale.at(*low), scale.at(*high));
        let class = format!("whisker {}", plot::method_class(self.method));
        plot::line(markup, &class, (from, y), (to, y));
        plot::line(markup, &class, (from, y - 4.0), (from, y + 4.0));
        plot::line(markup, &class, (to, y - 4.0), (to, y + 4.0));
        plot::marker(markup, self.method, (x, y), 4.5);
        // The number stands over the mark, held within the plot.
        let x = x.clamp(area.left + 24.0, area.right - 24.0);
        plot::text(markup, "value", (x, y - 7.0), Anchor::Middle, format(*value, 4));
        let area = Area { left: 0.0, right: area.right, top: y - ROW / 2.0, bottom: y + ROW / 2.0 };
        plot::rect(markup, "hover", area, &self.describe(format));
    }
}

/// Ticks around the intervals; they reach to zero unless that would squeeze the intervals into less than half of the plot.
fn interval_ticks(rows: &[Row<'_>]) -> Vec<Tick> {
    let estimates = rows.iter().filter_map(|row| row.estimate);
    let (low, high) = estimates.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), e| {
        (low.min(e.low).min(e.value), high.max(e.high).max(e.value))
    });
    if low > high {
        return round_ticks(0.0, 1.0, 5, decimal);
    }
    let low = if low > 0.0 && low < 0.6 * high { 0.0 } else { low };
    let high = if high < 0.0 && high > 0.6 * low { 0.0 } else { high };
    // Intervals of no width still need room on both sides.
    let margin = if high > low { 0.0 } else { 0.1 * high.abs().max(1e-3) };
    round_ticks(low - margin, high + margin, 5, decimal)
}
