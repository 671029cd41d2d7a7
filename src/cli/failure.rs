//! The one place where an error becomes a line on standard error and an exit code.
//!
//! Every failure is one line, `error: …`, that names what is wrong and what to do; a usage error adds where to read more.
//! A panic is a fault of the program and says so, in one line; `EDDYLINE_BACKTRACE=1` adds the backtrace. (`RUST_BACKTRACE`
//! is not enough: many machines have it set for other programs.)

use super::stdout::StdoutClosed;
use crate::config::{ConfigError, ConfigErrors};
use crate::sinks::disk;
use crate::telemetry::LogFormat;
use clap::error::ErrorKind;
use std::backtrace::Backtrace;
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit codes (contract, section 6).
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CONFIGURATION: u8 = 78;

/// Set before anything can fail twice, read when it does.
static COLORED: AtomicBool = AtomicBool::new(false);
static JSON: AtomicBool = AtomicBool::new(false);
static PANICKED: AtomicBool = AtomicBool::new(false);

/// A command line that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

/// Makes a [`UsageError`] of a message.
macro_rules! usage {
    ($($message:tt)*) => { anyhow::Error::new(crate::cli::failure::UsageError(format!($($message)*))) };
}
pub(super) use usage;

/// What is wrong was told already; this is how to exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("told already")]
pub(super) enum Told {
    Failed,
    Usage,
    Configuration,
}

/// Runs `command`, reports its failure, and says how to exit.
pub(super) fn guard(command: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(command));
    let error = match outcome {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error,
        Err(_) => return ExitCode::from(FAILED),
    };
    if error.is::<StdoutClosed>() {
        return ExitCode::SUCCESS;
    }
    // What a panic in a worker thread brought about is told already, and better.
    if !error.is::<Told>() && !PANICKED.load(Ordering::SeqCst) {
        report(&message(&error));
        if error.is::<UsageError>() && !JSON.load(Ordering::SeqCst) {
            print_line("hint", "36", "`-h` after a command shows its flags");
        }
    }
    ExitCode::from(exit_code(&error))
}

/// Shows help, or turns clap's explanation of several lines into one.
pub(super) fn usage_or_help(error: &clap::Error) -> anyhow::Result<()> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.print().or_else(super::stdout::closed_or_failed),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Err(Told::Usage.into())
        }
        _ => Err(UsageError(one_line(&error.render().to_string())).into()),
    }
}

/// Prints `error: …`.
pub(super) fn report(message: &str) {
    print_line("error", "1;31", message);
}

/// Whether errors have a colour.
pub(super) fn set_color(colored: bool) {
    COLORED.store(colored, Ordering::SeqCst);
}

/// How errors are written.
pub(super) fn set_format(format: LogFormat) {
    JSON.store(format == LogFormat::Json, Ordering::SeqCst);
}

/// Makes a panic one line; call it first.
pub(super) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        PANICKED.store(true, Ordering::SeqCst);
        report(&panic_message(panic));
        if std::env::var_os("EDDYLINE_BACKTRACE").is_some_and(|value| value == "1") {
            let _ = writeln!(std::io::stderr(), "{}", Backtrace::force_capture());
        }
    }));
}

fn panic_message(panic: &PanicHookInfo<'_>) -> String {
    let what = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(|location| format!(" at {location}")).unwrap_or_default();
    format!(
        "internal error{place}: {what}; this is a fault of eddyline {}: please report it, with the command and what \
         EDDYLINE_BACKTRACE=1 adds",
        env!("CARGO_PKG_VERSION")
    )
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let is_configuration =
        |cause: &(dyn std::error::Error + 'static)| cause.is::<ConfigErrors>() || cause.is::<ConfigError>();
    match error.downcast_ref::<Told>() {
        Some(Told::Failed) => FAILED,
        Some(Told::Usage) => USAGE,
        Some(Told::Configuration) => CONFIGURATION,
        None if error.is::<UsageError>() => USAGE,
        None if error.chain().any(is_configuration) => CONFIGURATION,
        None => FAILED,
    }
}

/// The error and its causes; a cause that the error quotes, or puts in plain words, is not repeated.
pub(super) fn message(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1) {
        let told = cause.to_string();
        let in_plain_words = cause.downcast_ref::<std::io::Error>().map(disk::reason);
        if !message.contains(&told) && !in_plain_words.is_some_and(|words| message.contains(&words)) {
            let _ = write!(message, ": {told}");
        }
    }
    message
}

/// Of clap's text: the error, its list and its tips, without the usage.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let text = text.split("\n\nUsage:").next().unwrap_or(text).split("\n\nFor more information").next().unwrap_or(text);
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let paragraphs: Vec<String> = paragraphs.filter(|paragraph| !paragraph.is_empty()).collect();
    paragraphs.join("; ").replace("; tip: ", "; ")
}

fn print_line(label: &str, color: &str, message: &str) {
    let message = printable(message);
    let line = if JSON.load(Ordering::SeqCst) {
        let now = jiff::Timestamp::now().to_string();
        serde_json::json!({ "timestamp": now, "level": label.to_uppercase(), "fields": { "message": message } })
            .to_string()
    } else if COLORED.load(Ordering::SeqCst) {
        format!("\u{1b}[{color}m{label}:\u{1b}[0m {message}")
    } else {
        format!("{label}: {message}")
    };
    // There is nobody left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// One line, and nothing that a terminal obeys: messages quote file names and rows.
fn printable(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for character in message.trim().chars() {
        match character {
            '\n' | '\r' => line.push(' '),
            control if control.is_control() => line.extend(control.escape_default()),
            other => line.push(other),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn codes_follow_from_the_kind_of_error_wherever_it_is_in_the_chain() {
        let wrong = || ConfigErrors::from(ConfigError::Inconsistent("a is not b".into()));
        assert_eq!(exit_code(&anyhow!("a disk")), FAILED);
        assert_eq!(exit_code(&usage!("no")), USAGE);
        assert_eq!(exit_code(&wrong().into()), CONFIGURATION);
        assert_eq!(exit_code(&Err::<(), _>(wrong()).context("while starting").expect_err("it is one")), CONFIGURATION);
        assert_eq!(exit_code(&Told::Configuration.into()), CONFIGURATION);
    }

    #[test]
    fn causes_are_told_once() {
        let cause = std::io::Error::other("disk full");
        assert_eq!(message(&anyhow::Error::new(cause).context("can't write x")), "can't write x: disk full");
        let cause = std::io::Error::other("disk full");
        assert_eq!(message(&anyhow::Error::new(cause).context("can't write x: disk full")), "can't write x: disk full");
        let cause = std::io::Error::from_raw_os_error(13);
        let told = message(&anyhow::Error::new(cause).context("can't write x: permission denied"));
        assert_eq!(told, "can't write x: permission denied");
        let cause = std::io::Error::from_raw_os_error(13);
        let told = message(&anyhow::Error::new(cause).context("can't write x"));
        assert_eq!(told, "can't write x: Permission denied (os error 13)");
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(printable("a\nb\u{1b}[2Jc\td"), "a b\\u{1b}[2Jc\\td");
    }

    /// The hook and the guard are the process's own, so a child has the panic: this test again, with a variable set.
    #[test]
    fn a_panic_is_one_line_and_a_failure() {
        const VARIABLE: &str = "TEST_PANICS";
        if std::env::var_os(VARIABLE).is_some() {
            install_panic_hook();
            let code = guard(|| {
                let worker = std::thread::spawn(|| panic!("two\nlines"));
                worker.join().map_err(|_| anyhow!("a worker has panicked"))
            });
            std::process::exit(if code == ExitCode::from(FAILED) { 7 } else { 8 });
        }
        let child = std::process::Command::new(std::env::current_exe().expect("tests have a file"))
            .args(["--exact", "cli::failure::tests::a_panic_is_one_line_and_a_failure", "--nocapture"])
            .env(VARIABLE, "1")
            .env("RUST_BACKTRACE", "1")
            .env_remove("EDDYLINE_BACKTRACE")
            .output()
            .expect("it starts");
        let told = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.code(), Some(7), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(
            told.starts_with("error: internal error at src/cli/failure.rs:") && told.contains(": two lines; "),
            "{told}"
        );
    }

    #[test]
    fn clap_is_cut_to_one_line() {
        let text = "error: unexpected argument '--stor' found\n\n  tip: a similar argument exists: '--store'\n\nUsage: x\n\n\
                    For more information, try '--help'.\n";
        assert_eq!(one_line(text), "unexpected argument '--stor' found; a similar argument exists: '--store'");
        let text = "error: the following required arguments were not provided:\n  <FILE>...\n\nUsage: x";
        assert_eq!(one_line(text), "the following required arguments were not provided: <FILE>...");
    }
}
