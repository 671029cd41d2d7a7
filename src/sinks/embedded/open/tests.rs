use super::*;
use serde_json::json;

fn pipeline(fingerprint: &str, parts: Value) -> Pipeline {
    let Value::Object(parts) = parts else { unreachable!("tests pass objects") };
    Pipeline { fingerprint: fingerprint.into(), parts }
}

fn found(fingerprint: &str) -> Found {
    let pipeline = pipeline(fingerprint, json!({}));
    Found { schema_version: 1, number: 1, pipeline, frontier: None, finished: false }
}

#[test]
fn plans() {
    use OtherPipeline::{NewGeneration, Purge, Refuse};
    let (ours, other) = (Some(found("ours")), Some(found("other")));
    let current = Plan::Continue(Generation::Current);
    let next = Plan::Continue(Generation::Next);
    let cases = [
        // Current, next; then the plans for: refuse, new generation, purge.
        (&None, &None, [Plan::Create, Plan::Create, Plan::Create]),
        (&ours, &None, [current, current, Plan::Purge]),
        (&ours, &other, [current, current, Plan::Purge]),
        (&other, &None, [Plan::Refuse, Plan::Build, Plan::Purge]),
        (&other, &other, [Plan::Refuse, Plan::Build, Plan::Purge]),
        (&other, &ours, [Plan::Refuse, next, Plan::Purge]),
    ];
    for (in_current, in_next, plans) in cases {
        for (choice, expected) in [Refuse, NewGeneration, Purge].into_iter().zip(plans) {
            let plan = plan(in_current.as_ref(), in_next.as_ref(), &pipeline("ours", json!({})), choice);
            assert_eq!(plan, expected, "{in_current:?}, {in_next:?}, {choice:?}");
        }
    }
}

#[test]
fn differences_are_told_in_few_words() {
    let theirs = pipeline("f", json!({"a": 1, "b": "x", "c": 3, "d": 4, "e": 5}));
    let told = |parts| difference(&theirs, &pipeline("g", parts));
    assert_eq!(told(json!({"a": 1, "b": "x", "c": 3, "d": 4, "e": 5})), "its fingerprint is f, this one's g");
    assert_eq!(told(json!({"a": 1, "b": "y", "c": 3, "d": 4, "e": 5})), r#"b is "x" there and "y" here"#);
    assert_eq!(
        told(json!({"c": 3, "f": 6})),
        r#"a is 1 there and unset here; b is "x" there and unset here; d is 4 there and unset here; 2 more differences"#
    );
}
