//! States s = `[ user ; i_1 ; … ; i_H ]` of the frozen tables, a batch at a time (contract, section 4).
//!
//! The tables of users and items are pre-trained and stay as they are: the items' vectors are the space of the actions of
//! DDPG and BCQ, and a critic whose actions move under it learns nothing. The item table's last row, the padding row, is
//! zeroed first.
//!
//! A sample is a row of indices `[ user, i_1 … i_H, action, user ]`, gathered at once. Its vectors, side by side, hold the
//! state in their first d(H+1) columns, the action after it, and the next state in the last d(H+1) columns, with the user
//! behind the items instead of before them. So nothing is gathered twice and nothing is copied; a layer that is fed next
//! states takes its own columns in that order ([`super::network::Linear::turned`]).

use tch::{Device, TchError, Tensor};

use eddyline::learn::Sessions;
use eddyline::learn::sessions::Batch;
use eddyline::model::weights::Embedding;

/// Both tables, and how to read states from them.
#[derive(Debug)]
pub(super) struct States {
    /// Users, then items, then the padding row: (U + count + 1, d).
    table: Tensor,
    users: i64,
    /// d.
    pub(super) dim: i64,
    /// H.
    pub(super) history: i64,
    /// Items that there are, without the padding item.
    pub(super) count: i64,
}

/// A batch's samples: rows of indices into [`States`], and what came of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    /// B × (H+3), `[ user, i_1 … i_H, action, user ]`.
    indices: Vec<i32>,
    /// The items chosen, B.
    pub(super) actions: Vec<i64>,
    /// B.
    pub(super) rewards: Vec<f32>,
    /// γ where a next state counts, 0 where the session has ended; B.
    pub(super) discounts: Vec<f32>,
}

impl Samples {
    /// Number of samples.
    pub(super) fn len(&self) -> usize {
        self.actions.len()
    }

    /// Of rows of indices, actions, rewards and discounts.
    #[cfg(test)]
    pub(super) fn of(indices: Vec<i32>, actions: Vec<i64>, rewards: Vec<f32>, discounts: Vec<f32>) -> Samples {
        Samples { indices, actions, rewards, discounts }
    }

    /// The samples of these numbers.
    pub(super) fn fill(sessions: &Sessions<'_>, numbers: &[usize], users: usize, gamma: f64) -> Samples {
        let (count, history) = (numbers.len(), sessions.history());
        let mut samples = Samples { rewards: vec![0.0; count], discounts: vec![0.0; count], ..Samples::default() };
        let (mut of, mut items, mut actions) = (vec![0; count], vec![0; count * history], vec![0; count]);
        sessions.fill(
            numbers,
            &mut Batch {
                users: &mut of,
                histories: &mut items,
                actions: &mut actions,
                rewards: &mut samples.rewards,
                done: &mut samples.discounts,
                ..Batch::default()
            },
        );
        samples.discounts.iter_mut().for_each(|done| *done = gamma as f32 * (1.0 - *done));
        samples.indices.reserve(count * (history + 3));
        for ((user, items), action) in of.iter().zip(items.chunks(history)).zip(&actions) {
            let row = |item: &u32| users as i32 + *item as i32;
            samples.indices.push(*user as i32);
            samples.indices.extend(items.iter().map(row));
            samples.indices.extend([row(action), *user as i32]);
        }
        samples.actions = actions.into_iter().map(i64::from).collect();
        samples
    }
}

/// The vectors of a batch.
#[derive(Debug)]
pub(super) struct Gathered {
    rows: Tensor,
    dim: i64,
    state: i64,
}

impl Gathered {
    /// s, (B, d(H+1)).
    pub(super) fn states(&self) -> Result<Tensor, TchError> {
        self.rows.f_narrow(1, 0, self.state)
    }

    /// The action's vector, (B, d).
    pub(super) fn actions(&self) -> Result<Tensor, TchError> {
        self.rows.f_narrow(1, self.state, self.dim)
    }

    /// The next state, the user's columns last, (B, d(H+1)).
    pub(super) fn next(&self) -> Result<Tensor, TchError> {
        self.rows.f_narrow(1, 2 * self.dim, self.state)
    }
}

impl States {
    /// Of the pre-trained tables; the items' last row is taken for zero.
    pub(super) fn new(
        users: &Embedding,
        items: &Embedding,
        history: usize,
        device: Device,
    ) -> Result<States, TchError> {
        let (dim, count) = (items.dim, items.rows - 1);
        let mut table = Vec::with_capacity((users.rows + items.rows) * dim);
        table.extend_from_slice(&users.data);
        table.extend_from_slice(&items.data[..count * dim]);
        table.resize((users.rows + items.rows) * dim, 0.0);
        let table = Tensor::f_from_slice(&table)?.f_view([-1, dim as i64])?.f_to_device(device)?;
        Ok(States { table, users: users.rows as i64, dim: dim as i64, history: history as i64, count: count as i64 })
    }

    /// d(H+1).
    pub(super) fn width(&self) -> i64 {
        self.dim * (self.history + 1)
    }

    /// Where the tensors are.
    pub(super) fn device(&self) -> Device {
        self.table.device()
    }

    /// The vectors of a batch.
    pub(super) fn gather(&self, samples: &Samples) -> Result<Gathered, TchError> {
        let indices = Tensor::f_from_slice(&samples.indices)?.f_to_device(self.device())?;
        let rows = self.table.f_index_select(0, &indices)?.f_view([-1, self.dim * (self.history + 3)])?;
        Ok(Gathered { rows, dim: self.dim, state: self.width() })
    }

    /// A column of one number a sample, (B, 1).
    pub(super) fn column(&self, values: &[f32]) -> Result<Tensor, TchError> {
        Tensor::f_from_slice(values)?.f_to_device(self.device())?.f_view([-1, 1])
    }

    /// The items' vectors without the padding row, (count, d).
    pub(super) fn items(&self) -> Result<Tensor, TchError> {
        self.table.f_narrow(0, self.users, self.count)
    }

    /// The tables of users, and of items with the padding row.
    pub(super) fn tables(&self) -> Result<[Tensor; 2], TchError> {
        Ok([self.table.f_narrow(0, 0, self.users)?, self.table.f_narrow(0, self.users, self.count + 1)?])
    }
}
