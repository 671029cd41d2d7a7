//! The newest row of each user among many, kept until it is worth writing them.

use dataflows::event::Time;

/// Rows of (user, time, `S`, text) in the order of time; of each user only the last one counts.
pub(super) struct Newest<S> {
    rows: Vec<Row<S>>,
    text: Vec<u8>,
}

struct Row<S> {
    user: u64,
    time: Time,
    scalars: S,
    start: usize,
    length: usize,
}

impl<S: Copy> Newest<S> {
    pub(super) fn new() -> Newest<S> {
        Newest { rows: Vec::new(), text: Vec::new() }
    }

    /// Adds a row, whose text `fill` appends to the vector it is given; returns that text.
    pub(super) fn push(&mut self, user: u64, time: Time, scalars: S, fill: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        let start = self.text.len();
        fill(&mut self.text);
        self.rows.push(Row { user, time, scalars, start, length: self.text.len() - start });
        &self.text[start..]
    }

    /// How much memory the rows take, roughly, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.rows.len() * size_of::<Row<S>>() + self.text.len()
    }

    /// Hands the newest row of each user to `emit`, by user, and forgets all rows.
    pub(super) fn drain<E>(&mut self, mut emit: impl FnMut(u64, Time, S, &[u8]) -> Result<(), E>) -> Result<(), E> {
        self.rows.sort_unstable_by_key(|row| (row.user, row.time));
        for of_user in self.rows.chunk_by(|a, b| a.user == b.user) {
            let row = &of_user[of_user.len() - 1];
            emit(row.user, row.time, row.scalars, &self.text[row.start..row.start + row.length])?;
        }
        self.rows.clear();
        self.text.clear();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn keeps_what_a_map_keeps(rounds: Vec<Vec<(u8, u16)>>) {
            let mut newest = Newest::new();
            for rows in rounds {
                let mut expected = BTreeMap::new();
                for (time, (user, value)) in rows.into_iter().enumerate() {
                    let (user, time) = (u64::from(user), time as Time);
                    let text = newest.push(user, time, value, |out| out.extend_from_slice(value.to_string().as_bytes()));
                    assert_eq!(text, value.to_string().as_bytes());
                    expected.insert(user, (time, value, value.to_string()));
                }
                let mut found = Vec::new();
                newest.drain(|user, time, value, text| -> Result<(), ()> {
                    found.push((user, (time, value, String::from_utf8(text.to_vec()).unwrap())));
                    Ok(())
                }).unwrap();
                prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
