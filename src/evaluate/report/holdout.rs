//! The page of a hold-out evaluation: the methods side by side, and how training went.

use super::intervals::{Kind, Row, plot_rows};
use super::markup::Markup;
use super::plot::{self, Anchor, Area};
use super::scale::{Tick, decimal, percent, round_ticks};
use super::tables::{head, scrolling_table};
use super::{fact_list, figure, page, section};
use crate::evaluate::format::{counted, fixed, grouped, optional, signed};
use crate::evaluate::holdout::{Curve, METRIC_NAMES, MethodSummary, Summary};
use crate::evaluate::summary::Estimate;

const BAR_ROW: f64 = 28.0;
const CURVE_HEIGHT: f64 = 240.0;
const CURVE: Area = Area { left: 62.0, right: plot::WIDTH - 22.0, top: 30.0, bottom: CURVE_HEIGHT - 46.0 };

/// The report as an HTML document (which is also well-formed XML).
pub fn render(title: &str, facts: &[(String, String)], summary: &Summary, curves: &[Curve]) -> String {
    page(title, |markup| {
        markup.element("header", &[], |markup| {
            markup.labelled("h1", &[], title);
            findings(summary).into_iter().for_each(|sentence| markup.labelled("p", &[], sentence));
            fact_list(markup, facts);
        });
        markup.element("main", &[], |markup| {
            if summary.users > 0 {
                measured(markup, summary);
            }
            // One point is no curve: spectral embeddings are computed at once.
            let curves: Vec<&Curve> = curves.iter().filter(|curve| curve.points.len() > 1).collect();
            for of_one in curves.chunk_by(|one, other| one.training == other.training) {
                let title = match of_one[0].training.as_str() {
                    "" => "Learning curves".to_owned(),
                    training => format!("Learning curves of {training}"),
                };
                section(markup, &title, "What training wrote down, epoch by epoch.", |markup| {
                    of_one.iter().for_each(|curve| draw_curve(markup, curve))
                });
            }
        });
    })
}

/// The result in sentences.
fn findings(summary: &Summary) -> Vec<String> {
    if summary.users == 0 {
        return vec!["No user has a test part, so there is nothing to measure.".to_owned()];
    }
    let mut sentences = vec![format!(
        "Each of {} was asked for the best {} of {} at the end of the training part; {} tell what came after.",
        counted(summary.users, "user", "users"),
        summary.k,
        counted(summary.catalogue, "item", "items"),
        counted(summary.test_events, "test event", "test events"),
    )];
    sentences.extend(summary.differences.iter().map(|difference| {
        let Estimate { value, low, high } = difference.scores.all_items.ndcg;
        let verdict = match (difference.scores.all_items.ndcg.excludes_zero(), value > 0.0) {
            (false, _) => "cannot be told apart from",
            (true, true) => "beats",
            (true, false) => "loses to",
        };
        format!(
            "By all-item NDCG, {} {verdict} {}: the difference is {} (95\u{a0}% interval {} to {}).",
            difference.method,
            difference.baseline,
            signed(value, 4),
            signed(low, 4),
            signed(high, 4),
        )
    }));
    sentences
}

fn measured(markup: &mut Markup, summary: &Summary) {
    markup.element("section", &[], |markup| {
        markup.labelled("h2", &[], "Metrics");
        numbers(markup, summary);
    });
    let lead = "Points are means over the users; whiskers are 95 % intervals from resampling users.";
    section(markup, "Methods side by side", lead, |markup| {
        for (metric, name) in METRIC_NAMES.into_iter().enumerate() {
            let row = |(at, method): (usize, &MethodSummary)| Row {
                label: method.method.clone(),
                method: at,
                kind: Kind::Values,
                estimate: Some(method.scores.into_array()[metric]),
            };
            let rows: Vec<Row> = summary.methods.iter().enumerate().map(row).collect();
            figure(markup, name, |markup| plot_rows(markup, &rows, &format!("mean {name}, k = {}", summary.k)));
        }
    });
    let models = summary.methods.iter().enumerate().filter(|(_, method)| !method.baseline);
    for (at, model) in models {
        let lead = "Paired: in each resample, both are measured on the same users. An interval that does not reach zero is \
            a difference that the choice of users does not explain.";
        section(markup, &format!("{} against the baselines", model.method), lead, |markup| {
            for (metric, name) in METRIC_NAMES.into_iter().enumerate() {
                let of_model = summary.differences.iter().filter(|difference| difference.method == model.method);
                let row = |difference: &crate::evaluate::holdout::Difference| Row {
                    label: difference.baseline.clone(),
                    method: at,
                    kind: Kind::Differences,
                    estimate: Some(difference.scores.into_array()[metric]),
                };
                let rows: Vec<Row> = of_model.map(row).collect();
                figure(markup, &format!("Difference in {name}"), |markup| {
                    plot_rows(markup, &rows, "model less baseline");
                });
            }
        });
    }
    let lead = "Coverage is how much of the catalogue a method ever showed; novelty is how rare the shown items were in training.";
    section(markup, "What the lists hold", lead, |markup| {
        figure(markup, "Coverage", |markup| {
            let title = format!("share of {} that stood on a list", counted(summary.catalogue, "item", "items"));
            let coverage = |method: &MethodSummary| Some(method.coverage);
            draw_bars(markup, summary, &title, coverage, percent, |share| format!("{} %", fixed(share * 100.0, 2)));
        });
        figure(markup, "Novelty", |markup| {
            let title = "mean −log₂ of an item’s share of the training events, bits";
            draw_bars(markup, summary, title, |method| method.novelty_bits, decimal, |bits| fixed(bits, 2));
        });
    });
}

fn numbers(markup: &mut Markup, summary: &Summary) {
    let names: Vec<String> = METRIC_NAMES.iter().map(|name| (*name).to_owned()).collect();
    scrolling_table(markup, |markup| {
        head(markup, &names);
        markup.element("tbody", &[], |markup| {
            for method in &summary.methods {
                markup.element("tr", &[], |markup| {
                    markup.labelled("th", &[("scope", &"row")], &method.method);
                    for Estimate { value, low, high } in method.scores.into_array() {
                        markup.element("td", &[], |markup| {
                            markup.text(fixed(value, 4));
                            markup.labelled("small", &[], format_args!("{}–{}", fixed(low, 4), fixed(high, 4)));
                        });
                    }
                });
            }
        });
    });
    markup.labelled("p", &[("class", &"note")], "Under each number its 95 % interval.");
    scrolling_table(markup, |markup| {
        let names = ["users without a list", "items on lists", "different items", "coverage", "novelty, bits"];
        head(markup, &names.map(String::from));
        markup.element("tbody", &[], |markup| {
            for method in &summary.methods {
                let cells = [
                    grouped(method.users_without_list),
                    grouped(method.items),
                    grouped(method.distinct_items),
                    format!("{} %", fixed(method.coverage * 100.0, 2)),
                    optional(method.novelty_bits, |bits| fixed(bits, 2)),
                ];
                markup.element("tr", &[], |markup| {
                    markup.labelled("th", &[("scope", &"row")], &method.method);
                    cells.iter().for_each(|cell| markup.labelled("td", &[], cell));
                });
            }
        });
    });
}

fn draw_bars(
    markup: &mut Markup,
    summary: &Summary,
    title: &str,
    of: impl Fn(&MethodSummary) -> Option<f64>,
    label: fn(f64, f64) -> String,
    format: impl Fn(f64) -> String,
) {
    let height = 8.0 + summary.methods.len() as f64 * BAR_ROW + 42.0;
    let area = Area { left: 128.0, right: plot::WIDTH - 64.0, top: 8.0, bottom: height - 42.0 };
    let most = summary.methods.iter().filter_map(&of).fold(0.0, f64::max);
    let ticks = round_ticks(0.0, most, 4, label);
    let scale = area.across(&ticks);
    let shown: Vec<String> = summary.methods.iter().map(|method| optional(of(method), &format)).collect();
    let described: Vec<String> =
        summary.methods.iter().zip(&shown).map(|(method, shown)| format!("{} {shown}", method.method)).collect();
    plot::svg(markup, height, &format!("{title}: {}.", described.join("; ")), |markup| {
        plot::x_grid(markup, area, scale, &ticks);
        for (at, (method, shown)) in summary.methods.iter().zip(&shown).enumerate() {
            let top = area.top + at as f64 * BAR_ROW + 5.0;
            let right = scale.at(of(method).unwrap_or(0.0));
            plot::bar(markup, at, Area { left: area.left, right, top, bottom: top + BAR_ROW - 10.0 });
            plot::text(markup, "name", (area.left - 10.0, top + 13.0), Anchor::End, &method.method);
            plot::text(markup, "value", (right + 5.0, top + 13.0), Anchor::Start, shown);
        }
        plot::x_axis(markup, area, scale, &ticks, title);
    });
}

fn draw_curve(markup: &mut Markup, curve: &Curve) {
    let (Some(first), Some(last)) = (curve.points.first(), curve.points.last()) else { return };
    let ends = |of: fn(&(f64, f64)) -> f64| {
        let values = || curve.points.iter().map(of);
        (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
    };
    let (epochs, values) = (ends(|point| point.0), ends(|point| point.1));
    let across: Vec<Tick> = round_ticks(epochs.0, epochs.1, 6, decimal);
    let upwards: Vec<Tick> = round_ticks(values.0, values.1, 5, decimal);
    let (x, y) = (CURVE.across(&across), CURVE.upwards(&upwards));
    let described = format!(
        "{}: {} at epoch {}, {} at epoch {}.",
        curve.name,
        fixed(first.1, 4),
        fixed(first.0, 0),
        fixed(last.1, 4),
        fixed(last.0, 0)
    );
    figure(markup, &curve.name, |markup| {
        plot::svg(markup, CURVE_HEIGHT, &described, |markup| {
            plot::y_axis(markup, CURVE, &upwards, "");
            plot::x_axis(markup, CURVE, x, &across, "epoch");
            let points: Vec<(f64, f64)> =
                curve.points.iter().map(|&(epoch, value)| (x.at(epoch), y.at(value))).collect();
            plot::polyline(markup, "line m0", &points);
        });
    });
}
