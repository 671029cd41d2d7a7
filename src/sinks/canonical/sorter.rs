//! Sorting lines by log position in bounded memory: an external merge sort.
//!
//! Lines are collected until they take `memory_bytes`, then sorted and written to a file as one run. Whenever there are
//! [`FAN_IN`] runs they are merged into one. At the end the runs and what is still in memory are merged into the target.
//! A run is a sequence of: position (u64), length (u32), the line; little-endian.

use super::CanonicalError;
use super::directory::LineFile;
use dataflows::event::Position;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::mem::size_of;
use std::path::{Path, PathBuf};

/// How many runs are merged at a time: each takes an open file and a buffer.
const FAN_IN: usize = 64;

/// Bytes of a run that are read at a time.
const READ_BYTES: usize = 64 << 10;

/// Collects lines in any order and puts them out in the order of their positions.
pub(super) struct LineSorter {
    directory: PathBuf,
    name: &'static str,
    memory_bytes: usize,
    /// Position, and start of the line in `text`; it ends where the next one starts.
    lines: Vec<(Position, usize)>,
    text: Vec<u8>,
    runs: Vec<PathBuf>,
    runs_made: usize,
}

impl LineSorter {
    /// `directory`: where runs are written, as `NAME-n.run`. `memory_bytes`: how much is kept in memory.
    pub(super) fn new(directory: &Path, name: &'static str, memory_bytes: usize) -> LineSorter {
        LineSorter {
            directory: directory.to_owned(),
            name,
            memory_bytes,
            lines: Vec::new(),
            text: Vec::new(),
            runs: Vec::new(),
            runs_made: 0,
        }
    }

    /// Where the line of `position` is to be appended, with its line end. No position may come twice.
    pub(super) fn line(&mut self, position: Position) -> Result<&mut Vec<u8>, CanonicalError> {
        if self.text.len() + self.lines.len() * size_of::<(Position, usize)>() >= self.memory_bytes {
            self.spill()?;
        }
        self.lines.push((position, self.text.len()));
        Ok(&mut self.text)
    }

    /// Appends all lines, sorted, to `target`.
    pub(super) fn write_to(mut self, target: &mut LineFile) -> Result<(), CanonicalError> {
        if self.runs.is_empty() {
            return self.sorted().try_for_each(|(_, line)| {
                target.line()?.extend_from_slice(line);
                Ok(())
            });
        }
        self.spill()?;
        merge(&self.runs, |_, line| {
            target.line()?.extend_from_slice(line);
            Ok(())
        })
    }

    /// The lines in memory, sorted.
    fn sorted(&mut self) -> impl Iterator<Item = (Position, &[u8])> {
        let mut ranges = Vec::with_capacity(self.lines.len());
        let ends = self.lines.iter().skip(1).map(|line| line.1).chain([self.text.len()]);
        ranges.extend(self.lines.iter().zip(ends).map(|(&(position, start), end)| (position, start, end)));
        ranges.sort_unstable_by_key(|range| range.0);
        ranges.into_iter().map(|(position, start, end)| (position, &self.text[start..end]))
    }

    /// Writes what is in memory to a new run.
    fn spill(&mut self) -> Result<(), CanonicalError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut run = LineFile::create(self.next_run())?;
        self.sorted().try_for_each(|(position, line)| push_entry(&mut run, position, line))?;
        run.flush()?;
        self.lines.clear();
        self.text.clear();
        if self.runs.len() == FAN_IN { self.merge_runs() } else { Ok(()) }
    }

    /// Replaces all runs by one.
    fn merge_runs(&mut self) -> Result<(), CanonicalError> {
        let runs = std::mem::take(&mut self.runs);
        let mut merged = LineFile::create(self.next_run())?;
        merge(&runs, |position, line| push_entry(&mut merged, position, line))?;
        merged.flush()?;
        for run in &runs {
            fs::remove_file(run).map_err(CanonicalError::io("remove", run))?;
        }
        Ok(())
    }

    fn next_run(&mut self) -> PathBuf {
        let path = self.directory.join(format!("{}-{}.run", self.name, self.runs_made));
        self.runs_made += 1;
        self.runs.push(path.clone());
        path
    }
}

fn push_entry(run: &mut LineFile, position: Position, line: &[u8]) -> Result<(), CanonicalError> {
    let out = run.line()?;
    let word = u64::from(position.partition()) << 48 | position.offset();
    out.extend_from_slice(&word.to_le_bytes());
    out.extend_from_slice(&u32::try_from(line.len()).expect("a line is under 128 KiB").to_le_bytes());
    out.extend_from_slice(line);
    Ok(())
}

/// Hands the entries of all runs to `emit`, by position.
fn merge(
    runs: &[PathBuf],
    mut emit: impl FnMut(Position, &[u8]) -> Result<(), CanonicalError>,
) -> Result<(), CanonicalError> {
    let mut readers = runs.iter().map(|path| RunReader::open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut heap = BinaryHeap::with_capacity(runs.len());
    for (i, reader) in readers.iter_mut().enumerate() {
        heap.extend(reader.advance()?.map(|position| Reverse((position, i))));
    }
    while let Some(Reverse((position, i))) = heap.pop() {
        let reader = &mut readers[i];
        emit(position, &reader.line)?;
        heap.extend(reader.advance()?.map(|position| Reverse((position, i))));
    }
    Ok(())
}

/// A run, at one of its entries.
struct RunReader<'a> {
    path: &'a Path,
    file: BufReader<File>,
    line: Vec<u8>,
}

impl<'a> RunReader<'a> {
    fn open(path: &'a Path) -> Result<RunReader<'a>, CanonicalError> {
        let file = File::open(path).map_err(CanonicalError::io("open", path))?;
        Ok(RunReader { path, file: BufReader::with_capacity(READ_BYTES, file), line: Vec::new() })
    }

    /// Goes to the next entry and returns its position; `None` at the end.
    fn advance(&mut self) -> Result<Option<Position>, CanonicalError> {
        self.read_entry().map_err(CanonicalError::io("read", self.path))
    }

    fn read_entry(&mut self) -> std::io::Result<Option<Position>> {
        use std::io::{BufRead, Error, ErrorKind};
        if self.file.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut word = [0; 8];
        self.file.read_exact(&mut word)?;
        let word = u64::from_le_bytes(word);
        let mut length = [0; 4];
        self.file.read_exact(&mut length)?;
        self.line.resize(u32::from_le_bytes(length) as usize, 0);
        self.file.read_exact(&mut self.line)?;
        let position = Position::new((word >> 48) as u32, word & Position::OFFSET_MAX);
        position.map(Some).ok_or_else(|| Error::from(ErrorKind::InvalidData))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sort(lines: &[(Position, String)], memory_bytes: usize) -> String {
        let directory = tempfile::tempdir().unwrap();
        let mut sorter = LineSorter::new(directory.path(), "late", memory_bytes);
        for (position, line) in lines {
            sorter.line(*position).unwrap().extend_from_slice(line.as_bytes());
        }
        let path = directory.path().join("sorted");
        let mut target = LineFile::create(path.clone()).unwrap();
        sorter.write_to(&mut target).unwrap();
        target.finish().unwrap();
        fs::read_to_string(path).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sorts_like_sort(
            lines in proptest::collection::btree_map((0u32..4, 0u64..500), "[a-z]{0,20}\n", 0..300)
                .prop_map(|map| map.into_iter().collect::<Vec<_>>()).prop_shuffle(),
            memory_bytes in 1usize..4000,
        ) {
            let lines: Vec<(Position, String)> =
                lines.into_iter().map(|((p, o), line)| (Position::new(p, o).unwrap(), line)).collect();
            let mut expected = lines.clone();
            expected.sort();
            let expected: String = expected.into_iter().map(|(_, line)| line).collect();
            // Down to one line a run: several rounds of merging.
            prop_assert_eq!(sort(&lines, memory_bytes), expected);
        }
    }

    #[test]
    fn the_largest_position_survives_a_run() {
        let last = Position::new(Position::PARTITION_MAX, Position::OFFSET_MAX).unwrap();
        let first = Position::new(0, 0).unwrap();
        assert_eq!(sort(&[(last, "b".into()), (first, "a".into())], 1), "ab");
    }
}
