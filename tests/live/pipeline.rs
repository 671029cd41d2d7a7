//! A log in a directory of its own, runs over it, and what their store holds.

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Rows, by table.
pub(crate) type Content = BTreeMap<String, Vec<String>>;

/// Settings that make small logs interesting: many ticks and slides, late events, short sequences.
pub(crate) const SETTINGS: [&str; 6] = [
    "time.tick=5s",
    "popular.slide=20s",
    "popular.window=10m",
    "recent.length=4",
    "time.lateness=3s",
    "state.snapshot_interval=1ms",
];

pub(crate) struct Pipeline {
    directory: tempfile::TempDir,
    files: Vec<PathBuf>,
    settings: Vec<String>,
}

impl Pipeline {
    /// A generated log of `events` events in `partitions` files.
    pub(crate) fn generated(events: usize, partitions: usize) -> Pipeline {
        Pipeline::generated_with(events, partitions, &["--rubbish", "0.01"])
    }

    /// The same without rubbish, with `options` of the generator.
    pub(crate) fn generated_with(events: usize, partitions: usize, options: &[&str]) -> Pipeline {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log.csv");
        let mut command = eddyline();
        command.arg("generate").arg(&log).args([
            "--events",
            &events.to_string(),
            "--partitions",
            &partitions.to_string(),
        ]);
        command.args(["--users", "300", "--items", "200", "--duration", "2h", "--late", "0.02"]);
        command.args(options);
        succeed(&mut command);
        let files = match partitions {
            1 => vec![log],
            _ => (0..partitions).map(|partition| directory.path().join(format!("log-{partition}.csv"))).collect(),
        };
        Pipeline { directory, files, settings: SETTINGS.map(String::from).to_vec() }
    }

    /// An empty log of `partitions` files.
    pub(crate) fn empty(partitions: usize) -> Pipeline {
        let directory = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> =
            (0..partitions).map(|partition| directory.path().join(format!("log-{partition}.csv"))).collect();
        files.iter().for_each(|file| std::fs::write(file, "").unwrap());
        Pipeline { directory, files, settings: SETTINGS.map(String::from).to_vec() }
    }

    pub(crate) fn set(mut self, setting: &str) -> Pipeline {
        self.settings.push(setting.to_owned());
        self
    }

    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configured(&self, verb: &str) -> Command {
        self.configured_with(verb, self.files.len())
    }

    /// With the first so many files of the log.
    fn configured_with(&self, verb: &str, files: usize) -> Command {
        let mut command = eddyline();
        command.arg(verb).args(&self.files[..files]).args(["--log-name", "test"]);
        self.settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        command
    }

    /// A live run into `store`, with its state beside it.
    pub(crate) fn run(&self, store: &str) -> Command {
        self.run_with(store, self.files.len())
    }

    /// The same when there are only the first so many files.
    pub(crate) fn run_with(&self, store: &str, files: usize) -> Command {
        let mut command = self.configured_with("run", files);
        command.arg("--store").arg(self.path(store)).arg("--state").arg(self.path(&format!("{store}.state")));
        command
    }

    /// The generations in the state of the run into `store`, oldest first.
    pub(crate) fn generations(&self, store: &str) -> Vec<PathBuf> {
        let state = self.path(&format!("{store}.state"));
        let mut generations: Vec<PathBuf> = std::fs::read_dir(state)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("generation-"))
            .collect();
        generations.sort();
        generations
    }

    /// The journal of the run into `store`.
    pub(crate) fn journal(&self, store: &str) -> PathBuf {
        self.generations(store).last().unwrap().join("journal.jsonl")
    }

    /// F of the newest snapshot of the run into `store`, ms.
    pub(crate) fn snapshot(&self, store: &str) -> u64 {
        let directory = self.generations(store).pop().unwrap();
        let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let is_manifest = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("manifest-");
        let newest = names.filter(is_manifest).max().expect("there is a snapshot");
        let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(newest).unwrap()).unwrap();
        manifest["frontier"].as_u64().unwrap()
    }

    /// T of the newest sequences in `store`, ms.
    pub(crate) fn newest_tick(&self, store: &str) -> u64 {
        let connection = Connection::open_with_flags(self.path(store), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let newest = connection.query_row("SELECT max(time) FROM recent", [], |row| row.get::<_, i64>(0));
        u64::try_from(newest.unwrap()).unwrap()
    }

    /// What a replay of the log holds, with the journal of the run into `store`, if there is one.
    pub(crate) fn replayed(&self, journal_of: Option<&str>) -> Content {
        let store = self.path("replayed.db");
        let mut command = self.configured("replay");
        command.arg("--store").arg(&store).arg("--purge");
        if let Some(store) = journal_of {
            command.arg("--journal").arg(self.journal(store));
        }
        succeed(&mut command);
        content(&store)
    }

    /// How many records the run into `store` has logged, rejected ones too.
    pub(crate) fn logged(&self, store: &str) -> usize {
        let Ok(connection) = Connection::open_with_flags(self.path(store), OpenFlags::SQLITE_OPEN_READ_ONLY) else {
            return 0;
        };
        let count = "SELECT (SELECT count(*) FROM record) + (SELECT count(*) FROM rejected)";
        connection.query_row(count, [], |row| row.get::<_, i64>(0)).map_or(0, |count| usize::try_from(count).unwrap())
    }

    pub(crate) fn content(&self, store: &str) -> Content {
        content(&self.path(store))
    }
}

pub(crate) fn eddyline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eddyline"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("EDDYLINE_LOG", "info");
    command
}

/// Runs a command to its end, which must be good.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Asks a run to stop, and waits for that.
pub(crate) fn stop(run: Child) -> Output {
    assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// All rows that do not depend on the way there.
pub(crate) fn content(store: &Path) -> Content {
    let connection = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let tables =
        ["record", "recommendation", "recommendation_latest", "popular", "popular_latest", "recent", "rejected"];
    tables
        .into_iter()
        .map(|table| {
            let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = statement.column_count();
            let rows = statement.query_map([], |row| {
                (0..columns).map(|column| row.get(column).map(|value: Value| format!("{value:?}"))).collect()
            });
            let mut rows: Vec<String> =
                rows.unwrap().map(|row: rusqlite::Result<Vec<String>>| row.unwrap().join("|")).collect();
            rows.sort();
            (table.to_owned(), rows)
        })
        .collect()
}

/// Fails with the first difference, not with all rows.
pub(crate) fn assert_same(found: &Content, expected: &Content, what: &str) {
    for (table, rows) in expected {
        let found = &found[table];
        let missing = rows.iter().find(|row| found.binary_search(row).is_err());
        let extra = found.iter().find(|row| rows.binary_search(row).is_err());
        assert!(
            missing.is_none() && extra.is_none() && found.len() == rows.len(),
            "{what}: {table} has {} rows for {}; first missing: {missing:?}; first extra: {extra:?}",
            found.len(),
            rows.len()
        );
    }
}

/// In ms since 1970. Where all partitions are idle, today's clock moves none with events of tomorrow.
pub(crate) fn tomorrow() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now + Duration::from_secs(86_400)).as_millis().to_string()
}

/// Waits until `done` says so, which must be soon.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what} has not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
