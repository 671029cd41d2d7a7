//! What of the configuration can change a result, in one hash.

use super::sections::{
    BehaviorSection, Config, ModelSection, OutputSection, PopularSection, RecentSection, RecommendSection,
    SourceSection, TimeSection,
};
use serde_json::json;

impl Config {
    /// A blake3 hash (64 hex digits) of every value that can change a byte of an output: two configurations with the same
    /// fingerprint give the same outputs for the same logs, models and journal (contract, sections 2 and 5).
    ///
    /// It does not depend on how a value was written ("60m" or "1h") or where it was set. It leaves out where things are
    /// (`model.dir`, whose content has a hash of its own, and `output.redis_prefix`), what only decides when a journal
    /// entry is made (`time.idle`), and what only costs memory (`popular.arrange`, `recent.arrange`).
    /// `recent.length = "auto"` counts as the length given here, which [`Config::sequence_length`] finds.
    pub fn fingerprint(&self, recent_length: usize) -> String {
        blake3::hash(self.canonical(recent_length).to_string().as_bytes()).to_hex().to_string()
    }

    /// Taken apart field by field, so that a new key does not compile before it is decided whether it belongs here.
    /// `serde_json` sorts keys.
    fn canonical(&self, recent_length: usize) -> serde_json::Value {
        let Config { time, popular, recent, recommend, model, source, behaviors, output, .. } = self;
        // The other sections say where a live run finds its input and puts its output, which changes no byte of it, and how
        // models are made, whose files have hashes of their own.
        let Config { state: _, kafka: _, stores: _, serve: _, train: _, .. } = self;
        let TimeSection { lateness, late, tick, idle: _ } = time;
        let PopularSection { window, slide, top, weights, arrange: _ } = popular;
        let RecentSection { length: _, arrange: _ } = recent;
        let RecommendSection { n, min_history, exclude, reward } = recommend;
        let ModelSection { dir: _, algorithm, seed } = model;
        let SourceSection { format, columns, delimiter, header, time_unit, max_jump } = source;
        let BehaviorSection { names, rewards } = behaviors;
        let OutputSection { ids, time_format, time_zone, int32, consumed_max, redis_prefix: _ } = output;
        json!({
            "time": { "lateness": lateness, "late": late, "tick": tick },
            "popular": { "window": window, "slide": slide, "top": top, "weights": weights },
            "recent": { "length": recent_length },
            "recommend": { "n": n, "min_history": min_history, "exclude": exclude, "reward": reward },
            "model": { "algorithm": algorithm, "seed": seed },
            "source": {
                "format": format, "columns": columns, "delimiter": delimiter, "header": header,
                "time_unit": time_unit, "max_jump": max_jump,
            },
            "behaviors": { "names": names, "rewards": rewards },
            "output": {
                "ids": ids, "time_format": time_format, "time_zone": time_zone, "int32": int32,
                "consumed_max": consumed_max,
            },
        })
    }
}
