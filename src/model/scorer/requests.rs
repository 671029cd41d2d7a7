//! What is asked of a scorer, checked against the model when it is put together, and what it answers.

use super::PackedModel;
use crate::model::kernels::Entry;
use crate::model::philox::Draw;

/// Why a request does not fit a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The user is not in the model's user table.
    #[error("user index {user} is out of range: the model knows {users} users, from 0 on")]
    User {
        /// The index given.
        user: u32,
        /// Rows of the user table.
        users: usize,
    },
    /// An item is neither in the catalogue nor the padding index.
    #[error(
        "item index {item} is out of range: the model has {count} items, from 0 on, and {count} stands for an unknown one"
    )]
    Item {
        /// The index given.
        item: u32,
        /// Items in the catalogue.
        count: usize,
    },
    /// A sequence is longer than the model's history.
    #[error("a sequence of {given} items is too long: the model's history has {history}")]
    SequenceLength {
        /// Items given.
        given: usize,
        /// H.
        history: usize,
    },
    /// A state vector is not of length d(H+1).
    #[error("a state of {given} values does not fit: the model's has {expected}")]
    StateLength {
        /// Values given.
        given: usize,
        /// d(H+1).
        expected: usize,
    },
    /// The noise is not of length 2d a request.
    #[error("noise of {given} values does not fit: the batch takes {expected}")]
    NoiseLength {
        /// Values given.
        given: usize,
        /// 2d times the number of requests.
        expected: usize,
    },
}

/// A batch of (user, sequence) requests, flat.
#[derive(Clone, Debug)]
pub struct Requests {
    known_users: usize,
    count: usize,
    history: usize,
    users: Vec<u32>,
    /// H a request, padded on the left.
    items: Vec<u32>,
    draws: Vec<Draw>,
}

impl Requests {
    /// An empty batch for `model`.
    pub fn new(model: &PackedModel) -> Requests {
        Requests {
            known_users: model.users(),
            count: model.count(),
            history: model.history(),
            users: Vec::new(),
            items: Vec::new(),
            draws: Vec::new(),
        }
    }

    /// Adds a request: a model index, up to H item indices, oldest first (shorter ones are padded on the left; the index
    /// `count` stands for an unknown item), and what BCQ's noise is keyed by.
    ///
    /// # Errors
    /// [`RequestError`] for an index or a length out of range; the batch is then as it was.
    pub fn push(&mut self, user: u32, sequence: &[u32], draw: Draw) -> Result<(), RequestError> {
        if user as usize >= self.known_users {
            return Err(RequestError::User { user, users: self.known_users });
        }
        if sequence.len() > self.history {
            return Err(RequestError::SequenceLength { given: sequence.len(), history: self.history });
        }
        if let Some(&item) = sequence.iter().find(|&&item| item as usize > self.count) {
            return Err(RequestError::Item { item, count: self.count });
        }
        self.users.push(user);
        self.items.resize(self.items.len() + self.history - sequence.len(), self.count as u32);
        self.items.extend_from_slice(sequence);
        self.draws.push(draw);
        Ok(())
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Removes all requests; keeps memory.
    pub fn clear(&mut self) {
        self.users.clear();
        self.items.clear();
        self.draws.clear();
    }

    pub(super) fn user(&self, request: usize) -> u32 {
        self.users[request]
    }

    /// The H items of a request, padding included.
    pub(super) fn sequence(&self, request: usize) -> &[u32] {
        &self.items[request * self.history..][..self.history]
    }

    /// Whether it was made for a model of this one's shape.
    pub(super) fn fits(&self, model: &PackedModel) -> bool {
        (self.known_users, self.count, self.history) == (model.users(), model.count(), model.history())
    }
}

/// A batch of whole state vectors s = [ user ; item_1 ; … ; item_H ], flat.
#[derive(Clone, Debug)]
pub struct States {
    length: usize,
    values: Vec<f32>,
    draws: Vec<Draw>,
}

impl States {
    /// An empty batch for `model`.
    pub fn new(model: &PackedModel) -> States {
        States { length: model.state_len(), values: Vec::new(), draws: Vec::new() }
    }

    /// Adds a state of d(H+1) values, and what BCQ's noise is keyed by.
    ///
    /// # Errors
    /// [`RequestError::StateLength`]; the batch is then as it was.
    pub fn push(&mut self, state: &[f32], draw: Draw) -> Result<(), RequestError> {
        if state.len() != self.length {
            return Err(RequestError::StateLength { given: state.len(), expected: self.length });
        }
        self.values.extend_from_slice(state);
        self.draws.push(draw);
        Ok(())
    }

    /// Number of states.
    pub fn len(&self) -> usize {
        self.draws.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.draws.is_empty()
    }

    /// Removes all states; keeps memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.draws.clear();
    }
}

/// A batch as the scorer works through it.
#[derive(Clone, Copy)]
pub(super) enum Batch<'a> {
    Sequences { requests: &'a Requests, exclude_sequence: bool, noise: Option<&'a [f32]> },
    States(&'a States),
}

impl<'a> Batch<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Batch::Sequences { requests, .. } => requests.len(),
            Batch::States(states) => states.len(),
        }
    }

    /// Writes the state vector of a request.
    pub(super) fn write_state(&self, model: &PackedModel, request: usize, state: &mut [f32]) {
        match self {
            Batch::Sequences { requests, .. } => {
                let items = requests.sequence(request).iter().map(|&item| model.item(item));
                let vectors = std::iter::once(model.user(requests.user(request))).chain(items);
                for (part, vector) in state.chunks_exact_mut(model.dim()).zip(vectors) {
                    part.copy_from_slice(vector);
                }
            }
            Batch::States(states) => state.copy_from_slice(&states.values[request * states.length..][..states.length]),
        }
    }

    /// The noise given for a request, if the caller gave any.
    pub(super) fn noise(&self, model: &PackedModel, request: usize) -> Option<&'a [f32]> {
        let length = 2 * model.dim();
        match self {
            Batch::Sequences { noise, .. } => noise.map(|noise| &noise[request * length..][..length]),
            Batch::States(_) => None,
        }
    }

    pub(super) fn draw(&self, request: usize) -> Draw {
        match self {
            Batch::Sequences { requests, .. } => requests.draws[request],
            Batch::States(states) => states.draws[request],
        }
    }

    /// Items that must not be in the request's answer.
    pub(super) fn excluded(&self, request: usize) -> &'a [u32] {
        match self {
            Batch::Sequences { requests, exclude_sequence: true, .. } => requests.sequence(request),
            _ => &[],
        }
    }

    /// Whether it was made for a model of this one's shape.
    pub(super) fn fits(&self, model: &PackedModel) -> bool {
        match self {
            Batch::Sequences { requests, .. } => requests.fits(model),
            Batch::States(states) => states.length == model.state_len(),
        }
    }
}

/// The answers to a batch, flat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranked {
    indices: Vec<u32>,
    scores: Vec<f32>,
    ends: Vec<usize>,
}

impl Ranked {
    /// Number of answers.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The item indices that answer a request, best first.
    pub fn indices(&self, request: usize) -> &[u32] {
        &self.indices[self.range(request)]
    }

    /// Their scores, in the same order.
    pub fn scores(&self, request: usize) -> &[f32] {
        &self.scores[self.range(request)]
    }

    /// Removes all answers; keeps memory.
    pub fn clear(&mut self) {
        self.indices.clear();
        self.scores.clear();
        self.ends.clear();
    }

    fn range(&self, request: usize) -> std::ops::Range<usize> {
        let start = request.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[request]
    }

    /// Adds an answer. NaN scores get the one bit pattern that all processors share.
    pub(super) fn push(&mut self, entries: &[Entry]) {
        self.indices.extend(entries.iter().map(|entry| entry.index));
        self.scores.extend(entries.iter().map(|entry| if entry.score.is_nan() { f32::NAN } else { entry.score }));
        self.ends.push(self.indices.len());
    }
}
