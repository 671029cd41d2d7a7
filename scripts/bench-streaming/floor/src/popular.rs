//! Trending items: one count an item, one list of items a pane, and a look at all counts when a window ends.

use crate::clock::Clock;
use crate::digest::Digest;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};

const SLIDE_S: u64 = 80;
const PANES: usize = 3600 / SLIDE_S as usize;
const TOP: usize = 10;
/// Counts looked at together; most blocks hold none that is large enough.
const BLOCK: usize = 64;

pub struct Popular {
    clock: Clock,
    panes: Panes,
}

struct Panes {
    /// By item; of the events in the window's closed panes and in the first open one.
    counts: Vec<u32>,
    /// The window's closed panes, oldest first.
    closed: VecDeque<Vec<u32>>,
    /// The first open pane, and those after it that early events have fallen into.
    open: VecDeque<Vec<u32>>,
    events: usize,
    digest: Digest,
    lists: Option<BufWriter<File>>,
}

impl Popular {
    pub fn new(items: usize, lists: Option<BufWriter<File>>) -> Popular {
        let counts = vec![0; items.next_multiple_of(BLOCK)];
        let (closed, open) = (VecDeque::new(), VecDeque::from([Vec::new()]));
        let panes = Panes { counts, closed, open, events: 0, digest: Digest::default(), lists };
        Popular { clock: Clock::new(SLIDE_S), panes }
    }

    #[inline]
    pub fn event(&mut self, item: u64, time: u64) {
        let Popular { clock, panes } = self;
        clock.advance(time, |start| panes.close(start + SLIDE_S));
        let pane = ((time - clock.open()) / SLIDE_S) as usize;
        if pane == 0 {
            panes.counts[item as usize] += 1;
        }
        while panes.open.len() <= pane {
            panes.open.push_back(Vec::new());
        }
        panes.open[pane].push(item as u32);
    }

    /// Closes all windows.
    pub fn end(mut self) -> io::Result<Digest> {
        let mut window_end = self.clock.open() + SLIDE_S;
        while self.panes.events > 0 || self.panes.open.iter().any(|pane| !pane.is_empty()) {
            self.panes.close(window_end);
            window_end += SLIDE_S;
        }
        if let Some(lists) = &mut self.panes.lists {
            lists.flush()?;
        }
        Ok(self.panes.digest)
    }
}

impl Panes {
    fn close(&mut self, window_end: u64) {
        let newest = self.open.pop_front().unwrap_or_default();
        self.events += newest.len();
        self.closed.push_back(newest);
        if self.closed.len() > PANES {
            let mut oldest = self.closed.pop_front().unwrap_or_default();
            for item in &oldest {
                self.counts[*item as usize] -= 1;
            }
            self.events -= oldest.len();
            // Its memory serves a later pane.
            oldest.clear();
            self.open.push_back(oldest);
        }
        if self.events > 0 {
            self.emit(window_end);
        }
        if self.open.is_empty() {
            self.open.push_back(Vec::new());
        }
        for item in &self.open[0] {
            self.counts[*item as usize] += 1;
        }
    }

    fn emit(&mut self, window_end: u64) {
        let list = top(&self.counts);
        let mut row = vec![list.len() as u64, window_end * 1000];
        row.extend(list.iter().map(|(_, item)| u64::from(*item)));
        row.extend(list.iter().map(|(count, _)| u64::from(*count)));
        self.digest.add(&row);
        if let Some(lists) = &mut self.lists {
            let items: String = list.iter().map(|(count, item)| format!(" {item}:{count}")).collect();
            writeln!(lists, "{window_end}{items}").expect("the lists' file can be written");
        }
    }
}

/// The first by count descending, then by item.
fn top(counts: &[u32]) -> Vec<(u32, u32)> {
    let mut best: Vec<(u32, u32)> = Vec::with_capacity(TOP + 1);
    let mut least = 0;
    for (block, counts) in counts.chunks_exact(BLOCK).enumerate() {
        if counts.iter().fold(0, |largest, count| largest.max(*count)) <= least {
            continue;
        }
        for (i, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let item = (block * BLOCK + i) as u32;
            if best.len() < TOP || count > best[TOP - 1].0 {
                let rank = best.partition_point(|(other, _)| *other >= count);
                best.insert(rank, (count, item));
                best.truncate(TOP);
            }
        }
        if best.len() == TOP {
            least = best[TOP - 1].0;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Log;
    use crate::read::for_each_row;
    use std::collections::HashMap;

    fn slow(events: &[(u64, u64)]) -> Digest {
        let mut digest = Digest::default();
        let last = events.iter().map(|(_, time)| *time).max().unwrap_or(0);
        for window_end in (0..=last + 3600 + SLIDE_S).step_by(SLIDE_S as usize) {
            let mut counts: HashMap<u64, u64> = HashMap::new();
            for (item, _) in events.iter().filter(|(_, time)| *time < window_end && time + 3600 >= window_end) {
                *counts.entry(*item).or_default() += 1;
            }
            let mut list: Vec<_> = counts.into_iter().collect();
            list.sort_by_key(|(item, count)| (u64::MAX - count, *item));
            list.truncate(TOP);
            if !list.is_empty() {
                let mut row = vec![list.len() as u64, window_end * 1000];
                row.extend(list.iter().map(|(item, _)| item));
                row.extend(list.iter().map(|(_, count)| count));
                digest.add(&row);
            }
        }
        digest
    }

    #[test]
    fn lists_are_those_of_a_slow_reference() {
        for (items, disorder_s) in [(5, 0), (100, 5), (300, 5)] {
            let log = Log { events: 1500, users: 9, items, span_s: 9000, disorder_s, seed: items };
            let mut text = Vec::new();
            log.write_to(&mut text).unwrap();
            let (mut events, mut popular) = (Vec::new(), Popular::new(items as usize, None));
            for_each_row(&mut text.as_slice(), |_, item, time| {
                let time = time - 1_700_000_000 + 40;
                events.push((item, time));
                popular.event(item, time);
            })
            .unwrap();
            assert_eq!(popular.end().unwrap(), slow(&events));
        }
    }
}
