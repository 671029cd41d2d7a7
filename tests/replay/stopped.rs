//! Runs that stop at a frontier (`--until`): what they write, what a later run makes of it.

use super::reference::{self, Rules};
use super::tables::{meta, tables};
use super::{Log, checked, eddyline, flags};
use eddyline::pipeline::{Sending, Settings, build};
use eddyline::sinks::set::{Pace, SinkSet};
use eddyline::sinks::stop::Stop;
use eddyline::sinks::{Batch, End, Sink, SinkError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Several chunks long, with late events and rubbish, from 2017-11-25T00:00:00Z for six hours.
fn long(partitions: &str) -> Log {
    let size =
        ["--events", "30000", "--users", "300", "--items", "200", "--duration", "6h", "--partitions", partitions];
    let faults = ["--disorder", "8s", "--late", "0.03", "--rubbish", "0.03", "--seed", "5"];
    Log::generated(&[size.as_slice(), faults.as_slice()].concat())
}

const START: i64 = 1_511_568_000_000;
const HOUR: i64 = 3_600_000;

impl Log {
    fn store(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn replay_to(&self, store: &Path, rules: &Rules) {
        let flags = flags(rules);
        let mut command = eddyline(&["replay", "--json", "--store", store.to_str().unwrap()]);
        checked(command.args(&self.files).args(flags).output().unwrap());
    }
}

#[test]
fn a_stopped_run_equals_the_reference_however_it_is_read() {
    let log = long("1");
    for until in [START + HOUR, START + 3 * HOUR + 20_000] {
        let rules = Rules { until: Some(until), window: 1_200_000, ..Rules::default() };
        log.equals_the_reference(&rules);
        let flags = flags(&rules);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        log.is_the_same_everywhere(&flags);
    }
}

#[test]
fn a_stopped_store_has_the_newest_list_of_its_frontier() {
    let rows = "1,100,pv,5\n2,101,pv,90\n2,101,pv,95\n1,102,pv,300\n1,100,pv,4000\n";
    let log = Log::of(&[rows.as_bytes()]);
    let mut seen = Vec::new();
    // Before the first list, at a window end, between two, where the window is empty, behind the end of the log.
    for until in [0, 60_000, 160_000, 200_000, 320_000, 2_000_000, 4_080_000, 90_000_000] {
        let rules = Rules { until: Some(until), window: 800_000, ..Rules::default() };
        let store = log.store(&format!("{until}.db"));
        log.replay_to(&store, &rules);
        let expected = reference::newest_list(&rules, &[rows.as_bytes()]);
        let (end, items) = expected.clone().unwrap_or_default();
        let row = |(rank, (item, count)): (usize, (u64, u64))| format!("{}|{item}|{count}|{end}", rank + 1);
        let rows: Vec<String> = items.into_iter().enumerate().map(row).collect();
        assert_eq!(tables(&store)["popular_latest"], rows, "--until {until}");
        assert_eq!(meta(&store, "frontier"), (until + 1).to_string());
        seen.push(expected.map(|(end, _)| end));
    }
    let ends = [None, None, Some(160_000), Some(160_000), Some(320_000), None, Some(4_080_000), None];
    assert_eq!(seen, ends);
}

#[test]
fn a_stopped_store_is_taken_further_by_later_runs() {
    let log = long("2");
    let rules = Rules { window: 1_200_000, ..Rules::default() };
    let (whole, grown) = (log.store("whole.db"), log.store("grown.db"));
    log.replay_to(&whole, &rules);
    for until in [START + HOUR, START + 2 * HOUR + 20_000, START + HOUR] {
        log.replay_to(&grown, &Rules { until: Some(until), ..rules.clone() });
        assert_eq!(meta(&grown, "status"), "finished");
    }
    assert_eq!(meta(&grown, "frontier"), (START + 2 * HOUR + 20_001).to_string());
    assert_ne!(tables(&grown), tables(&whole));
    log.replay_to(&grown, &rules);
    assert_eq!(tables(&grown), tables(&whole));
    assert_eq!(meta(&grown, "fingerprint"), meta(&whole, "fingerprint"));
}

#[test]
fn a_stopped_evaluation_is_that_of_the_events_and_lists_so_far() {
    let size =
        ["--events", "5000", "--users", "60", "--items", "40", "--duration", "3h", "--disorder", "0s", "--late", "0"];
    let log = Log::generated(&size);
    let until = START + HOUR;
    let before = |line: &&str| line.rsplit(',').next().unwrap().trim().parse::<i64>().unwrap() * 1000 < until;
    let text = String::from_utf8(log.texts().remove(0)).unwrap();
    let prefix = text.lines().filter(before).map(|line| format!("{line}\n")).collect::<String>();
    let evaluated = |log: &Log| {
        let until = until.to_string();
        let mut command = eddyline(&["replay", "--json", "--evaluate", "--until", &until]);
        let outcome = checked(command.args(&log.files).output().unwrap());
        let outcome: serde_json::Value = serde_json::from_str(&outcome).unwrap();
        let digests = outcome["replay"]["digests"].clone();
        (outcome["evaluation"].clone(), digests)
    };
    let (evaluation, digests) = evaluated(&log);
    assert_eq!(evaluated(&Log::of(&[prefix.as_bytes()])), (evaluation.clone(), digests.clone()));
    assert_eq!(evaluation["events"], prefix.lines().count());
    assert_eq!(evaluation["methods"][1]["lists"], digests["popular"]["rows"]);
    assert_eq!(evaluation["methods"][0]["lists"], digests["recommendations"]["rows"]);
}

/// Notes how far each batch claims to be.
struct Claims(Arc<Mutex<Vec<u64>>>);

impl Sink for Claims {
    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.0.lock().unwrap().push(batch.frontier);
        Ok(())
    }

    fn name(&self) -> &'static str {
        "claims"
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn durable(&self) -> u64 {
        0
    }

    fn finish(&mut self, _: &End) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A run that was killed between its last batch and its end would else be taken for a whole one.
#[test]
fn no_batch_of_a_stopped_run_claims_more_than_its_end() {
    let claims = Arc::<Mutex<Vec<u64>>>::default();
    let sink = SinkSet::spawn(vec![Box::new(Claims(claims.clone()))], Pace::Replay, 1 << 20, &Stop::default()).unwrap();
    let sinks = Arc::new(Mutex::new(Some(sink)));
    let sending = Sending::new(sinks.clone());
    timely::execute_directly(move |worker| {
        let mut pipeline = build(worker, &settings(40), dataflows::recommend::NoModel, Some(sending), true);
        let position = dataflows::event::Position::new(0, 0).unwrap();
        let event = dataflows::event::Event {
            user: dataflows::event::UserId(1),
            item: dataflows::event::ItemId(2),
            time: 5,
            logical: 5,
            position,
            behavior: dataflows::event::Behavior(0),
            late: false,
        };
        pipeline.events.send(event);
    });
    let sink = sinks.lock().unwrap().take().unwrap();
    sink.finish(End { frontier: 41, popular: None }).unwrap();
    let claims = claims.lock().unwrap();
    assert!(!claims.is_empty() && claims.iter().all(|&frontier| frontier <= 41), "{claims:?}");
}

fn settings(until: u64) -> Settings {
    let steps = |length| dataflows::time::Steps::new(length).unwrap();
    let window = dataflows::time::Window::new(80, steps(40)).unwrap();
    Settings {
        tick: steps(20),
        popular: dataflows::popular::Popular {
            window,
            top: 3,
            weights: Vec::new(),
            differences: false,
            snapshots: false,
        },
        popular_enabled: true,
        length: 3,
        recent_enabled: true,
        arrange: false,
        recommend: dataflows::recommend::Recommend {
            n: 3,
            min_history: 1,
            exclude: dataflows::recommend::Exclude::None,
            slide: steps(40),
            rewards: Vec::new(),
        },
        recommend_enabled: true,
        evaluate: None,
        until,
        snapshots: false,
    }
}
