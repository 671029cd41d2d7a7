//! What flows through every room: events, ids, and the log positions they come from (contract, section 1).

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch: event times, logical times, tick ends and window ends alike.
///
/// A plain `u64`, because it is also the timestamp of the timely dataflow.
pub type Time = u64;

/// A raw user id, 0 … 2^63−1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(transparent)]
pub struct UserId(pub u64);

/// A raw item id, 0 … 2^63−1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(transparent)]
pub struct ItemId(pub u64);

/// A behaviour's index in the configured list of behaviours (`pv`, `cart`, `fav`, `buy` by default).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(transparent)]
pub struct Behavior(pub u8);

/// A place in a log: a partition (16 bits) and an offset in it (48 bits) in one word, ordered by
/// partition, then offset, so that ties between equal event times cost one comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(transparent)]
pub struct Position(u64);

impl Position {
    /// The largest partition that fits.
    pub const PARTITION_MAX: u32 = (1 << 16) - 1;
    /// The largest offset that fits: at a million events a second, nine years of one partition.
    pub const OFFSET_MAX: u64 = (1 << 48) - 1;

    /// The position of `offset` in `partition`; `None` beyond [`Self::PARTITION_MAX`] or [`Self::OFFSET_MAX`].
    pub fn new(partition: u32, offset: u64) -> Option<Position> {
        (partition <= Self::PARTITION_MAX && offset <= Self::OFFSET_MAX)
            .then_some(Position(u64::from(partition) << 48 | offset))
    }

    /// The partition, from 0.
    pub fn partition(self) -> u32 {
        (self.0 >> 48) as u32
    }

    /// The offset in the partition, from 0.
    pub fn offset(self) -> u64 {
        self.0 & Self::OFFSET_MAX
    }

    /// As one word, in the same order.
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// Of what [`Self::word`] has made.
    pub(crate) fn of_word(word: u64) -> Position {
        Position(word)
    }
}

/// One accepted event with its logical time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who.
    pub user: UserId,
    /// What.
    pub item: ItemId,
    /// When, by the event itself.
    pub time: Time,
    /// L = max(time, W_p(o)); see [`crate::time`].
    pub logical: Time,
    /// Where in the log.
    pub position: Position,
    /// How.
    pub behavior: Behavior,
    /// Whether `time` lies before the partition's watermark at this offset.
    pub late: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_hold_all_that_fits_and_nothing_else() {
        let (partitions, offsets) = (Position::PARTITION_MAX, Position::OFFSET_MAX);
        for (partition, offset) in [(0, 0), (1, 2), (partitions, 0), (0, offsets), (partitions, offsets)] {
            let position = Position::new(partition, offset);
            assert_eq!(position.map(|p| (p.partition(), p.offset())), Some((partition, offset)));
        }
        assert_eq!(Position::new(partitions + 1, 0), None);
        assert_eq!(Position::new(0, offsets + 1), None);
        assert_eq!((partitions, offsets), (65_535, 281_474_976_710_655));
    }

    #[test]
    fn positions_are_ordered_by_partition_and_then_by_offset() {
        let places = [(0, 0), (0, 1), (0, Position::OFFSET_MAX), (1, 0), (1, 5), (2, 3)];
        assert!(places.map(|(partition, offset)| Position::new(partition, offset)).is_sorted());
    }
}
