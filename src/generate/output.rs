//! Where rows go: files that bear their names only once they are whole, or a stream.

use super::error::GenerateError;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Rows are written in blocks of this size; a thousand partitions hold as many blocks.
const BLOCK_BYTES: usize = 256 << 10;

/// One file or stream being written.
pub(crate) struct Output<'a> {
    sink: Sink<'a>,
    path: PathBuf,
    /// Rows not yet written.
    pub(crate) buffer: Vec<u8>,
    written_bytes: u64,
}

enum Sink<'a> {
    Stream(&'a mut dyn Write),
    /// A device or pipe, which can't be renamed to.
    Special(File),
    /// Written beside the path under this name, then renamed.
    File(File, PathBuf),
    Finished,
}

impl<'a> Output<'a> {
    pub(crate) fn stream(stream: &'a mut dyn Write) -> Output<'a> {
        Output::new(Sink::Stream(stream), PathBuf::from("the output stream"))
    }

    /// A file at `path`, in place of any that is there, as soon as it is whole.
    pub(crate) fn file(path: &Path) -> Result<Output<'a>, GenerateError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| GenerateError::Output { action: "create", path, source }
        };
        if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            let file = File::options().write(true).open(path).map_err(fail(path))?;
            return Ok(Output::new(Sink::Special(file), path.to_owned()));
        }
        if path.is_dir() {
            return Err(fail(path)(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let mut partial = OsString::from(path);
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial).map_err(fail(&partial))?;
        Ok(Output::new(Sink::File(file, partial), path.to_owned()))
    }

    fn new(sink: Sink<'a>, path: PathBuf) -> Output<'a> {
        Output { sink, path, buffer: Vec::with_capacity(BLOCK_BYTES + 1024), written_bytes: 0 }
    }

    /// Writes the buffer out if it is full.
    #[inline]
    pub(crate) fn flush_full(&mut self) -> Result<(), GenerateError> {
        if self.buffer.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), GenerateError> {
        let result = match &mut self.sink {
            Sink::Stream(stream) => stream.write_all(&self.buffer),
            Sink::Special(file) | Sink::File(file, _) => file.write_all(&self.buffer),
            Sink::Finished => Ok(()),
        };
        result.map_err(|source| GenerateError::Output { action: "write", path: self.path.clone(), source })?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left and gives a file its name. Returns the bytes written in all, and the file's path if it is one.
    pub(crate) fn finish(mut self) -> Result<(u64, Option<PathBuf>), GenerateError> {
        self.flush()?;
        let fail = |action, path: &Path, source| GenerateError::Output { action, path: path.to_owned(), source };
        match std::mem::replace(&mut self.sink, Sink::Finished) {
            Sink::Stream(stream) => {
                stream.flush().map_err(|source| fail("write", &self.path, source))?;
                Ok((self.written_bytes, None))
            }
            Sink::Special(_) | Sink::Finished => Ok((self.written_bytes, Some(self.path.clone()))),
            Sink::File(_, partial) => {
                fs::rename(&partial, &self.path).map_err(|source| fail("rename", &partial, source))?;
                Ok((self.written_bytes, Some(self.path.clone())))
            }
        }
    }
}

/// An unfinished file is removed.
impl Drop for Output<'_> {
    fn drop(&mut self) {
        if let Sink::File(_, partial) = &self.sink {
            // Nothing more can be done here, and the error that led here is the one to report.
            let _ = fs::remove_file(partial);
        }
    }
}

/// `NAME.csv` → `NAME-0.csv`, `NAME-1.csv`, …, or itself where there is one partition only.
pub(crate) fn partition_paths(path: &Path, partitions: u32) -> Vec<PathBuf> {
    if partitions == 1 {
        return vec![path.to_owned()];
    }
    let numbered = |partition| {
        let mut name = path.file_stem().map(OsString::from).unwrap_or_default();
        name.push(format!("-{partition}"));
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        path.with_file_name(name)
    };
    (0..partitions).map(numbered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_numbered_before_the_extension() {
        assert_eq!(partition_paths(Path::new("a/log.csv"), 1), [PathBuf::from("a/log.csv")]);
        let two = [PathBuf::from("a/log-0.csv"), PathBuf::from("a/log-1.csv")];
        assert_eq!(partition_paths(Path::new("a/log.csv"), 2), two);
        assert_eq!(partition_paths(Path::new("log"), 2)[1], PathBuf::from("log-1"));
    }

    #[test]
    fn a_file_appears_when_it_is_whole_and_not_at_all_otherwise() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("log.csv");
        let mut output = Output::file(&path).expect("creates");
        output.buffer.extend(b"1,2,pv,3\n");
        assert!(!path.exists());
        drop(output);
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 0);

        let mut output = Output::file(&path).expect("creates");
        output.buffer.extend(b"1,2,pv,3\n");
        assert_eq!(output.finish().expect("writes"), (9, Some(path.clone())));
        assert_eq!(fs::read(&path).expect("reads"), b"1,2,pv,3\n");
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn failures_name_the_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let message = |path: &Path| Output::file(path).err().expect("fails").to_string();
        assert!(message(dir.path()).starts_with(&format!("cannot create {}: ", dir.path().display())));
        let missing = dir.path().join("none/log.csv");
        assert!(message(&missing).contains("none/log.csv"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_is_written_to_as_it_is() {
        let mut output = Output::file(Path::new("/dev/full")).expect("opens");
        output.buffer.push(b'x');
        let message = output.finish().expect_err("is full").to_string();
        assert!(message.starts_with("cannot write /dev/full: "), "{message}");
        assert!(Path::new("/dev/full").exists());
    }
}
