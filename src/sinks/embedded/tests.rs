use super::*;
use dataflows::event::{ItemId, UserId};
use dataflows::rows::SequenceKey;
use dataflows::time::Steps;
use std::path::Path;

fn open(directory: &Path) -> EmbeddedStore {
    open_as(directory, None)
}

fn open_as(directory: &Path, epoch: Option<u64>) -> EmbeddedStore {
    EmbeddedStore::open(StoreOptions {
        path: directory.join("store.db"),
        run: RunIdentity {
            pipeline: Pipeline { fingerprint: "one".into(), parts: serde_json::Map::new() },
            epoch,
            log: 1,
            behaviors: vec!["pv".into()],
            model: None,
            tick: Steps::new(10).unwrap(),
            slide: 20,
            ids: Default::default(),
            other_pipeline: OtherPipeline::Refuse,
        },
        commit_rows: 1,
        lock_wait: StoreOptions::LOCK_WAIT,
    })
    .unwrap()
}

fn large_batch() -> Batch {
    let mut batch = Batch { frontier: 100, ..Batch::default() };
    for user in 0..10_000 {
        batch.recent.push(SequenceKey { time: 20, user: UserId(user) }, &[ItemId(user); 10]);
    }
    batch
}

#[test]
fn a_full_disk_is_named_and_leaves_the_store_unfinished() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    store.connection.pragma_update(None, "max_page_count", 30).unwrap();
    let error = store.write(&large_batch()).unwrap_err();
    let path = directory.path().join("store.db");
    assert_eq!(
        error.to_string(),
        format!("cannot write the store {}: the disk is full; free some space and run again", path.display())
    );
    assert!(error.is_retryable());
    drop(store);
    let again = open(directory.path());
    assert!(!again.was_finished);
    assert_eq!(again.durable, 0);
}

#[test]
fn a_read_only_store_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    store.connection.pragma_update(None, "query_only", true).unwrap();
    let error = store.write(&large_batch()).unwrap_err();
    assert!(matches!(error, SinkError::Store(StoreError::ReadOnly(_))), "{error}");
    assert!(!error.is_retryable());
}

#[test]
fn a_live_run_goes_on_once_there_is_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open_as(directory.path(), Some(1));
    let mut small = Batch { frontier: 20, ..Batch::default() };
    small.recent.push(SequenceKey { time: 10, user: UserId(1 << 40) }, &[ItemId(1)]);
    store.write(&small).unwrap();
    assert_eq!(store.durable(), 20);
    let pages: u32 = store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.connection.pragma_update(None, "max_page_count", pages + 10).unwrap();
    for _ in 0..2 {
        assert!(store.write(&large_batch()).unwrap_err().is_retryable());
        assert_eq!(store.durable(), 20);
    }
    store.connection.pragma_update(None, "max_page_count", 1 << 20).unwrap();
    store.write(&large_batch()).unwrap();
    assert_eq!(store.durable(), 100);
    let rows: u32 = store.connection.query_row("SELECT count(*) FROM recent", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 10_001);
}
