//! How activity is spread over users, and how well the methods serve the silent and the busy ones.

use super::figure;
use super::markup::Markup;
use super::plot::{self, Anchor, Area};
use super::scale::{Scale, Tick, count, decimal, round_ticks};
use crate::evaluate::format::{counted, fixed, grouped, optional};
use crate::evaluate::metrics::add;
use dataflows::evaluation::{Evaluation, METHODS, Tally};

const HEIGHT: f64 = 280.0;
const AREA: Area = Area { left: 52.0, right: plot::WIDTH - 22.0, top: 30.0, bottom: 232.0 };

/// More bars than this are too narrow for numbers above them.
const LABELS_MAX: usize = 12;

/// The users with 2^i ≤ events < 2^(i+1).
#[derive(Clone, Default)]
struct Bin {
    users: u64,
    methods: [Tally; METHODS.len()],
}

impl Bin {
    fn hit_rate(&self, method: usize) -> Option<f64> {
        let tally = &self.methods[method];
        (tally.events > 0).then(|| tally.hits.iter().sum::<u64>() as f64 / tally.events as f64)
    }
}

/// Users by number of events, and the hit rate of each of these bins.
pub(super) fn figures(markup: &mut Markup, evaluation: &Evaluation) {
    let bins = bins(evaluation);
    let x = Scale { domain: (0.0, bins.len() as f64), range: (AREA.left, AREA.right) };
    figure(markup, "Users by number of events", |markup| draw_users(markup, &bins, x));
    figure(markup, "Hit rate by number of events of the user", |markup| draw_hit_rates(markup, &bins, x));
}

fn bins(evaluation: &Evaluation) -> Vec<Bin> {
    let mut bins: Vec<Bin> = Vec::new();
    for user in &evaluation.users {
        let Some(bin) = user.methods[0].events.checked_ilog2() else { continue };
        let bin = bin as usize;
        if bins.len() <= bin {
            bins.resize(bin + 1, Bin::default());
        }
        bins[bin].users += 1;
        bins[bin].methods.iter_mut().zip(&user.methods).for_each(|(into, from)| add(into, from));
    }
    bins
}

fn draw_users(markup: &mut Markup, bins: &[Bin], x: Scale) {
    let most = bins.iter().map(|bin| bin.users).max().unwrap_or(0);
    let ticks = round_ticks(0.0, most as f64, 4, count);
    let y = AREA.upwards(&ticks);
    let described: Vec<String> = bins.iter().enumerate().map(|(index, bin)| describe(index, bin)).collect();
    plot::svg(markup, HEIGHT, &format!("Number of users by number of events. {}.", described.join("; ")), |markup| {
        plot::y_axis(markup, AREA, &ticks, "users");
        for (index, bin) in bins.iter().enumerate() {
            let (left, right) = (x.at(index as f64), x.at(index as f64 + 1.0));
            let area = Area { left, right: right - 1.0, top: y.at(bin.users as f64), bottom: AREA.bottom };
            plot::rect(markup, "count", area, &describe(index, bin));
            if bins.len() <= LABELS_MAX && bin.users > 0 {
                plot::text(
                    markup,
                    "value",
                    ((left + right) / 2.0, area.top - 4.0),
                    Anchor::Middle,
                    count_label(bin.users),
                );
            }
        }
        plot::x_axis(markup, AREA, x, &edges(bins.len()), "events of the user, logarithmic");
    });
}

fn draw_hit_rates(markup: &mut Markup, bins: &[Bin], x: Scale) {
    let most = (0..METHODS.len()).flat_map(|method| bins.iter().filter_map(move |bin| bin.hit_rate(method)));
    let ticks = round_ticks(0.0, most.fold(0.0, f64::max), 4, decimal);
    let y = AREA.upwards(&ticks);
    let described: Vec<String> = bins.iter().enumerate().map(|(index, bin)| describe_rates(index, bin)).collect();
    plot::svg(markup, HEIGHT, &format!("Hit rate by number of events. {}.", described.join("; ")), |markup| {
        plot::y_axis(markup, AREA, &ticks, "share of events that hit");
        for method in 0..METHODS.len() {
            let rates = bins.iter().enumerate();
            let points: Vec<_> = rates
                .filter_map(|(index, bin)| Some((x.at(index as f64 + 0.5), y.at(bin.hit_rate(method)?))))
                .collect();
            plot::polyline(markup, &format!("line {}", plot::method_class(method)), &points);
            points.iter().for_each(|point| plot::marker(markup, method, *point, 3.0));
        }
        plot::x_axis(markup, AREA, x, &edges(bins.len()), "events of the user, logarithmic");
        for (index, bin) in bins.iter().enumerate() {
            let column = Area { left: x.at(index as f64), right: x.at(index as f64 + 1.0), ..AREA };
            plot::rect(markup, "hover", column, &describe_rates(index, bin));
        }
    });
}

/// The powers of two between bins; every second one, if all would be too many.
fn edges(bins: usize) -> Vec<Tick> {
    let step = bins / 12 + 1;
    (0..=bins).step_by(step).map(|power| Tick::new(power as f64, count((power as f64).exp2(), 1e9))).collect()
}

/// Short enough to stand above a bar.
fn count_label(users: u64) -> String {
    if users < 10_000 { grouped(users) } else { count(users as f64, users as f64 / 100.0) }
}

fn events_of(index: usize) -> String {
    let (first, last) = (1_u64 << index, (1_u64 << index) + ((1_u64 << index) - 1));
    if first == last { "1 event".to_owned() } else { format!("{}–{} events", grouped(first), grouped(last)) }
}

fn describe(index: usize, bin: &Bin) -> String {
    format!("{}: {}", events_of(index), counted(bin.users, "user", "users"))
}

fn describe_rates(index: usize, bin: &Bin) -> String {
    let rates: Vec<String> = METHODS
        .iter()
        .enumerate()
        .map(|(method, name)| format!("{name} {}", optional(bin.hit_rate(method), |rate| fixed(rate, 4))))
        .collect();
    format!("{}\n{}", describe(index, bin), rates.join("\n"))
}
