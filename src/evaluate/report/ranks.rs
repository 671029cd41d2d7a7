//! Where in the lists the hits stand.

use super::figure;
use super::markup::Markup;
use super::plot::{self, Area};
use super::scale::{Scale, Tick, decimal, round_ticks};
use crate::evaluate::format::{fixed, grouped};
use dataflows::evaluation::{METHODS, Tally};

const HEIGHT: f64 = 280.0;
const AREA: Area = Area { left: 52.0, right: plot::WIDTH - 22.0, top: 30.0, bottom: 232.0 };
/// Longer lists are drawn as lines, since bars would become hairs.
const BARS_MAX: usize = 12;

/// The share of events whose item was at each rank, and at each rank or before it.
pub(super) fn figures(markup: &mut Markup, n: usize, totals: &[Tally; METHODS.len()]) {
    let at = totals.each_ref().map(|tally| shares(tally, n));
    let up_to = at.each_ref().map(|shares| {
        shares
            .iter()
            .scan(0.0, |sum, share| {
                *sum += share;
                Some(*sum)
            })
            .collect::<Vec<f64>>()
    });
    figure(markup, "Hits by rank", |markup| {
        draw(markup, "share of events that hit at this rank", &at, totals, n <= BARS_MAX)
    });
    figure(markup, "Hit rate at k", |markup| {
        draw(markup, "share of events that hit at rank ≤ k", &up_to, totals, false)
    });
}

fn shares(tally: &Tally, n: usize) -> Vec<f64> {
    (0..n).map(|rank| tally.hits.get(rank).copied().unwrap_or(0) as f64 / tally.events.max(1) as f64).collect()
}

fn draw(
    markup: &mut Markup,
    title: &str,
    shares: &[Vec<f64>; METHODS.len()],
    totals: &[Tally; METHODS.len()],
    bars: bool,
) {
    let n = shares[0].len();
    let most = shares.iter().flatten().copied().fold(0.0, f64::max);
    let ticks = round_ticks(0.0, most, 4, decimal);
    let (x, y) = (Scale { domain: (0.5, n as f64 + 0.5), range: (AREA.left, AREA.right) }, AREA.upwards(&ticks));
    plot::svg(markup, HEIGHT, &describe(title, shares), |markup| {
        plot::y_axis(markup, AREA, &ticks, title);
        if bars {
            draw_bars(markup, x, y, shares);
        } else {
            draw_lines(markup, x, y, shares);
        }
        plot::x_axis(markup, AREA, x, &rank_ticks(n), if bars { "rank in the list" } else { "k, ranks counted" });
        for rank in 0..n {
            let column = Area { left: x.at(rank as f64 + 0.5), right: x.at(rank as f64 + 1.5), ..AREA };
            plot::rect(markup, "hover", column, &tooltip(rank, shares, totals));
        }
    });
}

fn draw_bars(markup: &mut Markup, x: Scale, y: Scale, shares: &[Vec<f64>; METHODS.len()]) {
    let slot = x.at(1.0) - x.at(0.0);
    let (gap, bar) = (0.2 * slot, 0.8 * slot / METHODS.len() as f64);
    for (method, shares) in shares.iter().enumerate() {
        for (rank, share) in shares.iter().enumerate() {
            let left = x.at(rank as f64 + 0.5) + gap / 2.0 + method as f64 * bar;
            let area = Area { left, right: left + bar - 0.8, top: y.at(*share), bottom: AREA.bottom };
            plot::bar(markup, method, area);
        }
    }
}

fn draw_lines(markup: &mut Markup, x: Scale, y: Scale, shares: &[Vec<f64>; METHODS.len()]) {
    for (method, shares) in shares.iter().enumerate() {
        let points: Vec<_> = (1..).zip(shares).map(|(k, share)| (x.at(f64::from(k)), y.at(*share))).collect();
        plot::polyline(markup, &format!("line {}", plot::method_class(method)), &points);
        if points.len() <= 2 * BARS_MAX {
            points.iter().for_each(|point| plot::marker(markup, method, *point, 3.0));
        }
    }
}

fn rank_ticks(n: usize) -> Vec<Tick> {
    let step = [1, 2, 5, 10, 20, 50, 100, 200, 500].into_iter().find(|step| n / step <= 12).unwrap_or(1000);
    (1..=n).filter(|rank| step == 1 || rank % step == 0).map(|rank| Tick::new(rank as f64, rank.to_string())).collect()
}

fn tooltip(rank: usize, shares: &[Vec<f64>; METHODS.len()], totals: &[Tally; METHODS.len()]) -> String {
    let lines = (0..METHODS.len()).map(|method| {
        let hits = totals[method].hits.get(rank).copied().unwrap_or(0);
        format!("\n{} {} ({} hits at this rank)", METHODS[method], fixed(shares[method][rank], 4), grouped(hits))
    });
    std::iter::once(format!("Rank {}", rank + 1)).chain(lines).collect()
}

fn describe(title: &str, shares: &[Vec<f64>; METHODS.len()]) -> String {
    let lines = METHODS.iter().zip(shares).map(|(name, shares)| {
        let numbers: Vec<String> = shares.iter().take(20).map(|share| fixed(*share, 4)).collect();
        format!(" {name}: {}.", numbers.join(", "))
    });
    std::iter::once(format!("{title}, from rank 1.")).chain(lines).collect()
}
