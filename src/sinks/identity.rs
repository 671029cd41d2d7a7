//! Whose results a sink holds: what every sink is told of the run that writes to it.

use serde_json::{Map, Value};

/// What a sink remembers of the pipeline that fills it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Equal for two pipelines if and only if all their results are equal. Opaque here.
    pub fingerprint: String,
    /// What the fingerprint was made of, for people: shown when two of them differ.
    pub parts: Map<String, Value>,
}

/// What to do with a sink that holds the results of another pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtherPipeline {
    /// Refuse, and say in what the two differ.
    #[default]
    Refuse,
    /// Build a new generation beside the old one; it takes the old one's place in one step, at [`super::Sink::finish`].
    /// Until then readers see the old one, undisturbed. If this run is killed, the next one goes
    /// on with it. A sink that has no way to do so refuses.
    NewGeneration,
    /// Delete all rows first, also those of the same pipeline.
    Purge,
}

impl Pipeline {
    /// In what the pipeline `theirs`, whose results are there, differs from this one, for people.
    pub(crate) fn difference(&self, theirs: &Pipeline) -> String {
        const SHOWN: usize = 3;
        let mut keys: Vec<&String> = theirs.parts.keys().chain(self.parts.keys()).collect();
        keys.sort();
        keys.dedup();
        keys.retain(|&key| theirs.parts.get(key) != self.parts.get(key));
        let show = |part: Option<&Value>| part.map_or("unset".to_owned(), Value::to_string);
        let mut shown: Vec<String> = keys
            .iter()
            .take(SHOWN)
            .map(|&key| {
                format!("{key} is {} there and {} here", show(theirs.parts.get(key)), show(self.parts.get(key)))
            })
            .collect();
        match keys.len() {
            0 => return format!("its fingerprint is {}, this one's {}", theirs.fingerprint, self.fingerprint),
            n if n > SHOWN => shown.push(format!("{} more differences", n - SHOWN)),
            _ => {}
        }
        shown.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_told_in_few_words() {
        let pipeline = |fingerprint: &str, parts| {
            let Value::Object(parts) = parts else { unreachable!("tests pass objects") };
            Pipeline { fingerprint: fingerprint.into(), parts }
        };
        let theirs = pipeline("f", json!({"a": 1, "b": "x", "c": 3, "d": 4, "e": 5}));
        let told = |parts| pipeline("g", parts).difference(&theirs);
        assert_eq!(told(json!({"a": 1, "b": "x", "c": 3, "d": 4, "e": 5})), "its fingerprint is f, this one's g");
        assert_eq!(told(json!({"a": 1, "b": "y", "c": 3, "d": 4, "e": 5})), r#"b is "x" there and "y" here"#);
        assert_eq!(
            told(json!({"c": 3, "f": 6})),
            r#"a is 1 there and unset here; b is "x" there and unset here; d is 4 there and unset here; 2 more differences"#
        );
    }
}
