//! The command line from outside: help, exit codes, one line for every error, what goes to which stream.

#![allow(clippy::unwrap_used)]

mod learning;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const COMMANDS: [&str; 9] =
    ["replay", "generate", "prepare", "train", "evaluate", "produce", "check", "completions", "man"];

/// Eddyline, without anything of this process's environment that it listens to.
fn eddyline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eddyline"));
    command.args(arguments).env("RUST_BACKTRACE", "1");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EDDYLINE_") || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    eddyline(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Checks that `output` is a failure of this code that says nothing but one line of error (and perhaps a hint), and
/// returns that line.
#[track_caller]
fn one_error(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    assert_eq!(stdout(output), "");
    let lines: Vec<&str> = stderr(output).lines().collect();
    let hint_only = lines.iter().skip(1).all(|line| line.starts_with("hint: "));
    assert!(hint_only && lines.len() <= 2, "{}", stderr(output));
    lines[0].strip_prefix("error: ").expect("errors start with `error: `").to_owned()
}

#[track_caller]
fn usage_error(arguments: &[&str]) -> String {
    one_error(&run(arguments), 2)
}

#[track_caller]
fn config_error(arguments: &[&str]) -> String {
    one_error(&run(arguments), 78)
}

/// A directory with a file of each name and content.
fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn within(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn help_is_everywhere_and_fits_a_terminal() {
    let main = run(&["-h"]);
    assert!(main.status.success());
    for command in COMMANDS {
        assert!(stdout(&main).contains(&format!("\n  {command} ")), "{command}");
        let help = run(&[command, "-h"]);
        assert!(help.status.success());
        assert!(stdout(&help).contains(&format!("Usage: eddyline {command} ")), "{}", stdout(&help));
        assert!(stdout(&help).contains("--log-format"));
        assert!(stdout(&help).lines().all(|line| line.chars().count() <= 100), "{}", stdout(&help));
        assert_eq!(stderr(&help), "");
        assert!(run(&[command, "--help"]).status.success());
    }
    assert!(stdout(&main).contains("Exit codes: 0 done, 1 failed, 2 usage, 78 configuration"));
}

#[test]
fn commands_that_do_not_exist_yet_are_not_there() {
    assert!(usage_error(&["serve"]).starts_with("unrecognized subcommand 'serve'"));
}

#[test]
fn replay_has_the_contracts_flags() {
    let help = run(&["replay", "-h"]);
    for flag in [
        "-w,",
        "-n,",
        "-p,",
        "-c,",
        "-h,",
        "--hostfile",
        "--store",
        "--out",
        "--evaluate",
        "--report",
        "--json",
        "--strict",
        "--until",
        "--journal",
        "--log-name",
        "--model-dir",
        "--set",
        "--purge",
        "--new-generation",
    ] {
        assert!(stdout(&help).contains(flag), "{flag}");
    }
}

#[test]
fn the_version_is_told() {
    let version = run(&["-V"]);
    assert!(version.status.success());
    assert_eq!(stdout(&version), concat!("eddyline ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn no_command_is_a_usage_error_that_shows_the_commands() {
    let nothing = run(&[]);
    assert_eq!(nothing.status.code(), Some(2));
    assert_eq!(stdout(&nothing), "");
    assert!(stderr(&nothing).contains("Usage: eddyline"));
}

#[test]
fn wrong_flags_are_one_line_each() {
    for (arguments, expected) in [
        (vec!["generat"], "unrecognized subcommand 'generat'; a similar subcommand exists: 'generate'"),
        (vec!["replay"], "the following required arguments were not provided: <FILE>..."),
        (
            vec!["replay", "x", "--stor", "y"],
            "unexpected argument '--stor' found; a similar argument exists: '--store'",
        ),
        (vec!["replay", "x", "-w", "0"], "invalid value '0' for '--workers <N>': expected 1 to 1024 workers"),
        (vec!["replay", "x", "-w", "1025"], "invalid value '1025' for '--workers <N>': expected 1 to 1024 workers"),
        (vec!["replay", "x", "-w", "two"], "invalid value 'two' for '--workers <N>': expected 1 to 1024 workers"),
        (vec!["replay", "x", "-w-1"], "invalid value '-1' for '--workers <N>': expected 1 to 1024 workers"),
        (
            vec!["replay", "x", "-n", "0"],
            "invalid value '0' for '--processes <PROCESSES>': expected 1 to 256 processes",
        ),
        (vec!["replay", "x", "-w", "-1"], "invalid value '-1' for '--workers <N>': expected 1 to 1024 workers"),
        (
            vec!["replay", "x", "-n", "2", "-p", "-1"],
            "invalid value '-1' for '--process <INDEX>': expected a whole number from 0 on",
        ),
        (
            vec!["generate", "x", "--events", "-5"],
            "invalid value '-5' for '--events <COUNT>': expected a whole number, such as 250, 500k, 10M or 1G",
        ),
        (vec!["replay", "x", "-n", "2", "-p", "2"], "-p 2: with -n 2 the processes are 0 to 1"),
        (vec!["replay", "x", "-p", "0"], "the following required arguments were not provided: --processes <PROCESSES>"),
        (
            vec!["replay", "x", "--hostfile", "hosts"],
            "the following required arguments were not provided: --processes <PROCESSES>",
        ),
        (
            vec!["replay", "x", "--evaluate", "--only", "recent,popular"],
            "--evaluate compares recommendations with popular items: let --only name recommend and popular, or leave it out",
        ),
        (
            vec!["replay", "x", "--evaluate", "--only", "recommend"],
            "--evaluate compares recommendations with popular items: let --only name recommend and popular, or leave it out",
        ),
        (vec!["replay", "x", "--report", "r"], "the following required arguments were not provided: --evaluate"),
        (vec!["replay", "x", "--purge"], "--purge is about a store: add --store PATH"),
        (vec!["replay", "x", "--new-generation"], "--new-generation is about a store: add --store PATH"),
        (
            vec!["replay", "x", "--store", "s", "--purge", "--new-generation"],
            "the argument '--purge' cannot be used with '--new-generation'",
        ),
        (vec!["replay", "-", "-"], "- is given twice, but there is one standard input"),
        (
            vec!["replay", "x", "--until", "soon"],
            "invalid value 'soon' for '--until <TIME>': expected milliseconds, or a date such as 2017-12-03T00:00:00Z",
        ),
        (
            vec!["replay", "x", "--until", "30000"],
            "--until 30000: not the end of a tick (time.tick = 20s); the nearest are 20000 and 40000",
        ),
        (
            vec!["replay", "x", "--set", "time.tick"],
            "invalid value 'time.tick' for '--set <SECTION.KEY=VALUE>': expected SECTION.KEY=VALUE, such as time.tick=10s",
        ),
        (vec!["replay", "x", "--log-name", ""], "a value is required for '--log-name <NAME>' but none was supplied"),
        (vec!["replay", "x", "-v", "-q"], "the argument '--verbose...' cannot be used with '--quiet'"),
        (
            vec!["completions", "bahs"],
            "invalid value 'bahs' for '<SHELL>' [possible values: bash, elvish, fish, powershell, zsh]; a similar value \
             exists: 'bash'",
        ),
        (
            vec!["check", "--log-format", "xml"],
            "invalid value 'xml' for '--log-format <FORMAT>' [possible values: text, json]",
        ),
    ] {
        assert_eq!(usage_error(&arguments), expected, "{arguments:?}");
    }
}

#[test]
fn host_files_are_checked() {
    let dir = files(&[
        ("short", "# ours\n\none:2101\n"),
        ("portless", "one:2101\ntwo\n"),
        ("port0", "one:0\ntwo:2\n"),
        ("twice", "one:2101\none:2101 # again\n"),
    ]);
    let error = |name: &str| usage_error(&["replay", "x", "-n", "2", "--hostfile", &within(&dir, name)]);
    let cut = |message: String| message.replace(&format!("{}/", dir.path().display()), "");
    assert_eq!(cut(error("short")), "short names 1 of the 2 processes of -n; add the others' host:port");
    assert_eq!(cut(error("portless")), "portless:2: expected host:port, found \"two\"");
    assert_eq!(cut(error("port0")), "port0:1: expected host:port, found \"one:0\"");
    assert_eq!(cut(error("twice")), "twice:2: one:2101 is the address of process 0 already");
    assert!(cut(error("none")).starts_with("can't read the host file none: No such file or directory"));
    assert!(error("").contains("can't read the host file"));
}

#[test]
fn wrong_configurations_exit_with_78_and_one_line() {
    let dir = files(&[("shop.toml", "[popular]\nwindw = \"60m\"\n"), ("broken.toml", "[popular\n")]);
    let file = |name: &str| within(&dir, name);
    let error = config_error(&["replay", "x", "-c", &file("shop.toml")]);
    assert_eq!(error, format!("{}:2: unknown key popular.windw; did you mean popular.window?", file("shop.toml")));
    let error = config_error(&["replay", "x", "-c", &file("broken.toml")]);
    assert!(error.starts_with(&format!("{}:1: not TOML: ", file("broken.toml"))), "{error}");
    let error = config_error(&["replay", "x", "-c", &file("none.toml")]);
    assert!(error.starts_with(&format!("can't read the configuration {}: No such file", file("none.toml"))), "{error}");
    let error = config_error(&["replay", "x", "-c", dir.path().to_str().unwrap()]);
    assert!(error.ends_with("Is a directory (os error 21)"), "{error}");
    assert_eq!(
        config_error(&["replay", "x", "--set", "time.tick=20"]),
        "--set: time.tick = \"20\": expected a duration such as \"250ms\", \"10s\" or \"60m\", and not zero"
    );
    assert_eq!(
        config_error(&["replay", "x", "--set", "popular.window=61m"]),
        "popular.window = \"61m\" (--set) is not a multiple of popular.slide = \"80s\" (the default); the nearest: 1h, 3680s"
    );
    let output = eddyline(&["replay", "x"]).env("EDDYLINE_TIME__TICKS", "1s").output().unwrap();
    assert_eq!(
        one_error(&output, 78),
        "environment variable EDDYLINE_TIME__TICKS: unknown key EDDYLINE_TIME__TICKS; did you mean EDDYLINE_TIME__TICK?"
    );
    let output = eddyline(&["check"]).env("EDDYLINE_LOG", "eddyline=shout").output().unwrap();
    assert!(one_error(&output, 78).starts_with("environment variable EDDYLINE_LOG: log filter = eddyline=shout: "));
    assert_eq!(
        config_error(&["replay", "x", "--store", "s", "--set", "output.ids=model"]),
        "output.ids = \"model\" needs a model's maps: give --model-dir DIR, or set output.ids to \"raw\""
    );
}

#[test]
fn what_is_quoted_cannot_command_the_terminal() {
    let output = run(&["replay", "x", "--set", "time.\u{1b}[2Jtick=1s"]);
    assert!(one_error(&output, 78).contains("time.\\u{1b}[2Jtick"));
}

#[test]
fn set_lies_over_the_environment_and_that_over_the_file() {
    let dir = files(&[("shop.toml", "[recommend]\nn = 2\nmin_history = 2\n[popular]\ntop = 2\n")]);
    let output = eddyline(&["check", "--show", "-c", &within(&dir, "shop.toml"), "--set", "recommend.n=4"])
        .env("EDDYLINE_RECOMMEND__N", "3")
        .env("EDDYLINE_RECOMMEND__MIN_HISTORY", "3")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("\nn = 4  # --set\n"), "{}", stdout(&output));
    assert!(stdout(&output).contains("\nmin_history = 3  # environment variable EDDYLINE_RECOMMEND__MIN_HISTORY\n"));
    assert!(stdout(&output).contains(&format!("\ntop = 2  # {}:5\n", within(&dir, "shop.toml"))));
    assert_eq!(stderr(&output), "");
}

#[test]
fn what_check_shows_is_a_configuration_file() {
    let shown = run(&["check", "--show"]);
    let dir = files(&[("all.toml", stdout(&shown))]);
    let again = run(&["check", "-c", &within(&dir, "all.toml")]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(stdout(&again), "configuration: right\n");
}

#[test]
fn check_finds_everything_at_once() {
    let dir = files(&[("shop.toml", "[time]\ntick = 20\n[recommend]\nn = 0\n"), ("empty.csv", "")]);
    let file = |name: &str| within(&dir, name);
    let output = run(&["check", "-c", &file("shop.toml"), &file("empty.csv"), &file("none.csv")]);
    assert_eq!(output.status.code(), Some(78));
    let errors: Vec<&str> = stderr(&output).lines().collect();
    assert_eq!(errors.len(), 3, "{}", stderr(&output));
    assert!(errors.iter().all(|line| line.starts_with("error: ")));
    assert!(errors[2].contains("none.csv: No such file"), "{}", errors[2]);
    assert!(stdout(&output).ends_with("empty.csv: is empty, a log without events\n"), "{}", stdout(&output));
}

#[test]
fn check_looks_at_models_inputs_and_stores() {
    let dir = files(&[("log.csv", "1,100,pv,0\n")]);
    let place = dir.path().to_str().unwrap().to_owned();
    for (arguments, expected) in [
        (vec!["check", "--model-dir", &place], "model_ddpg.pt"),
        (vec!["check", &place], ": is a directory; name the files in it"),
        (vec!["check", "--store", &place], ": is a directory; name a file in it"),
        (vec!["check", "--store", "/nowhere/results.db"], ": there is no directory /nowhere: No such file"),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stdout(&output), "configuration: right\n");
        assert!(stderr(&output).starts_with("error: ") && stderr(&output).lines().count() == 1, "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    let output = run(&["check", &within(&dir, "log.csv"), "--store", &within(&dir, "results.db")]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 3);
    assert!(!dir.path().join("results.db").exists());
}

#[test]
fn an_empty_log_is_right_and_can_be_replayed() {
    let dir = files(&[("empty.csv", "")]);
    let output = run(&["check", &within(&dir, "empty.csv")]);
    assert!(output.status.success() && stderr(&output).is_empty(), "{}", stderr(&output));
    assert!(run(&["replay", &within(&dir, "empty.csv")]).status.success());
}

#[test]
fn presets_are_right() {
    for preset in ["flinkrl.toml", "low-latency.toml", "default.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(preset);
        let output = run(&["check", "--offline", "-c", path.to_str().unwrap()]);
        assert!(output.status.success(), "{preset}: {}", stderr(&output));
    }
}

#[test]
fn generate_writes_a_log_and_a_model_that_check_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let [log, again, model] = ["log.csv", "again.csv", "model"].map(|name| within(&dir, name));
    let size = ["--events", "2k", "--users", "50", "--items", "40", "--seed", "7"];
    let with = |arguments: &[&str]| run(&[&["generate"], &size[..], arguments].concat());
    let output = with(&[&log, "--model-dir", &model, "--model-history", "5", "-q"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!((stdout(&output), stderr(&output)), ("", ""));
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 2_000);
    assert!(with(&[&again]).status.success());
    assert_eq!(fs::read(&log).unwrap(), fs::read(&again).unwrap());
    assert_eq!(with(&["-"]).stdout, fs::read(&log).unwrap());
    let checked = run(&["check", &log, "--model-dir", &model]);
    assert!(stdout(&checked).contains("a ddpg policy of 50 users and 40 items"), "{}", stderr(&checked));
    let wrong = run(&["check", "--model-dir", &model, "--set", "recent.length=6"]);
    assert_eq!(wrong.status.code(), Some(78));
    assert!(stderr(&wrong).contains("recent.length = 6, but the model was trained with sequences of 5"));
}

#[test]
fn generate_names_its_flags() {
    for (arguments, expected) in [
        (vec![], "the following required arguments were not provided: <FILE|--tianchi <DIR>>"),
        (vec!["x", "--tianchi", "y"], "the argument '[FILE]' cannot be used with '--tianchi <DIR>'"),
        (vec!["x", "--events", "0"], "--events must be from 1 to 1000000000000, not 0"),
        (
            vec!["x", "--events", "many"],
            "invalid value 'many' for '--events <COUNT>': expected a whole number, such as 250, 500k, 10M or 1G",
        ),
        (vec!["x", "--late", "1.5"], "--late must be from 0 to 1, not 1.5"),
        (vec!["x", "--late-by", "2d"], "--late-by must be from 0 to 86400000 ms, not 172800000"),
        (vec!["x", "--cart", "0.8", "--favourite", "0.5"], "--cart + --favourite must be from 0 to 1, not 1.3"),
        (vec!["x", "--model-dir", "m", "--model-dim", "6"], "--model-dim must be from 8 to 256, not 6"),
        (vec!["x", "--model-dir", "m", "--model-history", "0"], "--model-history must be from 1 to 100, not 0"),
        (vec!["-", "--partitions", "2"], "several partitions need a file name to be numbered"),
        (
            vec!["x", "--gap", "soon"],
            "invalid value 'soon' for '--gap <DURATION>': not a whole number with a unit (ms, s, m, h or d), such as 10s, \
             or over 36500d",
        ),
    ] {
        assert_eq!(usage_error(&[vec!["generate"], arguments].concat()), expected);
    }
    let error = one_error(&run(&["generate", "/nowhere/log.csv", "--events", "10"]), 1);
    assert!(error.contains("/nowhere/log.csv") && error.contains("No such file or directory"), "{error}");
}

#[test]
fn completions_know_commands_and_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert!(script.status.success(), "{shell}");
        for word in ["replay", "completions", "new-generation", "log-format"] {
            assert!(stdout(&script).contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn manual_pages_are_written() {
    let page = run(&["man"]);
    assert!(stdout(&page).contains(".TH eddyline 1"), "{}", stdout(&page));
    let dir = tempfile::tempdir().unwrap();
    let out = within(&dir, "man1");
    assert!(run(&["man", "--out", &out]).status.success());
    for command in COMMANDS {
        let page = fs::read_to_string(Path::new(&out).join(format!("eddyline-{command}.1"))).unwrap();
        assert!(page.contains(&format!(".TH eddyline-{command} 1")), "{page}");
        assert!(page.contains("log\\-format"));
    }
    assert!(Path::new(&out).join("eddyline.1").exists());
    let file = files(&[("file", "")]);
    let error = one_error(&run(&["man", "--out", &within(&file, "file")]), 1);
    assert!(error.starts_with("can't make the directory "), "{error}");
}

#[test]
fn colors_are_for_those_who_want_them() {
    let red = "\u{1b}[1;31merror:\u{1b}[0m";
    assert!(stderr(&run(&["replay", "--color", "always"])).starts_with(red));
    assert!(stderr(&run(&["replay", "--color=never"])).starts_with("error:"));
    assert!(stderr(&run(&["replay"])).starts_with("error:"));
    let no_color = eddyline(&["replay", "--color", "always"]).env("NO_COLOR", "1").output().unwrap();
    assert!(stderr(&no_color).starts_with(red), "a flag says more than the environment");
}

#[test]
fn json_logs_end_with_a_json_error() {
    let output = run(&["check", "--log-format", "json", "/nowhere/log.csv"]);
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<serde_json::Value> =
        stderr(&output).lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    let last = lines.last().unwrap();
    assert_eq!(last["level"], "ERROR");
    assert!(last["fields"]["message"].as_str().unwrap().starts_with("/nowhere/log.csv: "), "{last}");
}

#[test]
fn a_closed_pipe_is_quiet() {
    let mut child = eddyline(&["completions", "zsh"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told, "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_full_disk_is_told() {
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else {
        eprintln!("SKIP: no /dev/full here");
        return;
    };
    let output = eddyline(&["man"]).stdout(full).output().unwrap();
    assert!(one_error(&output, 1).starts_with("can't write to standard output: No space left on device"));
}
