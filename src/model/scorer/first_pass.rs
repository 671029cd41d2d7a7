//! The int8 pass: all items against all queries of a chunk, leaving each query the few items that may be in its answer.
//!
//! Each query keeps the k best *lower* bounds of scores seen so far. The least of them is below the final k-th score, so an
//! item whose *upper* bound is below it can be forgotten unseen; the kernel does that 64 items at a time. At the end the
//! items whose upper bound reaches the final threshold hold the exact top k, also among equal scores: an item that is
//! forgotten scores strictly less than k others.
//!
//! A query without bounds (zero, not finite, or of a magnitude where f32 overflows) and one whose bounds say too little
//! (more candidates than [`candidates_max`]) are given up, and go through the exact pass instead.

use crate::model::kernels::USERS_MAX;
use crate::model::kernels::{Bounds, Entry, GROUP, Hits, Matrix, Selection, Shadow, ShadowQuery, Starts, Tile};

/// The first pass is worth its while where the answer is at most this part of the catalogue.
const ANSWER_SHARE: usize = 16;

/// A start from which the sums of a query without words and without inverse are negative.
const CLOSED: f32 = -(1 << 29) as f32;

/// Candidates a query may hold at once; beyond it, scoring everything exactly is no dearer.
fn candidates_max(k: usize) -> usize {
    1024 + 64 * k
}

/// The state of the queries of a chunk, kept between chunks.
#[derive(Debug, Default)]
pub(super) struct FirstPass {
    quads: usize,
    /// int8 values, `quads` words a query.
    words: Vec<u32>,
    /// `None`: given up.
    queries: Vec<Option<ShadowQuery>>,
    lower: Selection,
    /// Items with the upper bounds of their scores.
    candidates: Vec<Vec<Entry>>,
    candidates_max: usize,
    hits: Hits,
}

/// Up to [`USERS_MAX`] queries on their way through a tile.
struct Gang {
    first: usize,
    bounds: [Option<Bounds>; USERS_MAX],
    starts: Starts,
}

impl FirstPass {
    /// Whether it helps to find the `k` best of `count` items.
    pub(super) fn helps(k: usize, count: usize) -> bool {
        k <= count / ANSWER_SHARE
    }

    /// Finds the candidates of every query for the best `k` ≥ 1 of the items that `wanted(query, item)` admits.
    pub(super) fn run(&mut self, shadow: &Shadow, queries: &Matrix, k: usize, wanted: impl Fn(usize, u32) -> bool) {
        self.reset(shadow, queries, k);
        for tile in shadow.tiles() {
            // Gangs of nearly equal size: a gang of five takes hardly longer a head than one of six, one of two does.
            let gangs = queries.rows().div_ceil(USERS_MAX);
            for gang in 0..gangs {
                let members = queries.rows() * gang / gangs..queries.rows() * (gang + 1) / gangs;
                self.pass(shadow, tile, members, &wanted);
            }
        }
    }

    fn reset(&mut self, shadow: &Shadow, queries: &Matrix, k: usize) {
        self.quads = shadow.quads();
        self.candidates_max = candidates_max(k);
        self.lower.reset(queries.rows(), k);
        self.words.clear();
        self.words.resize(queries.rows() * self.quads, 0);
        self.queries.clear();
        for (row, words) in self.words.chunks_exact_mut(self.quads).enumerate() {
            self.queries.push(shadow.query(queries.row(row), words));
        }
        if self.candidates.len() < queries.rows() {
            self.candidates.resize_with(queries.rows(), Vec::new);
        }
        self.candidates.iter_mut().for_each(Vec::clear);
    }

    /// Takes a few queries through a tile.
    fn pass(
        &mut self,
        shadow: &Shadow,
        tile: &Tile,
        queries: std::ops::Range<usize>,
        wanted: &impl Fn(usize, u32) -> bool,
    ) {
        let mut gang = Gang { first: queries.start, bounds: [None; USERS_MAX], starts: Starts::default() };
        let mut open = false;
        for query in queries.clone() {
            open |= self.enter(shadow, tile, &mut gang, query);
        }
        let mut groups = tile.groups();
        let words = queries.start * self.quads..queries.end * self.quads;
        if !open {
            return;
        }
        loop {
            let found = shadow.search(groups.clone(), &self.words[words.clone()], &gang.starts, &mut self.hits);
            let Some(group) = found else { return };
            for member in 0..queries.len() {
                if self.hits.masks[member] != 0 {
                    self.take_hits(shadow, &mut gang, member, group, wanted);
                }
            }
            groups.start = group + 1;
        }
    }

    /// Sets a query's bounds and start for a tile; says whether the tile may hold something for it.
    fn enter(&mut self, shadow: &Shadow, tile: &Tile, gang: &mut Gang, query: usize) -> bool {
        let member = query - gang.first;
        let Some(rounded) = &self.queries[query] else {
            gang.starts.start[member] = CLOSED;
            return false;
        };
        let Some(bounds) = shadow.bounds(tile, rounded) else {
            self.queries[query] = None;
            gang.starts.start[member] = CLOSED;
            return false;
        };
        let start = bounds.start(self.lower.lower_bound(query));
        gang.starts.start[member] = start.unwrap_or(bounds.closed());
        gang.starts.inverse[member] = bounds.inverse();
        gang.bounds[member] = Some(bounds);
        start.is_some()
    }

    /// Takes in the items of a group whose sums are not negative.
    #[cold]
    fn take_hits(
        &mut self,
        shadow: &Shadow,
        gang: &mut Gang,
        member: usize,
        group: usize,
        wanted: &impl Fn(usize, u32) -> bool,
    ) {
        let Some(bounds) = gang.bounds[member] else { return };
        let (query, start) = (gang.first + member, gang.starts.start[member]);
        let mut improved = false;
        let mut mask = self.hits.masks[member];
        while mask != 0 {
            let column = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            let Some(index) = shadow.item(group * GROUP + column).filter(|&item| wanted(query, item)) else { continue };
            let (lower, upper) = bounds.scores(self.hits.sums[member][column], start);
            if upper >= self.lower.lower_bound(query) {
                improved |= self.lower.offer(query, Entry { score: lower, index });
                self.candidates[query].push(Entry { score: upper, index });
            }
        }
        if self.candidates[query].len() > self.candidates_max && !self.prune(query) {
            self.queries[query] = None;
            gang.bounds[member] = None;
            gang.starts.start[member] = bounds.closed();
        } else if improved {
            gang.starts.start[member] = bounds.start(self.lower.lower_bound(query)).unwrap_or(bounds.closed());
        }
    }

    /// Forgets candidates that the threshold has passed; says whether that left room.
    fn prune(&mut self, query: usize) -> bool {
        let lower = self.lower.lower_bound(query);
        self.candidates[query].retain(|candidate| candidate.score >= lower);
        self.candidates[query].len() <= self.candidates_max / 2
    }

    /// The queries that have to go through the exact pass, in order.
    pub(super) fn given_up(&self) -> impl Iterator<Item = usize> {
        self.queries.iter().enumerate().filter(|(_, query)| query.is_none()).map(|(query, _)| query)
    }

    /// The items among which a query's answer is, or `None` where the query was given up.
    pub(super) fn candidates(&mut self, query: usize) -> Option<&mut [Entry]> {
        self.queries[query].as_ref()?;
        self.prune(query);
        Some(&mut self.candidates[query])
    }
}
