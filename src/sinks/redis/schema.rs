//! The keys (contract, section 5; `docs/sinks.md` shows them to users).

use std::fmt::Write;

/// The version of the keys, kept in the meta hash.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// The names of the keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys { prefix: prefix.to_owned() }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whose results these are, and up to where: a hash.
    pub(super) fn meta(&self) -> String {
        format!("{}eddyline_meta", self.prefix)
    }

    /// The items of the newest trending list, by rank: a list.
    pub(super) fn popular(&self) -> String {
        format!("{}popular", self.prefix)
    }

    /// The item of a rank, from 1: a string.
    pub(super) fn legacy(&self, rank: usize) -> String {
        format!("{}{rank}", self.prefix)
    }

    /// A user's sequence: a list.
    pub(super) fn recent(&self, user: u64, out: &mut String) {
        write(out, &self.prefix, "hist_", user);
    }

    /// A user's newest recommendation: a string, of JSON.
    pub(super) fn recommendation(&self, user: u64, out: &mut String) {
        write(out, &self.prefix, "rec_", user);
    }

    /// What the keys of all users match, as `SCAN` has patterns, and what they are.
    pub(super) fn patterns(&self) -> [(String, &'static str); 2] {
        let mut escaped = String::new();
        for c in self.prefix.chars() {
            if "*?[]^\\".contains(c) {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        [(format!("{escaped}hist_*"), "list"), (format!("{escaped}rec_*"), "string")]
    }

    /// Whether a key that matches one of the patterns is a user's, and not only begins like one.
    pub(super) fn is_of_user(&self, key: &str) -> bool {
        let name = key.strip_prefix(&self.prefix).unwrap_or(key);
        let user = name.strip_prefix("hist_").or_else(|| name.strip_prefix("rec_")).unwrap_or_default();
        !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// What an ACL has to allow.
    pub(super) fn pattern(&self) -> String {
        format!("{}*", self.prefix)
    }
}

fn write(out: &mut String, prefix: &str, kind: &str, user: u64) {
    out.clear();
    // Writing to a string does not fail.
    let _ = write!(out, "{prefix}{kind}{user}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_contract() {
        let keys = Keys::new("shop:");
        let mut out = String::from("x");
        keys.recent(7, &mut out);
        assert_eq!(out, "shop:hist_7");
        keys.recommendation(u64::MAX >> 1, &mut out);
        assert_eq!(out, "shop:rec_9223372036854775807");
        assert_eq!((keys.popular(), keys.legacy(17)), ("shop:popular".into(), "shop:17".into()));
        assert_eq!((Keys::new("").popular(), Keys::new("").legacy(1)), ("popular".into(), "1".into()));
        assert_eq!(Keys::new("a*[b]").patterns()[0].0, "a\\*\\[b\\]hist_*");
    }

    #[test]
    fn keys_that_only_look_alike_are_not_ours() {
        let keys = Keys::new("");
        assert!(keys.is_of_user("hist_1") && keys.is_of_user("rec_0"));
        assert!(!keys.is_of_user("hist_") && !keys.is_of_user("rec_ord") && !keys.is_of_user("rec_1a"));
        assert!(Keys::new("rec_").is_of_user("rec_rec_1"));
    }
}
