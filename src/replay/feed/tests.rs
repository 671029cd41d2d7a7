//! Several workers' feeds, played by hand on one thread: chunks and messages in random order must not show.

use super::*;
use crate::digest::Digest;
use crate::journal::Journal;
use crate::pipeline::Counts;
use crate::sinks::{RejectReason, Rejected};
use crate::sources::Options;
use dataflows::event::{Behavior, ItemId, Position, UserId};
use dataflows::time::{LatePolicy, Steps};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::Write;
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
    directory: tempfile::TempDir,
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
        Case { directory, files, journal: Journal::default(), stamping }
    }

    /// The same, packed.
    fn pack(&mut self) {
        for file in &mut self.files {
            let text = fs::read(&*file).unwrap();
            file.set_extension("gz");
            let packed = fs::File::create(&*file).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
            encoder.write_all(&text).unwrap();
            encoder.finish().unwrap();
        }
    }

    fn feeds(&self, workers: usize, chunk_bytes: usize) -> Vec<Feed> {
        let log = self.open(chunk_bytes);
        let advances = |partition| self.journal.advances(partition);
        (0..workers).map(|index| Feed::new(log.clone(), self.stamping, &advances, index, workers).unwrap()).collect()
    }

    fn open(&self, chunk_bytes: usize) -> Arc<FileLog> {
        let options = Options { chunk_bytes, ..Options::default() };
        Arc::new(FileLog::open(&self.files, &options).unwrap())
    }

    /// What `workers` feeds hand over, in an order that `seed` decides.
    fn play(&self, workers: usize, chunk_bytes: usize, seed: u64) -> Seen {
        let mut feeds = self.feeds(workers, chunk_bytes);
        let mut mail: Vec<VecDeque<News>> = vec![VecDeque::new(); workers];
        let (mut seen, mut random) = (Seen::default(), Random(seed));
        while feeds.iter().any(|feed| feed.frontier().is_some()) {
            let at = random.below(workers);
            let mut news = Vec::new();
            match random.below(4) {
                0 => drop(feeds[at].read(&mut news).unwrap()),
                1 => mail[at].pop_front().into_iter().for_each(|news| feeds[at].hear(news)),
                2 if at == 0 => feeds[0].take(&mut news),
                _ => feeds[at].fold(&mut news, |events, report| seen.take(events, report)).unwrap(),
            }
            for other in (0..workers).filter(|other| *other != at) {
                mail[other].extend(&news);
            }
        }
        seen
    }

    /// What one worker hands over that reads each file at once.
    fn at_once(&self) -> Seen {
        self.play(1, 1 << 20, 0)
    }

    /// `losses`: partition, first offset, one behind the last.
    fn set_journal(&mut self, advances: &[(usize, u64, Time)], losses: &[(usize, u64, u64)]) {
        let loss = |&(partition, from, to): &(usize, u64, u64)| {
            format!("{{\"entry\":\"loss\",\"partition\":{partition},\"from\":{from},\"to\":{to}}}\n")
        };
        let entry = |&(partition, offset, watermark): &(usize, u64, Time)| {
            format!(
                "{{\"entry\":\"advance\",\"partition\":{partition},\"offset\":{offset},\"watermark\":{watermark}}}\n"
            )
        };
        let path = self.directory.path().join("journal");
        fs::write(&path, advances.iter().map(entry).chain(losses.iter().map(loss)).collect::<String>()).unwrap();
        self.journal = Journal::read(&path, self.files.len()).unwrap();
    }
}

#[derive(Clone, Copy, Debug)]
enum Line {
    /// An event at a time, s.
    Event(u64),
    Rubbish,
    Blank,
}

impl Line {
    fn text(self, offset: usize) -> String {
        match self {
            Line::Event(time) => format!("{offset},7,pv,{time}"),
            Line::Rubbish => format!("{offset},x"),
            Line::Blank => String::new(),
        }
    }
}

/// Sections 1 and 2 of the contract, and where a stopped run stops, word for word.
fn by_definition(
    partitions: &[Vec<Line>],
    advances: &[(usize, u64, Time)],
    losses: &[(usize, u64, u64)],
    stamping: &Stamping,
) -> Seen {
    let mut seen = Seen::default();
    let hasher = RowHasher::default();
    for (partition, lines) in partitions.iter().enumerate() {
        let mut largest: Option<Time> = None;
        for (offset, line) in lines.iter().enumerate() {
            let position = Position::new(partition as u32, offset as u64).unwrap();
            let so_far = |&&(p, o, _): &&(usize, u64, Time)| p == partition && o <= offset as u64;
            let advanced = advances.iter().filter(so_far).map(|advance| advance.2).max().unwrap_or(0);
            let watermark = largest.map_or(0, |time| time.saturating_sub(stamping.lateness)).max(advanced);
            if watermark >= stamping.until {
                break;
            }
            seen.counts.0 += 1;
            if losses.iter().any(|&(p, from, to)| p == partition && (from..to).contains(&(offset as u64))) {
                continue;
            }
            let reason = match *line {
                Line::Blank => continue,
                Line::Rubbish => RejectReason::Columns,
                Line::Event(time) => {
                    let time = time * 1000;
                    let leaps = |jump_max| largest.is_some_and(|largest| time > largest + jump_max);
                    if !stamping.jump_max.is_some_and(leaps) {
                        largest = largest.max(Some(time));
                        let (user, item, behavior) = (UserId(offset as u64), ItemId(7), Behavior(0));
                        let (logical, late) = (time.max(watermark), time < watermark);
                        let event = Event { user, item, time, logical, position, behavior, late };
                        seen.counts.1 += 1;
                        if late {
                            seen.counts.2 += 1;
                            seen.digests.0.add_row(hasher.late_row(&event));
                        }
                        seen.records.insert(position, event);
                        if !late && logical < stamping.until {
                            seen.taking_part.insert(position, event);
                        }
                        continue;
                    }
                    RejectReason::Jump
                }
            };
            let record = line.text(offset).into_bytes();
            seen.counts.3 += 1;
            seen.digests.1.add_row(hasher.rejected_row(&Rejected { position, reason, record: record.clone() }));
            seen.rejected.insert(position, (reason, record));
        }
    }
    seen
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![6 => (0u64..120).prop_map(Line::Event), 2 => Just(Line::Rubbish), 1 => Just(Line::Blank)]
}

proptest! {
    #[test]
    fn what_is_read_is_a_function_of_the_log(
        partitions in prop::collection::vec(prop::collection::vec(line(), 0..40), 1..4),
        advances in prop::collection::vec((0usize..3, 0u64..45, 0u64..130_000), 0..4),
        losses in prop::collection::vec((0usize..3, 0u64..45, 1u64..12), 0..3),
        until in prop_oneof![(0u64..7).prop_map(|tick| tick * 20_000), Just(Time::MAX)],
        jump_max in prop::option::of(10_000u64..60_000),
        chunk_bytes in 1usize..80,
        seed: u64,
    ) {
        let text = |lines: &Vec<Line>| {
            lines.iter().enumerate().map(|(offset, line)| line.text(offset) + "\n").collect::<String>()
        };
        let texts: Vec<String> = partitions.iter().map(text).collect();
        let mut case = Case::of(&texts.iter().map(String::as_bytes).collect::<Vec<_>>());
        let advances: Vec<_> = advances.into_iter().filter(|advance| advance.0 < partitions.len()).collect();
        let losses = losses.into_iter().filter(|loss| loss.0 < partitions.len());
        let losses: Vec<_> = losses.map(|(partition, from, count)| (partition, from, from + count)).collect();
        case.set_journal(&advances, &losses);
        (case.stamping.until, case.stamping.jump_max) = (until, jump_max);
        let expected = by_definition(&partitions, &advances, &losses, &case.stamping);
        for workers in [1, 2, 3] {
            prop_assert_eq!(&case.play(workers, chunk_bytes, seed), &expected, "{} workers", workers);
        }
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

/// Time goes on while the log is read, and not only at its end.
#[test]
fn the_frontier_follows_the_log() {
    let text: String = (0..120).map(|second| format!("{second},7,pv,{second}\n")).collect();
    let case = Case::of(&[text.as_bytes(), text.as_bytes()]);
    let mut feed = case.feeds(1, 64).remove(0);
    let mut frontiers = Vec::new();
    while let Some(frontier) = feed.frontier() {
        frontiers.push(frontier);
        feed.read(&mut Vec::new()).unwrap();
        feed.fold(&mut Vec::new(), |_, _| ()).unwrap();
    }
    assert!(frontiers.is_sorted(), "{frontiers:?}");
    // 119 s is the last time, 10 s the lateness, and the tick that has 109 s ends at 120 s.
    assert!((100_000..=120_000).contains(frontiers.last().unwrap()), "{frontiers:?}");
}

/// Two days, a file each, the second one the other worker's.
#[test]
fn a_later_partition_waits_for_its_turn() {
    let day = |first: u64| (first..first + 5_000).map(|time| format!("1,2,pv,{time}\n")).collect::<String>();
    let mut case = Case::of(&[day(0).as_bytes(), day(100_000).as_bytes()]);
    for packed in [false, true] {
        if packed {
            case.pack();
        }
        let mut feeds = case.feeds(2, 1_000);
        let (mut handed, mut news, mut parsed) = (0, Vec::new(), 0);
        while feeds[1].read(&mut news).unwrap() {
            parsed += 1;
            feeds[1].fold(&mut news, |events, _| handed += std::mem::take(events).len()).unwrap();
        }
        assert!(parsed <= 2 * AHEAD_MAX, "packed: {packed}, {parsed} chunks");
        assert!(handed <= 100, "packed: {packed}, {handed} events of the second day before the first has begun");
        assert_eq!(case.play(2, 1_000, 3).counts.1, 10_000);
    }
}

/// Neither time nor the frontier moves; the sinks are slow, so worker 0 stands still.
#[test]
fn rejected_records_wait_for_worker_0() {
    let mut case = Case::of(&[b"", "x\n".repeat(3_000_000).as_bytes()]);
    case.pack();
    let mut feeds = case.feeds(2, 256 << 10);
    let (mut handed, mut news) = (0, Vec::new());
    let bytes = |report: &Report| (report.rejections.len() * (size_of::<Rejected>() + 1)) as u64;
    let mut pass = |from: usize, feeds: &mut [Feed], handed: &mut u64| {
        while feeds[from].read(&mut news).unwrap() {
            feeds[from].fold(&mut news, |_, report| *handed += bytes(&report)).unwrap();
        }
        feeds[from].fold(&mut news, |_, report| *handed += bytes(&report)).unwrap();
        if from == 0 {
            feeds[0].take(&mut news);
        }
        news.drain(..).for_each(|news| feeds[1 - from].hear(news));
    };
    // The first partition's end is told by worker 0.
    pass(0, &mut feeds, &mut handed);
    let mut before = 0;
    while feeds.iter().any(|feed| feed.frontier().is_some()) {
        pass(1, &mut feeds, &mut handed);
        let one_chunk = 10 << 20;
        assert!(handed - before <= REPORTS_BYTES_MAX + one_chunk, "{} bytes at once", handed - before);
        before = handed;
        pass(0, &mut feeds, &mut handed);
    }
    assert_eq!(handed, 3_000_000 * (size_of::<Rejected>() as u64 + 1));
}
