//! A log in columns, by user and time: what training and evaluation read (contract, section 8).
//!
//! The file is read twice. The first time finds the users, the items and how many events each user has; the second puts
//! every event where it belongs. So nothing has to be sorted but the events of a user who has them out of order, and no
//! event is held twice: E events take 13·E bytes (item 4, behaviour 1, time 8), U users and I items some 60 bytes each
//! while the log is read and 20 after that. 100 million events of 5 million users and items need about 2 GB.

use std::cmp::Reverse;
use std::ops::Range;
use std::path::Path;

use hashbrown::HashMap;

use super::error::LearnError;
use super::rows::{Features, LogFormat, RowCounts, RowReader};
use crate::sources::Format;
use crate::sources::csv::{column_count, filled_columns, numbers_from};

/// Column of the first feature in a log that has them: `user,item,behavior,time,sex,age,pur_power,category,shop,brand`.
const FEATURES_AT: usize = 4;
/// Columns of such a log.
const FEATURE_LOG_COLUMNS: usize = 10;
/// The features, in the order of their columns: first the user's, then the item's.
const USER_FEATURES: [&str; 3] = ["sex", "age", "pur_power"];
const ITEM_FEATURES: [&str; 3] = ["category", "shop", "brand"];

/// As many users or items as an index can tell apart, with room for the padding index.
const INDICES_MAX: u32 = u32::MAX - 1;

/// A prepared log in columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interactions {
    /// Raw id of each user index, most frequent first, then by smaller id.
    pub users: Vec<u64>,
    /// Raw id of each item index: first the [`catalogue`](Self::catalogue) items that occur in training parts, most frequent
    /// (in training parts) first, then by smaller id; then the items that only tests have, by id.
    pub items: Vec<u64>,
    /// Items a model knows: the indices below it. An index from here on is padding to a model, and this one is the padding index.
    pub catalogue: usize,
    /// User u has the rows `offsets[u]..offsets[u + 1]`, in order of (time, place in the file).
    pub offsets: Vec<usize>,
    /// The item of each row: an index into `items`.
    pub item: Vec<u32>,
    /// The behaviour of each row: an index into the configured behaviours (`pv`, `cart`, `fav`, `buy`).
    pub behavior: Vec<u8>,
    /// The time of each row, in milliseconds since 1970.
    pub time: Vec<i64>,
    /// Sex, age bucket and purchasing power, where the log has them; else empty.
    pub user_features: Vec<Feature>,
    /// Category, shop and brand, where the log has them; else empty.
    pub item_features: Vec<Feature>,
    /// BLAKE3 of all of the above, as hexadecimal digits: equal for two logs just if they hold the same events, however
    /// their files are written.
    pub fingerprint: String,
    /// What was read, and what was not.
    pub counts: RowCounts,
}

/// One feature of all users or items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its column: `sex`, `age`, `pur_power`, `category`, `shop` or `brand`.
    pub name: &'static str,
    /// The raw value of each of its indices, ascending.
    pub values: Vec<u64>,
    /// Of each user or item the index of its value; `values.len()`, the padding index, where the log has no number there.
    /// The first row in the file that has the user or item counts.
    pub index: Vec<u32>,
}

/// Events of a user with `n` events that train, the first ones: round(0.8·n), and all where n ≤ 3 (contract, section 8).
pub fn training_len(n: usize) -> usize {
    // 0.8·n is a multiple of a fifth, so that no half needs a rule.
    if n <= 3 { n } else { n - n / 5 - usize::from(n % 5 >= 3) }
}

impl Interactions {
    /// Reads the log at `path`. Rows that are no events are counted in [`counts`](Self::counts).
    ///
    /// # Errors
    /// A file that cannot be read, or twice (a pipe), or that holds no event; see [`LearnError`].
    pub fn read(path: &Path, format: &LogFormat) -> Result<Interactions, LearnError> {
        let reader = RowReader::open(path, format)?;
        reader.require_file()?;
        let (census, counts) = Census::take(&reader, format.features)?;
        if counts.events == 0 {
            let first = counts.first_rejected.map_or(String::new(), |first| format!(" ({first})"));
            return Err(LearnError::Empty { input: reader.input().to_owned(), lines: counts.lines, first });
        }
        census.place(&reader, counts)
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.item.len()
    }

    /// Whether there are none; never so for a log that was read.
    pub fn is_empty(&self) -> bool {
        self.item.is_empty()
    }

    /// All rows of a user.
    pub fn rows(&self, user: usize) -> Range<usize> {
        self.offsets[user]..self.offsets[user + 1]
    }

    /// The rows of a user that train.
    pub fn train(&self, user: usize) -> Range<usize> {
        let Range { start, end } = self.rows(user);
        start..start + training_len(end - start)
    }

    /// The rows of a user that test, perhaps none.
    pub fn test(&self, user: usize) -> Range<usize> {
        self.train(user).end..self.offsets[user + 1]
    }

    /// The item of a row as a model knows it: `catalogue`, the padding index, for an item that only tests have.
    pub fn known_item(&self, row: usize) -> u32 {
        self.item[row].min(self.catalogue as u32)
    }
}

/// Users and items in the order in which the file first has them, as after the first reading.
struct Census {
    users: Ids,
    items: Ids,
    /// Events of each user.
    events: Vec<usize>,
    has_features: bool,
}

/// Raw ids and their provisional indices.
struct Ids {
    index: HashMap<u64, u32>,
    raw: Vec<u64>,
    features: Vec<[Option<u64>; 3]>,
    what: &'static str,
}

impl Ids {
    fn new(what: &'static str) -> Ids {
        Ids { index: HashMap::new(), raw: Vec::new(), features: Vec::new(), what }
    }

    /// The index of `id`, and whether it is a new one.
    fn add(&mut self, id: u64, input: &str) -> Result<(usize, bool), LearnError> {
        let next = self.raw.len() as u32;
        let index = *self.index.entry(id).or_insert(next);
        if index < next {
            return Ok((index as usize, false));
        }
        if next >= INDICES_MAX {
            return Err(LearnError::TooMany { input: input.to_owned(), what: self.what, limit: INDICES_MAX });
        }
        self.raw.push(id);
        Ok((index as usize, true))
    }

    /// The features of these ids in the order `order` of provisional indices.
    fn features(&self, names: [&'static str; 3], order: &[u32]) -> Vec<Feature> {
        if self.features.is_empty() {
            return Vec::new();
        }
        let feature = |(at, name): (usize, &'static str)| {
            let mut values: Vec<u64> = self.features.iter().filter_map(|features| features[at]).collect();
            values.sort_unstable();
            values.dedup();
            let unknown = values.len();
            let index_of = |&id: &u32| {
                let value = self.features[id as usize][at];
                value.and_then(|value| values.binary_search(&value).ok()).unwrap_or(unknown) as u32
            };
            let index = order.iter().map(index_of).collect();
            Feature { name, values, index }
        };
        names.into_iter().enumerate().map(feature).collect()
    }
}

impl Census {
    fn take(reader: &RowReader, features: Features) -> Result<(Census, RowCounts), LearnError> {
        let mut census = Census {
            users: Ids::new("users"),
            items: Ids::new("items"),
            events: Vec::new(),
            has_features: features == Features::Present,
        };
        let (input, format) = (reader.input(), reader.format());
        let mut is_first = true;
        let counts = reader.each(|row, record| {
            if std::mem::take(&mut is_first) && features == Features::Auto {
                census.has_features = looks_like_features(format, record.of(row));
            }
            let (user, new_user) = census.users.add(row.user.0, input)?;
            let (_, new_item) = census.items.add(row.item.0, input)?;
            if census.has_features && (new_user || new_item) {
                let [sex, age, power, category, shop, brand] = numbers_from(format, record.of(row), FEATURES_AT);
                if new_user {
                    census.users.features.push([sex, age, power]);
                }
                if new_item {
                    census.items.features.push([category, shop, brand]);
                }
            }
            if new_user {
                census.events.push(0);
            }
            census.events[user] += 1;
            Ok::<(), LearnError>(())
        })?;
        Ok((census, counts))
    }

    /// Reads the file once more, and puts every event in its place.
    fn place(self, reader: &RowReader, counts: RowCounts) -> Result<Interactions, LearnError> {
        let Census { users, items, events, .. } = &self;
        let mut user_order: Vec<u32> = (0..users.raw.len() as u32).collect();
        user_order.sort_unstable_by_key(|&user| (Reverse(events[user as usize]), users.raw[user as usize]));
        let mut offsets = Vec::with_capacity(user_order.len() + 1);
        offsets.push(0);
        let mut end = 0;
        for &user in &user_order {
            end += events[user as usize];
            offsets.push(end);
        }

        // Where the next event of each user goes, by provisional index, and where its last one must have gone.
        let mut next = vec![0; users.raw.len()];
        for (&user, &start) in user_order.iter().zip(&offsets) {
            next[user as usize] = start;
        }
        let limit: Vec<usize> = next.iter().zip(events).map(|(start, events)| start + events).collect();
        let mut columns = Columns { item: vec![0; end], behavior: vec![0; end], time: vec![0; end] };
        let changed = || LearnError::Changed { input: reader.input().to_owned() };
        let again = reader.each(|row, _| {
            let user = *users.index.get(&row.user.0).ok_or_else(changed)? as usize;
            let at = next[user];
            if at >= limit[user] {
                return Err(changed());
            }
            next[user] += 1;
            columns.item[at] = *items.index.get(&row.item.0).ok_or_else(changed)?;
            columns.behavior[at] = row.behavior.0;
            columns.time[at] = row.time as i64;
            Ok(())
        })?;
        if again != counts {
            return Err(changed());
        }
        drop((next, limit));
        for user in offsets.windows(2) {
            columns.sort(user[0]..user[1]);
        }

        let (item_order, catalogue) = item_order(&items.raw, &offsets, &columns.item);
        let mut index_of = vec![0; item_order.len()];
        for (index, &item) in (0..).zip(&item_order) {
            index_of[item as usize] = index;
        }
        columns.item.iter_mut().for_each(|item| *item = index_of[*item as usize]);

        let Columns { item, behavior, time } = columns;
        let mut interactions = Interactions {
            users: user_order.iter().map(|&user| users.raw[user as usize]).collect(),
            items: item_order.iter().map(|&item| items.raw[item as usize]).collect(),
            catalogue,
            offsets,
            item,
            behavior,
            time,
            user_features: users.features(USER_FEATURES, &user_order),
            item_features: items.features(ITEM_FEATURES, &item_order),
            fingerprint: String::new(),
            counts,
        };
        interactions.fingerprint = fingerprint(&interactions);
        Ok(interactions)
    }
}

/// Whether the columns of `record` are those of a log with features; those of a table that was not there are empty.
fn looks_like_features(format: &Format, record: &[u8]) -> bool {
    let numbers: [Option<u64>; 6] = numbers_from(format, record, FEATURES_AT);
    let filled = filled_columns(format, record).skip(FEATURES_AT);
    column_count(format, record) == FEATURE_LOG_COLUMNS
        && numbers.iter().any(Option::is_some)
        && numbers.iter().zip(filled).all(|(number, filled)| number.is_some() || !filled)
}

struct Columns {
    item: Vec<u32>,
    behavior: Vec<u8>,
    time: Vec<i64>,
}

impl Columns {
    /// Puts the events of one user, in the order of the file so far, into the order of their times.
    fn sort(&mut self, rows: Range<usize>) {
        if self.time[rows.clone()].is_sorted() {
            return;
        }
        let mut events: Vec<(i64, u32, u8)> =
            rows.clone().map(|row| (self.time[row], self.item[row], self.behavior[row])).collect();
        events.sort_by_key(|&(time, _, _)| time);
        for (row, (time, item, behavior)) in rows.zip(events) {
            (self.time[row], self.item[row], self.behavior[row]) = (time, item, behavior);
        }
    }
}

/// The provisional indices of the items in their final order, and how many of them occur in training parts.
fn item_order(raw: &[u64], offsets: &[usize], item: &[u32]) -> (Vec<u32>, usize) {
    let mut trained = vec![0_u64; raw.len()];
    for user in offsets.windows(2) {
        let train = user[0]..user[0] + training_len(user[1] - user[0]);
        item[train].iter().for_each(|&item| trained[item as usize] += 1);
    }
    let catalogue = trained.iter().filter(|&&events| events > 0).count();
    let mut order: Vec<u32> = (0..raw.len() as u32).collect();
    order.sort_unstable_by_key(|&item| (Reverse(trained[item as usize]), raw[item as usize]));
    (order, catalogue)
}

fn fingerprint(of: &Interactions) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("eddyline interactions");
    let mut bytes = Vec::new();
    // Each column behind its length; the numbers go through a small buffer, so that no column is held twice.
    macro_rules! column {
        ($values:expr) => {
            hasher.update(&($values.len() as u64).to_le_bytes());
            for values in $values.chunks(8192) {
                bytes.clear();
                values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
                hasher.update(&bytes);
            }
        };
    }
    column!(of.users);
    column!(of.items);
    let offsets: Vec<u64> = of.offsets.iter().map(|&offset| offset as u64).collect();
    column!(offsets);
    column!(of.item);
    column!(of.behavior);
    column!(of.time);
    for feature in of.user_features.iter().chain(&of.item_features) {
        column!(feature.values);
        column!(feature.index);
    }
    hasher.finalize().to_hex().to_string()
}
