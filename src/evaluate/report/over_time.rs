//! Metrics over event time, with the number of events below, since a rate of few events says little.

use super::calendar;
use super::figure;
use super::markup::{Markup, Px};
use super::plot::{self, Area};
use super::scale::{Scale, Tick, count, decimal, ends, percent, round_ticks};
use crate::evaluate::format::{counted, fixed, optional};
use crate::evaluate::metrics::{Scores, Sums, add};
use dataflows::evaluation::{Evaluation, METHODS, Tally};
use dataflows::event::Time;

/// More points than this in a plot would blur.
const POINTS_MAX: usize = 100;
/// Points with fewer events than this on average are merged further, as long as this many points remain.
const EVENTS_MIN: u64 = 30;
const POINTS_MIN: usize = 14;
const HEIGHT: f64 = 340.0;
const AREA: Area = Area { left: 52.0, right: plot::WIDTH - 22.0, top: 30.0, bottom: 216.0 };
/// The bars of event counts.
const COUNTS: Area = Area { left: 52.0, right: plot::WIDTH - 22.0, top: 250.0, bottom: 286.0 };

/// The tallies of a span of time.
struct Point {
    start: Time,
    methods: [Tally; METHODS.len()],
}

/// All buckets, merged to a width at which they can be drawn.
struct Series {
    width: Time,
    points: Vec<Point>,
}

/// What is drawn over time.
struct Metric {
    name: &'static str,
    title: &'static str,
    label: fn(f64, f64) -> String,
    of: fn(&Tally) -> Option<f64>,
}

const METRICS: [Metric; 4] = [
    Metric {
        name: "Hit rate",
        title: "share of events that hit",
        label: decimal,
        of: |t| over_all(t).map(|s| s.hit_rate),
    },
    Metric { name: "NDCG", title: "mean NDCG per event", label: decimal, of: |t| over_all(t).map(|s| s.ndcg) },
    Metric {
        name: "Reward",
        title: "mean reward weight per event",
        label: decimal,
        of: |t| over_all(t).map(|s| s.reward),
    },
    Metric {
        name: "Events with a list",
        title: "share of events",
        label: percent,
        of: |t| (t.events > 0).then(|| t.with_list as f64 / t.events as f64),
    },
];

fn over_all(tally: &Tally) -> Option<Scores<f64>> {
    Sums::of(tally).scores().all_events
}

/// One figure a metric; or a sentence, if there is no bucket.
pub(super) fn figures(markup: &mut Markup, evaluation: &Evaluation) {
    let series = Series::new(evaluation);
    for metric in &METRICS {
        let title = format!("{}, by spans of {}", metric.name, calendar::span(series.width));
        figure(markup, &title, |markup| series.draw(markup, metric));
    }
}

impl Series {
    fn new(evaluation: &Evaluation) -> Series {
        let width = evaluation.bucket_width.max(1);
        let wider = calendar::SPANS.into_iter().filter(|span| *span > width && span.is_multiple_of(width));
        let doubled = (1..).map_while(|power| width.checked_shl(power).filter(|wide| wide >> power == width));
        let mut series = Series::merged(evaluation, width);
        for width in wider.chain(doubled) {
            let (crowded, thin) = (series.points.len() > POINTS_MAX, series.is_thin());
            if !(crowded || thin) {
                break;
            }
            if width <= series.width {
                continue;
            }
            let next = Series::merged(evaluation, width);
            if !crowded && next.points.len() < POINTS_MIN {
                break;
            }
            series = next;
        }
        series
    }

    /// Whether a typical point has too few events for a rate.
    fn is_thin(&self) -> bool {
        let events: u64 = self.points.iter().map(|point| point.methods[0].events).sum();
        events < EVENTS_MIN.saturating_mul(self.points.len() as u64)
    }

    fn merged(evaluation: &Evaluation, width: Time) -> Series {
        let mut points: Vec<Point> = Vec::new();
        for bucket in &evaluation.buckets {
            let start = bucket.start / width * width;
            match points.last_mut().filter(|point| point.start == start) {
                Some(point) => point.methods.iter_mut().zip(&bucket.methods).for_each(|(into, from)| add(into, from)),
                None => points.push(Point { start, methods: bucket.methods.clone() }),
            }
        }
        Series { width, points }
    }

    /// First start and last end.
    fn range(&self) -> Option<(Time, Time)> {
        Some((self.points.first()?.start, self.points.last()?.start.saturating_add(self.width)))
    }

    fn draw(&self, markup: &mut Markup, metric: &Metric) {
        let Some((first, last)) = self.range() else { return };
        let scale = Scale { domain: (first as f64, last as f64), range: (AREA.left, AREA.right) };
        let values = self.points.iter().flat_map(|point| point.methods.iter().filter_map(metric.of));
        let ticks = round_ticks(0.0, values.fold(0.0, f64::max), 4, metric.label);
        plot::svg(markup, HEIGHT, &self.describe(metric), |markup| {
            plot::y_axis(markup, AREA, &ticks, metric.title);
            plot::line(markup, "base", (AREA.left, AREA.bottom), (AREA.right, AREA.bottom));
            for method in 0..METHODS.len() {
                self.draw_method(markup, scale, AREA.upwards(&ticks), method, metric);
            }
            self.draw_counts(markup, scale);
            let times = calendar::ticks(first, last);
            plot::x_axis(markup, COUNTS, scale, &times, "event time, UTC");
            self.draw_tooltips(markup, scale, metric);
        });
    }

    /// Lines through the middles of adjacent spans; a gap in the log is a gap in the line.
    fn draw_method(&self, markup: &mut Markup, x: Scale, y: Scale, method: usize, metric: &Metric) {
        let adjacent = |a: &Point, b: &Point| b.start.checked_sub(a.start) == Some(self.width);
        for run in self.points.chunk_by(adjacent) {
            let line: Vec<(f64, f64)> = run
                .iter()
                .filter_map(|point| Some((x.at(self.middle(point)), y.at((metric.of)(&point.methods[method])?))))
                .collect();
            match line.as_slice() {
                [] => {}
                [only] => plot::marker(markup, method, *only, 2.5),
                line => plot::polyline(markup, &format!("line {}", plot::method_class(method)), line),
            }
        }
    }

    fn draw_counts(&self, markup: &mut Markup, x: Scale) {
        let most = self.points.iter().map(|point| point.methods[0].events).max().unwrap_or(0);
        let ticks: Vec<Tick> = ends_only(round_ticks(0.0, most as f64, 2, count));
        plot::y_axis(markup, COUNTS, &ticks, "events");
        let y = COUNTS.upwards(&ticks);
        for point in &self.points {
            let (left, right) = self.columns(point, x);
            let top = y.at(point.methods[0].events as f64);
            let (width, height) = ((right - left).max(0.7), COUNTS.bottom - top);
            let attributes: [super::markup::Attribute<'_>; 5] = [
                ("class", &"count"),
                ("x", &Px(left)),
                ("y", &Px(top)),
                ("width", &Px(width)),
                ("height", &Px(height)),
            ];
            markup.leaf("rect", &attributes);
        }
    }

    fn draw_tooltips(&self, markup: &mut Markup, x: Scale, metric: &Metric) {
        for point in &self.points {
            let (left, right) = self.columns(point, x);
            let area = Area { left, right: right.max(left + 1.0), top: AREA.top, bottom: COUNTS.bottom };
            let values: Vec<String> = METHODS
                .iter()
                .zip(&point.methods)
                .map(|(name, tally)| format!("{name} {}", optional((metric.of)(tally), |value| fixed(value, 4))))
                .collect();
            let events = counted(point.methods[0].events, "event", "events");
            plot::rect(
                markup,
                "hover",
                area,
                &format!("{} UTC, {}\n{}\n{events}", calendar::instant(point.start), metric.name, values.join("\n")),
            );
        }
    }

    fn columns(&self, point: &Point, x: Scale) -> (f64, f64) {
        (x.at(point.start as f64), x.at(point.start.saturating_add(self.width) as f64))
    }

    fn middle(&self, point: &Point) -> f64 {
        point.start as f64 + self.width as f64 / 2.0
    }

    /// First, last, least and largest value of each method, in words.
    fn describe(&self, metric: &Metric) -> String {
        let mut text = format!("{} over time.", metric.name);
        for (method, name) in METHODS.iter().enumerate() {
            let values: Vec<f64> = self.points.iter().filter_map(|point| (metric.of)(&point.methods[method])).collect();
            if let (Some(first), Some(last)) = (values.first(), values.last()) {
                let least = values.iter().copied().fold(f64::INFINITY, f64::min);
                let most = values.iter().copied().fold(0.0, f64::max);
                text += &format!(
                    " {name}: from {} to {}, between {} and {}.",
                    fixed(*first, 4),
                    fixed(*last, 4),
                    fixed(least, 4),
                    fixed(most, 4)
                );
            }
        }
        text
    }
}

fn ends_only(ticks: Vec<Tick>) -> Vec<Tick> {
    let (first, last) = ends(&ticks);
    ticks.into_iter().filter(|tick| tick.value == first || tick.value == last).collect()
}
