//! The queries in the documentation of the embedded store run, and use an index.

use super::replay::Replay;
use super::subjects::{Embedded, Subject, read_only, rows};

#[test]
fn documented_queries_run_without_scanning_a_table() {
    let text = include_str!("../../docs/embedded-store.md");
    let directory = tempfile::tempdir().unwrap();
    let replay = Replay::large(1);
    let mut sink = Embedded { commit_rows: 100 }.open(directory.path());
    for batch in replay.batches(1) {
        sink.write(&batch).unwrap();
    }
    sink.finish(&replay.end()).unwrap();
    let connection = read_only(directory.path());
    let blocks = text.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let queries: Vec<&str> =
        blocks.flat_map(|block| block.split(';')).filter(|query| !query.trim().is_empty()).collect();
    assert!(queries.len() >= 8, "{queries:?}");
    for query in queries {
        rows(&connection, query);
        let plan = rows(&connection, &format!("EXPLAIN QUERY PLAN {query}")).join("\n");
        let small = ["popular_latest", "meta", "json_each", "rejected", "VIRTUAL TABLE"];
        let scans = plan.lines().filter(|line| line.contains("SCAN") && !small.iter().any(|name| line.contains(name)));
        assert_eq!(scans.collect::<Vec<_>>(), Vec::<&str>::new(), "{query}\n{plan}");
    }
}
