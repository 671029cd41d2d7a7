//! Users' events as the samples of reinforcement learning (contract, section 8).
//!
//! Every row of a training part is one **sample**. Samples are numbered 0 ‥ [`Sessions::len`], the users in their order and
//! a user's rows in theirs. With p the place of the row among its user's rows, and x_0, x_1, … the items of these:
//!
//! - **state**: the user, and the history x_{p−H} … x_{p−1}, oldest first, padded on the left with the index `catalogue` where
//!   there are fewer than H. It goes back across sessions, because the sequences that the running pipeline forms (*recent*)
//!   do so too: what a model is asked later is what it was shown. The first row of a user has a history of padding.
//! - **action**: the item x_p.
//! - **reward**: the weight of the row's behaviour (`behaviors.rewards`; 1, 2, 2, 3 for `pv`, `cart`, `fav`, `buy`).
//! - **next state**: the user, and the history x_{p−H+1} … x_p: that of a row after this one.
//! - **done**: whether the row is the last of its session within the training part; its next state is then worth nothing.
//!
//! A **session** is all of a user's training part ([`SessionRule::User`]; DDPG and BCQ), or ends before a row that comes more
//! than an hour (the gap) after the row before it ([`SessionRule::Gap`]; REINFORCE).

use std::ops::Range;

use super::interactions::Interactions;

/// Where sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionRule {
    /// With the user's training part.
    User,
    /// Also before a row that comes more than so many milliseconds after the one before it.
    Gap(i64),
}

/// The samples of a log.
#[derive(Clone, Debug)]
pub struct Sessions<'a> {
    log: &'a Interactions,
    /// The number of each user's first sample; and, last, how many there are.
    starts: Vec<usize>,
    history: usize,
    rule: SessionRule,
    /// The weight of each behaviour.
    rewards: Vec<f32>,
}

/// What a batch of B samples is written into, each slice as long as is said there; an empty one is left out.
#[derive(Debug, Default)]
pub struct Batch<'b> {
    /// User indices, B.
    pub users: &'b mut [u32],
    /// Histories, B × H.
    pub histories: &'b mut [u32],
    /// Items, B.
    pub actions: &'b mut [u32],
    /// Weights, B.
    pub rewards: &'b mut [f32],
    /// The histories after the samples, B × H.
    pub next_histories: &'b mut [u32],
    /// 1 at the last sample of a session, else 0; B.
    pub done: &'b mut [f32],
}

impl<'a> Sessions<'a> {
    /// The samples of `log`, with histories of `history` items, and the weight of each behaviour.
    ///
    /// # Panics
    /// If a behaviour of the log has no weight.
    pub fn new(log: &'a Interactions, history: usize, rule: SessionRule, rewards: &[i64]) -> Sessions<'a> {
        let behaviors = log.behavior.iter().max().map_or(0, |&last| usize::from(last) + 1);
        assert!(behaviors <= rewards.len(), "{behaviors} behaviours, but {} weights", rewards.len());
        let mut starts = Vec::with_capacity(log.users.len() + 1);
        let mut samples = 0;
        starts.push(0);
        for user in 0..log.users.len() {
            samples += log.train(user).len();
            starts.push(samples);
        }
        Sessions { log, starts, history, rule, rewards: rewards.iter().map(|&weight| weight as f32).collect() }
    }

    /// Samples.
    pub fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// H, the length of a history.
    pub fn history(&self) -> usize {
        self.history
    }

    /// The samples of a user, in order.
    pub fn of_user(&self, user: usize) -> Range<usize> {
        self.starts[user]..self.starts[user + 1]
    }

    /// The user and the row of a sample.
    pub fn row(&self, sample: usize) -> (usize, usize) {
        // Every user has a row, and the first row of any user trains: no two starts are equal.
        let user = self.starts.partition_point(|&start| start <= sample) - 1;
        (user, self.log.offsets[user] + sample - self.starts[user])
    }

    /// Whether the sample is the last of its session.
    pub fn is_last(&self, sample: usize) -> bool {
        let (user, row) = self.row(sample);
        self.ends_session(user, row)
    }

    /// Writes the samples with the numbers `samples` into `batch`.
    ///
    /// # Panics
    /// If a slice of the batch has another length than it should, or there is no such sample.
    pub fn fill(&self, samples: &[usize], batch: &mut Batch<'_>) {
        let (log, count, history) = (self.log, samples.len(), self.history);
        let fits = |name: &str, length: usize, expected: usize| {
            assert!(length == 0 || length == expected, "{name}: {length} places for {expected} numbers");
        };
        fits("users", batch.users.len(), count);
        fits("histories", batch.histories.len(), count * history);
        fits("actions", batch.actions.len(), count);
        fits("rewards", batch.rewards.len(), count);
        fits("next histories", batch.next_histories.len(), count * history);
        fits("done", batch.done.len(), count);
        for (at, &sample) in samples.iter().enumerate() {
            let (user, row) = self.row(sample);
            let of_histories = at * history..(at + 1) * history;
            if let Some(place) = batch.users.get_mut(at) {
                *place = user as u32;
            }
            if let Some(places) = batch.histories.get_mut(of_histories.clone()) {
                history_before(log, user, row, places);
            }
            if let Some(place) = batch.actions.get_mut(at) {
                *place = log.known_item(row);
            }
            if let Some(place) = batch.rewards.get_mut(at) {
                *place = self.reward(row);
            }
            if let Some(places) = batch.next_histories.get_mut(of_histories) {
                history_before(log, user, row + 1, places);
            }
            if let Some(place) = batch.done.get_mut(at) {
                *place = f32::from(u8::from(self.ends_session(user, row)));
            }
        }
    }

    /// The discounted return of every sample, by number: its reward and, within its session, `gamma` times the return of the
    /// next sample.
    pub fn returns(&self, gamma: f32) -> Vec<f32> {
        let mut returns = vec![0.0; self.len()];
        for user in 0..self.log.users.len() {
            let mut after = 0.0;
            for (sample, row) in self.of_user(user).zip(self.log.train(user)).rev() {
                if self.ends_session(user, row) {
                    after = 0.0;
                }
                after = self.reward(row) + gamma * after;
                returns[sample] = after;
            }
        }
        returns
    }

    /// The samples of each session, in order.
    pub fn sessions(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.log.users.len()).flat_map(move |user| {
            let samples = self.of_user(user);
            let mut start = samples.start;
            samples.zip(self.log.train(user)).filter_map(move |(sample, row)| {
                let ends = self.ends_session(user, row);
                ends.then(|| std::mem::replace(&mut start, sample + 1)..sample + 1)
            })
        })
    }

    fn reward(&self, row: usize) -> f32 {
        self.rewards[usize::from(self.log.behavior[row])]
    }

    fn ends_session(&self, user: usize, row: usize) -> bool {
        if row + 1 == self.log.train(user).end {
            return true;
        }
        match self.rule {
            SessionRule::User => false,
            SessionRule::Gap(gap) => self.log.time[row + 1] - self.log.time[row] > gap,
        }
    }
}

/// Writes the items of the user's last rows before `row` into `history`, oldest first, with the padding index where there are
/// too few and for items that only tests have.
pub fn history_before(log: &Interactions, user: usize, row: usize, history: &mut [u32]) {
    let length = history.len();
    let known = length.min(row - log.offsets[user]);
    let (padding, items) = history.split_at_mut(length - known);
    padding.fill(log.catalogue as u32);
    for (place, row) in items.iter_mut().zip(row - known..row) {
        *place = log.known_item(row);
    }
}
