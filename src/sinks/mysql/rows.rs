//! From batches to statements that write many rows each.
//!
//! Statements are text: the numbers, times and lists of numbers in them need no quotes, and what does (behaviours, the model's
//! hash) is quoted once. A server takes a statement of thousands of rows as fast as it parses it, whichever server it is;
//! prepared statements end at 65,535 values.

use super::open::quote;
use super::schema::{Generation, RECOMMENDATION, RECORD, TOP, Table};
use crate::sinks::identity::RunIdentity;
use crate::sinks::ids::OutputIds;
use crate::sinks::json::{push_i64, push_list, push_u64};
use crate::sinks::{Batch, by_position};
use dataflows::event::{Event, Time};
use dataflows::lists::Lists;
use dataflows::rows::{PopularList, RecommendationKey};

/// Statements are at most this long, in bytes, unless the server wants them shorter. Longer ones are not faster.
const STATEMENT_BYTES_MAX: usize = 512 << 10;

/// The most that one row takes, in bytes, but for the items of its list.
const ROW_BYTES: usize = 400;

/// What a batch's rows become.
pub(super) struct RowWriter {
    record: Insert,
    recommendation: Insert,
    log: u64,
    /// Quoted, by index.
    behaviors: Vec<String>,
    /// Quoted.
    model: String,
    ids: OutputIds,
}

impl RowWriter {
    /// `packet_bytes_max`: the longest statement that the server takes.
    pub(super) fn new(generation: Generation, run: &RunIdentity, packet_bytes_max: usize) -> RowWriter {
        let bytes_max = STATEMENT_BYTES_MAX.min(packet_bytes_max.saturating_sub(1024));
        RowWriter {
            record: Insert::new(generation, &RECORD, bytes_max),
            recommendation: Insert::new(generation, &RECOMMENDATION, bytes_max),
            log: run.log,
            behaviors: run.behaviors.iter().map(|name| quote(name)).collect(),
            model: run.model.as_deref().map_or("NULL".into(), quote),
            ids: run.ids.clone(),
        }
    }

    /// From here on, writes to that generation's tables. Nothing may wait.
    pub(super) fn set_generation(&mut self, generation: Generation) {
        for (insert, table) in [(&mut self.record, &RECORD), (&mut self.recommendation, &RECOMMENDATION)] {
            *insert = Insert::new(generation, table, insert.bytes_max);
        }
    }

    /// Adds the rows of `batch`, without the recommendations before `durable`, which are there.
    pub(super) fn write(&mut self, batch: &Batch, durable: Time) {
        self.write_records(&batch.records);
        self.write_recommendations(&batch.recommendations, durable);
    }

    /// Bytes of the statements that wait.
    pub(super) fn bytes(&self) -> usize {
        self.record.bytes() + self.recommendation.bytes()
    }

    /// All statements that wait, with the tables that they are about.
    pub(super) fn statements(&mut self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let record = self.record.statements().map(|statement| (RECORD.name, statement));
        record.chain(self.recommendation.statements().map(|statement| (RECOMMENDATION.name, statement)))
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.record.clear();
        self.recommendation.clear();
    }

    fn write_records(&mut self, events: &[Event]) {
        for event in by_position(events, |event| event.position) {
            let out = self.record.row(0);
            push_u64(out, self.ids.logged_user(event.user));
            out.push(b',');
            push_u64(out, self.ids.logged_item(event.item));
            out.push(b',');
            out.extend_from_slice(self.behaviors[usize::from(event.behavior.0)].as_bytes());
            out.push(b',');
            push_moment(out, event.time);
            out.extend_from_slice(if event.late { b",1," } else { b",0," });
            push_u64(out, self.log);
            out.push(b',');
            push_u64(out, u64::from(event.position.partition()));
            out.push(b',');
            push_u64(out, event.position.offset());
            out.push(b')');
        }
    }

    fn write_recommendations(&mut self, rows: &Lists<RecommendationKey>, durable: Time) {
        let first = rows.keys().partition_point(|key| key.time < durable);
        for i in first..rows.len() {
            let (key, items) = rows.row(i);
            let Some(user) = self.ids.key_user(key.user) else { continue };
            let out = self.recommendation.row(items.len() * 20);
            push_u64(out, user);
            out.push(b',');
            push_moment(out, key.time);
            out.extend_from_slice(b",'");
            push_list(out, items.iter().filter_map(|&item| self.ids.listed_item(item)));
            out.extend_from_slice(b"',");
            push_i64(out, key.last_reward);
            out.push(b',');
            push_u64(out, u64::from(key.from_model));
            out.push(b',');
            out.extend_from_slice(self.model.as_bytes());
            out.push(b')');
        }
    }

    /// What replaces the newest list: a statement that empties the table, and one that fills it if there is a list.
    pub(super) fn top(&self, generation: Generation, list: Option<&PopularList>) -> [Option<String>; 2] {
        let table = generation.quoted(&TOP);
        let rows = list.iter().flat_map(|list| {
            let items = list.items.iter().filter_map(|&(item, count)| Some((self.ids.listed_item(item)?, count)));
            (1..).zip(items).map(|(rank, (item, count))| {
                let mut window_end = Vec::new();
                push_moment(&mut window_end, list.window_end);
                format!("({rank},{item},{count},{})", String::from_utf8_lossy(&window_end))
            })
        });
        let rows: Vec<String> = rows.collect();
        let insert = format!("INSERT INTO {table} (`rank`,`item`,`count`,`window_end`) VALUES {}", rows.join(","));
        [Some(format!("DELETE FROM {table}")), (!rows.is_empty()).then_some(insert)]
    }
}

/// Rows of one table, in statements that are short enough.
struct Insert {
    head: String,
    tail: String,
    bytes_max: usize,
    /// Those that are full.
    full: Vec<Vec<u8>>,
    /// The one being filled, without its tail; empty if it has no row.
    open: Vec<u8>,
}

impl Insert {
    /// Rows have their fields in the order of the table's columns.
    fn new(generation: Generation, table: &Table, bytes_max: usize) -> Insert {
        let list = |part: &dyn Fn(&str) -> String| table.column_names().map(part).collect::<Vec<_>>().join(",");
        let head = format!("INSERT INTO {} ({}) VALUES ", generation.quoted(table), list(&|name| format!("`{name}`")));
        // MariaDB does not know MySQL's new way to say it, MySQL still knows the old one. A row that is there already is the
        // same row, since its key comes from the log.
        let tail = format!(" ON DUPLICATE KEY UPDATE {}", list(&|name| format!("`{name}`=VALUES(`{name}`)")));
        Insert { head, tail, bytes_max, full: Vec::new(), open: Vec::new() }
    }

    /// Where the next row is to be appended, after its bracket and up to its closing one. `extra`: what it may take beyond
    /// the usual.
    fn row(&mut self, extra: usize) -> &mut Vec<u8> {
        if !self.open.is_empty() && self.open.len() + self.tail.len() + ROW_BYTES + extra > self.bytes_max {
            self.close();
        }
        if self.open.is_empty() {
            self.open.reserve(self.bytes_max.min(64 << 10));
            self.open.extend_from_slice(self.head.as_bytes());
            self.open.push(b'(');
        } else {
            self.open.extend_from_slice(b",(");
        }
        &mut self.open
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.open.extend_from_slice(self.tail.as_bytes());
            self.full.push(std::mem::take(&mut self.open));
        }
    }

    fn statements(&mut self) -> impl Iterator<Item = &[u8]> {
        self.close();
        self.full.iter().map(Vec::as_slice)
    }

    fn bytes(&self) -> usize {
        self.full.iter().map(Vec::len).sum::<usize>() + self.open.len()
    }

    fn clear(&mut self) {
        self.full.clear();
        self.open.clear();
    }
}

/// A time as a DATETIME(3) literal, in UTC. MySQL's last one is the last millisecond of the year 9999, as is the contract's; ends
/// of ticks and windows that lie beyond are written as that.
fn push_moment(out: &mut Vec<u8>, time: Time) {
    const LAST: Time = 253_402_300_799_999;
    const DAY: Time = 86_400_000;
    let time = time.min(LAST);
    let (year, month, day) = civil(time / DAY);
    let ms = time % DAY;
    let mut text = *b"'0000-00-00 00:00:00.000'";
    let mut put = |at: usize, digits: usize, mut n: u64| {
        for place in text[at..at + digits].iter_mut().rev() {
            *place = b'0' + (n % 10) as u8;
            n /= 10;
        }
    };
    put(1, 4, year);
    put(6, 2, month);
    put(9, 2, day);
    put(12, 2, ms / 3_600_000);
    put(15, 2, ms / 60_000 % 60);
    put(18, 2, ms / 1000 % 60);
    put(21, 3, ms % 1000);
    out.extend_from_slice(&text);
}

/// Year, month and day, `days` after the first of January 1970. Years are counted from the first of March, so that the day that
/// leap years add comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moment(time: Time) -> String {
        let mut out = Vec::new();
        push_moment(&mut out, time);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn times_agree_with_the_calendar(time in 0u64..=253_402_300_799_999) {
            let expected = jiff::Timestamp::from_millisecond(time as i64).unwrap();
            let expected = expected.strftime("'%Y-%m-%d %H:%M:%S.%3f'").to_string();
            prop_assert_eq!(moment(time), expected);
        }
    }

    #[test]
    fn times_at_the_edges() {
        assert_eq!(moment(0), "'1970-01-01 00:00:00.000'");
        assert_eq!(moment(951_782_400_000 - 1), "'2000-02-28 23:59:59.999'");
        assert_eq!(moment(253_402_300_800_000), "'9999-12-31 23:59:59.999'");
        assert_eq!(moment(Time::MAX), "'9999-12-31 23:59:59.999'");
    }

    #[test]
    fn statements_are_no_longer_than_the_server_takes_them() {
        let mut insert = Insert::new(Generation::Next, &TOP, 1000);
        for rank in 0..100 {
            let out = insert.row(0);
            push_u64(out, rank);
            out.extend_from_slice(b",1,1,1)");
        }
        let statements: Vec<&[u8]> = insert.statements().collect();
        assert!(statements.len() > 1 && statements.iter().all(|statement| statement.len() <= 1000));
        let text =
            statements.iter().map(|statement| String::from_utf8_lossy(statement).into_owned()).collect::<String>();
        assert_eq!(text.matches(",1,1,1)").count(), 100);
        assert!(
            text.starts_with("INSERT INTO `top__next` (`rank`,`item`,`count`,`window_end`) VALUES (0,1,1,1),(1,"),
            "{text}"
        );
        assert!(text.ends_with(",`count`=VALUES(`count`),`window_end`=VALUES(`window_end`)"), "{text}");
        insert.clear();
        assert_eq!(insert.statements().count(), 0);
    }
}
