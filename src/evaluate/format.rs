//! Numbers as people read them, alike in the table and the report.

/// Stands for a number that is not defined.
pub(super) const UNDEFINED: &str = "–";

/// 1234567 as "1,234,567".
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with a minus sign (U+2212) if it rounds to less than zero, and never "−0".
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    if value < 0.0 && text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) { format!("−{text}") } else { text }
}

/// [`fixed`] with a sign in front of positive numbers, too.
pub(super) fn signed(value: f64, decimals: usize) -> String {
    let text = fixed(value, decimals);
    if value > 0.0 && text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) { format!("+{text}") } else { text }
}

/// A number or [`UNDEFINED`].
pub(super) fn optional(value: Option<f64>, format: impl Fn(f64) -> String) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| UNDEFINED.to_owned(), format)
}

/// One form for one, another for every other count: "1 user", "1,234 users".
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(fixed(-0.00001, 3), "0.000");
        assert_eq!(fixed(-0.125, 2), "−0.12");
        assert_eq!(signed(0.5, 1), "+0.5");
        assert_eq!(signed(0.0001, 2), "0.00");
        assert_eq!(signed(-0.5, 1), "−0.5");
        assert_eq!(optional(None, |x| fixed(x, 1)), "–");
        assert_eq!(optional(Some(f64::NAN), |x| fixed(x, 1)), "–");
        assert_eq!(counted(1, "user", "users"), "1 user");
        assert_eq!(counted(0, "user", "users"), "0 users");
    }
}
