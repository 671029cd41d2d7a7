//! What the lists are made of: coverage and novelty, as bars.

use super::figure;
use super::markup::Markup;
use super::plot::{self, Anchor, Area};
use super::scale::{Tick, decimal, percent, round_ticks};
use crate::evaluate::format::{counted, fixed, optional};
use crate::evaluate::summary::Summary;
use dataflows::evaluation::METHODS;

const ROW: f64 = 28.0;
const HEIGHT: f64 = 8.0 + METHODS.len() as f64 * ROW + 42.0;
const AREA: Area = Area { left: 128.0, right: plot::WIDTH - 64.0, top: 8.0, bottom: HEIGHT - 42.0 };

/// Coverage and novelty, one plot each.
pub(super) fn figures(markup: &mut Markup, summary: &Summary) {
    figure(markup, "Coverage", |markup| {
        let values = summary.methods.each_ref().map(|method| method.coverage);
        let most = values.iter().flatten().copied().fold(0.0, f64::max);
        let title = format!("share of {} that stood on a list", counted(summary.catalogue, "item", "items"));
        draw(markup, &title, values, &round_ticks(0.0, most, 4, percent), |share| {
            format!("{} %", fixed(share * 100.0, 2))
        });
    });
    figure(markup, "Novelty", |markup| {
        let values = summary.methods.each_ref().map(|method| method.novelty_bits);
        let most = values.iter().flatten().copied().fold(0.0, f64::max);
        let title = "mean −log₂ of an item’s share of the events so far, bits";
        draw(markup, title, values, &round_ticks(0.0, most, 5, decimal), |bits| format!("{} bits", fixed(bits, 2)));
    });
}

fn draw(
    markup: &mut Markup,
    title: &str,
    values: [Option<f64>; METHODS.len()],
    ticks: &[Tick],
    format: impl Fn(f64) -> String,
) {
    let scale = AREA.across(ticks);
    let shown = values.map(|value| optional(value, &format));
    let described: Vec<String> = METHODS.iter().zip(&shown).map(|(name, value)| format!("{name} {value}")).collect();
    plot::svg(markup, HEIGHT, &format!("{title}: {}.", described.join("; ")), |markup| {
        plot::x_grid(markup, AREA, scale, ticks);
        for (method, (value, shown)) in values.into_iter().zip(&shown).enumerate() {
            let top = AREA.top + method as f64 * ROW + 5.0;
            let bar = Area { left: AREA.left, right: scale.at(value.unwrap_or(0.0)), top, bottom: top + ROW - 10.0 };
            plot::bar(markup, method, bar);
            plot::text(markup, "name", (AREA.left - 10.0, top + 13.0), Anchor::End, METHODS[method]);
            plot::text(markup, "value", (bar.right + 5.0, top + 13.0), Anchor::Start, shown);
        }
        plot::x_axis(markup, AREA, scale, ticks, title);
    });
}
