//! The report: one HTML file with everything in it, readable offline, in light and dark, on paper and on a phone.
//!
//! ```text
//! Summary, Evaluation, Facts ──▶ render ──▶ sections ──▶ figures ──▶ plot (axes, lines, bars) ──▶ markup (HTML, SVG)
//!                                                          scale, calendar: where ticks go
//! ```
//!
//! No scripts, no fonts, no links: the plots are inline SVG with tooltips (`<title>`) and a description in words
//! (`aria-label`). All strings are escaped and all elements closed by `markup`. Methods differ in colour (a palette after
//! Okabe and Ito, told apart by colour-blind people), in dash and in mark.

mod calendar;
mod holdout;
mod intervals;
mod lists;
mod markup;
mod over_time;
mod plot;
mod ranks;
mod scale;
mod tables;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod throughput;
mod users;

pub use holdout::render as render_holdout;

use super::format::{counted, fixed};
use super::summary::{Estimate, Summary, totals};
use dataflows::evaluation::{Evaluation, METHODS};
use markup::Markup;

/// What the report says about the run, beyond its metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The heading.
    pub title: String,
    /// Names and values, in the order shown: log, events, users, configuration, model, digests.
    pub facts: Vec<(String, String)>,
    /// Readings of (seconds since the start of the run, events read so far), in order of time; may be empty.
    pub throughput: Vec<(f64, u64)>,
}

/// The report as an HTML document (which is also well-formed XML).
pub fn render(summary: &Summary, evaluation: &Evaluation, facts: &Facts) -> String {
    page(&facts.title, |markup| body(markup, summary, evaluation, facts))
}

/// A document with this title and body.
fn page(title: &str, body: impl FnOnce(&mut Markup)) -> String {
    let mut markup = Markup::default();
    markup.verbatim("<!DOCTYPE html>\n");
    markup.element("html", &[("lang", &"en"), ("xmlns", &"http://www.w3.org/1999/xhtml")], |markup| {
        markup.element("head", &[], |markup| {
            markup.leaf("meta", &[("charset", &"utf-8")]);
            markup.leaf("meta", &[("name", &"viewport"), ("content", &"width=device-width, initial-scale=1")]);
            markup.labelled("title", &[], title);
            markup.element("style", &[], |markup| markup.verbatim(include_str!("style.css")));
        });
        markup.element("body", &[], body);
    });
    markup.into_string()
}

fn body(markup: &mut Markup, summary: &Summary, evaluation: &Evaluation, facts: &Facts) {
    markup.element("header", &[], |markup| {
        markup.labelled("h1", &[], &facts.title);
        findings(summary).into_iter().for_each(|sentence| markup.labelled("p", &[], sentence));
        fact_list(markup, &facts.facts);
    });
    markup.element("main", &[], |markup| {
        if summary.events > 0 {
            evaluated(markup, summary, evaluation);
        }
        let spans = throughput::spans(&facts.throughput);
        if !spans.is_empty() {
            section(markup, "Throughput", "Between successive readings of the number of events read.", |markup| {
                throughput::figures(markup, &spans);
            });
        }
    });
}

fn fact_list(markup: &mut Markup, facts: &[(String, String)]) {
    markup.element("dl", &[], |markup| {
        for (name, value) in facts {
            markup.element("div", &[], |markup| {
                markup.labelled("dt", &[], name);
                markup.labelled("dd", &[], value);
            });
        }
    });
}

fn evaluated(markup: &mut Markup, summary: &Summary, evaluation: &Evaluation) {
    markup.element("section", &[], |markup| {
        markup.labelled("h2", &[], "Metrics");
        tables::metrics(markup, summary);
    });
    let intervals_lead = "Points are the values over all events; whiskers are 95 % intervals from resampling users.";
    section(markup, "Metrics with their intervals", intervals_lead, |markup| intervals::metrics(markup, summary));
    let differences_lead = "Paired: in each resample, both methods are measured on the same users. \
        An interval that does not reach zero is a difference that the choice of users does not explain.";
    section(markup, "Recommended against the baselines", differences_lead, |markup| {
        intervals::differences(markup, summary);
    });
    if !evaluation.buckets.is_empty() {
        let lead = "Over all events of a span of logical time. Where the log has no event, the lines are broken.";
        section_with_legend(markup, "Over time", lead, |markup| over_time::figures(markup, evaluation));
    }
    if evaluation.n > 0 {
        let lead = "Where in the list the item stood that the user took next, as a share of all events.";
        let totals = totals(evaluation);
        section_with_legend(markup, "Ranks", lead, |markup| ranks::figures(markup, evaluation.n, &totals));
    }
    let lists_lead = "Coverage is how much of the catalogue, the items of the log and the model, a method ever showed; novelty is how rare the shown items were.";
    section(markup, "What the lists hold", lists_lead, |markup| lists::figures(markup, summary));
    let users_lead = "Users in bins of doubling width: 1 event, 2–3, 4–7, …";
    section_with_legend(markup, "Users", users_lead, |markup| users::figures(markup, evaluation));
}

fn section(markup: &mut Markup, title: &str, lead: &str, figures: impl FnOnce(&mut Markup)) {
    markup.element("section", &[], |markup| {
        markup.labelled("h2", &[], title);
        markup.labelled("p", &[("class", &"lead")], lead);
        markup.element("div", &[("class", &"grid")], figures);
    });
}

fn section_with_legend(markup: &mut Markup, title: &str, lead: &str, figures: impl FnOnce(&mut Markup)) {
    markup.element("section", &[], |markup| {
        markup.labelled("h2", &[], title);
        markup.labelled("p", &[("class", &"lead")], lead);
        legend(markup);
        markup.element("div", &[("class", &"grid")], figures);
    });
}

fn legend(markup: &mut Markup) {
    markup.element("ul", &[("class", &"legend")], |markup| {
        for (method, name) in METHODS.iter().enumerate() {
            markup.element("li", &[], |markup| {
                markup.element("svg", &[("viewBox", &"0 0 40 14"), ("aria-hidden", &"true")], |markup| {
                    plot::polyline(markup, &format!("line {}", plot::method_class(method)), &[(0.0, 7.0), (40.0, 7.0)]);
                    plot::marker(markup, method, (20.0, 7.0), 4.5);
                });
                markup.labelled("span", &[], name);
            });
        }
    });
}

fn figure(markup: &mut Markup, title: &str, content: impl FnOnce(&mut Markup)) {
    markup.element("figure", &[], |markup| {
        markup.labelled("figcaption", &[], title);
        content(markup);
    });
}

/// The result in sentences.
fn findings(summary: &Summary) -> Vec<String> {
    if summary.events == 0 {
        return vec!["The log holds no event, so there is nothing to measure.".to_owned()];
    }
    let events = counted(summary.events, "event", "events");
    let users = counted(summary.users, "user", "users");
    let mut sentences = vec![format!("{events} of {users} met lists of up to {} items.", summary.n)];
    let rates: Vec<String> = summary
        .methods
        .iter()
        .filter_map(|method| {
            let Estimate { value, low, high } = method.scores.all_events.hit_rate?;
            Some(format!(
                "{} in {} (95\u{a0}% interval {} to {})",
                method.method,
                percent(value),
                percent(low),
                percent(high)
            ))
        })
        .collect();
    sentences.push(format!("The list held the item that came next: {} of all events.", rates.join(", ")));
    sentences.extend(summary.differences.iter().filter_map(|difference| {
        let estimate = difference.scores.all_events.hit_rate?;
        let verdict = match (estimate.excludes_zero(), estimate.value > 0.0) {
            (false, _) => "cannot be told apart from",
            (true, true) => "beats",
            (true, false) => "loses to",
        };
        let Estimate { value, low, high } = estimate;
        let points = |share: f64| fixed(share * 100.0, 2);
        Some(format!(
            "By hit rate, {} {verdict} {}: the difference is {} percentage points (95\u{a0}% interval {} to {}).",
            difference.method,
            difference.baseline,
            points(value),
            points(low),
            points(high),
        ))
    }));
    sentences
}

fn percent(share: f64) -> String {
    format!("{}\u{a0}%", fixed(share * 100.0, 2))
}
