//! The bootstrap: how the sums of all users scatter when the users are drawn anew, with replacement, as many as there are.
//!
//! Users are resampled and not events, because the events of one user depend on each other. A resample needs a multinomial
//! draw over the users, and the sums over it of [`WIDTH`] numbers a user. Four things make a million users times a thousand
//! resamples a matter of seconds, and all are exact:
//!
//! - Users with equal numbers form a **group**; the slots of users are ordered by group.
//! - The slots are cut into a power of two of equal **blocks**. How many of a resample's draws fall into each block comes
//!   from halving: binomial(m, ½) is a count of random bits, 64 draws a word. The slots beyond the last user (fewer than one
//!   in 500) are drawn too; a draw that lands there is drawn again from all users.
//! - A block within one group needs no draws: its count is multiplied.
//! - Elsewhere each draw adds its user's numbers. Blocks are the outer loop and a batch of resamples the inner one, so that
//!   a block's numbers come from memory once a batch.
//!
//! Resample i depends on (seed, i) and the users alone: neither on threads nor on batches, and its sums are added in a fixed order.

use super::metrics::{COLUMNS, Sums};
use super::random::Stream;
use dataflows::evaluation::{METHODS, UserTally};
use hashbrown::HashMap;

/// Numbers a user: the sums of the three methods.
const WIDTH: usize = METHODS.len() * COLUMNS;
/// A block has at least this many slots, if there are as many users.
const BLOCK_SLOTS_MIN: u64 = 512;
/// Resamples that share a pass over the users.
const BATCH: usize = 16;

type Row = [f64; WIDTH];
/// The sums of one resample, by method.
pub(super) type Resample = [Sums; METHODS.len()];

/// The users as the bootstrap sees them.
#[derive(Debug)]
pub(super) struct Population {
    /// The numbers of each group.
    rows: Vec<Row>,
    /// The group of each user.
    group_of: Vec<u32>,
}

impl Population {
    /// Groups the users.
    pub(super) fn new(users: &[UserTally]) -> Population {
        let mut sizes: HashMap<[u64; WIDTH], u32> = HashMap::new();
        for user in users {
            *sizes.entry(row(user).map(f64::to_bits)).or_default() += 1;
        }
        let mut groups: Vec<_> = sizes.into_iter().collect();
        // Large groups first, so that whole blocks lie within them; the order must not come from the hash map.
        groups.sort_unstable_by(|(row_a, size_a), (row_b, size_b)| size_b.cmp(size_a).then(row_a.cmp(row_b)));
        let mut group_of = Vec::with_capacity(users.len());
        for (group, (_, size)) in (0..).zip(&groups) {
            group_of.extend(std::iter::repeat_n(group, *size as usize));
        }
        Population { rows: groups.into_iter().map(|(bits, _)| bits.map(f64::from_bits)).collect(), group_of }
    }

    /// The sums of `resamples` resamples, in order, computed by up to `threads` threads; none if there are no users.
    pub(super) fn resample(&self, seed: u64, resamples: usize, threads: usize) -> Vec<Resample> {
        if self.group_of.is_empty() {
            return Vec::new();
        }
        let mut results = vec![Resample::default(); resamples];
        let share = resamples.div_ceil(threads.max(1)).max(1);
        std::thread::scope(|scope| {
            for (thread, results) in results.chunks_mut(share).enumerate() {
                scope.spawn(move || {
                    for (batch, results) in results.chunks_mut(BATCH).enumerate() {
                        self.resample_batch(seed, thread * share + batch * BATCH, results);
                    }
                });
            }
        });
        results
    }

    /// Resamples `first`, `first` + 1, …, as many as `results` holds.
    fn resample_batch(&self, seed: u64, first: usize, results: &mut [Resample]) {
        let users = self.users();
        let blocks = block_count(users);
        let block_slots = users.div_ceil(blocks);
        let mut draws: Vec<Draw> = (first..)
            .take(results.len())
            .map(|index| Draw::new(Stream::new(seed, index as u64), users, blocks))
            .collect();
        for block in 0..blocks {
            let start = (block * block_slots).min(users) as usize;
            let end = ((block + 1) * block_slots).min(users) as usize;
            let slots = &self.group_of[start..end];
            for draw in &mut draws {
                draw.take_block(self, block as usize, slots, block_slots);
            }
        }
        for (mut draw, result) in draws.into_iter().zip(results) {
            draw.take_missed(self);
            *result = unflatten(&draw.sums);
        }
    }

    fn users(&self) -> u64 {
        self.group_of.len() as u64
    }
}

/// One resample under way.
struct Draw {
    stream: Stream,
    /// Draws by block.
    counts: Vec<u64>,
    /// Draws that landed beyond the last user.
    missed: u64,
    sums: Row,
}

impl Draw {
    fn new(mut stream: Stream, users: u64, blocks: u64) -> Draw {
        let counts = halve(&mut stream, users, blocks);
        Draw { stream, counts, missed: 0, sums: [0.0; WIDTH] }
    }

    /// Adds what this resample draws from a block of `block_slots` slots, of which the first `slots.len()` are users.
    fn take_block(&mut self, population: &Population, block: usize, slots: &[u32], block_slots: u64) {
        let count = self.counts[block];
        match (slots.first(), slots.last()) {
            (Some(first), Some(last)) if first == last && slots.len() as u64 == block_slots => {
                add_times(&mut self.sums, &population.rows[*first as usize], count as f64);
            }
            _ => self.take_slots(population, count, slots, block_slots),
        }
    }

    fn take_slots(&mut self, population: &Population, count: u64, slots: &[u32], block_slots: u64) {
        // In a local the sums stay in registers, which halves the time.
        let mut sums = self.sums;
        for _ in 0..count {
            match slots.get(self.stream.below(block_slots) as usize) {
                Some(group) => add(&mut sums, &population.rows[*group as usize]),
                None => self.missed += 1,
            }
        }
        self.sums = sums;
    }

    /// Draws again, from all users, what landed beyond the last of them.
    fn take_missed(&mut self, population: &Population) {
        for _ in 0..std::mem::take(&mut self.missed) {
            let slot = self.stream.below(population.users());
            add(&mut self.sums, &population.rows[population.group_of[slot as usize] as usize]);
        }
    }
}

fn add(sums: &mut Row, row: &Row) {
    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
}

fn add_times(sums: &mut Row, row: &Row, times: f64) {
    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * times);
}

/// The number of blocks for so many users: a power of two.
fn block_count(users: u64) -> u64 {
    let most = (users / BLOCK_SLOTS_MIN).max(1);
    1 << most.ilog2()
}

/// Throws `draws` draws into `blocks` equally likely blocks (a power of two), by halving again and again.
fn halve(stream: &mut Stream, draws: u64, blocks: u64) -> Vec<u64> {
    let mut counts = vec![draws];
    while (counts.len() as u64) < blocks {
        counts = counts
            .into_iter()
            .flat_map(|count| {
                let left = stream.heads(count);
                [left, count - left]
            })
            .collect();
    }
    counts
}

fn row(user: &UserTally) -> Row {
    let mut row = [0.0; WIDTH];
    for (columns, tally) in row.chunks_exact_mut(COLUMNS).zip(&user.methods) {
        columns.copy_from_slice(&Sums::of(tally).into_array());
    }
    row
}

fn unflatten(row: &Row) -> Resample {
    std::array::from_fn(|method| Sums::from_array(std::array::from_fn(|column| row[method * COLUMNS + column])))
}

/// The quantile `q` of values sorted ascending, interpolated linearly between order statistics (type 7 of Hyndman and
/// Fan 1996, the default of NumPy and R); `None` of no values.
pub(super) fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = q * last as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::evaluation::Tally;
    use dataflows::event::UserId;

    /// A user of whose `events` events `hits` were at rank 1 of the recommendations.
    fn user(id: u64, events: u64, hits: u64) -> UserTally {
        let tally = |hits| Tally { events, with_list: events, reward: hits as i64, hits: vec![hits, 0] };
        UserTally { user: UserId(id), methods: [tally(hits), tally(0), tally(0)] }
    }

    fn sums_of(resample: &Resample) -> [f64; COLUMNS] {
        resample[0].into_array()
    }

    #[test]
    fn no_user_no_resample() {
        assert!(Population::new(&[]).resample(1, 10, 2).is_empty());
    }

    #[test]
    fn one_user_is_drawn_every_time() {
        let users = [user(1, 7, 3)];
        for resample in Population::new(&users).resample(1, 50, 3) {
            assert_eq!(resample[0], Sums::of(&users[0].methods[0]));
        }
    }

    #[test]
    fn every_resample_draws_as_many_users_as_there_are() {
        // One event a user, so that the events of a resample count its draws; sizes around the block limits.
        for count in [2_u64, 3, 511, 512, 1023, 1024, 1025, 5000] {
            for distinct in [1, 2, count] {
                let users: Vec<_> = (0..count).map(|id| user(id, 1, id % distinct)).collect();
                for resample in Population::new(&users).resample(9, 33, 2) {
                    assert_eq!(sums_of(&resample)[0], count as f64, "{count} users, {distinct} groups");
                }
            }
        }
    }

    #[test]
    fn two_users_follow_the_binomial() {
        // Exactly: both draws are user 1 with probability ¼, one of each ½, both user 2 ¼.
        let resamples = Population::new(&[user(1, 1, 0), user(2, 1, 1)]).resample(3, 40_000, 2);
        let mut counts = [0.0_f64; 3];
        for resample in &resamples {
            counts[sums_of(resample)[2] as usize] += 1.0;
        }
        for (count, expected) in counts.into_iter().zip([10_000.0_f64, 20_000.0, 10_000.0]) {
            assert!((count - expected).abs() < 5.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn every_user_is_drawn_with_mean_and_variance_one() {
        // Each method counts the hits of one user: the first, one at the edge of the blocks, and the last.
        const RESAMPLES: usize = 2500;
        let watched = [0, 513, 1025];
        let watch = |id| {
            let tally = |user| Tally { events: id + 1, hits: vec![u64::from(id == user)], ..Tally::default() };
            UserTally { user: UserId(id), methods: watched.map(tally) }
        };
        let resamples = Population::new(&(0..1026).map(watch).collect::<Vec<_>>()).resample(11, RESAMPLES, 2);
        for (method, user) in watched.into_iter().enumerate() {
            let drawn: Vec<f64> = resamples.iter().map(|resample| resample[method].into_array()[2]).collect();
            let (mean, variance) = moments(&drawn);
            // Five standard errors of the mean and of the variance of a Poisson(1), which the binomial nearly is.
            assert!((mean - 1.0).abs() < 0.10, "user {user}: mean {mean}");
            assert!((variance - 1.0).abs() < 0.18, "user {user}: variance {variance}");
        }
    }

    fn moments(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64)
    }

    #[test]
    fn groups_are_drawn_like_their_users() {
        // 6000 equal users fill whole blocks, which are multiplied, not drawn; their share must scatter as a binomial.
        let users: Vec<_> = (0..8000).map(|id| user(id, 1, u64::from(id < 6000))).collect();
        let drawn: Vec<f64> =
            Population::new(&users).resample(2, 4000, 2).iter().map(|resample| sums_of(resample)[2]).collect();
        let (mean, variance) = moments(&drawn);
        assert!((mean - 6000.0).abs() < 5.0 * (1500.0_f64 / 4000.0).sqrt(), "mean {mean}");
        assert!((variance / 1500.0 - 1.0).abs() < 0.12, "variance {variance}");
    }

    #[test]
    fn threads_change_nothing() {
        let users: Vec<_> = (0..3000).map(|id| user(id, id % 17 + 1, id % 5)).collect();
        let population = Population::new(&users);
        let alone = population.resample(4, 100, 1);
        for threads in [0, 2, 3, 8, 200] {
            assert_eq!(population.resample(4, 100, threads), alone, "{threads} threads");
        }
        assert_ne!(population.resample(5, 100, 1), alone);
    }

    #[test]
    fn the_order_of_users_changes_nothing() {
        let mut users: Vec<_> = (0..2000).map(|id| user(id, id % 17 + 1, id % 5)).collect();
        let forward = Population::new(&users).resample(4, 20, 1);
        users.reverse();
        assert_eq!(Population::new(&users).resample(4, 20, 1), forward);
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[3.0], 0.975), Some(3.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 1.0), Some(4.0));
    }
}
