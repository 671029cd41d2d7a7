//! Servers of MongoDB's protocol for tests.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

const VARIABLE: &str = "EDDYLINE_TEST_MONGODB";

/// The address of the server that all tests share. Without one a test is skipped, unless that is forbidden.
pub(super) fn shared() -> Option<String> {
    let address = env::var(VARIABLE).ok().filter(|address| !address.is_empty());
    if address.is_none() {
        skip("there is no MongoDB");
    }
    address
}

#[expect(clippy::print_stderr, reason = "a skipped test must show")]
fn skip(reason: &str) {
    assert_ne!(env::var("EDDYLINE_REQUIRE_SERVICES").as_deref(), Ok("1"), "{reason}");
    eprintln!("SKIP: {reason}: run scripts/test");
}

/// A server of a test's own, to be killed, and gone when it is dropped.
pub(super) struct Server {
    directory: tempfile::TempDir,
}

impl Server {
    /// `options`: further words of its command line. `None` if the server is not installed.
    pub(super) fn start(options: &str) -> Option<(Server, String)> {
        let server = Server { directory: tempfile::tempdir().unwrap() };
        server.options(options);
        // Whoever has the shared server has it from the same script.
        shared()?;
        let output = server.script("start");
        if !output.status.success() {
            skip(&format!("a MongoDB to be killed does not start ({})", text(&output.stderr)));
            return None;
        }
        Some((server, address(&output)))
    }

    pub(super) fn options(&self, options: &str) {
        fs::write(self.directory.path().join("options"), options).unwrap();
    }

    /// Of the certificate that the option `tls` gives it.
    pub(super) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// After [`Server::kill`] or [`Server::stop`]: on the same port, with the same data.
    pub(super) fn restart(&self) {
        let output = self.script("start");
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    pub(super) fn kill(&self) {
        assert!(self.script("kill").status.success());
    }

    pub(super) fn stop(&self) {
        assert!(self.script("stop").status.success());
    }

    fn script(&self, action: &str) -> Output {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/services/mongodb.sh");
        // Told of a server, the script would start none.
        Command::new(script).arg(action).arg(self.directory.path()).env_remove(VARIABLE).output().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.script("kill");
    }
}

fn address(output: &Output) -> String {
    let told = text(&output.stdout);
    told.lines().find_map(|line| line.strip_prefix(VARIABLE)?.strip_prefix('=')).unwrap().to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
