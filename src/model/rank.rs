//! Between the dataflow's raw ids and the scorer's indices.

use super::algorithm::Algorithm;
use super::directory::ModelDirectory;
use super::error::ModelError;
use super::maps::IdMap;
use super::philox::Draw;
use super::scorer::{PackedModel, Ranked, Requests, Scorer};
use dataflows::event::ItemId;
use dataflows::lists::Lists;
use dataflows::recent::Tick;
use dataflows::recommend::{self, Exclude};
use std::path::Path;
use std::sync::Arc;

/// A model directory, ready to score; shared by all workers.
#[derive(Debug)]
pub struct Model {
    packed: Arc<PackedModel>,
    users: IdMap,
    items: IdMap,
    content_hash: String,
}

impl Model {
    /// Reads and packs a model directory.
    ///
    /// # Errors
    /// See [`ModelDirectory::load`].
    pub fn load(dir: &Path, algorithm: Algorithm, seed: Option<u64>) -> Result<Model, ModelError> {
        let ModelDirectory { weights, users, items, content_hash, .. } = ModelDirectory::load(dir, algorithm)?;
        Ok(Model { packed: Arc::new(PackedModel::new(weights, seed)), users, items, content_hash })
    }

    /// H, the length of the sequences that it takes.
    pub fn history(&self) -> usize {
        self.packed.history()
    }

    /// What scores.
    pub fn packed(&self) -> &Arc<PackedModel> {
        &self.packed
    }

    /// Raw user ids and their indices.
    pub fn users(&self) -> &IdMap {
        &self.users
    }

    /// Raw item ids and their indices.
    pub fn items(&self) -> &IdMap {
        &self.items
    }

    /// The hash of the files that decide its answers.
    pub fn content_hash(&self) -> String {
        self.content_hash.clone()
    }
}

/// One worker's scorer of a model.
#[derive(Debug)]
pub struct PolicyScorer {
    model: Arc<Model>,
    scorer: Scorer,
    requests: Requests,
    /// For each row asked for, its request; `None` if the model does not know the user.
    asked: Vec<Option<usize>>,
    sequence: Vec<u32>,
    ranked: Ranked,
}

impl PolicyScorer {
    /// A scorer of `model` without any scratch memory yet.
    pub fn new(model: Arc<Model>) -> PolicyScorer {
        let scorer = Scorer::new(model.packed.clone());
        let requests = Requests::new(&model.packed);
        PolicyScorer { model, scorer, requests, asked: Vec::new(), sequence: Vec::new(), ranked: Ranked::default() }
    }

    fn ask(&mut self, tick: &Tick, row: u32) {
        let (key, items) = tick.sequences.row(row as usize);
        let Some(user) = self.model.users.index(key.user.0) else { return self.asked.push(None) };
        let unknown = self.model.packed.count() as u32;
        self.sequence.clear();
        self.sequence.extend(items.iter().map(|item| self.model.items.index(item.0).unwrap_or(unknown)));
        let draw = Draw { user: key.user.0, time_ms: key.time };
        self.requests.push(user, &self.sequence, draw).expect("the maps hold indices of the tables, and sequences fit");
        self.asked.push(Some(self.requests.len() - 1));
    }
}

impl recommend::Scorer for PolicyScorer {
    fn rank(&mut self, tick: &Tick, rows: &[u32], n: usize, exclude: Exclude, ranked: &mut Lists<()>) {
        self.requests.clear();
        self.asked.clear();
        rows.iter().for_each(|&row| self.ask(tick, row));
        self.scorer.top_k(&self.requests, n, exclude == Exclude::Recent, &mut self.ranked);
        for request in &self.asked {
            let indices = request.map_or(&[][..], |request| self.ranked.indices(request));
            ranked.push_with((), |list| {
                let raw = |&index: &u32| self.model.items.id(index).map(ItemId);
                list.extend(indices.iter().filter_map(raw));
            });
        }
    }
}
