//! Random logs, and the rules to read them by.

#![allow(unreachable_pub)]

use super::oracle::{Row, Rules};
use dataflows::event::{ItemId, Time, UserId};
use proptest::prelude::*;

/// Odd ticks, slides and windows, both late policies.
pub fn rules() -> impl Strategy<Value = Rules> {
    let grid = (1u64..8, 1u64..4, 1u64..6);
    let lists = (1usize..5, 1usize..5, 1usize..5, 1usize..4);
    (grid, lists, 0u64..25, any::<bool>(), any::<bool>(), prop::collection::vec(0u32..4, 0..4)).prop_map(
        |((tick, ticks, slides), (top, length, n, min_history), lateness, admit_late, exclude_recent, weights)| Rules {
            lateness,
            admit_late,
            tick,
            slide: tick * ticks,
            window: tick * ticks * slides,
            top,
            weights,
            length,
            n,
            min_history,
            exclude_recent,
            rewards: vec![1, 2, 2, 3],
        },
    )
}

/// One to three partitions with disorder, late and equal times.
pub fn partitions() -> impl Strategy<Value = Vec<Vec<Row>>> {
    // Times wander upwards with steps back, so that some rows are late and many are equal.
    let row = (0u64..5, 0u64..7, 0u8..4, 0u64..12, 0u64..30);
    let partition = prop::collection::vec(row, 0..40).prop_map(|rows| {
        let mut clock = 0;
        let place = |(user, item, behavior, ahead, back): (u64, u64, u8, Time, Time)| {
            clock += ahead / 3;
            (user, item, behavior, clock.saturating_sub(if back < 20 { 0 } else { back }))
        };
        rows.into_iter().map(place).collect()
    });
    prop::collection::vec(partition, 1..4)
}

/// Whether a snapshot is wanted at the end of a tick, and whether its request comes as late as it may.
pub type Wanted = (bool, bool);

/// For one tick after another, and then again from the first.
pub fn wanted() -> impl Strategy<Value = Vec<Wanted>> {
    prop::collection::vec(any::<Wanted>(), 1..8)
}

/// The requests for snapshots behind `newest`, up to the end of the log.
pub fn requests(rules: &Rules, newest: Time, end: Time, wanted: &[Wanted]) -> Vec<Time> {
    let ends = (1..).map(|n| n * rules.tick).take_while(|tick| *tick <= end).filter(|tick| *tick > newest);
    let asked = ends.zip(wanted.iter().cycle()).filter(|(_, (wanted, _))| *wanted);
    asked.map(|(tick, (_, late))| if *late { tick + rules.tick - 1 } else { tick }).collect()
}

/// Knows two users of three; ranks by arithmetic that depends on user, sequence and tick.
pub fn model(user: UserId, sequence: &[ItemId], tick: Time) -> Vec<ItemId> {
    if user.0 % 3 == 2 {
        return vec![];
    }
    let from = sequence.iter().map(|item| item.0).sum::<u64>() + user.0 + tick;
    (0..3).map(|i| ItemId((from + i * 3) % 9)).collect()
}
