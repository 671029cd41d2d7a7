//! What a command writes beside its answer, such as a page for a browser: a file that is there only when it is whole, or a device
//! or pipe that takes it as it is.

use crate::sinks::disk;
use anyhow::{Result, anyhow};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, IntoInnerError, Write};
use std::path::{Path, PathBuf};

/// Links that are followed to where it goes, as many as Linux follows.
const LINKS_MAX: usize = 40;

/// Writes `text` to `path`, in place of the file that is there, or that a link there leads to.
pub(super) fn write_whole(path: &Path, text: &str) -> Result<()> {
    write_whole_by("report", path, |out| out.write_all(text.as_bytes()))
}

/// As [`write_whole`], piece by piece; `what` is its name in errors.
pub(super) fn write_whole_by(
    what: &str,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let fail = |source| anyhow!("can't write the {what} {}: {}", path.display(), disk::reason(&source));
    write(path, fill).map_err(fail)
}

fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        // A file that is renamed to the name of a device or a pipe takes it away.
        Ok(found) if !found.is_file() => filled(File::options().write(true).open(path)?, fill).map(drop),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => replace(&target(path)?, fill),
    }
}

fn filled(file: File, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<File> {
    let mut out = BufWriter::new(file);
    fill(&mut out)?;
    out.into_inner().map_err(IntoInnerError::into_error)
}

/// Where links lead, also if there is nothing yet.
fn target(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&target) {
            Ok(link) => target = parent(&target).join(link),
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("too many links, one after another"))
}

fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut partial = OsString::from(path);
    partial.push(".partial");
    let written = File::create(&partial).and_then(|file| filled(file, fill)?.sync_all());
    written.and_then(|()| fs::rename(&partial, path)).inspect_err(|_| {
        // What could not be completed is not left behind.
        let _ = fs::remove_file(&partial);
    })?;
    File::open(parent(path))?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, symlink};

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("pages")).unwrap();
        fs::write(at("pages/old.html"), "a longer page than the new one").unwrap();
        symlink("pages/old.html", at("link.html")).unwrap();
        symlink("link.html", at("to-link.html")).unwrap();
        symlink("pages/none.html", at("dangling.html")).unwrap();
        for (link, page) in [("to-link.html", "pages/old.html"), ("dangling.html", "pages/none.html")] {
            write_whole(&at(link), "page").unwrap();
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
            assert_eq!(fs::read_to_string(at(page)).unwrap(), "page");
        }
        assert_eq!(fs::read_dir(at("pages")).unwrap().count(), 2);
    }

    #[test]
    fn a_pipe_takes_the_page_and_stays_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, link) = (dir.path().join("pipe"), dir.path().join("link"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        symlink(&pipe, &link).unwrap();
        for path in [&pipe, &link] {
            let reader = std::thread::spawn({
                let pipe = pipe.clone();
                move || fs::read_to_string(pipe).unwrap()
            });
            write_whole(path, "page").unwrap();
            assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
            assert_eq!(reader.join().unwrap(), "page");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_written_is_named_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let told = |path: PathBuf| write_whole(&path, "page").unwrap_err().to_string();
        let directory = dir.path().display();
        assert_eq!(
            told(dir.path().to_owned()),
            format!("can't write the report {directory}: a directory of that name is in the way")
        );
        let missing = dir.path().join("none/page.html");
        assert_eq!(
            told(missing),
            format!("can't write the report {directory}/none/page.html: there is no such file or directory")
        );
        assert!(told(dir.path().join("loop")).starts_with(&format!("can't write the report {directory}/loop: ")));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
