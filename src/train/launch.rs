//! `eddyline train` starts `eddyline-train`, which stands beside it and is linked with libtorch.
//!
//! So everything else runs where there is no libtorch; and what is wrong with libtorch can be told in a line, which a program
//! that fails to load can't do itself: glibc's loader is asked first what it misses.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program's file name.
pub const PROGRAM: &str = "eddyline-train";

/// How libtorch's threads wait for each other: they spin for a few microseconds, about as long as waking one takes, and then
/// sleep. By default they spin for milliseconds, which on a machine with other work costs them their turns: beside two busy
/// processes on two cores an epoch took 4 times as long. If they sleep at once, one took up to 1.4 times as long on a quiet one.
/// The second is GNU's own, in turns of its loop.
const WAITING: [(&str, &str); 2] = [("OMP_WAIT_POLICY", "passive"), ("GOMP_SPINCOUNT", "5000")];

/// Why training could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// This build has none.
    #[error(
        "this eddyline was built without training (there is no {}); build it with: scripts/with-libtorch cargo build --release \
         --workspace --features train", .0.display()
    )]
    NotBuilt(PathBuf),
    /// libtorch is missing, or is another one than it was built with.
    #[error(
        "libtorch cannot be loaded ({0}); run it as scripts/with-libtorch eddyline train …, or set LD_LIBRARY_PATH to the lib \
         directory of the PyTorch that it was built with"
    )]
    Libtorch(String),
    /// The system said no.
    #[error("{}: cannot start: {reason}", path.display())]
    Io {
        /// The program.
        path: PathBuf,
        /// The system's words.
        reason: io::Error,
    },
}

/// Becomes `eddyline-train` with the same arguments; comes back only if that fails.
pub fn launch(arguments: impl IntoIterator<Item = OsString>) -> LaunchError {
    let program = match std::env::current_exe() {
        Ok(own) => own.with_file_name(PROGRAM),
        Err(reason) => return LaunchError::Io { path: PROGRAM.into(), reason },
    };
    if !program.exists() {
        return LaunchError::NotBuilt(program);
    }
    if let Some(what) = unloadable(&program) {
        return LaunchError::Libtorch(what);
    }
    let mut command = Command::new(&program);
    command.args(arguments);
    // Whoever sets one of them has a reason of their own.
    if WAITING.iter().all(|(name, _)| std::env::var_os(name).is_none()) {
        command.envs(WAITING);
    }
    let reason = std::os::unix::process::CommandExt::exec(&mut command);
    LaunchError::Io { path: program, reason }
}

/// What the loader misses: it lists the libraries and tries all symbols, as `ldd -r` has it do, and runs nothing.
fn unloadable(program: &Path) -> Option<String> {
    let traced = Command::new(program)
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .env("LD_WARN", "yes")
        .env("LD_BIND_NOW", "yes")
        .output()
        .ok()?;
    let text = [traced.stdout, traced.stderr].concat();
    complaint(&String::from_utf8_lossy(&text))
}

/// What is wrong by the loader's words, if anything is.
fn complaint(text: &str) -> Option<String> {
    let missing = text.lines().find_map(|line| line.trim().strip_suffix(" => not found"));
    let missing = missing.map(|library| format!("{library} is not found"));
    // "PROGRAM: LIBRARY: version `GLIBCXX_3.4.32' not found (required by LIBRARY)": what is said before the version is long.
    let old = |line: &str| {
        let from = line.find("version `")?;
        line[from..].contains("' not found (required by ").then(|| first_words(&line[from..]))
    };
    missing
        .or_else(|| text.lines().find_map(old))
        .or_else(|| text.lines().find(|line| line.contains("undefined symbol")).map(first_words))
}

/// Symbols of C++ are long, and a tab comes after them.
fn first_words(line: &str) -> String {
    const CHARACTERS_MAX: usize = 100;
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(CHARACTERS_MAX).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_words_are_understood() {
        let fine = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f21)\n";
        assert_eq!(complaint(fine), None);
        for (line, expected) in [
            ("\tlibtorch_cpu.so => not found", "libtorch_cpu.so is not found"),
            (
                "/opt/eddyline-train: /lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by \
                 /opt/eddyline-train)",
                "version `GLIBCXX_3.4.32' not found (required by /opt/eddyline-train)",
            ),
            (
                "undefined symbol: _ZN2at4_ops3add\t(/opt/eddyline-train)",
                "undefined symbol: _ZN2at4_ops3add (/opt/eddyline-train)",
            ),
        ] {
            assert_eq!(complaint(&format!("{fine}{line}\n{fine}")).as_deref(), Some(expected));
        }
        let long = format!("undefined symbol: {}", "x".repeat(200));
        assert_eq!(complaint(&long).map(|told| told.chars().count()), Some(101));
    }
}
