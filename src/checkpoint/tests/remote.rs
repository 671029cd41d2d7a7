//! The copy in an object store: machines that are lost, stores that fail, runs that are thought dead, objects that are damaged.

use super::model::{Loaded, Model, history, loaded};
use super::probe::Probe;
use super::*;
use crate::checkpoint::open::open_copy;
use crate::checkpoint::remote::{Change, Client, Generation, Limits, Remote, Tree};
use crate::journal::scan;
use futures_util::stream::{BoxStream, once};
use futures_util::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::fmt;
use std::sync::Mutex;

/// Small ones, so that bases and segments come often.
const LIMITS: Limits = Limits { base_steps: 7, tail_bytes: 300 };

/// A store in memory that fails when it is told to.
#[derive(Debug, Default)]
struct Store {
    objects: InMemory,
    faults: Mutex<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Calls until the process is dead to it: all fail from there on.
    dies_after: Option<usize>,
    /// For each call to come: fails before it is done, or after; or does not.
    failures: Vec<Option<When>>,
    /// It takes a new object also where there is one.
    overwrites: bool,
    /// What another process does before the call that comes after so many.
    meanwhile: Option<(usize, Meanwhile)>,
}

struct Meanwhile(Box<dyn FnOnce() + Send>);

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another process")
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Before,
    After,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store of a test")
    }
}

fn failure() -> Error {
    Error::Generic { store: "test", source: "as the test wants it".into() }
}

impl Store {
    fn fault(&self) -> Option<When> {
        let mut faults = self.faults.lock().unwrap();
        if let Some((left, _)) = &mut faults.meanwhile {
            *left = left.saturating_sub(1);
        }
        if let Some((_, Meanwhile(act))) = faults.meanwhile.take_if(|(left, _)| *left == 0) {
            drop(faults);
            // In a runtime no other can be waited for.
            std::thread::spawn(act).join().unwrap();
            faults = self.faults.lock().unwrap();
        }
        if let Some(left) = &mut faults.dies_after {
            if *left == 0 {
                return Some(When::Before);
            }
            *left -= 1;
        }
        faults.failures.pop().flatten()
    }

    fn set(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.faults.lock().unwrap());
    }

    /// All objects, without faults.
    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        wait(async {
            let found: Vec<ObjectMeta> = self.objects.list(None).try_collect().await.unwrap();
            let mut contents = BTreeMap::new();
            for object in found {
                let bytes = self.objects.get(&object.location).await.unwrap().bytes().await.unwrap();
                contents.insert(object.location.to_string(), bytes.to_vec());
            }
            contents
        })
    }

    fn overwrite(&self, key: &str, bytes: Option<Vec<u8>>) {
        let key = Key::from(key);
        wait(async {
            match bytes {
                Some(bytes) => drop(self.objects.put(&key, bytes.into()).await.unwrap()),
                None => self.objects.delete(&key).await.unwrap(),
            }
        });
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[async_trait::async_trait]
impl ObjectStore for Store {
    async fn put_opts(
        &self,
        key: &Key,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> object_store::Result<PutResult> {
        if self.faults.lock().unwrap().overwrites {
            options.mode = PutMode::Overwrite;
        }
        match self.fault() {
            Some(When::Before) => Err(failure()),
            Some(When::After) => self.objects.put_opts(key, payload, options).await.and(Err(failure())),
            None => self.objects.put_opts(key, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        match self.fault() {
            Some(_) => Err(failure()),
            None => self.objects.get_opts(key, options).await,
        }
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, object_store::Result<Key>>,
    ) -> BoxStream<'static, object_store::Result<Key>> {
        match self.fault() {
            Some(_) => once(async { Err(failure()) }).boxed(),
            None => self.objects.delete_stream(keys),
        }
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.fault() {
            Some(_) => once(async { Err(failure()) }).boxed(),
            None => self.objects.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> object_store::Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> object_store::Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

type Opening = Result<(StateDirectory, Recovered), CheckpointError>;

fn open_in(path: &Path, store: &Arc<Store>) -> Opening {
    let remote = Remote::in_store(store.clone(), LIMITS);
    open_copy(path, Some(remote), &ours(), (OtherPipeline::Refuse, Trust::Snapshots), Probe::none())
}

/// Goes on as a run does where something may pass.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, CheckpointError>) -> Result<T, CheckpointError> {
    loop {
        match attempt() {
            Err(error) if error.is_retryable() => {}
            done => return done,
        }
    }
}

/// All decisions but the epochs.
fn journal(state: &StateDirectory) -> Vec<Decision> {
    let mut decisions = Vec::new();
    scan::live(state.journal_path(), Some("ours"), |_, decision| {
        decisions.extend(decision.filter(|decision| !matches!(decision, Decision::Epoch { .. })));
    })
    .unwrap();
    decisions
}

fn no_rows() -> SnapshotRows {
    SnapshotRows { frontier: 0, users: Vec::new(), panes: Vec::new(), positions: Vec::new(), last: None }
}

#[derive(Clone, Debug)]
enum Act {
    Publish,
    Append(usize),
    WaitForMerge,
    /// Drop it and open it again, in an empty directory or the old one.
    Reopen(bool),
    /// Die after so many calls of the store, then open again.
    Crash(usize, bool),
    /// Die after so many calls of the store while opening, then open again, in an empty directory or the old one.
    CrashOpening(usize, bool),
    /// The next calls fail or not.
    Fail(Vec<Option<When>>),
    /// Another run begins elsewhere while this one is alive, and takes so many steps before this one takes the next.
    TakeOver(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let fault = prop_oneof![2 => Just(None), 1 => Just(Some(When::Before)), 1 => Just(Some(When::After))];
    let act = prop_oneof![
        10 => Just(Act::Publish),
        6 => (1usize..4).prop_map(Act::Append),
        2 => Just(Act::WaitForMerge),
        2 => any::<bool>().prop_map(Act::Reopen),
        3 => (0usize..12, any::<bool>()).prop_map(|(after, lost)| Act::Crash(after, lost)),
        3 => (0usize..40, any::<bool>()).prop_map(|(after, lost)| Act::CrashOpening(after, lost)),
        3 => prop::collection::vec(fault, 1..12).prop_map(Act::Fail),
        1 => (0usize..20).prop_map(Act::TakeOver),
    ];
    prop::collection::vec(act, 1..50)
}

/// A state directory, its copy, and what both should hold.
struct World {
    store: Arc<Store>,
    directory: tempfile::TempDir,
    state: Option<StateDirectory>,
    model: Model,
    journal: Vec<Decision>,
    epoch: u64,
    runs: usize,
    rows: std::vec::IntoIter<SnapshotRows>,
}

impl World {
    fn new(rows: Vec<SnapshotRows>) -> World {
        let mut world = World {
            store: Arc::default(),
            directory: directory(),
            state: None,
            model: Model::default(),
            journal: Vec::new(),
            epoch: 0,
            runs: 0,
            rows: rows.into_iter(),
        };
        world.reopen(false, None, &[]);
        world
    }

    /// What was under way when it ended may be there or not.
    fn reopen(&mut self, lost: bool, publishing: Option<&SnapshotRows>, appending: &[Decision]) {
        self.state = None;
        if lost {
            self.directory = directory();
        }
        self.store.set(|faults| *faults = Faults::default());
        let (state, recovered) = open_in(self.directory.path(), &self.store).unwrap();
        assert!(recovered.epoch > self.epoch);
        assert_eq!(recovered.skipped, []);
        self.epoch = recovered.epoch;
        self.runs += 1;
        if let Some(rows) = publishing {
            let mut with = self.model.clone();
            with.publish(rows);
            if loaded(&recovered) == with.loaded() {
                self.model = with;
            }
        }
        assert_eq!(loaded(&recovered), self.model.loaded());
        let journal = journal(&state);
        let with = [&self.journal[..], appending].concat();
        assert!(journal == self.journal || journal == with);
        self.journal = journal;
        self.state = Some(state);
    }

    fn decisions(&self, count: usize) -> Vec<Decision> {
        let decision = |n: usize| Decision::Advance { partition: 9, offset: n as u64, watermark: n as Time };
        (self.journal.len()..self.journal.len() + count).map(decision).collect()
    }

    fn act(&mut self, act: Act) {
        let state = self.state.as_mut().unwrap();
        match act {
            Act::Publish => {
                let Some(rows) = self.rows.next() else { return };
                patiently(|| state.publish(&rows)).unwrap();
                self.model.publish(&rows);
            }
            Act::Append(count) => {
                let decisions = self.decisions(count);
                let state = self.state.as_mut().unwrap();
                patiently(|| state.append(&decisions)).unwrap();
                self.journal.extend(decisions);
            }
            Act::WaitForMerge => patiently(|| state.snapshots.wait_for_merge()).unwrap(),
            Act::Reopen(lost) => self.reopen(lost, None, &[]),
            Act::Crash(after, lost) => {
                self.store.set(|faults| faults.dies_after = Some(after));
                loop {
                    let decisions = self.decisions(2);
                    if self.state.as_mut().unwrap().append(&decisions).is_err() {
                        return self.reopen(lost, None, &decisions);
                    }
                    self.journal.extend(decisions);
                    let Some(rows) = self.rows.next() else { continue };
                    if self.state.as_mut().unwrap().publish(&rows).is_err() {
                        return self.reopen(lost, Some(&rows), &[]);
                    }
                    self.model.publish(&rows);
                }
            }
            Act::CrashOpening(after, lost) => {
                self.state = None;
                self.store.set(|faults| *faults = Faults { dies_after: Some(after), ..Faults::default() });
                // It may get to the end of it; then that run is dead, too.
                drop(open_in(self.directory.path(), &self.store));
                self.reopen(lost, None, &[]);
            }
            Act::Fail(failures) => self.store.set(|faults| faults.failures = failures),
            Act::TakeOver(steps) => {
                let (mut old, theirs) =
                    (self.state.take().unwrap(), std::mem::replace(&mut self.directory, directory()));
                self.reopen(false, None, &[]);
                (0..steps).for_each(|_| self.act(Act::Append(1)));
                let superseded = |done| matches!(done, Err(CheckpointError::Superseded { .. }));
                let rows = SnapshotRows { frontier: Time::MAX, ..no_rows() };
                // Whichever comes first.
                if steps % 2 == 0 {
                    assert!(superseded(old.append(&self.decisions(1))));
                }
                assert!(superseded(old.publish(&rows)));
                if steps % 2 == 1 {
                    assert!(superseded(old.append(&self.decisions(1))));
                }
                drop((old, theirs));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_acknowledged_is_there_wherever_a_run_goes_on(acts in acts(), rows in history(30)) {
        let mut world = World::new(rows);
        acts.into_iter().for_each(|act| world.act(act));
        // After a snapshot the store has the manifests that the directory has, and their chunks.
        world.store.set(|faults| *faults = Faults::default());
        world.act(Act::WaitForMerge);
        let published = world.rows.len() > 0;
        world.act(Act::Publish);
        if published {
            world.act(Act::WaitForMerge);
            let tree = Remote::in_store(world.store.clone(), LIMITS);
            tree.read().unwrap();
            let manifests = |names: Vec<String>| names.into_iter().filter(|name| name.starts_with("manifest")).collect::<Vec<_>>();
            let here = super::contents(world.directory.path()).into_keys().collect();
            prop_assert_eq!(manifests(tree.names(1)), manifests(here));
        }
        world.reopen(true, None, &[]);
        world.reopen(false, None, &[]);
        // Nothing is kept that is of no use.
        let contents = world.store.contents();
        let count = |prefix: &str| contents.keys().filter(|key| key.starts_with(prefix)).count();
        prop_assert!(count("state/log") <= 2 * LIMITS.base_steps as usize + world.runs);
        prop_assert!(count("state/base") <= 2);
        prop_assert_eq!(count("state/probe"), 1);
        let chunks = super::contents(world.directory.path()).into_keys().filter(|name| name.starts_with("chunk")).count();
        prop_assert_eq!(count("state/chunks"), chunks);
        let segments: usize = contents.iter().filter(|(key, _)| key.starts_with("state/journal")).map(|(_, text)| text.len()).sum();
        prop_assert!(segments <= fs::metadata(generation(world.directory.path()).join(names::JOURNAL)).unwrap().len() as usize);
    }
}

/// A store with a base, records after it, segments of the journal and chunks.
fn filled() -> Arc<Store> {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut world = World::new(history(12).new_tree(&mut runner).unwrap().current());
    for _ in 0..12 {
        world.act(Act::Publish);
        world.act(Act::Append(1));
    }
    world.store.clone()
}

#[test]
fn damage_in_a_store_is_never_believed() {
    let store = filled();
    let whole = store.contents();
    // What an opening has done is undone.
    let reset = || {
        store.contents().keys().for_each(|key| store.overwrite(key, None));
        whole.iter().for_each(|(key, bytes)| store.overwrite(key, Some(bytes.clone())));
    };
    let right = held(&store);
    reset();
    store.overwrite(whole.keys().rfind(|key| key.starts_with("state/base")).unwrap(), None);
    assert_eq!(held(&store), right);
    reset();
    for prefix in ["log/", "base/", "journal/", "chunks/"] {
        assert!(whole.keys().any(|key| key.starts_with(&format!("state/{prefix}"))), "{prefix}: {:?}", whole.keys());
    }
    let last = whole.keys().rfind(|key| key.starts_with("state/log")).unwrap();
    let base = whole.keys().rev().find_map(|key| key.strip_prefix("state/base/")).unwrap();
    let number =
        |key: &str| key.strip_prefix("state/log/").or_else(|| key.strip_prefix("state/base/")).map(str::to_owned);
    let is_behind =
        |key: &String| number(key).is_some_and(|number| *number < *base || *key == format!("state/log/{base}"));
    let opened = |what: &str, key: &str| {
        let is_chunk = key.contains("chunks");
        match open_in(directory().path(), &store) {
            Err(error) => {
                let text = error.to_string();
                assert!(!text.contains('\n') && (is_chunk || text.contains("test://bucket/state/")), "{text}");
            }
            Ok((_, recovered)) => assert!(is_chunk && !recovered.skipped.is_empty(), "{what} {key} was believed"),
        }
        reset();
    };
    // What is behind the newest base is not read while that is there.
    for (key, bytes) in whole.iter().filter(|(key, _)| !is_behind(key) && *key != "state/probe") {
        // A log that ends earlier can't be told from one that was never longer.
        if key != last {
            // An older snapshot's chunk is not missed while the newest is whole.
            let is_needed = !key.contains("chunks") || key == whole.keys().rfind(|key| key.contains("chunks")).unwrap();
            // Without the newest base, the one before has all that is needed.
            if is_needed && !key.contains("base") {
                store.overwrite(key, None);
                opened("the loss of", key);
            }
        }
        if key.contains("chunks") {
            continue;
        }
        for at in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            store.overwrite(key, Some(flipped));
            opened("a flipped bit in", key);
        }
        store.overwrite(key, Some(bytes[..bytes.len() / 2].to_vec()));
        opened("half of", key);
    }
}

#[test]
fn a_store_that_overwrites_is_refused() {
    let store = Arc::<Store>::default();
    store.set(|faults| faults.overwrites = true);
    let error = open_in(directory().path(), &store).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot keep state in test://bucket/state: it cannot put an object only where there is none (If-None-Match), which is \
         what keeps two runs apart"
    );
    assert_eq!(store.contents(), BTreeMap::new());
}

#[test]
fn a_store_gets_what_a_directory_holds() {
    let (place, store) = (directory(), Arc::<Store>::default());
    let mut model = Model::default();
    let rows = SnapshotRows { frontier: 80, ..no_rows() };
    let (mut state, _) = open(place.path()).unwrap();
    let decision = Decision::Advance { partition: 0, offset: 7, watermark: 8 };
    state.append(std::slice::from_ref(&decision)).unwrap();
    state.publish(&rows).unwrap();
    model.publish(&rows);
    drop(state);
    // A decision that was cut off was not acknowledged.
    let path = generation(place.path()).join(names::JOURNAL);
    let torn = [fs::read(&path).unwrap(), b"{\"entry\":\"adv".to_vec()].concat();
    fs::write(&path, torn).unwrap();

    drop(open_in(place.path(), &store).unwrap());
    let elsewhere = directory();
    let (state, recovered) = open_in(elsewhere.path(), &store).unwrap();
    assert_eq!((loaded(&recovered), journal(&state)), (model.loaded(), vec![decision]));
}

#[test]
fn a_directory_is_the_copy_of_one_place() {
    let (place, store) = (directory(), filled());
    drop(open(place.path()).unwrap());
    let told = |opened: Opening| opened.unwrap_err().to_string().replace(place.path().to_str().unwrap(), "DIR");
    assert_eq!(
        told(open_in(place.path(), &store)),
        "DIR holds state, and is no copy of test://bucket/state, which holds some too: name another directory with \
         state.dir, or another place with state.remote"
    );
    let place = directory();
    let told = |opened: Opening| opened.unwrap_err().to_string().replace(place.path().to_str().unwrap(), "DIR");
    drop(open_in(place.path(), &store).unwrap());
    assert_eq!(
        told(open(place.path())),
        "DIR is a copy of test://bucket/state, which would not get what a run does: set state.remote, or delete the file \
         DIR/copy-of"
    );
    fs::write(place.path().join("copy-of"), "s3://elsewhere/x\n").unwrap();
    assert_eq!(
        told(open_in(place.path(), &store)),
        "DIR is a copy of s3://elsewhere/x, and not of test://bucket/state: name another directory with state.dir"
    );
}

#[test]
fn a_run_that_is_refused_leaves_the_other_one_alone() {
    let (store, theirs) = (Arc::<Store>::default(), directory());
    let (mut state, _) = open_in(theirs.path(), &store).unwrap();
    let remote = Remote::in_store(store.clone(), LIMITS);
    let choice = (OtherPipeline::Refuse, Trust::Snapshots);
    let refused = open_copy(directory().path(), Some(remote), &pipeline("others"), choice, Probe::none());
    assert!(matches!(refused, Err(CheckpointError::OtherPipeline { .. })));
    state.append(&[Decision::Advance { partition: 0, offset: 0, watermark: 1 }]).unwrap();
}

#[test]
fn generations_come_and_go_in_a_store_too() {
    let store = filled();
    let place = directory();
    let open_as = |path: &Path, pipeline: &Pipeline, choice| {
        open_copy(
            path,
            Some(Remote::in_store(store.clone(), LIMITS)),
            pipeline,
            (choice, Trust::Snapshots),
            Probe::none(),
        )
    };
    let (state, recovered) = open_as(place.path(), &pipeline("others"), OtherPipeline::NewGeneration).unwrap();
    assert!(recovered.snapshot.is_none() && recovered.epoch > 1);
    state.snapshots.replacing(&["redis"]).unwrap();
    drop(state);
    let place = directory();
    let (state, _) = open_as(place.path(), &pipeline("others"), OtherPipeline::Refuse).unwrap();
    assert_eq!(state.snapshots.replaced_in().unwrap(), ["redis"]);
    assert_eq!(state.snapshots.delete_older_generations().unwrap(), 1);
    drop(state);
    assert!(store.contents().keys().all(|key| !key.contains("chunks")));
    let place = directory();
    drop(open_as(place.path(), &ours(), OtherPipeline::Purge).unwrap());
    assert!(matches!(open_in(directory().path(), &store), Err(CheckpointError::PurgeInterrupted(_))));
    let place = directory();
    let (state, _) = open_as(place.path(), &ours(), OtherPipeline::Purge).unwrap();
    state.purged().unwrap();
    drop(state);
    let place = directory();
    let (_state, recovered) = open_in(place.path(), &store).unwrap();
    assert!(recovered.snapshot.is_none());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3);
}

/// What the store holds, opened elsewhere.
fn held(store: &Arc<Store>) -> (Option<Loaded>, Vec<Decision>) {
    let place = directory();
    let (state, recovered) = open_in(place.path(), store).unwrap();
    assert_eq!(recovered.skipped, []);
    (loaded(&recovered), journal(&state))
}

#[test]
fn a_run_begins_behind_all_that_another_has_done_meanwhile() {
    for steps in 0..20 {
        let (store, place) = (Arc::<Store>::default(), directory());
        let (mut old, _) = open_in(place.path(), &store).unwrap();
        let new = Remote::in_store(store.clone(), LIMITS);
        new.read().unwrap();
        // Bases are written, and the numbers after what was read are free again.
        let decision = |n: u64| Decision::Advance { partition: 9, offset: n, watermark: n };
        let decisions: Vec<Decision> = (0..steps).map(decision).collect();
        decisions.iter().for_each(|decision| old.append(std::slice::from_ref(decision)).unwrap());
        new.begin().unwrap();
        assert!(matches!(old.append(&[decision(99)]), Err(CheckpointError::Superseded { .. })), "{steps}");
        assert_eq!(held(&store).1, decisions, "{steps}");
    }
}

#[test]
fn a_run_that_sweeps_late_leaves_a_later_one_alone() {
    let store = filled();
    let (slow, place) = (Remote::in_store(store.clone(), LIMITS), directory());
    slow.read().unwrap();
    slow.begin().unwrap();
    let (mut later, recovered) = open_in(place.path(), &store).unwrap();
    let rows = SnapshotRows { frontier: recovered.snapshot.unwrap().frontier() + 80, panes: vec![PANE], ..no_rows() };
    later.publish(&rows).unwrap();
    for n in 0..20 {
        later.append(&[Decision::Advance { partition: 8, offset: n, watermark: n }]).unwrap();
    }
    slow.sweep();
    let (snapshot, journal) = held(&store);
    assert_eq!((snapshot.unwrap().0, journal.len()), (rows.frontier, 12 + 20));
}

const PANE: PaneState = PaneState { item: ItemId(1), enters: 0, leaves: Time::MAX, count: 1 };

#[test]
fn a_store_of_a_later_program_keeps_what_this_one_cannot_read() {
    let store = filled();
    let place = directory();
    let (state, _) = open_in(place.path(), &store).unwrap();
    // A manifest of the future, as another program would put it.
    let remote = Remote::in_store(store.clone(), LIMITS);
    drop(state);
    remote.read().unwrap();
    remote.begin().unwrap();
    let text = "{\"manifest\":9999,\"version\":99,\"chunks\":[{\"chunk\":1,\"of\":\"another kind\"}]}\n".to_owned();
    let put = |name: &str, text| remote.commit(Change::Put { generation: 1, name: name.to_owned(), text }).unwrap();
    put("manifest-000000009999.json", text);
    let chunks = || store.contents().into_keys().filter(|key| key.contains("chunks")).collect::<Vec<_>>();
    let before = chunks();
    let opened = open_in(directory().path(), &store);
    assert!(opened.is_err() && !before.is_empty());
    assert_eq!(chunks(), before);
}

#[test]
fn large_chunks_go_in_parts() {
    let store = Arc::<Store>::default();
    let client = Client::over(store.clone(), Key::from("state"), "test://bucket/state").unwrap();
    let place = directory();
    for bytes in [0_usize, 1, 8 << 20, (8 << 20) + 1, (20 << 20) + 7] {
        let content: Vec<u8> = (0..bytes).map(|at| (at * 7 + at / 251) as u8).collect();
        let path = place.path().join("chunk");
        fs::write(&path, &content).unwrap();
        client.upload("chunks/large", &path).unwrap();
        let (mut found, mut pieces) = (Vec::new(), 0);
        let is_there = client.download("chunks/large", bytes as u64, |piece| {
            pieces += 1;
            found.extend_from_slice(piece);
            Ok(())
        });
        assert!(is_there.unwrap() && found == content);
        assert_eq!(pieces, bytes.div_ceil(8 << 20));
    }
    assert!(!client.download("chunks/none", 1, |_| Ok(())).unwrap());
}

#[test]
fn a_directory_is_taken_into_a_store_wherever_that_is_broken_off() {
    let decisions: Vec<Decision> =
        (0..50).map(|n| Decision::Advance { partition: 9, offset: n, watermark: n }).collect();
    let mut completed = false;
    for after in 0.. {
        let (place, store) = (directory(), Arc::<Store>::default());
        let (mut state, _) = open(place.path()).unwrap();
        state.append(&decisions).unwrap();
        let rows = SnapshotRows { frontier: 80, panes: vec![PANE], ..no_rows() };
        state.publish(&rows).unwrap();
        drop(state);
        let mut model = Model::default();
        model.publish(&rows);
        store.set(|faults| faults.dies_after = Some(after));
        let opened = open_in(place.path(), &store);
        completed = opened.is_ok();
        drop(opened);
        store.set(|faults| *faults = Faults::default());
        let (state, recovered) = open_in(place.path(), &store).unwrap_or_else(|error| panic!("{after}: {error}"));
        assert_eq!((loaded(&recovered), journal(&state)), (model.loaded(), decisions.clone()), "{after}");
        drop(state);
        assert_eq!(held(&store), (model.loaded(), decisions.clone()), "{after}");
        assert!(store.contents().keys().any(|key| key.contains("journal/")));
        if completed {
            break;
        }
    }
    assert!(completed);
}

#[test]
fn a_directory_that_would_be_refused_does_not_get_into_a_store() {
    let (place, store) = (directory(), Arc::<Store>::default());
    let (mut state, _) = open(place.path()).unwrap();
    state.publish(&SnapshotRows { frontier: 80, panes: vec![PANE], ..no_rows() }).unwrap();
    drop(state);
    let before = contents(place.path());
    let chunk = before.keys().find(|name| name.starts_with("chunk")).unwrap();
    fs::write(generation(place.path()).join(chunk), "rubbish").unwrap();
    assert!(matches!(open_in(place.path(), &store), Err(CheckpointError::NoWholeSnapshot { .. })));
    assert_eq!(store.contents(), BTreeMap::new());
    fs::write(generation(place.path()).join(chunk), &before[chunk]).unwrap();
    drop(open(place.path()).unwrap());
    // A purge takes nothing of it there.
    let (remote, choice) = (Remote::in_store(store.clone(), LIMITS), (OtherPipeline::Purge, Trust::Snapshots));
    let (state, recovered) = open_copy(place.path(), Some(remote), &ours(), choice, Probe::none()).unwrap();
    state.purged().unwrap();
    drop(state);
    assert!(recovered.snapshot.is_none());
    assert!(store.contents().keys().all(|key| !key.contains("chunks")));
    assert!(held(&store).0.is_none());
}

#[test]
fn a_chunk_that_a_store_has_lost_is_put_again() {
    let (place, store) = (directory(), Arc::<Store>::default());
    let (mut state, _) = open_in(place.path(), &store).unwrap();
    state.publish(&SnapshotRows { frontier: 80, panes: vec![PANE], ..no_rows() }).unwrap();
    drop(state);
    let key = store.contents().into_keys().find(|key| key.contains("chunks")).unwrap();
    store.overwrite(&key, None);
    drop(open_in(place.path(), &store).unwrap());
    assert_eq!(held(&store).0.unwrap().0, 80);
}

#[test]
fn a_step_that_another_thread_has_settled_is_not_taken_twice() {
    let store = Arc::<Store>::default();
    let remote = Remote::in_store(store.clone(), LIMITS);
    remote.read().unwrap();
    remote.begin().unwrap();
    let generations = || [(1, Generation::default())].into();
    remote.commit(Change::Create { generations: generations() }).unwrap();
    let append = |at, text: &str| remote.commit(Change::Append { generation: 1, at, text: text.to_owned() });
    let put = |name: &str| {
        let (name, text) = (name.to_owned(), "{}".to_owned());
        remote.commit(Change::Put { generation: 1, name, text })
    };
    for (at, when) in [(0, When::Before), (2, When::After)] {
        store.set(|faults| faults.failures = vec![Some(when)]);
        assert!(append(at, "x\n").is_err());
        put("purging").unwrap();
        append(at, "x\n").unwrap();
    }
    let again = Remote::in_store(store.clone(), LIMITS);
    again.read().unwrap();
    assert_eq!(again.tree().generations[&1].tail, "x\nx\n");
    assert_eq!(again.tree(), remote.tree());
    // A generation goes, however often that is tried.
    for _ in 0..2 {
        remote.commit(Change::Delete { generation: 1 }).unwrap();
    }
    again.read().unwrap();
    assert_eq!(again.tree(), Tree::default());
}

#[test]
fn a_run_that_stalls_while_it_begins_does_not_take_the_state_back() {
    let begins = |store: &Store| {
        let is_begin = |(key, line): &(String, Vec<u8>)| {
            key.starts_with("state/log") && String::from_utf8_lossy(line).contains("\"change\":\"begin\"")
        };
        store.contents().into_iter().filter(is_begin).count()
    };
    let (mut before, mut after) = (0, 0);
    for calls in 1..20 {
        let store = filled();
        let slow = Remote::in_store(store.clone(), LIMITS);
        slow.read().unwrap();
        let begun = begins(&store);
        let later = Arc::new(Mutex::new(None));
        let (theirs, opened) = (store.clone(), later.clone());
        let open = move || {
            let place = directory();
            let (state, _) = open_in(place.path(), &theirs).unwrap();
            *opened.lock().unwrap() = Some((place, state));
        };
        store.set(|faults| faults.meanwhile = Some((calls, Meanwhile(Box::new(open)))));
        let first = slow.begin();
        let Some((_place, mut state)) = later.lock().unwrap().take() else { break };
        let appended = state.append(&[Decision::Advance { partition: 8, offset: 0, watermark: 0 }]);
        // One of the two has the state: the one that began last. Each has begun once.
        match first {
            Ok(()) if appended.is_ok() => {
                assert!(matches!(slow.commit(Change::Begin), Err(CheckpointError::Superseded { .. })), "{calls}");
                after += 1;
            }
            Ok(()) => {
                assert!(matches!(appended, Err(CheckpointError::Superseded { .. })), "{calls}");
                before += 1;
            }
            Err(error) => {
                assert!(matches!(error, CheckpointError::Superseded { .. }) && appended.is_ok(), "{calls}: {error}");
                after += 1;
            }
        }
        slow.sweep();
        assert_eq!(begins(&store), begun + 2, "{calls}");
        held(&store);
    }
    assert!(before > 0 && after > 0);
}
