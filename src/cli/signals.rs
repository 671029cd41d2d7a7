//! Ctrl-C and SIGTERM: the first asks for a clean end, the second ends the process at once.

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What shells expect of a process that a signal ended.
const EXIT_BASE: i32 = 128;

/// A flag that becomes true when the process is asked to stop.
pub(super) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset and sets it, the second finds it set.
        flag::register_conditional_shutdown(signal, EXIT_BASE + signal, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .context("can't handle signals")?;
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    /// Signals are the process's own, so a child gets them: this test again, with a variable set.
    #[test]
    fn the_first_asks_and_the_second_ends() {
        const VARIABLE: &str = "TEST_WAITS_FOR_SIGNALS";
        if std::env::var_os(VARIABLE).is_some() {
            return wait_for_signals();
        }
        let mut child = Command::new(std::env::current_exe().expect("tests have a file"))
            .args(["--exact", "cli::signals::tests::the_first_asks_and_the_second_ends", "--nocapture"])
            .env(VARIABLE, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut told = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        for expected in ["ready", "asked"] {
            assert_eq!(told.next().expect("it waits").expect("it is text"), expected);
            let kill = format!("kill -INT {}", child.id());
            assert!(Command::new("sh").args(["-c", &kill]).status().expect("there is a shell").success());
        }
        assert_eq!(child.wait().expect("it ends").code(), Some(130));
    }

    fn wait_for_signals() {
        let stop = stop_flag().expect("signals can be handled");
        let tell = |what: &str| writeln!(std::io::stderr(), "{what}").expect("the parent reads");
        tell("ready");
        let pause = || std::thread::sleep(Duration::from_millis(5));
        while !stop.load(Ordering::Relaxed) {
            pause();
        }
        tell("asked");
        // So that a parent that has gone does not leave a child for ever.
        (0..12_000).for_each(|_| pause());
    }
}
