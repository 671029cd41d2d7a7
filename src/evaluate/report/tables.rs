//! The metrics in numbers.

use super::intervals::metric_names;
use super::markup::Markup;
use crate::evaluate::format::{UNDEFINED, fixed, grouped, optional, signed};
use crate::evaluate::metrics::{METRICS, Scores};
use crate::evaluate::summary::{Estimate, Summary};

type Estimates = Scores<Option<Estimate>>;

/// All metrics over both sets of events, the differences, and what the lists hold.
pub(super) fn metrics(markup: &mut Markup, summary: &Summary) {
    scrolling_table(markup, |markup| {
        head(markup, &metric_names(summary.n));
        markup.element("tbody", &[], |markup| {
            group(markup, "Over all events");
            summary.methods.iter().for_each(|m| estimates(markup, m.method, m.scores.all_events, fixed, false));
            group(markup, "Over the events for which a list stood");
            summary.methods.iter().for_each(|m| estimates(markup, m.method, m.scores.with_list, fixed, false));
            group(markup, "Recommended less …, over all events");
            summary.differences.iter().for_each(|d| estimates(markup, d.baseline, d.scores.all_events, signed, true));
        });
    });
    let note = "Under each number its 95 % interval. Bold differences: the interval excludes zero.";
    markup.labelled("p", &[("class", &"note")], note);
    scrolling_table(markup, |markup| {
        let names = ["events with a list", "lists", "items on lists", "different items", "coverage", "novelty, bits"];
        head(markup, &names.map(String::from));
        markup.element("tbody", &[], |markup| {
            for method in &summary.methods {
                let share = method.events_with_list as f64 / summary.events as f64 * 100.0;
                let cells = [
                    format!("{} ({} %)", grouped(method.events_with_list), fixed(share, 1)),
                    grouped(method.lists),
                    grouped(method.items),
                    grouped(method.distinct_items),
                    optional(method.coverage, |share| format!("{} %", fixed(share * 100.0, 2))),
                    optional(method.novelty_bits, |bits| fixed(bits, 2)),
                ];
                markup.element("tr", &[], |markup| {
                    markup.labelled("th", &[("scope", &"row")], method.method);
                    cells.iter().for_each(|cell| markup.labelled("td", &[], cell));
                });
            }
        });
    });
}

pub(super) fn scrolling_table(markup: &mut Markup, content: impl FnOnce(&mut Markup)) {
    // Focusable, so that it can be scrolled by keyboard.
    markup.element("div", &[("class", &"scroll"), ("tabindex", &0)], |markup| markup.element("table", &[], content));
}

pub(super) fn head(markup: &mut Markup, names: &[String]) {
    markup.element("thead", &[], |markup| {
        markup.element("tr", &[], |markup| {
            markup.labelled("th", &[("scope", &"col")], "method");
            names.iter().for_each(|name| markup.labelled("th", &[("scope", &"col")], name));
        });
    });
}

fn group(markup: &mut Markup, title: &str) {
    markup.element("tr", &[], |markup| {
        markup.labelled("th", &[("colspan", &(METRICS + 1)), ("scope", &"rowgroup")], title);
    });
}

fn estimates(markup: &mut Markup, name: &str, scores: Estimates, format: fn(f64, usize) -> String, difference: bool) {
    markup.element("tr", &[], |markup| {
        markup.labelled("th", &[("scope", &"row")], name);
        for estimate in scores.into_array() {
            let Some(Estimate { value, low, high }) = estimate else {
                markup.labelled("td", &[], UNDEFINED);
                continue;
            };
            let clear = difference && estimate.is_some_and(|estimate| estimate.excludes_zero());
            markup.element("td", &[("class", &if clear { "clear" } else { "" })], |markup| {
                markup.text(format(value, 4));
                markup.labelled("small", &[], format_args!("{} … {}", format(low, 4), format(high, 4)));
            });
        }
    });
}
