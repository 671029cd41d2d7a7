//! Events per second over the run.

use super::figure;
use super::markup::Markup;
use super::plot::{self, Area};
use super::scale::{Scale, count, decimal, round_ticks};
use crate::evaluate::format::{fixed, grouped};

const HEIGHT: f64 = 280.0;
const AREA: Area = Area { left: 52.0, right: plot::WIDTH - 22.0, top: 30.0, bottom: 232.0 };
const SPANS_MAX: usize = 200;

/// A stretch of the run, s, and its rate, events/s.
pub(super) struct Span {
    from_s: f64,
    to_s: f64,
    rate: f64,
}

/// The rate over time, and its mean; nothing, if there is no span.
pub(super) fn figures(markup: &mut Markup, spans: &[Span]) {
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return };
    let (from_s, to_s) = (first.from_s, last.to_s);
    let mean = spans.iter().map(|span| span.rate * (span.to_s - span.from_s)).sum::<f64>() / (to_s - from_s);
    let most = spans.iter().map(|span| span.rate).fold(mean, f64::max);
    let rates = round_ticks(0.0, most, 4, count);
    let seconds = round_ticks(0.0, to_s, 6, decimal);
    let (x, y) = (AREA.across(&seconds), AREA.upwards(&rates));
    let description =
        format!("{} events per second on average over {} s.", grouped(mean as u64), fixed(to_s - from_s, 1));
    figure(markup, "Throughput", |markup| {
        plot::svg(markup, HEIGHT, &description, |markup| {
            plot::y_axis(markup, AREA, &rates, "events/s");
            plot::polyline(markup, "line plain", &steps(spans, x, y));
            plot::line(markup, "mean", (x.at(from_s), y.at(mean)), (x.at(to_s), y.at(mean)));
            plot::x_axis(markup, AREA, x, &seconds, "time since the start of the run, s");
            for span in spans {
                let area = Area { left: x.at(span.from_s), right: x.at(span.to_s), ..AREA };
                let text = format!(
                    "{}–{} s: {} events/s",
                    fixed(span.from_s, 2),
                    fixed(span.to_s, 2),
                    grouped(span.rate as u64)
                );
                plot::rect(markup, "hover", area, &text);
            }
        });
        markup.labelled(
            "p",
            &[("class", &"note")],
            format_args!("Dashed: the mean, {} events/s.", grouped(mean as u64)),
        );
    });
}

/// The spans between successive readings of (elapsed s, events so far), thinned; unusable readings are left out.
pub(super) fn spans(readings: &[(f64, u64)]) -> Vec<Span> {
    let mut sound: Vec<(f64, u64)> = readings.iter().copied().filter(|(at, _)| at.is_finite() && *at >= 0.0).collect();
    sound.sort_by(|a, b| a.0.total_cmp(&b.0));
    sound.dedup_by(|next, kept| next.0 - kept.0 < 1e-6);
    let stride = sound.len().saturating_sub(1).div_ceil(SPANS_MAX).max(1);
    let last = sound.last().copied();
    let mut thinned: Vec<(f64, u64)> = sound.iter().copied().step_by(stride).collect();
    thinned.extend(last.filter(|last| thinned.last() != Some(last)));
    thinned
        .windows(2)
        .map(|pair| {
            let ((from_s, before), (to_s, after)) = (pair[0], pair[1]);
            Span { from_s, to_s, rate: after.saturating_sub(before) as f64 / (to_s - from_s) }
        })
        .collect()
}

fn steps(spans: &[Span], x: Scale, y: Scale) -> Vec<(f64, f64)> {
    spans.iter().flat_map(|span| [span.from_s, span.to_s].map(|at| (x.at(at), y.at(span.rate)))).collect()
}
