//! Messages one by one: CSV against the lines' reference, JSON against `serde_json`'s own values.

use proptest::prelude::*;
use serde_json::Value;

use super::reference::{self, Line};
use crate::sinks::RejectReason;
use crate::sources::columns::Columns;
use crate::sources::format::{Dialect, Format, TimeUnit};
use crate::sources::message::MessageFormat;

/// What a message is, in the reference's words.
fn read(format: &MessageFormat, text: &[u8], length: usize) -> Line {
    match format.read_at(text, 0..length) {
        Ok(None) => Line::Passed,
        Ok(Some(row)) => Line::Event(row.user.0, row.item.0, usize::from(row.behavior.0), row.time),
        Err(reason) => Line::Rejected(reason, format.record(&text[..length]).to_vec()),
    }
}

/// The message alone, and with others behind it, as they stand in a buffer.
fn agrees(format: &MessageFormat, message: &[u8], expected: &Line) {
    assert_eq!(&read(format, message, message.len()), expected, "{:?}", String::from_utf8_lossy(message));
    for after in [&b"\n"[..], b"\n4711,815,buy,1511544070000\n", b"\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"] {
        let text = [message, after].concat();
        assert_eq!(&read(format, &text, message.len()), expected, "{:?}", String::from_utf8_lossy(message));
    }
}

fn csv_reference(format: &Format, message: &[u8]) -> Line {
    reference::read_line(format, message.strip_suffix(b"\n").unwrap_or(message))
}

/// The rules of the contract, one after the other.
fn json_reference(dialect: &Dialect, names: [Option<&str>; 4], message: &[u8]) -> Line {
    let rejected = |reason| Line::Rejected(reason, message[..message.len().min(65_536)].to_vec());
    if message.len() > 65_536 {
        return rejected(RejectReason::TooLong);
    }
    let Ok(text) = std::str::from_utf8(message) else { return rejected(RejectReason::Encoding) };
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return rejected(RejectReason::Columns) };
    if names.iter().flatten().any(|name| !object.contains_key(*name)) {
        return rejected(RejectReason::Columns);
    }
    let text_of = |at: usize| match &object[names[at].expect("a field")] {
        Value::String(text) => Some(text.trim_matches([' ', '\t']).to_owned()),
        _ => None,
    };
    let number = |at: usize| {
        let value = match &object[names[at].expect("a field")] {
            Value::Number(number) => number.as_u64()?,
            _ => text_of(at)
                .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))?
                .parse()
                .ok()?,
        };
        (value < 1 << 63).then_some(value)
    };
    let Some(user) = number(0) else { return rejected(RejectReason::User) };
    let Some(item) = number(1) else { return rejected(RejectReason::Item) };
    let behavior = match names[2] {
        Some(_) => text_of(2).and_then(|text| dialect.behaviors.iter().position(|known| *known == text)),
        None => Some(0),
    };
    let Some(behavior) = behavior else { return rejected(RejectReason::Behavior) };
    let scale = if dialect.time_unit == TimeUnit::Seconds { 1000 } else { 1 };
    match number(3).and_then(|units| units.checked_mul(scale)) {
        Some(time) if time <= 253_402_300_799_999 => Line::Event(user, item, behavior, time),
        _ => rejected(RejectReason::Time),
    }
}

const ROLES: [Option<&str>; 4] = [Some("user"), Some("item"), Some("behavior"), Some("time")];

fn json_checked(message: &[u8]) {
    let format = MessageFormat::json(&Columns::EVENTS, Dialect::default()).expect("default columns");
    agrees(&format, message, &json_reference(&Dialect::default(), ROLES, message));
    let format = MessageFormat::json(&Columns::FLINKRL, Dialect::default()).expect("default columns");
    agrees(&format, message, &json_reference(&Dialect::default(), [ROLES[0], ROLES[1], None, ROLES[3]], message));
    let dialect = Dialect { time_unit: TimeUnit::Milliseconds, ..Dialect::default() };
    let columns = "user=u,item=product,behavior=kind,time=ts".parse().expect("pairs");
    let format = MessageFormat::json(&columns, dialect.clone()).expect("good pairs");
    let names = [Some("u"), Some("product"), Some("kind"), Some("ts")];
    agrees(&format, message, &json_reference(&dialect, names, message));
}

/// Objects that are nearly events.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        8 => proptest::sample::select(vec!["user", "item", "behavior", "time"]).prop_map(str::to_owned),
        2 => proptest::sample::select(vec!["u", "product", "kind", "ts"]).prop_map(str::to_owned),
        1 => proptest::sample::select(vec!["us\\u0065r", "\\\"", "é", "", "price"]).prop_map(str::to_owned),
    ];
    let value = prop_oneof![
        6 => "[0-9]{1,18}",
        3 => "\"[ ]?[0-9]{0,20}[\t ]?\"",
        6 => proptest::sample::select(vec!["\"pv\"", "\"cart\"", "\"fav\"", "\" buy\"", "\"p\\u0076\"", "\"sell\""])
            .prop_map(str::to_owned),
        2 => proptest::sample::select(vec![
            "null", "true", "false", "-1", "-0", "0", "00", "01", "1.5", "1.", "1e3", "-", "9223372036854775807",
            "9223372036854775808", "18446744073709551616", "[1,[2]]", "{\"user\":3}", "{}", "\"\\n\"", "\"\t\"", "\"é\"",
            "nul", "\"", "12.50", "-3.25", "0.1e2", "\"a\\\\\"",
        ])
        .prop_map(str::to_owned),
    ];
    let blank = proptest::sample::select(vec!["", "", "", " ", "\n", "\t", "\r\n"]);
    let field = (blank.clone(), name, blank.clone(), value)
        .prop_map(|(before, name, after, value)| format!("{before}\"{name}\"{after}:{before}{value}{after}"));
    let standard =
        ("[0-9]{1,12}", "[0-9]{1,19}", "[0-9]{1,13}", blank.clone()).prop_map(|(user, item, time, blank)| {
            format!("\"user\":{blank}{user},{blank}\"item\":\"{item}\",\"behavior\":\"pv\"{blank},\"time\":{time}")
        });
    let fields = prop_oneof![
        1 => standard.clone(),
        1 => (standard, proptest::collection::vec(field.clone(), 1..3))
            .prop_map(|(standard, more)| format!("{standard},{}", more.join(","))),
        2 => proptest::collection::vec(field, 0..6).prop_map(|fields| fields.join(",")),
    ];
    let end = proptest::sample::select(vec!["}", "}", "}", "} ", "}\n", "", "}}", "} x", ",}"]);
    (blank, fields, end).prop_map(|(start, fields, end)| format!("{start}{{{fields}{end}").into_bytes())
}

proptest! {
    #[test]
    fn json_is_read_as_the_rules_say(message in nearly_json(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        json_checked(&message);
        let mut spoilt = message;
        let at = at.index(spoilt.len());
        spoilt[at] = byte;
        // serde_json's values take no number beyond f64, which it otherwise reads over.
        if !spoilt.contains(&b'e') || !spoilt.windows(2).any(|pair| pair[0].is_ascii_digit() && matches!(pair[1], b'e' | b'E')) {
            json_checked(&spoilt);
        }
    }

    #[test]
    fn csv_is_read_as_its_lines_are(
        fields in proptest::collection::vec("[0-9]{0,20}|pv|buy| 7 |x|é|\n|1,2,pv,3", 0..7),
        end in proptest::sample::select(vec!["", "\n", "\r\n", "\r", "\n\n", " ", ",", "\nx"]),
        spoilt in proptest::option::of(any::<u8>()),
    ) {
        let mut message = format!("{}{end}", fields.join(",")).into_bytes();
        message.extend(spoilt);
        for columns in [Columns::EVENTS, Columns::FLINKRL, "_,time,item,user".parse().expect("a list")] {
            let format = MessageFormat::csv(&columns, Dialect::default()).expect("good columns");
            let MessageFormat::Csv(lines) = &format else { unreachable!() };
            agrees(&format, &message, &csv_reference(lines, &message));
        }
    }
}

#[test]
fn each_reason_in_its_order() {
    let format = MessageFormat::json(&Columns::EVENTS, Dialect::default()).expect("default columns");
    let long = format!("{{\"user\":1,\"more\":\"{}\"}}", "x".repeat(65_536));
    for (message, expected) in [
        (long.as_bytes(), RejectReason::TooLong),
        (b"{\"user\":\"\xFF\"}", RejectReason::Encoding),
        (b"", RejectReason::Columns),
        (b"[1,2]", RejectReason::Columns),
        (b"{\"user\":1,\"item\":2,\"behavior\":\"pv\"}", RejectReason::Columns),
        (b"{\"user\":1.0,\"item\":-2,\"behavior\":\"x\",\"time\":null}", RejectReason::User),
        (b"{\"user\":1,\"item\":-2,\"behavior\":\"x\",\"time\":null}", RejectReason::Item),
        (b"{\"user\":1,\"item\":2,\"behavior\":3,\"time\":null}", RejectReason::Behavior),
        (b"{\"user\":1,\"item\":2,\"behavior\":\"pv\",\"time\":253402300800}", RejectReason::Time),
    ] {
        assert_eq!(
            format.read(message),
            Err(expected),
            "{:?}",
            String::from_utf8_lossy(&message[..message.len().min(60)])
        );
    }
    let twice = b"{\"user\":1,\"item\":2,\"behavior\":\"pv\",\"time\":3,\"user\":\"9\"}";
    assert_eq!(format.read(twice).expect("an event").expect("a row").user.0, 9);
    let deep = format!(
        "{{\"x\":{}{},\"user\":1,\"item\":2,\"behavior\":\"pv\",\"time\":3}}",
        "[".repeat(999),
        "]".repeat(999)
    );
    assert!(format.read(deep.as_bytes()).is_ok());
}

#[test]
fn rejections_are_explained_in_one_line() {
    let format =
        MessageFormat::json(&"user=u,item=i,time=t".parse().expect("pairs"), Dialect::default()).expect("good");
    assert_eq!(
        format.explain("topic events, partition 3", 17, RejectReason::Columns, b"{\"u\":1,\n\"i\":2}"),
        "topic events, partition 3: offset 17: it is no JSON object with the fields u, i, t: `{\"u\":1,\\n\"i\":2}`"
    );
    let error = MessageFormat::csv(&"user=u,item=i,time=t".parse().expect("pairs"), Dialect::default());
    assert!(error.expect_err("no header").to_string().contains("which messages do not have"));
}
