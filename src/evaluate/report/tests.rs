//! The report is well-formed, whatever is put in. What it looks like was judged by eye: `cargo test --lib --
//! --ignored writes_a_sample_report` writes one to look at.

use super::*;
use crate::evaluate::{sample, summarise};
use dataflows::evaluation::{Bucket, ListTally, Tally, UserTally};
use dataflows::event::UserId;

/// Checks strictly: tags balance, attributes are quoted and unique, text holds no bare `<`, `&` or control character, and
/// nothing is NaN or infinite. Returns the names of the elements, in order.
fn check(html: &str) -> Vec<String> {
    let mut rest = html.strip_prefix("<!DOCTYPE html>\n").expect("a doctype comes first");
    let (mut open, mut names) = (Vec::<String>::new(), Vec::new());
    while let Some(start) = rest.find('<') {
        check_text(&rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "the innermost element is closed");
            continue;
        }
        let (tag, is_leaf) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric()), "{name}");
        check_attributes(attributes);
        names.push(name.to_owned());
        if name == "style" {
            rest = &rest[rest.find("</style>").expect("the style sheet ends")..];
        }
        if !is_leaf {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty() && rest.is_empty(), "left open: {open:?}; after the end: {rest}");
    for word in ["NaN", "Infinity", ">inf", "\"inf", "-inf"] {
        assert!(!html.contains(word), "{word}");
    }
    names
}

fn check_attributes(mut attributes: &str) {
    let mut seen = Vec::new();
    while !attributes.is_empty() {
        let (name, after) = attributes.split_once("=\"").expect("an attribute has a quoted value");
        let (value, after) = after.split_once('"').expect("the quote is closed");
        assert!(!seen.contains(&name), "{name} stands twice");
        seen.push(name);
        check_text(value);
        attributes = after.strip_prefix(' ').unwrap_or(after);
    }
}

fn check_text(text: &str) {
    assert!(!text.contains(['>', '"']) && !text.contains(|c: char| c.is_control() && !"\n\t".contains(c)), "{text}");
    for after in text.split('&').skip(1) {
        let entity = after.split(';').next().unwrap();
        assert!(["amp", "lt", "gt", "quot", "#39"].contains(&entity), "&{after}");
    }
}

fn facts() -> Facts {
    let facts = [
        ("Log", "data/shop.csv, 41,230 rows, log 6013…9142"),
        ("Events", "41,230 accepted, 12 late, 3 rejected"),
        ("Event time", "2017-11-25 00:00 to 2017-12-08 23:59 UTC"),
        ("Configuration", "tick 20 s, slide 80 s, window 60 min, length 10, n 8"),
        ("Model", "ddpg, blake3 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
        ("Digest of recommendations", "30,000 rows, 8c1f3c3ad2d1e4b5a6978890f1e2d3c4"),
    ];
    Facts {
        title: "Replay of data/shop.csv".to_owned(),
        facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        throughput: (0..=80_u32)
            .map(|i| (f64::from(i) * 0.25, u64::from(i) * 190_000 + u64::from(i * i % 13) * 4_000))
            .collect(),
    }
}

fn rendered(evaluation: &Evaluation, facts: &Facts) -> String {
    render(&summarise(evaluation, 1), evaluation, facts)
}

#[test]
fn a_full_report_is_well_formed_and_self_contained() {
    let html = rendered(&sample::evaluation(200), &facts());
    let names = check(&html);
    let count = |name: &str| names.iter().filter(|found| *found == name).count();
    assert_eq!((count("figure"), count("table"), count("script"), count("link"), count("img")), (19, 2, 0, 0, 0));
    // The namespace is a name, not a link.
    assert_eq!(html.matches("http").count(), 1);
    assert!(!html.contains("@import") && !html.contains("url("));
}

#[test]
fn an_empty_evaluation_is_a_report() {
    let html = rendered(&Evaluation::default(), &Facts::default());
    check(&html);
    assert!(html.contains("no event"));
}

#[test]
fn a_log_without_lists_is_a_report() {
    check(&rendered(&sample::without_lists(), &facts()));
}

#[test]
fn zero_buckets_are_left_out() {
    let evaluation = Evaluation { buckets: Vec::new(), bucket_width: 0, ..sample::evaluation(5) };
    let html = rendered(&evaluation, &facts());
    check(&html);
    assert!(!html.contains("Over time"));
}

fn single(n: usize, start: u64, bucket_width: u64) -> Evaluation {
    let tally = Tally { events: 1, with_list: 1, reward: 3, hits: vec![1; n.min(1)] };
    let methods = [tally.clone(), tally.clone(), tally];
    Evaluation {
        n,
        users: vec![UserTally { user: UserId(0), methods: methods.clone() }],
        buckets: vec![Bucket { start, methods }],
        bucket_width,
        lists: [(); 3].map(|()| ListTally { lists: 1, items: 1, distinct_items: 1, novelty_sum: 0 }),
        catalogue: 1,
    }
}

#[test]
fn one_event_is_a_report() {
    for n in [0, 1, 8, 13, 500] {
        for (start, width) in [(0, 1), (0, 0), (253_402_300_799_000, 3_600_000), (1_511_568_000_000, 20_000)] {
            check(&rendered(&single(n, start, width), &facts()));
        }
    }
}

#[test]
fn extreme_counts_are_a_report() {
    let mut evaluation = single(8, 0, 3_600_000);
    let busy = Tally { events: 1 << 50, with_list: 1, reward: -(1 << 40), hits: vec![0, 1 << 49] };
    evaluation.users.push(UserTally { user: UserId(1), methods: [busy.clone(), Tally::default(), busy.clone()] });
    evaluation.buckets.push(Bucket {
        start: 253_000_000_000_000 / 3_600_000 * 3_600_000,
        methods: evaluation.users[1].methods.clone(),
    });
    evaluation.lists[0].novelty_sum = i128::MAX;
    check(&rendered(&evaluation, &facts()));
}

#[test]
fn many_buckets_are_merged() {
    let width = 20_000;
    let bucket = |index: u64| Bucket { start: index * width, ..single(8, 0, width).buckets[0].clone() };
    let evaluation = Evaluation { buckets: (0..20_000).map(bucket).collect(), ..single(8, 0, width) };
    let html = rendered(&evaluation, &facts());
    check(&html);
    assert!(html.len() < 2_000_000, "{} bytes", html.len());
    assert!(html.contains("by spans of 2 hours"));
}

#[test]
fn strings_are_escaped_and_readings_filtered() {
    let hostile = "</title><script>alert('x')</script>&\u{0}\u{1b}[31m\"";
    let facts = Facts {
        title: hostile.to_owned(),
        facts: vec![(hostile.to_owned(), hostile.to_owned())],
        throughput: vec![
            (f64::NAN, 5),
            (0.0, 0),
            (0.0, 9),
            (1.0, 7),
            (f64::INFINITY, 9),
            (-1.0, 2),
            (0.5, 9),
            (2.0, 3),
        ],
    };
    let html = rendered(&sample::evaluation(3), &facts);
    assert!(!check(&html).contains(&"script".to_owned()));
    for readings in [vec![], vec![(0.0, 1)], vec![(1.0, 1), (1.0, 2)], vec![(f64::NAN, 1), (f64::NAN, 2)]] {
        check(&rendered(&sample::evaluation(3), &Facts { throughput: readings, ..facts.clone() }));
    }
}

#[test]
#[ignore = "writes a file to look at"]
fn writes_a_sample_report() {
    let evaluation = sample::evaluation(3000);
    let write = |name: &str, text: String| std::fs::write(std::env::temp_dir().join(name), text).unwrap();
    write("evaluation_report.html", rendered(&evaluation, &facts()));
    write("evaluation_report_of_one_event.html", rendered(&single(8, 1_511_568_000_000, 20_000), &facts()));
    write("evaluation_report_without_lists.html", rendered(&sample::without_lists(), &facts()));
    write("evaluation_table.txt", super::super::table(&summarise(&evaluation, 1), super::super::Style::Plain));
}
