//! Servers that tests need: one that all share, from the environment, and such as a test starts for itself.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A variable of `scripts/with-services`. Without it a test is skipped, unless that is forbidden.
pub(crate) fn variable(name: &str) -> Option<String> {
    let value = env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        skip(&format!("{name} is not set"));
    }
    value
}

#[expect(clippy::print_stderr, reason = "a skipped test must show")]
fn skip(reason: &str) {
    assert_ne!(env::var("EDDYLINE_REQUIRE_SERVICES").as_deref(), Ok("1"), "{reason}");
    eprintln!("SKIP: {reason}: run scripts/test");
}

/// A server of a test's own, to be killed, and gone when it is dropped.
pub(crate) struct Server {
    script: &'static str,
    name: &'static str,
    directory: tempfile::TempDir,
    address: String,
}

impl Server {
    /// `script`: one of `scripts/services`; `variable`: the one in which it tells the address. `None` where the test is skipped.
    pub(crate) fn start(script: &'static str, name: &'static str) -> Option<Server> {
        Server::start_with(script, name, "")
    }

    /// With words of its command line, if its script takes them.
    pub(crate) fn start_with(script: &'static str, name: &'static str, options: &str) -> Option<Server> {
        // Whoever has the shared server has installed it.
        variable(name)?;
        let mut server = Server { script, name, directory: tempfile::tempdir().unwrap(), address: String::new() };
        server.set_options(options);
        let told = server.run("start");
        let address = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        server.address = address.unwrap_or_else(|| panic!("no {name} in {told:?}")).to_owned();
        Some(server)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Its data, and what else its script puts there.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// From the next start on.
    pub(crate) fn set_options(&self, options: &str) {
        fs::write(self.directory.path().join("options"), options).unwrap();
    }

    /// After [`Server::kill`] or [`Server::stop`]: on the same port, with the same data.
    pub(crate) fn restart(&self) {
        self.run("start");
    }

    pub(crate) fn kill(&self) {
        self.run("kill");
    }

    pub(crate) fn stop(&self) {
        self.run("stop");
    }

    fn run(&self, action: &str) -> String {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/services").join(self.script);
        // Told of a server, a script may start none.
        stdout(Command::new(script).arg(action).arg(self.directory.path()).env_remove(self.name))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command, which must succeed.
pub(crate) fn stdout(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
