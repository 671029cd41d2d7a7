//! Several workers' feeds, played by hand on one thread: chunks and messages in random order must not show.

use super::*;
use crate::journal::Journal;
use crate::pipeline::Counts;
use crate::sources::Options;
use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

/// Everything that feeds hand over, in an order of its own.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    records: BTreeMap<Position, Event>,
    taking_part: BTreeMap<Position, Event>,
    rejected: BTreeMap<Position, (RejectReason, Vec<u8>)>,
    /// Lines, events, late ones, rejected ones.
    counts: (u64, u64, u64, u64),
    digests: (Digest, Digest),
}

impl Seen {
    fn take(&mut self, events: &mut Vec<Event>, report: Report) {
        self.taking_part.extend(events.drain(..).map(|event| (event.position, event)));
        self.records.extend(report.records.into_iter().map(|event| (event.position, event)));
        self.rejected.extend(report.rejections.into_iter().map(|r| (r.position, (r.reason, r.record))));
        let Counts { lines, accepted, late, .. } = report.counts;
        self.counts.0 += lines;
        self.counts.1 += accepted;
        self.counts.2 += late;
        self.counts.3 += report.counts.rejected_all();
        self.digests.0.merge(&report.late);
        self.digests.1.merge(&report.rejected);
    }
}

/// A log in files, and how it is read.
struct Case {
    _directory: tempfile::TempDir,
    files: Vec<PathBuf>,
    journal: Journal,
    stamping: Stamping,
}

impl Case {
    fn of(texts: &[&[u8]]) -> Case {
        let directory = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..texts.len()).map(|at| directory.path().join(at.to_string())).collect();
        files.iter().zip(texts).for_each(|(file, text)| fs::write(file, text).unwrap());
        let tick = Steps::new(20_000).unwrap();
        let (lateness, late) = (10_000, LatePolicy::Drop);
        let stamping = Stamping { lateness, late, jump_max: None, tick, until: Time::MAX, wants_rows: true };
        Case { _directory: directory, files, journal: Journal::default(), stamping }
    }

    fn open(&self, chunk_bytes: usize) -> Arc<FileLog> {
        let options = Options { chunk_bytes, ..Options::default() };
        Arc::new(FileLog::open(&self.files, &options).unwrap())
    }

    /// What `workers` feeds hand over, in an order that `seed` decides.
    fn play(&self, workers: usize, chunk_bytes: usize, seed: u64) -> Seen {
        let log = self.open(chunk_bytes);
        let advances = |partition| self.journal.advances(partition);
        let feed = |index| Feed::new(log.clone(), self.stamping, &advances, index, workers).unwrap();
        let mut feeds: Vec<Feed> = (0..workers).map(feed).collect();
        let mut mail: Vec<VecDeque<Summary>> = vec![VecDeque::new(); workers];
        let (mut seen, mut random) = (Seen::default(), Random(seed));
        while feeds.iter().any(|feed| feed.frontier().is_some()) {
            let at = random.below(workers);
            let mut summaries = Vec::new();
            match random.below(3) {
                0 => drop(feeds[at].read(&mut summaries).unwrap()),
                1 => mail[at].pop_front().into_iter().for_each(|summary| feeds[at].hear(summary)),
                _ => feeds[at].fold(&mut summaries, |events, report| seen.take(events, report)).unwrap(),
            }
            for other in (0..workers).filter(|other| *other != at) {
                mail[other].extend(&summaries);
            }
        }
        seen
    }

    /// What one worker hands over that reads each file at once.
    fn at_once(&self) -> Seen {
        self.play(1, 1 << 20, 0)
    }
}

#[test]
fn the_record_of_a_jump_is_its_own_line_in_every_chunk() {
    let mut text = String::new();
    for row in 0..2_000 {
        let (user, time) = (row % 7, if row % 50 == 49 { 9_000_000 + row } else { row });
        text += &format!("{user},{row},pv,{time}{}\n", " ".repeat(row as usize % 5));
    }
    let mut case = Case::of(&[text.as_bytes()]);
    case.stamping.jump_max = Some(60_000);
    let jumps: Vec<&[u8]> = text.lines().skip(49).step_by(50).map(str::as_bytes).collect();
    for (workers, chunk_bytes) in [(1, 1 << 20), (1, 1_000), (3, 1_000), (3, 77)] {
        let seen = case.play(workers, chunk_bytes, 1);
        let records: Vec<&[u8]> = seen.rejected.values().map(|(_, record)| record.as_slice()).collect();
        assert_eq!(records, jumps, "{workers} workers, chunks of {chunk_bytes}");
        assert!(seen.rejected.values().all(|(reason, _)| *reason == RejectReason::Jump));
        assert_eq!(seen, case.at_once());
    }
}
