//! The parts of a plot: the frame, axes, lines, bars, markers. All figures have the same width in user units, so that their
//! text has the same size; the page scales them.

use super::markup::{Markup, Px};
use super::scale::{Scale, Tick, ends};
use std::fmt::Display;

/// Width of every plot.
pub(super) const WIDTH: f64 = 480.0;

/// Half of what a digit takes at most, in the larger size that small screens get.
const HALF_DIGIT: f64 = 4.0;

/// A rectangle in user units; y grows downwards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Area {
    /// A scale from left to right over an axis with these ticks.
    pub(super) fn across(&self, ticks: &[Tick]) -> Scale {
        Scale { domain: ends(ticks), range: (self.left, self.right) }
    }

    /// A scale from bottom to top over an axis with these ticks.
    pub(super) fn upwards(&self, ticks: &[Tick]) -> Scale {
        Scale { domain: ends(ticks), range: (self.bottom, self.top) }
    }
}

/// An `<svg>` of [`WIDTH`] × `height`, with a description for those who cannot see it.
pub(super) fn svg(markup: &mut Markup, height: f64, description: &str, content: impl FnOnce(&mut Markup)) {
    let view = format!("0 0 {WIDTH} {height}");
    markup.element("svg", &[("viewBox", &view), ("role", &"img"), ("aria-label", &description)], content);
}

/// Where a text is anchored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Text at a point of its baseline.
pub(super) fn text(markup: &mut Markup, class: &str, (x, y): (f64, f64), anchor: Anchor, text: impl Display) {
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    markup.labelled("text", &[("class", &class), ("x", &Px(x)), ("y", &Px(y)), ("text-anchor", &anchor)], text);
}

/// A straight line.
pub(super) fn line(markup: &mut Markup, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    markup.leaf("line", &[("class", &class), ("x1", &Px(x1)), ("y1", &Px(y1)), ("x2", &Px(x2)), ("y2", &Px(y2))]);
}

/// A rectangle that shows `tooltip` where the pointer rests on it.
pub(super) fn rect(markup: &mut Markup, class: &str, area: Area, tooltip: &str) {
    let (width, height) = ((area.right - area.left).max(0.0), (area.bottom - area.top).max(0.0));
    let attributes: [(&str, &dyn Display); 5] = [
        ("class", &class),
        ("x", &Px(area.left)),
        ("y", &Px(area.top)),
        ("width", &Px(width)),
        ("height", &Px(height)),
    ];
    markup.element("rect", &attributes, |markup| markup.labelled("title", &[], tooltip));
}

/// Straight lines from point to point.
pub(super) fn polyline(markup: &mut Markup, class: &str, points: &[(f64, f64)]) {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", Px(*x), Px(*y))).collect();
    markup.leaf("polyline", &[("class", &class), ("points", &points.join(" "))]);
}

/// The classes that give methods their colours and dashes.
const METHOD_CLASSES: [&str; 8] = ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"];

/// The class that gives the method at this index its colour and dash. After eight they come again.
pub(super) fn method_class(method: usize) -> &'static str {
    METHOD_CLASSES[method % METHOD_CLASSES.len()]
}

/// The mark of a method: a circle, a square or a triangle, so that colour is not all that tells them apart.
pub(super) fn marker(markup: &mut Markup, method: usize, (x, y): (f64, f64), radius: f64) {
    let class = format!("mark {}", method_class(method));
    match method % 3 {
        0 => markup.leaf("circle", &[("class", &class), ("cx", &Px(x)), ("cy", &Px(y)), ("r", &Px(radius))]),
        1 => {
            let side = 1.8 * radius;
            let attributes: [(&str, &dyn Display); 5] = [
                ("class", &class),
                ("x", &Px(x - side / 2.0)),
                ("y", &Px(y - side / 2.0)),
                ("width", &Px(side)),
                ("height", &Px(side)),
            ];
            markup.leaf("rect", &attributes);
        }
        _ => {
            let (half, up, down) = (1.15 * radius, 1.2 * radius, 0.9 * radius);
            let corners = [(x, y - up), (x + half, y + down), (x - half, y + down)];
            let points = corners.map(|(x, y)| format!("{},{}", Px(x), Px(y))).join(" ");
            markup.leaf("polygon", &[("class", &class), ("points", &points)]);
        }
    }
}

/// A vertical axis at the left of `area`: grid lines, labels, and above them the title, which names the unit.
pub(super) fn y_axis(markup: &mut Markup, area: Area, ticks: &[Tick], title: &str) {
    let scale = area.upwards(ticks);
    for tick in ticks {
        let y = scale.at(tick.value);
        line(markup, "grid", (area.left, y), (area.right, y));
        text(markup, "tick", (area.left - 6.0, y + 4.0), Anchor::End, &tick.label);
    }
    text(markup, "axis", (2.0, area.top - 12.0), Anchor::Start, title);
}

/// A horizontal axis at the bottom of `area`: tick marks, labels in up to two lines, and below them the title.
///
/// `scale` places the ticks; ticks outside the area are left out.
pub(super) fn x_axis(markup: &mut Markup, area: Area, scale: Scale, ticks: &[Tick], title: &str) {
    line(markup, "base", (area.left, area.bottom), (area.right, area.bottom));
    let two_lines = ticks.iter().any(|tick| tick.context.is_some());
    for tick in ticks {
        let x = scale.at(tick.value);
        line(markup, "base", (x, area.bottom), (x, area.bottom + 4.0));
        for (label, below) in [(Some(&tick.label), 17.0), (tick.context.as_ref(), 31.0)] {
            let Some(label) = label else { continue };
            let held = x.min(WIDTH - HALF_DIGIT * label.chars().count() as f64);
            text(markup, "tick", (held, area.bottom + below), Anchor::Middle, label);
        }
    }
    let below = area.bottom + if two_lines { 47.0 } else { 34.0 };
    text(markup, "axis", (area.right, below), Anchor::End, title);
}

/// Vertical grid lines at the ticks of a horizontal axis.
pub(super) fn x_grid(markup: &mut Markup, area: Area, scale: Scale, ticks: &[Tick]) {
    for tick in ticks {
        let x = scale.at(tick.value);
        line(markup, "grid", (x, area.top), (x, area.bottom));
    }
}

/// A bar in a method's colour.
pub(super) fn bar(markup: &mut Markup, method: usize, area: Area) {
    let class = format!("bar {}", method_class(method));
    let attributes: [(&str, &dyn Display); 5] = [
        ("class", &class),
        ("x", &Px(area.left)),
        ("y", &Px(area.top)),
        ("width", &Px((area.right - area.left).max(0.0))),
        ("height", &Px((area.bottom - area.top).max(0.0))),
    ];
    markup.leaf("rect", &attributes);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_dates_of_the_last_tick_stay_within_the_plot() {
        let area = Area { left: 52.0, right: WIDTH - 22.0, top: 10.0, bottom: 100.0 };
        let scale = Scale { domain: (0.0, 1.0), range: (area.left, area.right) };
        let last = Tick { value: 1.0, label: "00:00".to_owned(), context: Some("2017-11-26".to_owned()) };
        let mut markup = Markup::default();
        x_axis(&mut markup, area, scale, &[last], "time");
        let drawn = markup.into_string();
        for label in ["00:00", "2017-11-26"] {
            let element = drawn.split("<text ").find(|element| element.contains(&format!(">{label}<"))).unwrap();
            let x: f64 = element.split(" x=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
            assert!(x + 4.0 * label.len() as f64 <= WIDTH, "{label} at {x}");
            assert!(x <= area.right);
        }
    }
}
