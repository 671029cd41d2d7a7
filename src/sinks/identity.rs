//! Whose results a sink holds: what every sink is told of the run that writes to it.

use super::ids::OutputIds;
use dataflows::event::Time;
use dataflows::time::Steps;
use serde_json::{Map, Value};
use std::hash::{BuildHasher, RandomState};

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
    /// Build a new generation beside the old one; it takes the old one's place in one step, at [`super::Sink::finish`] or
    /// [`super::Sink::promote`]. Until then readers see the old one, undisturbed. If this run is killed, the next one goes
    /// on with it. A sink that has no way to do so refuses.
    NewGeneration,
    /// Delete all rows first, also those of the same pipeline.
    Purge,
}

/// A run, and what its rows need to know (contract, section 5).
#[derive(Clone, Debug)]
pub struct RunIdentity {
    /// Whose results the sink will hold.
    pub pipeline: Pipeline,
    /// Grows by one with every start of a live run on a state directory; a sink refuses writers of a smaller one. `None` for
    /// a replay.
    pub epoch: Option<u64>,
    /// The log's 63-bit id.
    pub log: u64,
    /// The behaviours' names, by index.
    pub behaviors: Vec<String>,
    /// The model's content hash, if there is a model.
    pub model: Option<String>,
    /// `time.tick`.
    pub tick: Steps,
    /// `popular.slide`, ms.
    pub slide: Time,
    /// `output.ids`.
    pub ids: OutputIds,
    /// What if the sink holds the results of another pipeline.
    pub other_pipeline: OtherPipeline,
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

/// What a store holds, as `check` finds it, before any run opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Nothing of this program's.
    Nothing,
    /// Results of a pipeline up to a frontier, ms; of the whole log if that is [`Time::MAX`].
    Results(Time),
}

impl std::fmt::Display for Holding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = |ms: Time| {
            i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
        };
        match self {
            Holding::Nothing => f.write_str("can be used, and holds nothing yet"),
            Holding::Results(Time::MAX) => f.write_str("can be used, and holds the results of the whole log"),
            Holding::Results(frontier) => write!(f, "can be used, and holds results up to {}", time(*frontier)),
        }
    }
}

/// What is to be done with what a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Make the current generation, where there is none.
    Create,
    /// Go on with what is there: the current generation, or the next.
    Continue { next: bool },
    /// Delete everything, then make the current generation.
    Purge,
    /// Make the next generation; delete the one that another pipeline may have left half built.
    Build,
    /// Leave it alone.
    Refuse,
}

/// The plan for a store whose generations, current and next, have these fingerprints.
pub(super) fn plan(current: Option<&str>, next: Option<&str>, ours: &str, choice: OtherPipeline) -> Plan {
    match (current, choice) {
        (None, _) => Plan::Create,
        (Some(_), OtherPipeline::Purge) => Plan::Purge,
        (Some(found), _) if found == ours => Plan::Continue { next: false },
        (Some(_), OtherPipeline::Refuse) => Plan::Refuse,
        (Some(_), OtherPipeline::NewGeneration) if next == Some(ours) => Plan::Continue { next: true },
        (Some(_), OtherPipeline::NewGeneration) => Plan::Build,
    }
}

/// What tells a run from any other that opens the same sink: a map's random keys are fresh from the operating system.
pub(super) fn writer_token() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plans() {
        use OtherPipeline::{NewGeneration, Purge, Refuse};
        let (current, next) = (Plan::Continue { next: false }, Plan::Continue { next: true });
        let (ours, other) = (Some("ours"), Some("other"));
        let cases = [
            // Current, next; then the plans for: refuse, new generation, purge.
            (None, None, [Plan::Create, Plan::Create, Plan::Create]),
            (ours, None, [current, current, Plan::Purge]),
            (ours, other, [current, current, Plan::Purge]),
            (other, None, [Plan::Refuse, Plan::Build, Plan::Purge]),
            (other, other, [Plan::Refuse, Plan::Build, Plan::Purge]),
            (other, ours, [Plan::Refuse, next, Plan::Purge]),
        ];
        for (in_current, in_next, plans) in cases {
            for (choice, expected) in [Refuse, NewGeneration, Purge].into_iter().zip(plans) {
                let found = plan(in_current, in_next, "ours", choice);
                assert_eq!(found, expected, "{in_current:?}, {in_next:?}, {choice:?}");
            }
        }
    }

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
