//! A log in a topic, runs over it, and what must come of them.

use crate::cluster;
use crate::pipeline::{Content, Pipeline, SETTINGS, assert_same, eddyline, succeed};
use crate::services::variable;
use crate::stores::{Stores, sql};
use crate::table::effort;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use url::Url;

/// A topic that holds a generated log, and the replay of that log.
pub(crate) struct World {
    pipeline: Pipeline,
    pub(crate) brokers: String,
    pub(crate) topic: String,
}

/// Runs that have one state and write to the same stores.
pub(crate) struct Target<'a> {
    pub(crate) world: &'a World,
    pub(crate) stores: Stores,
    state: PathBuf,
    expected: Content,
}

impl World {
    /// On the broker that all tests share; `None` where tests are skipped.
    pub(crate) fn new(events: usize, partitions: usize) -> Option<World> {
        Some(World::on(&variable("EDDYLINE_TEST_KAFKA")?, events, partitions))
    }

    pub(crate) fn on(brokers: &str, events: usize, partitions: usize) -> World {
        World::of(brokers, Pipeline::generated(events, partitions))
    }

    /// The log of `pipeline`, in a topic.
    pub(crate) fn of(brokers: &str, pipeline: Pipeline) -> World {
        let partitions = pipeline.files().len();
        for file in pipeline.files() {
            // Blank lines are no messages.
            let text = std::fs::read(file).unwrap();
            let lines = text.split_inclusive(|byte| *byte == b'\n');
            let kept: Vec<&[u8]> = lines.filter(|line| !line.trim_ascii().is_empty()).collect();
            std::fs::write(file, kept.concat()).unwrap();
        }
        let topic = cluster::topic(brokers, i32::try_from(partitions).unwrap());
        let mut command = eddyline();
        command.arg("produce").args(pipeline.files()).args(["--brokers", brokers, "--topic", &topic]);
        succeed(command.args(["--partition-by", "file", "-q"]));
        pipeline.replayed(None);
        World { pipeline, brokers: brokers.to_owned(), topic }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.pipeline.path(name)
    }

    /// All four stores, on the servers that all tests share, with nothing in them; `None` where tests are skipped.
    pub(crate) fn all_stores(&self) -> Option<Stores> {
        let name = unused_name();
        Some(Stores {
            embedded: Some(self.path(&format!("{name}.db"))),
            mongodb: Some((variable("EDDYLINE_TEST_MONGODB")?, name.clone())),
            mysql: Some(mysql_database(&variable("EDDYLINE_TEST_MYSQL")?)),
            redis: Some((Url::parse(&variable("EDDYLINE_TEST_REDIS")?).unwrap(), format!("{name}:"))),
        })
    }

    /// The embedded store alone.
    pub(crate) fn embedded(&self) -> Stores {
        Stores { embedded: Some(self.path(&format!("{}.db", unused_name()))), ..Stores::default() }
    }

    /// Runs that write to `stores`.
    pub(crate) fn target(&self, stores: Stores) -> Target<'_> {
        let state = self.path(&format!("{}.state", unused_name()));
        let expected = stores.expected(&self.path("replayed.db"));
        Target { world: self, stores, state, expected }
    }
}

impl Target<'_> {
    /// A run to the end of the log.
    pub(crate) fn run(&self) -> Command {
        let mut command = self.run_on();
        command.arg("--until-end");
        command
    }

    /// A run that does not end by itself.
    pub(crate) fn run_on(&self) -> Command {
        let mut command = eddyline();
        command.args(["run", "--log-name", "test", "--state"]).arg(&self.state);
        let topic = [format!("kafka.brokers={}", self.world.brokers), format!("kafka.topic={}", self.world.topic)];
        for setting in SETTINGS.iter().copied().chain(topic.iter().map(String::as_str)) {
            command.args(["--set", setting]);
        }
        command.args(self.stores.options());
        command
    }

    /// Puts the state elsewhere, before the first run.
    pub(crate) fn set_state(&mut self, path: PathBuf) {
        self.state = path;
    }

    pub(crate) fn state(&self) -> &PathBuf {
        &self.state
    }

    /// Whether something has been written to the first store, and the last one is not finished.
    pub(crate) fn is_between_first_and_last_write(&self) -> bool {
        self.stores.has_records() && !self.stores.is_last_finished()
    }

    /// Every store holds what it must.
    pub(crate) fn check(&self, what: &str) {
        assert_same(&self.stores.content(), &self.expected, what);
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stores.clear();
        }
    }
}

/// A run that is killed if its test fails.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn spawn(command: &mut Command) -> Running {
        Running(Some(command.spawn().unwrap()))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child().try_wait().unwrap()
    }

    /// It has not ended; if it has, what it said is told.
    pub(crate) fn goes_on(&mut self) {
        if let Some(status) = self.ended() {
            let mut said = String::new();
            let _ = self.child().stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
            panic!("it has ended by itself: {status}: {said}");
        }
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child().kill();
    }

    pub(crate) fn terminate(&mut self) {
        self.signal("TERM");
    }

    pub(crate) fn signal(&mut self, signal: &str) {
        let (signal, id) = (format!("-{signal}"), self.child().id().to_string());
        assert!(Command::new("kill").args([signal, id]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn output(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    /// Waits for its end, which must be good.
    pub(crate) fn succeed(self) -> Output {
        let output = self.output();
        assert!(output.status.success(), "{}", stderr(&output));
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How much log a run has, for `cargo test` and for all of it.
pub(crate) fn events() -> usize {
    if effort() == 1 { 4_000 } else { 10_000 }
}

pub(crate) fn unused_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("eddyline_faults_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A database that is made for it.
pub(crate) fn mysql_database(address: &str) -> Url {
    let (mut url, name) = (Url::parse(address).unwrap(), unused_name());
    sql(&url, &format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4"));
    url.set_path(&name);
    url
}

/// Whether a run was killed; otherwise it must have ended well.
pub(crate) fn was_killed(output: &Output) -> bool {
    const SIGKILL: i32 = 9;
    if output.status.signal() == Some(SIGKILL) {
        return true;
    }
    assert!(output.status.success(), "{:?}: {}", output.status, stderr(output));
    false
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
