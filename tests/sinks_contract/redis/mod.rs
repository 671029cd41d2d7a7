//! Redis. What a database holds is read by the server's own client.

mod contract;
mod faults;
mod fencing;
mod refusals;

use super::replay::Replay;
use super::services::{stdout, variable};
use super::subjects::{Content, Subject, run_identity};
use eddyline::secret::Secret;
use eddyline::sinks::Sink;
use eddyline::sinks::identity::RunIdentity;
use eddyline::sinks::redis::{RedisOptions, RedisSink, TimeLimits};
use eddyline::sinks::stop::Stop;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use url::Url;

const VARIABLE: &str = "EDDYLINE_TEST_REDIS";

/// A database of a test's own, emptied when it is made and dropped.
struct Scratch {
    url: Url,
    prefix: String,
}

impl Scratch {
    /// On the shared server. `None` where the test is skipped.
    fn new() -> Option<Scratch> {
        Some(Scratch::at(&variable(VARIABLE)?))
    }

    fn at(address: &str) -> Scratch {
        // 0 is left to those who see to it themselves.
        static MADE: AtomicU32 = AtomicU32::new(1);
        let mut url = Url::parse(address).unwrap();
        url.set_path(&MADE.fetch_add(1, Ordering::Relaxed).to_string());
        let scratch = Scratch { url, prefix: "shop:".into() };
        scratch.cli(&["FLUSHDB"]);
        scratch
    }

    /// As messages name it.
    fn place(&self) -> String {
        format!("Redis at {}:{}{}", self.url.host_str().unwrap(), self.url.port().unwrap(), self.url.path())
    }

    fn options(&self) -> RedisOptions {
        RedisOptions {
            url: Secret::new(self.url.as_str()),
            prefix: self.prefix.clone(),
            legacy_keys: true,
            limits: TimeLimits::default(),
        }
    }

    fn open(&self, run: &RunIdentity) -> RedisSink {
        RedisSink::open(&self.options(), run, &Stop::default()).unwrap()
    }

    fn command(&self) -> Command {
        let url = &self.url;
        let mut command = Command::new("redis-cli");
        command.args(["-h", url.host_str().unwrap(), "-p", &url.port().unwrap().to_string()]);
        command.args(["-n", url.path().trim_start_matches('/')]);
        command.env("REDISCLI_AUTH", url.password().unwrap_or_default());
        command
    }

    /// What the server's own client prints for one command.
    fn cli(&self, words: &[&str]) -> String {
        stdout(self.command().arg("-e").args(words)).trim_end().to_owned()
    }

    /// What it prints for many, each as JSON.
    fn json(&self, commands: &[String]) -> Vec<serde_json::Value> {
        let mut child =
            self.command().args(["-2", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let text = commands.join("\n") + "\n";
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let answers: Vec<_> = serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
        assert_eq!(answers.len(), commands.len(), "{text}");
        answers
    }

    fn meta(&self, field: &str) -> String {
        self.cli(&["HGET", &format!("{}eddyline_meta", self.prefix), field])
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.cli(&["FLUSHDB"]);
        }
    }
}

fn run() -> RunIdentity {
    run_identity(None)
}

fn live(epoch: u64) -> RunIdentity {
    run_identity(Some(epoch))
}

fn write_all(sink: &mut RedisSink, replay: &Replay, cut: u64) {
    for batch in replay.batches(cut) {
        sink.write(&batch).unwrap();
    }
    sink.finish(&replay.end()).unwrap();
}

/// All keys with the prefix, without it, but for the meta hash: their types, and what they hold.
fn content(scratch: &Scratch) -> Content {
    content_of(scratch, &scratch.prefix)
}

fn content_of(scratch: &Scratch, prefix: &str) -> Content {
    let found = scratch.json(&[format!("KEYS {prefix}*")]).remove(0);
    let keys: Vec<String> = found.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect();
    let kinds = scratch.json(&keys.iter().map(|key| format!("TYPE {key}")).collect::<Vec<_>>());
    let read = |(key, kind): (&String, &serde_json::Value)| match kind.as_str().unwrap() {
        "string" => format!("GET {key}"),
        "list" => format!("LRANGE {key} 0 -1"),
        other => format!("ECHO {other}"),
    };
    let values = scratch.json(&keys.iter().zip(&kinds).map(read).collect::<Vec<_>>());
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut content = Content::new();
    for ((key, kind), value) in keys.iter().zip(&kinds).zip(&values) {
        let mut lines = vec![text(kind)];
        match value.as_array() {
            Some(items) => lines.extend(items.iter().map(text)),
            None => lines.push(text(value)),
        }
        content.insert(key[prefix.len()..].to_owned(), lines);
    }
    content.remove("eddyline_meta");
    content
}

fn expected(replay: &Replay) -> Content {
    let list = |items: &[u64]| -> Vec<String> {
        std::iter::once("list".to_owned()).chain(items.iter().map(u64::to_string)).collect()
    };
    let mut content = Content::new();
    // Later times overwrite earlier ones.
    for ((_, user), items) in &replay.recent {
        content.remove(&format!("hist_{user}"));
        if !items.is_empty() {
            content.insert(format!("hist_{user}"), list(items));
        }
    }
    for ((time, user), (items, from_model, last_reward)) in &replay.recommendations {
        let items = serde_json::to_string(items).unwrap();
        let value = format!(
            "{{\"time\":{time},\"items\":{items},\"from_model\":{from_model},\"last_reward\":{last_reward},\"model\":\
             \"0123abcd\"}}"
        );
        content.insert(format!("rec_{user}"), vec!["string".into(), value]);
    }
    if let Some(newest) = replay.newest {
        let items: Vec<u64> = replay.popular[&newest].iter().map(|(item, _)| *item).collect();
        content.insert("popular".into(), list(&items));
        content.extend(
            (1..)
                .zip(&items)
                .map(|(rank, item): (u32, _)| (rank.to_string(), vec!["string".to_owned(), item.to_string()])),
        );
    }
    content
}

/// For the suite that all sinks pass: each directory has a prefix of its own.
struct Redis {
    address: String,
}

impl Redis {
    fn scratch(&self, directory: &Path) -> std::mem::ManuallyDrop<Scratch> {
        let name = directory.file_name().unwrap().to_string_lossy().replace(|c: char| !c.is_alphanumeric(), "_");
        let mut url = Url::parse(&self.address).unwrap();
        url.set_path("0");
        std::mem::ManuallyDrop::new(Scratch { url, prefix: format!("eddyline_test{name}:") })
    }
}

impl Subject for Redis {
    fn open(&self, directory: &Path) -> Box<dyn Sink> {
        Box::new(self.scratch(directory).open(&run()))
    }

    fn content(&self, directory: &Path) -> Option<Content> {
        let scratch = self.scratch(directory);
        (scratch.meta("status") == "finished").then(|| content(&scratch))
    }

    fn expected(&self, replay: &Replay) -> Content {
        expected(replay)
    }

    fn clear(&self, directory: &Path) {
        let scratch = self.scratch(directory);
        let found = scratch.json(&[format!("KEYS {}*", scratch.prefix)]).remove(0);
        let names: BTreeMap<_, _> = found.as_array().unwrap().iter().map(|key| (key.as_str().unwrap(), ())).collect();
        for name in names.keys() {
            scratch.json(&[format!("DEL {name}")]);
        }
    }
}
