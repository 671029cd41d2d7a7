//! Where a test may look at a file operation before it is done. Outside of this room's tests there is nothing behind it.

use std::path::Path;

/// A file operation that is about to be done.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only a test looks at it"))]
pub(super) enum Step<'a> {
    MakeDirectory(&'a Path),
    Create(&'a Path),
    Truncate(&'a Path, u64),
    SyncFile(&'a Path),
    Rename(&'a Path, &'a Path),
    Remove(&'a Path),
    RemoveDirectory(&'a Path),
    SyncDirectory(&'a Path),
}

#[cfg(test)]
pub(super) use super::tests::probe::Probe;

/// Nothing.
#[cfg(not(test))]
#[derive(Clone, Debug)]
pub(super) struct Probe;

#[cfg(not(test))]
impl Probe {
    pub(super) fn none() -> Probe {
        Probe
    }

    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a test's has both")]
    #[inline]
    pub(super) fn step(&self, _: Step<'_>) -> std::io::Result<()> {
        Ok(())
    }

    /// How many of the bytes may be written: all, or with an error fewer.
    #[expect(clippy::unused_self, reason = "a test's has one")]
    #[inline]
    pub(super) fn write(&self, _: &Path, _: u64, bytes: &[u8]) -> Result<usize, (usize, std::io::Error)> {
        Ok(bytes.len())
    }
}
