//! Starting, stopping, going on; growing files; idle partitions; several processes.

use crate::pipeline::{Pipeline, assert_same, eddyline, stop, succeed, tomorrow, wait_until};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn append(file: &Path, text: &[u8]) {
    OpenOptions::new().append(true).open(file).unwrap().write_all(text).unwrap();
}

fn count_lines(file: &Path) -> usize {
    std::fs::read(file).unwrap().iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn a_run_to_the_end_of_the_log_holds_what_a_replay_holds() {
    let pipeline = Pipeline::generated(20_000, 3);
    let expected = pipeline.replayed(None);
    for workers in ["1", "2", "5"] {
        let store = format!("{workers}.db");
        succeed(pipeline.run(&store).args(["--until-end", "-w", workers]));
        assert_same(&pipeline.content(&store), &expected, workers);
    }
}

#[test]
fn several_processes_hold_what_a_replay_holds() {
    let pipeline = Pipeline::generated(20_000, 3);
    let hosts = pipeline.path("hosts");
    let ports: Vec<u16> =
        (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()).collect();
    std::fs::write(&hosts, format!("127.0.0.1:{}\n127.0.0.1:{}\n", ports[0], ports[1])).unwrap();
    let process = |index: &str| -> Command {
        let mut command = pipeline.run("cluster.db");
        command.args(["--until-end", "-w", "2", "-n", "2", "-p", index, "--hostfile"]).arg(&hosts);
        command
    };
    let other = process("1").spawn().unwrap();
    succeed(&mut process("0"));
    assert!(other.wait_with_output().unwrap().status.success());
    assert_same(&pipeline.content("cluster.db"), &pipeline.replayed(None), "two processes");
}

/// Files that grow, runs that are stopped and go on with other numbers of workers, and a partition that falls silent early.
#[test]
fn a_run_goes_on_where_it_was_stopped_and_follows_what_is_added() {
    let source = Pipeline::generated_with(20_000, 2, &["--start", &tomorrow()]);
    let pipeline = Pipeline::empty(2).set("time.idle=300ms");
    let texts: Vec<Vec<u8>> = source.files().iter().map(|file| std::fs::read(file).unwrap()).collect();
    let lines: Vec<Vec<&[u8]>> =
        texts.iter().map(|text| text.split_inclusive(|byte| *byte == b'\n').collect()).collect();
    let pieces = 4;
    for piece in 0..pieces {
        let mut run = pipeline.run("store.db").args(["-w", &(piece % 3 + 1).to_string()]).spawn().unwrap();
        for (partition, (file, lines)) in pipeline.files().iter().zip(&lines).enumerate() {
            let (from, to) = (lines.len() * piece / pieces, lines.len() * (piece + 1) / pieces);
            // Partition 1 gets nothing after its first half: the other one has to take it along.
            if partition == 0 || piece < pieces / 2 {
                append(file, &lines[from..to].concat());
            }
        }
        let wanted: usize = pipeline.files().iter().map(|file| count_lines(file)).sum();
        wait_until("the last record", || {
            assert!(run.try_wait().unwrap().is_none(), "it has ended by itself");
            pipeline.logged("store.db") >= wanted
        });
        std::thread::sleep(Duration::from_millis(600));
        stop(run);
    }
    succeed(pipeline.run("store.db").args(["--until-end"]));
    let journal = std::fs::read_to_string(pipeline.journal("store.db")).unwrap();
    assert!(journal.contains("\"advance\""), "no partition was idle: {journal}");
    assert_same(&pipeline.content("store.db"), &pipeline.replayed(Some("store.db")), "in pieces");
}

/// A run that is told to stop leaves a snapshot of all that it has put out, wherever in a slide that ends.
#[test]
fn a_run_that_is_stopped_leaves_a_snapshot_of_its_last_tick() {
    const PIECES: usize = 6;
    let source = Pipeline::generated_with(12_000, 2, &["--start", &tomorrow()]);
    let pipeline = Pipeline::empty(2).set("state.snapshot_interval=1h");
    let texts: Vec<Vec<u8>> = source.files().iter().map(|file| std::fs::read(file).unwrap()).collect();
    let lines: Vec<Vec<&[u8]>> =
        texts.iter().map(|text| text.split_inclusive(|byte| *byte == b'\n').collect()).collect();
    let mut frontiers = vec![0];
    for piece in 0..PIECES {
        let run = pipeline.run("store.db").args(["-w", &(piece % 3 + 1).to_string()]).spawn().unwrap();
        for (file, lines) in pipeline.files().iter().zip(&lines) {
            append(file, &lines[lines.len() * piece / PIECES..lines.len() * (piece + 1) / PIECES].concat());
        }
        let wanted: usize = pipeline.files().iter().map(|file| count_lines(file)).sum();
        // The last ones wait for time to pass them.
        wait_until("the piece", || pipeline.logged("store.db") * 100 > wanted * 99);
        let told = String::from_utf8(stop(run).stderr).unwrap();
        let went_on = told.contains("going on from the snapshot at ");
        assert_eq!(went_on, piece > 0, "{told}");
        let frontier = pipeline.snapshot("store.db");
        assert!(
            frontier.is_multiple_of(5_000) && frontier > *frontiers.last().unwrap(),
            "{frontier} {frontiers:?} {told}"
        );
        let newest = pipeline.newest_tick("store.db");
        assert!(
            newest <= frontier && frontier < newest + 60_000,
            "the last tick is {newest}, the snapshot at {frontier}"
        );
        frontiers.push(frontier);
    }
    assert!(frontiers.iter().any(|frontier| !frontier.is_multiple_of(20_000)), "{frontiers:?}");
    succeed(pipeline.run("store.db").args(["--until-end"]));
    assert_same(&pipeline.content("store.db"), &pipeline.replayed(Some("store.db")), "in pieces");
}

/// The list that stores keep as the newest of an ended log is the first after its last event, also where the clock has emptied
/// the window long since, and a run goes on from a snapshot that was made after that.
#[test]
fn a_log_that_ends_long_after_its_window_is_empty_keeps_its_last_list() {
    let pipeline = Pipeline::generated(3_000, 2).set("time.idle=50ms");
    let run = pipeline.run("store.db").spawn().unwrap();
    let newest = || pipeline.content("store.db")["popular_latest"].len();
    wait_until("the last record", || pipeline.logged("store.db") >= 3_000);
    wait_until("the empty window", || newest() == 0);
    std::thread::sleep(Duration::from_secs(1));
    stop(run);
    for workers in ["2", "1"] {
        succeed(pipeline.run("store.db").args(["--until-end", "-w", workers]));
        assert!(newest() > 0);
        assert_same(&pipeline.content("store.db"), &pipeline.replayed(Some("store.db")), workers);
    }
}

/// `--new-generation` of a run without end: readers see the old results until the new ones have caught up, and the run goes on.
#[test]
fn a_new_pipeline_takes_the_old_ones_place_once_it_has_caught_up() {
    let source = Pipeline::generated_with(20_000, 2, &["--start", &tomorrow()]);
    // One partition stays empty: time waits until that is known to be so.
    let pipeline = Pipeline::empty(3).set("time.idle=300ms");
    let texts: Vec<Vec<u8>> = source.files().iter().map(|file| std::fs::read(file).unwrap()).collect();
    let middles: Vec<usize> = texts
        .iter()
        .map(|text| text.len() / 2 + text[text.len() / 2..].iter().position(|byte| *byte == b'\n').unwrap() + 1)
        .collect();
    let grow = |pipeline: &Pipeline, part: &dyn Fn(&[u8], usize) -> Vec<u8>| {
        for (file, (text, &middle)) in pipeline.files().iter().zip(texts.iter().zip(&middles)) {
            append(file, &part(text, middle));
        }
        pipeline.files().iter().map(|file| count_lines(file)).sum::<usize>()
    };
    let half = grow(&pipeline, &|text, middle| text[..middle].to_vec());
    let run = pipeline.run("store.db").spawn().unwrap();
    wait_until("the first half", || pipeline.logged("store.db") >= half);
    stop(run);
    let old = pipeline.content("store.db");
    assert_eq!(pipeline.generations("store.db").len(), 1);

    let pipeline = pipeline.set("popular.top=3");
    let run = pipeline.run("store.db").args(["-w", "2", "--new-generation"]).spawn().unwrap();
    wait_until("the new results", || pipeline.content("store.db")["popular"] != old["popular"]);
    assert!(pipeline.logged("store.db") > half * 9 / 10, "they were not complete yet");
    let all = grow(&pipeline, &|text, middle| text[middle..].to_vec());
    wait_until("the second half", || pipeline.logged("store.db") >= all);
    wait_until("the end of the old state", || pipeline.generations("store.db").len() == 1);
    stop(run);
    succeed(pipeline.run("store.db").args(["--until-end"]));
    assert_same(&pipeline.content("store.db"), &pipeline.replayed(Some("store.db")), "the new results");
}

/// A partition that nobody has heard of when a run starts begins where results are out already, snapshot or not.
#[test]
fn a_partition_that_comes_between_two_runs_changes_nothing_that_is_out() {
    for (interval, late) in [("1h", "admit"), ("1ms", "admit"), ("1h", "drop")] {
        let settings = [format!("state.snapshot_interval={interval}"), format!("time.late={late}")];
        let pipeline =
            settings.iter().fold(Pipeline::generated_with(9_000, 3, &["--start", &tomorrow()]), |pipeline, setting| {
                pipeline.set(setting)
            });
        let before: usize = pipeline.files()[..2].iter().map(|file| count_lines(file)).sum();
        let run = pipeline.run_with("store.db", 2).spawn().unwrap();
        wait_until("the end of two partitions", || pipeline.logged("store.db") >= before);
        stop(run);
        assert!(!pipeline.content("store.db")["recommendation"].is_empty(), "nothing is out");
        succeed(pipeline.run("store.db").args(["--until-end", "-w", "2"]));
        assert_same(
            &pipeline.content("store.db"),
            &pipeline.replayed(Some("store.db")),
            &format!("{interval}, {late}"),
        );
    }
}

#[test]
fn a_store_that_was_lost_is_filled_again_from_the_start_of_the_log() {
    let pipeline = Pipeline::generated_with(40_000, 2, &["--start", &tomorrow()]).set("time.idle=50ms");
    // Decisions, and snapshots that have passed them.
    let run = pipeline.run("store.db").spawn().unwrap();
    wait_until("the last record", || pipeline.logged("store.db") >= 40_000);
    std::thread::sleep(Duration::from_millis(300));
    stop(run);
    let store = pipeline.path("store.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", store.display()));
    }
    let refused = pipeline.run("store.db").arg("--until-end").output().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && told.contains("run with --from-start"), "{told}");
    // It is killed on the way, and goes on from a snapshot of its own.
    let mut again = pipeline.run("store.db");
    let killed =
        again.args(["--from-start", "--until-end"]).env("EDDYLINE_FAULT", "snapshot.published:1").output().unwrap();
    assert!(String::from_utf8_lossy(&killed.stderr).contains("fault: "), "{}", String::from_utf8_lossy(&killed.stderr));
    succeed(pipeline.run("store.db").args(["--until-end", "-w", "2"]));
    let journal = std::fs::read_to_string(pipeline.journal("store.db")).unwrap();
    assert!(journal.contains("\"advance\""), "no partition was idle: {journal}");
    assert_same(&pipeline.content("store.db"), &pipeline.replayed(Some("store.db")), "filled again");
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Records that are no events move no time on; they too wait in the log while a store takes none.
#[test]
fn a_store_that_is_held_up_holds_up_the_input() {
    let pipeline = Pipeline::empty(1);
    let log = &pipeline.files()[0];
    append(log, b"1,2,pv,1511544070\n");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = pipeline.run("store.db").args(["--serve", &address.to_string()]).spawn().unwrap();
    wait_until("the first record", || pipeline.logged("store.db") == 1);
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
    let store = rusqlite::Connection::open(pipeline.path("store.db")).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    let rubbish = [vec![b'x'; 50_000], b"\n".to_vec()].concat();
    let mut written = 0;
    for _ in 0..60 {
        append(log, &rubbish.repeat(100));
        written += 100 * rubbish.len();
    }
    std::thread::sleep(Duration::from_secs(4));
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: usize = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident * 1000 < written / 2, "{resident} kB of {written} bytes");
    wait_until("the first failure", || get(address, "/readyz").starts_with("HTTP/1.1 503"));
    assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
    store.execute_batch("ROLLBACK").unwrap();
    drop(store);
    wait_until("the rest", || pipeline.logged("store.db") == 6_001);
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
    let metrics = get(address, "/metrics");
    assert!(metrics.contains("eddyline_partition_records_total{partition=\"0\"} 6001"), "{metrics}");
    stop(run);
}

#[test]
fn what_cannot_be_is_one_line() {
    let pipeline = Pipeline::generated(1_000, 1);
    succeed(pipeline.run("store.db").args(["--until-end"]));
    let refused = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        text.lines().last().unwrap().to_owned()
    };
    let other = refused(pipeline.run("store.db").args(["--until-end", "--set", "popular.top=3"]));
    assert!(other.starts_with("error: ") && other.contains("configuration is"), "{other}");
    let nowhere = refused(eddyline().args(["run", "log.csv"]));
    assert!(nowhere.contains("there is no place for results"), "{nowhere}");
    let ended = refused(&mut pipeline.run("store.db"));
    assert!(ended.contains("--until-end took for ended"), "{ended}");
}
