//! `eddyline replay`, as a user runs it: canonical files against a slow reference, and the same bytes for any number of
//! workers and processes.

#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub)]

#[path = "replay/clusters.rs"]
mod clusters;
#[path = "replay/models.rs"]
mod models;
#[path = "replay/other_logs.rs"]
mod other_logs;
#[path = "replay/reference.rs"]
mod reference;
#[path = "replay/stopped.rs"]
mod stopped;
#[path = "replay/tables.rs"]
mod tables;

use reference::Rules;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn eddyline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eddyline"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn checked(output: Output) -> String {
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{stderr}");
    stdout
}

/// The canonical files in a directory, by name.
fn outputs(directory: &Path) -> BTreeMap<String, String> {
    let read =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap());
    fs::read_dir(directory).unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// The digests of a run, as `--json` gives them.
fn digests(stdout: &str) -> serde_json::Value {
    let value: serde_json::Value = serde_json::from_str(stdout).unwrap();
    value["replay"]["digests"].clone()
}

struct Log {
    directory: tempfile::TempDir,
    files: Vec<PathBuf>,
}

impl Log {
    fn of(texts: &[&[u8]]) -> Log {
        let directory = tempfile::tempdir().unwrap();
        let files = (0..texts.len()).map(|at| directory.path().join(format!("{at}.csv"))).collect::<Vec<_>>();
        files.iter().zip(texts).for_each(|(file, text)| fs::write(file, text).unwrap());
        Log { directory, files }
    }

    fn generated(flags: &[&str]) -> Log {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("log.csv");
        checked(eddyline(&["generate", file.to_str().unwrap()]).args(flags).output().unwrap());
        let mut files: Vec<PathBuf> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        Log { directory, files }
    }

    fn texts(&self) -> Vec<Vec<u8>> {
        self.files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    fn replay(&self, out: &str, flags: &[&str]) -> (BTreeMap<String, String>, serde_json::Value) {
        let out = self.directory.path().join(out);
        let mut command = eddyline(&["replay", "--json", "--out", out.to_str().unwrap()]);
        let stdout = checked(command.args(&self.files).args(flags).output().unwrap());
        (outputs(&out), digests(&stdout))
    }

    /// Several processes on this machine; what process 0 wrote.
    fn replay_across(&self, processes: usize, flags: &[&str]) -> (BTreeMap<String, String>, serde_json::Value) {
        let out = self.directory.path().join(format!("across-{processes}"));
        let commands = clusters::commands(self.directory.path(), processes).0.into_iter().map(|mut command| {
            command.args(["--out", out.to_str().unwrap()]).args(&self.files).args(flags);
            command
        });
        let children: Vec<Child> = commands.map(|mut command| command.spawn().unwrap()).collect();
        let stdouts: Vec<String> = children.into_iter().map(|c| checked(c.wait_with_output().unwrap())).collect();
        assert!(stdouts[1..].iter().all(String::is_empty), "process 0 speaks");
        (outputs(&out), digests(&stdouts[0]))
    }

    fn equals_the_reference(&self, rules: &Rules) {
        let flags = flags(rules);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let texts = self.texts();
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let expected = reference::files(rules, &texts);
        let (found, _) = self.replay("reference", &flags);
        for (name, text) in expected {
            let found = &found[name];
            if *found != text {
                let at = found.lines().zip(text.lines()).position(|(a, b)| a != b).unwrap_or(0);
                let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
                panic!("{name}, line {at}: {} instead of {} ({rules:?})", line(found), line(&text));
            }
        }
    }

    fn is_the_same_everywhere(&self, flags: &[&str]) {
        let one = self.replay("w1", flags);
        for workers in ["2", "4", "8"] {
            let more = self.replay(&format!("w{workers}"), &[flags, &["-w", workers]].concat());
            assert!(one == more, "-w {workers} differs");
        }
        for processes in [2, 3] {
            assert!(one == self.replay_across(processes, flags), "{processes} processes differ");
        }
        assert!(one == self.replay_across(2, &[flags, &["-w", "2"]].concat()), "2 processes of 2 workers differ");
    }
}

fn flags(rules: &Rules) -> Vec<String> {
    let set = |key: &str, value: String| ["--set".to_owned(), format!("{key}={value}")];
    let late = if rules.admit_late { "admit" } else { "drop" };
    let until = rules.until.map_or(Vec::new(), |until| vec!["--until".to_owned(), until.to_string()]);
    let settings = [
        set("time.lateness", format!("{}ms", rules.lateness)),
        set("time.late", late.to_owned()),
        set("time.tick", format!("{}ms", rules.tick)),
        set("popular.slide", format!("{}ms", rules.slide)),
        set("popular.window", format!("{}ms", rules.window)),
        set("popular.top", rules.top.to_string()),
        set("recent.length", rules.length.to_string()),
        set("recommend.n", rules.n.to_string()),
        set("recommend.min_history", rules.min_history.to_string()),
    ];
    [settings.concat(), until].concat()
}

/// Disorder, late events, equal times, rubbish, several partitions.
fn unruly(seed: &str) -> Log {
    let size = ["--events", "12000", "--users", "400", "--items", "300", "--duration", "6h", "--partitions", "3"];
    let faults = ["--disorder", "8s", "--late", "0.03", "--rubbish", "0.02", "--seed", seed];
    Log::generated(&[size.as_slice(), faults.as_slice()].concat())
}

#[test]
fn an_unruly_log_equals_the_reference() {
    let log = unruly("1");
    for admit_late in [false, true] {
        log.equals_the_reference(&Rules { admit_late, ..Rules::default() });
        let odd = Rules {
            tick: 7_000,
            slide: 21_000,
            window: 63_000,
            lateness: 3_000,
            top: 3,
            length: 4,
            n: 5,
            ..Rules::default()
        };
        log.equals_the_reference(&Rules { admit_late, min_history: 3, ..odd });
    }
}

#[test]
fn an_unruly_log_is_the_same_everywhere() {
    let log = unruly("2");
    log.is_the_same_everywhere(&[]);
    log.is_the_same_everywhere(&[
        "--set",
        "time.late=admit",
        "--set",
        "time.tick=3s",
        "--set",
        "popular.slide=9s",
        "--set",
        "popular.window=27s",
    ]);
}

#[test]
fn the_worked_example_of_the_contract() {
    let text = b"1,100,pv,0\n1,101,buy,5\n2,100,pv,19\n2,102,cart,20\n1,100,pv,79\n3,103,fav,80\n3,100,pv,3\n2,100,pv,95\nx,1,pv,3\n1,104,pv,3700\n";
    let log = Log::of(&[text]);
    for admit_late in [false, true] {
        log.equals_the_reference(&Rules { admit_late, ..Rules::default() });
    }
    let (files, _) = log.replay("golden", &[]);
    assert_eq!(files["popular.jsonl"].lines().count(), 91);
    assert_eq!(files["popular.jsonl"].lines().last(), Some("{\"window_end\":7280000,\"items\":[104],\"counts\":[1]}"));
    assert_eq!(
        files["recommendations.jsonl"],
        "{\"time\":80000,\"user\":1,\"items\":[100,101,102],\"from_model\":0,\"last_reward\":-1}\n\
         {\"time\":100000,\"user\":2,\"items\":[100,101,102],\"from_model\":0,\"last_reward\":-1}\n\
         {\"time\":100000,\"user\":3,\"items\":[100,101,102],\"from_model\":0,\"last_reward\":-1}\n\
         {\"time\":3720000,\"user\":1,\"items\":[100,103],\"from_model\":0,\"last_reward\":0}\n"
    );
    assert_eq!(
        files["late.jsonl"],
        "{\"partition\":0,\"offset\":6,\"user\":3,\"item\":100,\"behavior\":\"pv\",\"time\":3000}\n"
    );
    assert_eq!(
        files["rejected.jsonl"],
        "{\"partition\":0,\"offset\":8,\"reason\":\"user\",\"record\":\"eCwxLHB2LDM=\"}\n"
    );
}

/// The same as a file that never had them, and whose other lines kept their numbers.
#[test]
fn records_that_a_journal_calls_lost_are_no_part_of_a_replay() {
    let size = ["--events", "60000", "--users", "400", "--items", "300", "--duration", "6h", "--partitions", "2"];
    let log = Log::generated(&[size.as_slice(), &["--disorder", "8s", "--rubbish", "0.02"]].concat());
    let losses = [(0, 5_000, 9_000), (0, 8_000, 9_500), (0, 29_990, 90_000), (1, 20_000, 20_001), (1, 12_345, 20_000)];
    let entry = |(partition, from, to): &(usize, usize, usize)| {
        format!("{{\"entry\":\"loss\",\"partition\":{partition},\"from\":{from},\"to\":{to}}}\n")
    };
    let journal = log.directory.path().join("journal.jsonl");
    fs::write(&journal, losses.iter().map(entry).collect::<String>()).unwrap();
    let mut texts = log.texts();
    for (partition, text) in texts.iter_mut().enumerate() {
        let lost = |line: usize| losses.iter().any(|&(p, from, to)| p == partition && (from..to).contains(&line));
        let lines = text.split_inclusive(|&byte| byte == b'\n').enumerate();
        *text = lines.flat_map(|(at, line)| if lost(at) { b"\n" } else { line }.to_vec()).collect();
    }
    let without = Log::of(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let expected = without.replay("without", &[]);
    let whole = log.replay("whole", &[]);
    assert!(expected != whole, "something was lost");
    for workers in ["1", "3"] {
        let found = log.replay(workers, &["--journal", journal.to_str().unwrap(), "-w", workers]);
        assert!(found == expected, "-w {workers} differs");
    }
}

#[test]
fn strange_texts_equal_the_reference() {
    let long = [b"1,2,pv,".as_slice(), &[b'3'; 70_000], b"\n5,6,pv,7\n"].concat();
    let texts: [&[u8]; 8] = [
        b"",
        b"\n\n",
        b"user,item,behavior,time\n1,2,pv,3\n",
        b"\xEF\xBB\xBFuser,item,behavior,time\r\n1,2,pv,3\r\n 4 , 5 ,buy, 6 \r\n",
        b"1,2,pv,3\n1,2,pv\n1,x,pv,3\n1,2,zz,3\n1,2,pv,999999999999\n\xff,2,pv,3\n1,2,pv,-3\n9223372036854775808,2,pv,3",
        b"1,2,pv,3\0\n\0\n1,2,pv,50,and,more\n",
        &long,
        b"3,3,fav,100\n3,3,fav,1\n3,3,fav,1",
    ];
    for text in texts {
        Log::of(&[text]).equals_the_reference(&Rules::default());
    }
    Log::of(&texts).equals_the_reference(&Rules::default());
    Log::of(&texts).is_the_same_everywhere(&[]);
}

#[test]
fn packed_files_and_standard_input_are_the_same_log() {
    let log = unruly("3");
    let (files, digests) = log.replay("plain", &[]);
    let mut packed = Vec::new();
    for (file, text) in log.files.iter().zip(log.texts()) {
        let gz = file.with_extension("csv.gz");
        let mut encoder = flate2::write::GzEncoder::new(fs::File::create(&gz).unwrap(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &text).unwrap();
        encoder.finish().unwrap();
        packed.push(gz);
    }
    packed[1] = log.files[1].with_extension("csv.zst");
    fs::write(&packed[1], zstd::encode_all(log.texts()[1].as_slice(), 1).unwrap()).unwrap();
    for workers in ["1", "3"] {
        let packed = Log { directory: tempfile::tempdir().unwrap(), files: packed.clone() };
        assert!((files.clone(), digests.clone()) == packed.replay("out", &["-w", workers]), "-w {workers}");
    }
    let last = log.files.len() - 1;
    let mut command = eddyline(&["replay", "--json", "-w", "2"]);
    command.args(&log.files[..last]).arg("-").stdin(fs::File::open(&log.files[last]).unwrap());
    assert_eq!(self::digests(&checked(command.output().unwrap())), digests);
}

#[test]
fn a_real_log_equals_the_reference() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/movielens_small.csv");
    if !shared.exists() {
        println!(
            "SKIP: the MovieLens sample is not here, and may not be passed on (research use); the OTTO sample is tested"
        );
    }
    let otto = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/otto_sample.csv");
    for file in [otto, shared].into_iter().filter(|file| file.exists()) {
        let log = Log { directory: tempfile::tempdir().unwrap(), files: vec![file] };
        log.equals_the_reference(&Rules::default());
        log.equals_the_reference(&Rules { admit_late: true, tick: 60_000, slide: 600_000, ..Rules::default() });
        let one = log.replay("w1", &[]);
        assert!(one == log.replay("w4", &["-w", "4"]));
    }
}

#[cfg(unix)]
#[test]
fn a_journal_may_be_a_pipe() {
    let log = unruly("7");
    let entry = "{\"entry\":\"advance\",\"partition\":0,\"offset\":100,\"watermark\":1511575200000}\n";
    let [journal, pipe] = ["journal", "pipe"].map(|name| log.directory.path().join(name));
    fs::write(&journal, entry).unwrap();
    clusters::make_pipe(&pipe);
    let run = |journal: &Path, store: &str| {
        let store = log.directory.path().join(store);
        let mut command = eddyline(&["replay", "--journal", journal.to_str().unwrap(), "--store"]);
        let child = command.arg(&store).args(&log.files).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        (child, store)
    };
    let (child, from_file) = run(&journal, "file.db");
    checked(clusters::end(child));
    let (child, from_pipe) = run(&pipe, "pipe.db");
    fs::write(&pipe, entry).unwrap();
    checked(clusters::end(child));
    assert_eq!(tables::meta(&from_pipe, "pipeline"), tables::meta(&from_file, "pipeline"));
    assert!(tables::tables(&from_pipe) == tables::tables(&from_file));
}
