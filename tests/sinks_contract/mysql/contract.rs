//! The common suite, and what tables promise beyond it.

use super::super::replay::{Replay, TICK, replays};
use super::super::services::variable;
use super::super::subjects::check;
use super::super::{
    a_run_after_a_finished_one_changes_nothing, an_abort_leaves_nothing_whole_and_a_restart_completes_it,
    holds_what_was_written,
};
use super::{MySql, Scratch, VARIABLE, content, expected, live, run, write_all};
use dataflows::event::Time;
use eddyline::sinks::{Batch, Sink};
use proptest::prelude::*;

fn subject() -> Option<MySql> {
    variable(VARIABLE).map(|address| MySql { address })
}

#[test]
fn mysql_holds_what_was_written() {
    let Some(subject) = subject() else { return };
    check((replays(), any::<u64>()), |(replay, cut)| holds_what_was_written(&subject, &replay, cut));
}

#[test]
fn mysql_restarts() {
    let Some(subject) = subject() else { return };
    check((replays(), proptest::collection::vec(0u64..1000, 1..4)), |(replay, cuts)| {
        an_abort_leaves_nothing_whole_and_a_restart_completes_it(&subject, &replay, &cuts);
    });
}

#[test]
fn mysql_runs_again() {
    let Some(subject) = subject() else { return };
    check((replays(), any::<[u64; 3]>()), |(replay, cuts)| {
        a_run_after_a_finished_one_changes_nothing(&subject, &replay, cuts);
    });
}

#[test]
fn every_flush_shows_the_state_of_its_frontier() {
    let Some(_) = subject() else { return };
    check((replays(), any::<u64>()), |(replay, cut)| {
        let scratch = Scratch::new().unwrap();
        let mut sink = scratch.open(&live(1));
        for batch in replay.batches(cut) {
            sink.write(&batch).unwrap();
            sink.flush().unwrap();
            let expected = expected(&replay.before(batch.frontier));
            let content = content(&scratch);
            assert_eq!((&content["recommendation"], &content["top"]), (&expected["recommendation"], &expected["top"]));
            assert_eq!(scratch.meta("frontier"), batch.frontier.to_string());
            assert_eq!(sink.durable(), batch.frontier);
            assert_eq!(scratch.meta("status"), "unfinished");
        }
    });
}

#[test]
fn a_batch_written_twice_or_cut_otherwise_changes_nothing() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = Replay::large(1);
    let mut sink = scratch.open(&live(1));
    for batch in replay.batches(1) {
        sink.write(&batch).unwrap();
        sink.write(&batch).unwrap();
        sink.flush().unwrap();
        sink.write(&batch).unwrap();
        sink.flush().unwrap();
    }
    // A restart from the beginning, cut in another way.
    write_all(&mut scratch.open(&live(2)), &replay, 2);
    assert_eq!(content(&scratch), expected(&replay));
}

#[test]
fn a_batch_without_rows_moves_the_frontier_and_empties_the_list() {
    let Some(scratch) = Scratch::new() else { return };
    let mut replay = Replay::large(1);
    replay.popular.retain(|&window_end, _| window_end <= 40);
    let mut sink = scratch.open(&live(1));
    let before = replay.before(41);
    for batch in before.batches(1) {
        sink.write(&Batch { frontier: batch.frontier.min(41), ..batch }).unwrap();
    }
    sink.flush().unwrap();
    assert_eq!(content(&scratch)["top"].len(), 3);
    sink.write(&Batch { frontier: 60, ..Batch::default() }).unwrap();
    sink.flush().unwrap();
    assert_eq!(content(&scratch)["top"].len(), 3, "the list of 60 may still come");
    sink.write(&Batch { frontier: 61, ..Batch::default() }).unwrap();
    sink.flush().unwrap();
    assert_eq!(content(&scratch)["top"].len(), 0);
    assert_eq!(sink.durable(), 61);
}

/// A live run that goes on from an older frontier than the database's sees the lists from there on again.
#[test]
fn a_list_survives_a_restart() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = Replay::large(1);
    let mut sink = scratch.open(&live(1));
    for batch in replay.before(5 * TICK).batches(3) {
        sink.write(&Batch { frontier: batch.frontier.min(5 * TICK), ..batch }).unwrap();
    }
    sink.flush().unwrap();
    let shown = content(&scratch)["top"].clone();
    assert!(!shown.is_empty());
    drop(sink);
    let mut sink = scratch.open(&live(2));
    assert_eq!(sink.durable(), 5 * TICK);
    // Records that come again before the frontier, and with them no list.
    sink.write(&Batch { frontier: 4 * TICK, records: replay.records.values().copied().collect(), ..Batch::default() })
        .unwrap();
    sink.flush().unwrap();
    assert_eq!(content(&scratch)["top"], shown);
    assert_eq!(sink.durable(), 5 * TICK);
}

#[test]
fn values_at_the_edges_arrive_whole() {
    let Some(scratch) = Scratch::new() else { return };
    let mut run = run();
    run.behaviors[0] = "it's a \\ “bébé”".into();
    run.model = None;
    let mut replay = Replay::large(1);
    let first = *replay.records.keys().next().unwrap();
    let event = replay.records.get_mut(&first).unwrap();
    (event.behavior.0, event.time) = (0, 253_402_300_799_999);
    write_all(&mut scratch.open(&run), &replay, 1);
    let (partition, offset) = (first.partition(), first.offset());
    let found = scratch.sql(&format!(
        "SELECT `behavior`, `time` FROM `record` WHERE `partition` = {partition} AND `offset` = {offset}; SELECT DISTINCT \
         `model` FROM `recommendation`"
    ));
    assert_eq!(found, ["it's a \\ “bébé”|9999-12-31 23:59:59.999", "NULL"]);
}

/// What clients in other languages rely on (contract, section 5).
#[test]
fn tables_have_the_columns_of_the_contract() {
    let Some(scratch) = Scratch::new() else { return };
    drop(scratch.open(&run()));
    let columns = scratch.sql(
        "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_KEY FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME <> 'eddyline_meta' ORDER BY TABLE_NAME, ORDINAL_POSITION",
    );
    let expected = [
        "recommendation|user|bigint(20)|NO|PRI",
        "recommendation|time|datetime(3)|NO|PRI",
        "recommendation|items|longtext|NO|",
        "recommendation|last_reward|bigint(20)|NO|",
        "recommendation|from_model|int(11)|NO|",
        "recommendation|model|varchar(64)|YES|",
        "record|user|bigint(20)|NO|MUL",
        "record|item|bigint(20)|NO|",
        "record|behavior|varchar(16)|NO|",
        "record|time|datetime(3)|NO|",
        "record|late|tinyint(1)|NO|",
        "record|log|bigint(20)|NO|PRI",
        "record|partition|int(11)|NO|PRI",
        "record|offset|bigint(20)|NO|PRI",
        "top|rank|int(11)|NO|PRI",
        "top|item|bigint(20)|NO|",
        "top|count|bigint(20)|NO|",
        "top|window_end|datetime(3)|NO|",
    ];
    assert_eq!(columns, expected);
    let keys = "SELECT TABLE_NAME, INDEX_NAME, GROUP_CONCAT(COLUMN_NAME ORDER BY SEQ_IN_INDEX) FROM \
                information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ('record', 'recommendation') \
                GROUP BY 1, 2 ORDER BY 1, 2";
    let expected = ["recommendation|PRIMARY|user,time", "record|PRIMARY|log,partition,offset", "record|user|user,time"];
    assert_eq!(scratch.sql(keys), expected);
    // MariaDB's JSON: text with a check.
    assert!(scratch.sql("SHOW CREATE TABLE `recommendation`").join(" ").contains("json_valid(`items`)"));
}

#[test]
fn a_statement_fits_the_packet_that_the_server_takes() {
    let Some(scratch) = Scratch::new() else { return };
    let replay = Replay::large(2);
    scratch.sql("SET GLOBAL max_allowed_packet = 8192");
    let mut sink = scratch.open(&live(1));
    scratch.sql("SET GLOBAL max_allowed_packet = 16777216");
    write_all(&mut sink, &replay, 1);
    assert_eq!(content(&scratch), expected(&replay));
    assert_eq!(sink.durable(), Time::MAX);
}
