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
