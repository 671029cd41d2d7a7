//! MySQL, by way of MariaDB. What a database holds is read by the server's own client.

mod contract;
mod faults;
mod fencing;
mod refusals;

use super::replay::Replay;
use super::services::{stdout, variable};
use super::subjects::{BEHAVIORS, Content, LOG, Subject, run_identity};
use eddyline::secret::Secret;
use eddyline::sinks::Sink;
use eddyline::sinks::identity::RunIdentity;
use eddyline::sinks::mysql::{MySqlOptions, MySqlSink, TimeLimits};
use eddyline::sinks::stop::Stop;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use url::Url;

const VARIABLE: &str = "EDDYLINE_TEST_MYSQL";

/// A database of a test's own, gone when it is dropped.
struct Scratch {
    url: Url,
}

impl Scratch {
    /// On the shared server. `None` where the test is skipped.
    fn new() -> Option<Scratch> {
        Some(Scratch::at(&variable(VARIABLE)?))
    }

    fn at(address: &str) -> Scratch {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("eddyline_test_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        Scratch::named(address, &name)
    }

    fn named(address: &str, name: &str) -> Scratch {
        let mut url = Url::parse(address).unwrap();
        let scratch = Scratch { url: url.clone() };
        scratch.sql(&format!("CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4"));
        url.set_path(name);
        Scratch { url }
    }

    fn name(&self) -> &str {
        self.url.path().trim_start_matches('/')
    }

    /// As messages name it.
    fn place(&self) -> String {
        format!("the MySQL database {} at {}", self.name(), self.server())
    }

    fn server(&self) -> String {
        format!("{}:{}", self.url.host_str().unwrap(), self.url.port().unwrap())
    }

    fn options(&self) -> MySqlOptions {
        MySqlOptions { url: Secret::new(self.url.as_str()), limits: TimeLimits::default() }
    }

    fn open(&self, run: &RunIdentity) -> MySqlSink {
        MySqlSink::open(&self.options(), run, &Stop::default()).unwrap()
    }

    /// What the server's own client prints: a line a row, fields divided by `|`.
    fn sql(&self, statements: &str) -> Vec<String> {
        let url = &self.url;
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--batch", "--skip-column-names", "--raw", "--default-character-set=utf8mb4"]);
        command.args(["-h", url.host_str().unwrap(), "-P", &url.port().unwrap().to_string(), "-u", url.username()]);
        command.args(["--init-command=SET time_zone = '+00:00'", "-e", statements]);
        command.env("MYSQL_PWD", url.password().unwrap_or_default()).arg(self.name());
        stdout(&mut command).lines().map(|line| line.replace('\t', "|")).collect()
    }

    fn meta(&self, column: &str) -> String {
        self.sql(&format!("SELECT `{column}` FROM eddyline_meta")).remove(0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.name().starts_with("eddyline_test_") && !std::thread::panicking() {
            self.sql(&format!("DROP DATABASE IF EXISTS `{}`", self.name()));
        }
    }
}

fn run() -> RunIdentity {
    run_identity(None)
}

fn live(epoch: u64) -> RunIdentity {
    run_identity(Some(epoch))
}

fn write_all(sink: &mut MySqlSink, replay: &Replay, cut: u64) {
    for batch in replay.batches(cut) {
        sink.write(&batch).unwrap();
    }
    sink.finish(&replay.end()).unwrap();
}

/// All rows of all tables but `eddyline_meta`.
fn content(scratch: &Scratch) -> Content {
    let queries = [
        (
            "record",
            "`user`, `item`, `behavior`, `time`, `late`, `log`, `partition`, `offset`",
            "`log`, `partition`, `offset`",
        ),
        ("recommendation", "`user`, `time`, `items`, `last_reward`, `from_model`, `model`", "`time`, `user`"),
        ("top", "`rank`, `item`, `count`, `window_end`", "`rank`"),
    ];
    let read = |(table, columns, order): (&str, &str, &str)| {
        (table.to_owned(), scratch.sql(&format!("SELECT {columns} FROM `{table}` ORDER BY {order}")))
    };
    queries.map(read).into()
}

fn expected(replay: &Replay) -> Content {
    let records = replay.records.values().map(|event| {
        let (partition, offset) = (event.position.partition(), event.position.offset());
        let (user, item, behavior) = (event.user.0, event.item.0, BEHAVIORS[usize::from(event.behavior.0)]);
        let (time, late) = (moment(event.time), u8::from(event.late));
        format!("{user}|{item}|{behavior}|{time}|{late}|{LOG}|{partition}|{offset}")
    });
    let recommendations = replay.recommendations.iter().map(|(&(time, user), (list, from_model, last_reward))| {
        let items = serde_json::to_string(list).unwrap();
        format!("{user}|{}|{items}|{last_reward}|{from_model}|0123abcd", moment(time))
    });
    let top = replay.newest.iter().flat_map(|window_end| {
        let ranked = (1..).zip(&replay.popular[window_end]);
        ranked.map(move |(rank, (item, count))| format!("{rank}|{item}|{count}|{}", moment(*window_end)))
    });
    BTreeMap::from([
        ("record".to_owned(), records.collect()),
        ("recommendation".to_owned(), recommendations.collect()),
        ("top".to_owned(), top.collect()),
    ])
}

fn moment(time: u64) -> String {
    let time = jiff::Timestamp::from_millisecond(time as i64).unwrap();
    time.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
}

/// For the suite that all sinks pass: each directory has a database of its own.
struct MySql {
    address: String,
}

impl MySql {
    fn scratch(&self, directory: &Path) -> std::mem::ManuallyDrop<Scratch> {
        let name: String =
            directory.file_name().unwrap().to_string_lossy().replace(|c: char| !c.is_alphanumeric(), "_");
        std::mem::ManuallyDrop::new(Scratch::named(&self.address, &format!("eddyline_test_{name}")))
    }
}

impl Subject for MySql {
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
        drop(std::mem::ManuallyDrop::into_inner(self.scratch(directory)));
    }
}
