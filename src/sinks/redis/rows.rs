//! From batches to chunks of keys and values.

use super::schema::Keys;
use crate::sinks::Batch;
use crate::sinks::identity::RunIdentity;
use crate::sinks::ids::OutputIds;
use crate::sinks::json::{push_i64, push_list, push_u64};
use crate::sinks::newest::Newest;
use dataflows::event::{ItemId, Time};
use dataflows::lists::Lists;
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use redis::Cmd;

/// How many bytes of keys and values a chunk has at least, unless it is the last one. A server does nothing else while it
/// writes one: for about a millisecond.
const CHUNK_BYTES: usize = 32 << 10;

/// What a batch's rows become: of each user the newest ones.
pub(super) struct RowWriter {
    keys: Keys,
    /// What ends a recommendation.
    model: String,
    ids: OutputIds,
    recent: Newest<()>,
    recommendations: Newest<()>,
}

/// Keys that change together, and what they become.
#[derive(Default)]
pub(super) struct Chunk {
    strings: Words,
    /// A value for each string, none to delete it.
    values: Words,
    lists: Words,
    /// Of each list its length and items.
    items: Words,
    /// Fields and values for the meta hash.
    meta: Words,
}

impl RowWriter {
    pub(super) fn new(keys: Keys, run: &RunIdentity) -> RowWriter {
        let model = serde_json::Value::from(run.model.clone());
        RowWriter {
            keys,
            model: format!(",\"model\":{model}}}"),
            ids: run.ids.clone(),
            recent: Newest::new(),
            recommendations: Newest::new(),
        }
    }

    /// Adds the rows of `batch`, without those before `durable`, which are there.
    pub(super) fn write(&mut self, batch: &Batch, durable: Time) {
        self.write_recent(&batch.recent, durable);
        self.write_recommendations(&batch.recommendations, durable);
    }

    /// How much memory the rows take that wait, roughly, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.recent.bytes() + self.recommendations.bytes()
    }

    fn write_recent(&mut self, rows: &Lists<SequenceKey>, durable: Time) {
        let first = rows.keys().partition_point(|key| key.time < durable);
        for i in first..rows.len() {
            let (key, items) = rows.row(i);
            if let Some(user) = self.ids.key_user(key.user) {
                self.recent.push(user, key.time, (), |out| {
                    push_list(out, items.iter().filter_map(|&item| self.ids.listed_item(item)));
                });
            }
        }
    }

    fn write_recommendations(&mut self, rows: &Lists<RecommendationKey>, durable: Time) {
        let first = rows.keys().partition_point(|key| key.time < durable);
        for i in first..rows.len() {
            let (key, items) = rows.row(i);
            if let Some(user) = self.ids.key_user(key.user) {
                let (ids, model) = (&self.ids, &self.model);
                self.recommendations.push(user, key.time, (), |out| push_recommendation(out, key, items, ids, model));
            }
        }
    }

    /// All rows that wait, in chunks; at least one chunk.
    pub(super) fn chunks(&mut self) -> Vec<Chunk> {
        let mut chunks = vec![Chunk::default()];
        let mut key = String::new();
        // Kept apart, a user's list and recommendation need not be in one chunk.
        let keys = &self.keys;
        let written: Result<(), ()> = self.recommendations.drain(|user, _, (), value| {
            keys.recommendation(user, &mut key);
            open(&mut chunks).set(&key, value);
            Ok(())
        });
        let written = written.and_then(|()| {
            self.recent.drain(|user, _, (), list| {
                keys.recent(user, &mut key);
                let items = list.strip_prefix(b"[").and_then(|list| list.strip_suffix(b"]")).unwrap_or_default();
                let length = if items.is_empty() { 0 } else { items.iter().filter(|&&byte| byte == b',').count() + 1 };
                open(&mut chunks).replace(&key, length, items.split(|&byte| byte == b',').take(length));
                Ok(())
            })
        });
        debug_assert!(written.is_ok(), "neither closure fails");
        chunks
    }

    /// Adds the newest list to a chunk, and the keys of its ranks if `legacy` says so; those beyond its end, up to `ranks`, go.
    /// Returns how many there are then.
    pub(super) fn show(&self, chunk: &mut Chunk, list: Option<&PopularList>, legacy: bool, ranks: usize) -> usize {
        let listed = list.iter().flat_map(|list| &list.items).filter_map(|&(item, _)| self.ids.listed_item(item));
        let items: Vec<String> = listed.map(|item| item.to_string()).collect();
        chunk.replace(&self.keys.popular(), items.len(), items.iter().map(String::as_bytes));
        let shown = if legacy { items.len() } else { 0 };
        for (rank, item) in (1..=shown).zip(&items) {
            chunk.set(&self.keys.legacy(rank), item.as_bytes());
        }
        for rank in shown + 1..=ranks {
            chunk.delete(&self.keys.legacy(rank));
        }
        shown
    }
}

/// The chunk that has room.
fn open(chunks: &mut Vec<Chunk>) -> &mut Chunk {
    if chunks.last().is_none_or(|chunk| chunk.bytes() >= CHUNK_BYTES) {
        chunks.push(Chunk::default());
    }
    let last = chunks.len() - 1;
    &mut chunks[last]
}

/// The canonical line's fields without the user, and the model.
fn push_recommendation(out: &mut Vec<u8>, key: &RecommendationKey, items: &[ItemId], ids: &OutputIds, model: &str) {
    out.extend_from_slice(b"{\"time\":");
    push_u64(out, key.time);
    out.extend_from_slice(b",\"items\":");
    push_list(out, items.iter().filter_map(|&item| ids.listed_item(item)));
    out.extend_from_slice(b",\"from_model\":");
    push_u64(out, u64::from(key.from_model));
    out.extend_from_slice(b",\"last_reward\":");
    push_i64(out, key.last_reward);
    out.extend_from_slice(model.as_bytes());
}

impl Chunk {
    /// A string becomes `value`, which is not empty.
    pub(super) fn set(&mut self, key: &str, value: &[u8]) {
        self.strings.push(key.as_bytes());
        self.values.push(value);
    }

    /// A string goes.
    pub(super) fn delete(&mut self, key: &str) {
        self.set(key, b"");
    }

    /// A list becomes the `length` items; without any, it goes.
    pub(super) fn replace<'a>(&mut self, key: &str, length: usize, items: impl Iterator<Item = &'a [u8]>) {
        self.lists.push(key.as_bytes());
        let mut text = Vec::with_capacity(20);
        push_u64(&mut text, length as u64);
        self.items.push(&text);
        items.for_each(|item| self.items.push(item));
    }

    /// A field of the meta hash becomes `value`.
    pub(super) fn note(&mut self, field: &str, value: &str) {
        self.meta.push(field.as_bytes());
        self.meta.push(value.as_bytes());
    }

    fn bytes(&self) -> usize {
        [&self.strings, &self.values, &self.lists, &self.items]
            .iter()
            .map(|words| words.text.len() + 8 * words.ends.len())
            .sum()
    }

    /// The call of the script that writes it. `number`: the chunk's, which grows by one with each.
    pub(super) fn command(&self, script: &str, meta: &str, writer: &str, number: u64) -> Cmd {
        let (strings, lists) = (self.strings.ends.len(), self.lists.ends.len());
        let words = [&self.strings, &self.values, &self.lists, &self.items, &self.meta];
        let count = words.iter().map(|words| words.ends.len()).sum::<usize>() + 8;
        let mut command = Cmd::with_capacity(count, words.iter().map(|words| words.text.len()).sum::<usize>() + 200);
        command.arg("EVALSHA").arg(script).arg(1 + strings + lists).arg(meta);
        self.strings.add_to(&mut command);
        self.lists.add_to(&mut command);
        command.arg(writer).arg(number).arg(strings).arg(self.meta.ends.len());
        for words in [&self.meta, &self.values, &self.items] {
            words.add_to(&mut command);
        }
        command
    }
}

/// Many short texts, one after another.
#[derive(Default)]
struct Words {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    fn push(&mut self, word: &[u8]) {
        self.text.extend_from_slice(word);
        self.ends.push(self.text.len());
    }

    fn add_to(&self, command: &mut Cmd) {
        let mut start = 0;
        for &end in &self.ends {
            command.arg(&self.text[start..end]);
            start = end;
        }
    }
}
