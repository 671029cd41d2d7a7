//! What a state directory should hold, in plain maps; and random runs that compare.

use super::probe::{Failure, INPUT_OUTPUT, NO_SPACE, Probe};
use super::*;

type PaneKey = (ItemId, Time, Time);

/// The state that was published.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub(super) frontier: Option<Time>,
    users: BTreeMap<u64, UserState>,
    panes: BTreeMap<PaneKey, u64>,
    positions: Vec<PartitionPosition>,
    last: Option<LastWindow>,
}

/// All that a snapshot says: frontier, positions, last window, users, panes.
pub(super) type Loaded = (Time, Vec<PartitionPosition>, Option<LastWindow>, Vec<UserState>, Vec<PaneState>);

impl Model {
    pub(super) fn publish(&mut self, rows: &SnapshotRows) {
        self.frontier = Some(rows.frontier);
        self.positions.clone_from(&rows.positions);
        self.last.clone_from(&rows.last);
        self.users.extend(rows.users.iter().map(|user| (user.user.0, user.clone())));
        for pane in &rows.panes {
            *self.panes.entry((pane.item, pane.enters, pane.leaves)).or_default() += pane.count;
        }
    }

    pub(super) fn loaded(&self) -> Option<Loaded> {
        let frontier = self.frontier?;
        let users = self.users.values().filter(|user| !user.entries.is_empty() || user.standing.is_some());
        let panes =
            self.panes.iter().map(|(&(item, enters, leaves), &count)| PaneState { item, enters, leaves, count });
        let panes = panes.filter(|pane| pane.leaves > frontier && pane.count != 0);
        Some((frontier, self.positions.clone(), self.last.clone(), users.cloned().collect(), panes.collect()))
    }
}

pub(super) fn loaded(recovered: &Recovered) -> Option<Loaded> {
    let snapshot = recovered.snapshot.as_ref()?;
    let users = snapshot.users().collect::<Result<_, _>>().unwrap();
    let panes = snapshot.panes().collect::<Result<_, _>>().unwrap();
    Some((snapshot.frontier(), snapshot.positions().to_vec(), snapshot.last().cloned(), users, panes))
}

/// Few users and panes, so that they meet again; some users vanish.
pub(super) fn some_rows(frontier: Time) -> impl Strategy<Value = SnapshotRows> {
    let entry = (0u64..1000, 0u32..3, 0u64..50, 0u64..9);
    let entries = prop::collection::vec(entry, 0..4).prop_map(|mut entries| {
        entries.sort_unstable();
        let entry = |(time, partition, offset, item)| Entry {
            time,
            position: Position::new(partition, offset).unwrap(),
            item: ItemId(item),
        };
        entries.into_iter().map(entry).collect::<Vec<_>>()
    });
    let standing = prop::option::of((prop::collection::vec(0u64..9, 1..3), -2i64..5));
    let standing = standing.prop_map(|standing| {
        let standing = standing?;
        Some(StandingState { items: standing.0.into_iter().map(ItemId).collect(), reward: standing.1 })
    });
    let users = prop::collection::btree_map(0u64..20, (entries, standing), 0..8).prop_map(|users| {
        let user = |(user, (entries, standing))| UserState { user: UserId(user), entries, standing };
        users.into_iter().map(user).collect::<Vec<_>>()
    });
    let pane = (0u64..4, 0u64..3, 1u64..5, 0u64..9).prop_map(move |(item, before, after, count)| PaneState {
        item: ItemId(item),
        enters: frontier.saturating_sub(before * 80),
        leaves: frontier + after * 80,
        count,
    });
    let position = (0u64..100, prop::option::of(0u64..1000), 0u64..500);
    let positions = prop::collection::btree_map(0u32..3, position, 0..3).prop_map(|positions| {
        let position =
            |(partition, (offset, largest, advanced))| PartitionPosition { partition, offset, largest, advanced };
        positions.into_iter().map(position).collect::<Vec<_>>()
    });
    let list = prop::collection::vec((0u64..9, 1u64..50), 1..4);
    let last = prop::option::of((0u64..9, prop::option::of(list))).prop_map(move |last| {
        let (before, list) = last?;
        let end = frontier.saturating_sub(before * 80);
        let items = |list: Vec<(u64, u64)>| list.into_iter().map(|(item, count)| (ItemId(item), count)).collect();
        Some(LastWindow { end, list: list.map(|list| PopularList { window_end: end, items: items(list) }) })
    });
    (users, prop::collection::vec(pane, 0..5), positions, last)
        .prop_map(move |(users, panes, positions, last)| SnapshotRows { frontier, users, panes, positions, last })
        .prop_flat_map(|rows| {
            Just(rows.users.clone()).prop_shuffle().prop_map(move |users| SnapshotRows { users, ..rows.clone() })
        })
}

/// The rows of the snapshots 1, 2, …, at growing frontiers.
pub(super) fn history(length: usize) -> impl Strategy<Value = Vec<SnapshotRows>> {
    (0..length).map(|at| some_rows(80 * (at as Time + 1))).collect::<Vec<_>>()
}

#[derive(Clone, Debug)]
enum Act {
    Publish,
    Append(usize),
    WaitForMerge,
    /// Drop it and open it again.
    Reopen,
    /// Die after so many file operations, then open again. (Appending and publishing go on until then.)
    Crash(usize, usize),
    /// The disk is full for one operation.
    Full(usize, usize),
    /// The disk fails for one operation.
    Fail(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        12 => Just(Act::Publish),
        3 => (0usize..4).prop_map(Act::Append),
        2 => Just(Act::WaitForMerge),
        2 => Just(Act::Reopen),
        2 => (0usize..40, 0usize..60).prop_map(|(after, written)| Act::Crash(after, written)),
        2 => (0usize..15, 0usize..60).prop_map(|(after, written)| Act::Full(after, written)),
        1 => (0usize..15).prop_map(Act::Fail),
    ];
    prop::collection::vec(act, 1..40)
}

/// The decisions that hold for some record that is still to be read, or for a partition that is not known yet; not those that
/// its clock has passed.
fn needed(journal: &[Decision], snapshot: Option<&Snapshot>) -> Vec<Decision> {
    let positions = snapshot.map(Snapshot::positions).unwrap_or_default();
    let known = |partition: u32| positions.iter().find(|at| at.partition == partition);
    let next = |partition: u32| known(partition).map(|at| at.offset);
    let holds = |decision: &Decision| match *decision {
        Decision::Advance { partition, offset, watermark } => {
            known(partition).is_none_or(|at| offset >= at.offset && watermark > at.advanced)
        }
        Decision::Partition { partition, .. } => next(partition).is_none(),
        Decision::Loss { partition, from, to } => (from..to).any(|lost| lost >= next(partition).unwrap_or(0)),
        Decision::Epoch { .. } => true,
    };
    journal.iter().filter(|decision| holds(decision)).cloned().collect()
}

/// A state directory and what should be in it.
struct Run {
    directory: tempfile::TempDir,
    probe: Probe,
    state: Option<StateDirectory>,
    rows: std::vec::IntoIter<SnapshotRows>,
    /// What was acknowledged last.
    model: Model,
    decisions: Vec<Decision>,
    epoch: u64,
}

impl Run {
    fn new(rows: Vec<SnapshotRows>) -> Run {
        let mut run = Run {
            directory: directory(),
            probe: Probe::new(),
            state: None,
            rows: rows.into_iter(),
            model: Model::default(),
            decisions: Vec::new(),
            epoch: 0,
        };
        run.reopen(None, &[]);
        run
    }

    /// `other`: what may be there instead. `more`: the decisions of which a part may be there too.
    fn reopen(&mut self, other: Option<Model>, more: &[Decision]) {
        self.state = None;
        self.probe.fail(None);
        let (state, recovered) = open_probed(self.directory.path(), &self.probe).unwrap();
        let found = loaded(&recovered);
        assert!(recovered.skipped.is_empty());
        if found != self.model.loaded() {
            let other = other.expect("nothing was in flight");
            assert_eq!(found, other.loaded());
            self.model = other;
        }
        assert!(recovered.epoch > self.epoch);
        self.epoch = recovered.epoch;
        let mut journal = Vec::new();
        crate::journal::scan::live(state.journal_path(), Some("ours"), |_, decision| journal.extend(decision)).unwrap();
        assert_eq!(recovered.decisions, needed(&journal, recovered.snapshot.as_ref()));
        let others: Vec<Decision> =
            journal.into_iter().filter(|decision| !matches!(decision, Decision::Epoch { .. })).collect();
        assert_eq!(others[..self.decisions.len()], self.decisions);
        assert!(more.starts_with(&others[self.decisions.len()..]));
        self.decisions = others;
        assert_no_leaks(self.directory.path());
        self.state = Some(state);
    }

    fn decisions(&self, count: usize) -> Vec<Decision> {
        let first = self.decisions.len() as u64;
        let decision = |n: u64| match n % 5 {
            0 => Decision::Partition { partition: n as u32 % 4, watermark: n },
            1 => Decision::Loss { partition: n as u32 % 4, from: n * 7 % 100, to: n * 7 % 100 + 20 },
            _ => Decision::Advance { partition: n as u32 % 4, offset: n * 7 % 100, watermark: n * 3 },
        };
        (first..first + count as u64).map(decision).collect()
    }

    fn publish(&mut self) -> Result<(), Box<(CheckpointError, SnapshotRows)>> {
        let Some(rows) = self.rows.next() else { return Ok(()) };
        match self.state.as_mut().unwrap().publish(&rows) {
            Ok(()) => self.model.publish(&rows),
            Err(error) => return Err(Box::new((error, rows))),
        }
        Ok(())
    }

    fn append(&mut self, count: usize) -> Result<(), (CheckpointError, Vec<Decision>)> {
        let decisions = self.decisions(count);
        match self.state.as_mut().unwrap().append(&decisions) {
            Ok(()) => self.decisions.extend(decisions),
            Err(error) => return Err((error, decisions)),
        }
        Ok(())
    }

    fn die(&mut self, after: usize, written: usize) {
        self.probe.fail(Some(Failure { after, forever: true, error: INPUT_OUTPUT, written }));
        loop {
            if let Err(failed) = self.publish() {
                let mut new = self.model.clone();
                new.publish(&failed.1);
                return self.reopen(Some(new), &[]);
            }
            if let Err((_, decisions)) = self.append(2) {
                return self.reopen(None, &decisions);
            }
        }
    }

    /// A full disk, then one with room again: the same call works.
    fn fill(&mut self, after: usize, written: usize) {
        self.probe.fail(Some(Failure { after, forever: false, error: NO_SPACE, written }));
        let failed = self.publish();
        self.probe.fail(None);
        let Err(failed) = failed else { return self.end_merge() };
        let (error, rows) = *failed;
        let mut new = self.model.clone();
        new.publish(&rows);
        if error.is_retryable() {
            self.state.as_mut().unwrap().publish(&rows).unwrap();
            self.model = new;
        } else {
            assert!(matches!(error, CheckpointError::Sync { .. }), "{error}");
            self.reopen(Some(new), &[]);
        }
    }

    /// A disk that fails once: nothing is written any more.
    fn fail(&mut self, after: usize) {
        self.probe.fail(Some(Failure { after, forever: false, error: INPUT_OUTPUT, written: 0 }));
        let failed = self.publish();
        self.probe.fail(None);
        let Err(failed) = failed else { return self.end_merge() };
        let (error, rows) = *failed;
        assert!(!error.is_retryable());
        let again = self.state.as_mut().unwrap().publish(&rows).unwrap_err();
        assert!(matches!(again, CheckpointError::Stopped(_)));
        let mut new = self.model.clone();
        new.publish(&rows);
        self.reopen(Some(new), &[]);
    }

    /// The operation that failed may have been one of a merge.
    fn end_merge(&mut self) {
        if self.state.as_mut().unwrap().snapshots.wait_for_merge().is_err() {
            self.reopen(None, &[]);
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Publish => self.publish().unwrap(),
            Act::Append(count) => self.append(count).unwrap(),
            Act::WaitForMerge => self.state.as_mut().unwrap().snapshots.wait_for_merge().unwrap(),
            Act::Reopen => self.reopen(None, &[]),
            Act::Crash(after, written) => self.die(after, written),
            Act::Full(after, written) => self.fill(after, written),
            Act::Fail(after) => self.fail(after),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happens_what_was_acknowledged_is_there(rows in history(40), acts in acts()) {
        let mut run = Run::new(rows);
        acts.iter().for_each(|act| run.act(act));
        run.reopen(None, &[]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any numbers at all, and many rows, so that chunks have many blocks.
    #[test]
    fn what_is_published_comes_back(
        parts in prop::collection::vec((
            prop::collection::btree_map(any::<u64>(), any_user(), 0..60),
            prop::collection::vec(any_pane(), 0..60),
        ), 1..12),
        times in 1usize..60,
    ) {
        let directory = directory();
        let (mut state, _) = open(directory.path()).unwrap();
        let mut model = Model::default();
        for (frontier, (users, panes)) in parts.into_iter().enumerate() {
            let user = |(user, mut state): (u64, UserState)| { state.user = UserId(user); state };
            let users: Vec<UserState> = users.into_iter().map(user).collect();
            let more = users.iter().flat_map(|user| (1..times as u64).map(|n| {
                UserState { user: UserId(user.user.0.wrapping_add(n << 40)), ..user.clone() }
            }));
            let users = users.iter().cloned().chain(more);
            let users: BTreeMap<u64, UserState> = users.map(|user| (user.user.0, user)).collect();
            let positions = vec![PartitionPosition { partition: 3, offset: u64::MAX, largest: None, advanced: 1 }];
            let rows = SnapshotRows { frontier: frontier as Time, users: users.into_values().collect(), panes, positions, last: None };
            state.publish(&rows).unwrap();
            state.snapshots.wait_for_merge().unwrap();
            model.publish(&rows);
        }
        drop(state);
        prop_assert_eq!(loaded(&open(directory.path()).unwrap().1), model.loaded());
    }
}
