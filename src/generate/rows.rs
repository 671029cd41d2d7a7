//! Events as rows of text, and rows that are none.

use super::catalogue::RawIds;
use super::features::{ItemFeatures, UserFeatures};
use super::options::{Columns, Options, Rubbish, TimeUnit};
use super::sessions::{Act, Drawn};

/// Longer than 64 KiB by itself.
const TOO_LONG_BYTES: usize = (64 << 10) + 1;

/// How rows are written.
pub(crate) struct Rows {
    users: RawIds,
    items: RawIds,
    start_ms: u64,
    columns: Columns,
    time_unit: TimeUnit,
    delimiter: u8,
}

impl Rows {
    pub(crate) fn new(options: &Options) -> Rows {
        Rows {
            users: RawIds::users(options.users),
            items: RawIds::items(options.items),
            start_ms: options.start_ms,
            columns: options.columns,
            time_unit: options.time_unit,
            delimiter: options.delimiter,
        }
    }

    /// The row of column names.
    pub(crate) fn header(&self, buffer: &mut Vec<u8>) {
        let names = match self.columns {
            Columns::Events => "user,item,behavior,time",
            Columns::Tianchi => "user,item,behavior,time,sex,age,pur_power,category,shop,brand",
            Columns::FlinkRl => "user,item,time",
        };
        buffer.extend(names.bytes().map(|byte| if byte == b',' { self.delimiter } else { byte }));
        buffer.push(b'\n');
    }

    /// The row of an event.
    #[inline]
    pub(crate) fn event(&self, event: &Drawn, buffer: &mut Vec<u8>) {
        self.number(self.users.raw(event.user), buffer);
        self.number(self.items.raw(event.item), buffer);
        if self.columns != Columns::FlinkRl {
            buffer.extend_from_slice(name(event.act).as_bytes());
            buffer.push(self.delimiter);
        }
        self.number(self.time(event), buffer);
        if self.columns == Columns::Tianchi {
            self.features(event, buffer);
        }
        self.end(buffer);
    }

    /// A row that would be that of `event`, but for one flaw; `bits` choose which of a kind.
    pub(crate) fn rubbish(&self, event: &Drawn, kind: Rubbish, bits: u64, buffer: &mut Vec<u8>) {
        let choose = |flaws: &[&'static str]| flaws[bits as usize % flaws.len()].as_bytes().to_vec();
        let mut user = self.users.raw(event.user).to_string().into_bytes();
        let mut item = self.items.raw(event.item).to_string().into_bytes();
        let mut behavior = name(event.act).as_bytes().to_vec();
        let mut time = self.time(event).to_string().into_bytes();
        match kind {
            Rubbish::Columns => {
                buffer.extend(user);
                buffer.push(self.delimiter);
                buffer.extend(item);
                buffer.push(b'\n');
                return;
            }
            Rubbish::Blank => {
                buffer.extend(choose(&["", " ", "   "]));
                buffer.push(b'\n');
                return;
            }
            Rubbish::User => user = choose(&["", "-17", "anonymous", "9223372036854775808", "1e5"]),
            Rubbish::Item => item = choose(&["", "-1", "null", "99999999999999999999", "0x2a"]),
            Rubbish::Behavior => behavior = choose(&["", "click", "PV", "purchase"]),
            Rubbish::Time => time = choose(&["", "2017-11-25", "99999999999999999", "NaN", "-1"]),
            Rubbish::Encoding => user.extend([0xFF, 0xFE]),
            Rubbish::TooLong => {}
        }
        let fields = match self.columns {
            Columns::FlinkRl => vec![user, item, time],
            Columns::Events | Columns::Tianchi => vec![user, item, behavior, time],
        };
        for field in fields {
            buffer.extend(field);
            buffer.push(self.delimiter);
        }
        if self.columns == Columns::Tianchi {
            self.features(event, buffer);
        }
        if kind == Rubbish::TooLong {
            buffer.resize(buffer.len() + TOO_LONG_BYTES, b'x');
            buffer.push(self.delimiter);
        }
        self.end(buffer);
    }

    fn features(&self, event: &Drawn, buffer: &mut Vec<u8>) {
        let user = UserFeatures::of(event.user);
        let item = ItemFeatures::of(event.item);
        for feature in [user.sex, user.age_bucket(), user.pur_power, item.category, item.shop, item.brand] {
            self.number(feature, buffer);
        }
    }

    fn time(&self, event: &Drawn) -> u64 {
        let time_ms = self.start_ms + event.since_start_ms;
        match self.time_unit {
            TimeUnit::Seconds => time_ms / 1000,
            TimeUnit::Milliseconds => time_ms,
        }
    }

    #[inline]
    fn number(&self, number: u64, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        buffer.push(self.delimiter);
    }

    /// Each field was followed by a delimiter; the last one's becomes the line's end.
    #[inline]
    fn end(&self, buffer: &mut [u8]) {
        if let Some(last) = buffer.last_mut() {
            *last = b'\n';
        }
    }
}

fn name(act: Act) -> &'static str {
    match act {
        Act::View => "pv",
        Act::Cart => "cart",
        Act::Favourite => "fav",
        Act::Buy => "buy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: Drawn = Drawn { since_start_ms: 1_500, user: 3, item: 40, act: Act::Cart };

    fn rows(columns: Columns, time_unit: TimeUnit, delimiter: u8) -> Rows {
        Rows::new(&Options { columns, time_unit, delimiter, start_ms: 7_000, ..Options::default() })
    }

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut buffer = Vec::new();
        write(&mut buffer);
        String::from_utf8_lossy(&buffer).into_owned()
    }

    #[test]
    fn rows_have_the_columns_of_their_preset() {
        let ids = rows(Columns::Events, TimeUnit::Seconds, b',');
        let (user, item) = (ids.users.raw(3), ids.items.raw(40));
        assert_eq!(text(|b| ids.event(&EVENT, b)), format!("{user},{item},cart,8\n"));
        let flink = rows(Columns::FlinkRl, TimeUnit::Milliseconds, b'\t');
        assert_eq!(text(|b| flink.event(&EVENT, b)), format!("{user}\t{item}\t8500\n"));
        assert_eq!(text(|b| flink.header(b)), "user\titem\ttime\n");
        let tianchi = rows(Columns::Tianchi, TimeUnit::Seconds, b',');
        let (header, row) = (text(|b| tianchi.header(b)), text(|b| tianchi.event(&EVENT, b)));
        assert_eq!(header.split(',').count(), row.split(',').count());
        assert!(row.starts_with(&format!("{user},{item},cart,8,")), "{row}");
    }

    #[test]
    fn every_kind_of_rubbish_has_its_flaw_and_no_earlier_one() {
        for columns in [Columns::Events, Columns::Tianchi, Columns::FlinkRl] {
            let rows = rows(columns, TimeUnit::Seconds, b',');
            for kind in Rubbish::ALL {
                if kind == Rubbish::Behavior && columns == Columns::FlinkRl {
                    continue;
                }
                for bits in 0..60 {
                    let mut row = Vec::new();
                    rows.rubbish(&EVENT, kind, bits, &mut row);
                    assert_eq!(row.pop(), Some(b'\n'));
                    assert_eq!(
                        flaw(&row, columns),
                        Some(kind),
                        "{:?}",
                        String::from_utf8_lossy(&row[..40.min(row.len())])
                    );
                }
            }
        }
    }

    /// The first reason, in the contract's order, why a row is not an event.
    fn flaw(row: &[u8], columns: Columns) -> Option<Rubbish> {
        if row.iter().all(|&byte| byte == b' ') {
            return Some(Rubbish::Blank);
        }
        if row.len() > 64 << 10 {
            return Some(Rubbish::TooLong);
        }
        let Ok(row) = std::str::from_utf8(row) else { return Some(Rubbish::Encoding) };
        let fields: Vec<&str> = row.split(',').collect();
        let time = if columns == Columns::FlinkRl { 2 } else { 3 };
        if fields.len() <= time {
            return Some(Rubbish::Columns);
        }
        let number = |field: &str, most: u64| {
            let digits = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit());
            digits && field.parse::<u64>().is_ok_and(|number| number <= most)
        };
        if !number(fields[0], i64::MAX as u64) {
            return Some(Rubbish::User);
        }
        if !number(fields[1], i64::MAX as u64) {
            return Some(Rubbish::Item);
        }
        if time == 3 && !["pv", "cart", "fav", "buy"].contains(&fields[2]) {
            return Some(Rubbish::Behavior);
        }
        (!number(fields[time], 253_402_300_799)).then_some(Rubbish::Time)
    }
}
