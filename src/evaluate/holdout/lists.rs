//! The lists themselves, in the log's own ids: what `--lists` writes.

use serde::Serialize;
use std::sync::Arc;

use super::Settings;
use super::rankings::{Case, Rankings, history};
use crate::learn::Interactions;
use crate::model::rank::Model;

/// What one method showed one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct List<'a> {
    /// The method's name.
    pub method: &'a str,
    /// The user.
    pub user: u64,
    /// The last H items of the training part, oldest first: what a model was asked with.
    pub history: Vec<u64>,
    /// The best k items, best first; none where a model does not know the user.
    pub items: Vec<u64>,
}

/// What one method showed all users with a test part.
#[derive(Clone, Debug)]
pub struct Lists {
    method: String,
    cases: Arc<[Case]>,
    history: usize,
    model: Option<Arc<Model>>,
    rankings: Rankings,
}

impl Lists {
    pub(super) fn new(
        method: &str,
        cases: &Arc<[Case]>,
        settings: &Settings,
        model: Option<&Arc<Model>>,
        rankings: Rankings,
    ) -> Lists {
        let history = model.map_or(settings.history, |model| model.history());
        Lists { method: method.to_owned(), cases: Arc::clone(cases), history, model: model.cloned(), rankings }
    }

    /// One list a user, in the order of `log`, of which they were made.
    pub fn iter<'a>(&'a self, log: &'a Interactions) -> impl Iterator<Item = List<'a>> {
        self.cases.iter().enumerate().map(move |(at, &case)| List {
            method: &self.method,
            user: log.users[case.user],
            history: history(log, case, self.history).iter().map(|&item| log.items[item as usize]).collect(),
            items: self.rankings.list(at).iter().filter_map(|&item| self.id(log, item)).collect(),
        })
    }

    /// Items that the log does not have are the model's, beyond the log's.
    fn id(&self, log: &Interactions, item: u32) -> Option<u64> {
        let of_model = |beyond: usize| self.model.as_ref()?.items().ids().get(beyond).copied();
        let item = item as usize;
        log.items.get(item).copied().or_else(|| of_model(item.checked_sub(log.items.len())?))
    }
}
