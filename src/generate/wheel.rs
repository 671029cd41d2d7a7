//! Things that are due in a second to come: a ring of buckets, one a second, so that both putting and taking are O(1).

use std::collections::VecDeque;

/// Buckets of the seconds from the current one on; as many as were ever needed at once.
pub(crate) struct Wheel<T> {
    buckets: VecDeque<Vec<T>>,
    /// The second of the first bucket.
    now: u64,
    held: u64,
}

impl<T> Wheel<T> {
    pub(crate) fn new() -> Wheel<T> {
        Wheel { buckets: VecDeque::new(), now: 0, held: 0 }
    }

    /// Files `thing` under `second`, which must not have been taken yet.
    #[inline]
    pub(crate) fn put(&mut self, second: u64, thing: T) {
        debug_assert!(second >= self.now, "second {second} is over, it is {}", self.now);
        let index = (second - self.now) as usize;
        if index >= self.buckets.len() {
            self.buckets.resize_with(index + 1, Vec::new);
        }
        self.buckets[index].push(thing);
        self.held += 1;
    }

    /// Moves the things of the current second to the end of `into`, in the order they were put, and goes on to the next.
    pub(crate) fn take(&mut self, into: &mut Vec<T>) {
        if let Some(mut bucket) = self.buckets.pop_front() {
            self.held -= bucket.len() as u64;
            into.append(&mut bucket);
            // The memory goes round.
            self.buckets.push_back(bucket);
        }
        self.now += 1;
    }

    /// How many things are still to come.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_out_once_in_its_second() {
        let mut wheel = Wheel::new();
        let mut random = super::super::random::Random::new(3, super::super::random::Stream::Delivery);
        let mut due = Vec::new();
        for now in 0..500 {
            for _ in 0..now % 4 {
                due.push(now + random.below(40));
                wheel.put(due[due.len() - 1], due.len() - 1);
            }
            let mut taken = Vec::new();
            wheel.take(&mut taken);
            let expected: Vec<usize> = (0..due.len()).filter(|&i| due[i] == now).collect();
            assert_eq!(taken, expected);
            assert_eq!(wheel.held(), due.iter().filter(|&&second| second > now).count() as u64);
        }
    }
}
