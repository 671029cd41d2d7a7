//! What is to be generated: every knob, its default and its range.

use super::error::GenerateError;
use std::fmt;
use std::str::FromStr;

/// How a log is to look. Two runs with equal options give equal bytes, on every machine.
///
/// Probabilities are 0..=1, times and durations milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Events in all; rubbish and header rows come on top. 1 ..= 10^12.
    pub events: u64,
    /// Users there are; the least active may not get to act. 1 ..= 2^30. Costs 8 bytes of memory each.
    pub users: u32,
    /// Items there are. 1 ..= 2^30. Costs 12 bytes of memory each.
    pub items: u32,
    /// Everything random follows from it.
    pub seed: u64,
    /// Where event time starts, since the Unix epoch; the log must end before 9999-12-31.
    pub start_ms: u64,
    /// Sessions start within this span; the last ones end some minutes after it. 1 s ..= 3660 days.
    pub duration_ms: u64,
    /// The r-th most active user starts sessions in proportion to r^−`user_exponent`, but none while in one.
    /// 0 ..= 3; 0 makes all alike.
    pub user_exponent: f64,
    /// The r-th most popular item is picked in proportion to r^−`item_exponent`. 0 ..= 3; 0 makes all alike.
    pub item_exponent: f64,
    /// After this long half of the items have traded popularity with one up to 16 times more or less popular;
    /// `None` lets popularity stand still.
    pub drift_half_life_ms: Option<u64>,
    /// Mean number of events of a session (geometric). 1 ..= 10,000.
    pub session_events: f64,
    /// Mean time between events of a session (exponential, and never below 1 s). 1 s ..= 1 day.
    pub gap_ms: u64,
    /// How much of the daily rhythm shows: 0 is an even stream, 1 has the evening nine times as busy as the night.
    pub rhythm: f64,
    /// The chance that a user who views another item views a successor of the last one.
    pub successor: f64,
    /// The chance that a user goes back to one of the session's last items.
    pub revisit: f64,
    /// The chance that an item that follows from nothing is one of the user's own four favourites.
    pub loyalty: f64,
    /// The chance that a view is followed by putting the item into the cart.
    pub cart: f64,
    /// The chance that a view is followed by marking the item as a favourite; `cart` + `favourite` ≤ 1.
    pub favourite: f64,
    /// The chance that an item in the cart is then bought.
    pub cart_to_buy: f64,
    /// The chance that a favourite is then bought.
    pub favourite_to_buy: f64,
    /// An event stands at most this much event time behind the newest one before it in its file; 0 keeps the order.
    /// Below the pipeline's lateness (10 s by default) it makes nothing late. At most 1 day.
    pub disorder_ms: u64,
    /// Share of events that are held back for `late_ms` to twice that.
    pub late: f64,
    /// Above the pipeline's lateness by more than the time between two events of a file it makes them late. At most 1 day.
    pub late_ms: u64,
    /// Share of rows that are rubbish. 0 ..= 0.5.
    pub rubbish: f64,
    /// The kinds of rubbish, equally likely, but [`Rubbish::TooLong`] a hundred times less, as it is long.
    pub rubbish_kinds: Vec<Rubbish>,
    /// Files, with the users dealt among them. 1 ..= 1000.
    pub partitions: u32,
    /// Whether each file starts with a row of column names.
    pub header: bool,
    /// The unit in which times are written.
    pub time_unit: TimeUnit,
    /// Between two fields: an ASCII character that occurs in none, and is not a blank other than the tab.
    pub delimiter: u8,
    /// Which columns there are.
    pub columns: Columns,
}

impl Default for Options {
    /// A million events of 50,000 users and 20,000 items, in the two days from 2017-11-25; a little disorder, nothing
    /// late, no rubbish.
    fn default() -> Options {
        Options {
            events: 1_000_000,
            users: 50_000,
            items: 20_000,
            seed: 1,
            start_ms: 1_511_568_000_000,
            duration_ms: 48 * HOUR_MS,
            user_exponent: 0.7,
            item_exponent: 0.9,
            drift_half_life_ms: Some(24 * HOUR_MS),
            session_events: 10.0,
            gap_ms: 40_000,
            rhythm: 0.8,
            successor: 0.4,
            revisit: 0.1,
            loyalty: 0.15,
            cart: 0.06,
            favourite: 0.03,
            cart_to_buy: 0.25,
            favourite_to_buy: 0.15,
            disorder_ms: 5_000,
            late: 0.0,
            late_ms: 30_000,
            rubbish: 0.0,
            rubbish_kinds: Rubbish::ALL.into_iter().filter(|&kind| kind != Rubbish::TooLong).collect(),
            partitions: 1,
            header: false,
            time_unit: TimeUnit::Seconds,
            delimiter: b',',
            columns: Columns::Events,
        }
    }
}

/// The unit of a log's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Whole seconds.
    Seconds,
    /// Whole milliseconds.
    Milliseconds,
}

/// The columns of a log: the presets of the contract, section 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// `user,item,behavior,time`.
    Events,
    /// `user,item,behavior,time,sex,age,pur_power,category,shop,brand`.
    Tianchi,
    /// `user,item,time`: every event reads as a view.
    FlinkRl,
}

/// A way in which a row can fail to be an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rubbish {
    /// Too few columns.
    Columns,
    /// A user that is not a number, or too large a one.
    User,
    /// An item that is not a number, or too large a one.
    Item,
    /// An unknown behaviour.
    Behavior,
    /// A time that is not a number, or too large a one.
    Time,
    /// Bytes that are not UTF-8.
    Encoding,
    /// A row of more than 64 KiB.
    TooLong,
    /// An empty row, or one of blanks. Readers skip it; it is not an error.
    Blank,
}

impl Rubbish {
    /// All kinds, in the order of [`super::Summary::rubbish`].
    pub const ALL: [Rubbish; 8] = [
        Rubbish::Columns,
        Rubbish::User,
        Rubbish::Item,
        Rubbish::Behavior,
        Rubbish::Time,
        Rubbish::Encoding,
        Rubbish::TooLong,
        Rubbish::Blank,
    ];

    /// The kind's name; but for `blank`, the reason for which a row of this kind is rejected (contract, section 1).
    pub fn name(self) -> &'static str {
        match self {
            Rubbish::Columns => "columns",
            Rubbish::User => "user",
            Rubbish::Item => "item",
            Rubbish::Behavior => "behavior",
            Rubbish::Time => "time",
            Rubbish::Encoding => "encoding",
            Rubbish::TooLong => "too_long",
            Rubbish::Blank => "blank",
        }
    }
}

impl fmt::Display for Rubbish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Rubbish {
    type Err = GenerateError;

    fn from_str(name: &str) -> Result<Rubbish, GenerateError> {
        Rubbish::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| GenerateError::Option {
            option: "a kind of rubbish",
            expected: format!("one of {}", Rubbish::ALL.map(Rubbish::name).join(", ")),
            given: format!("{name:?}"),
        })
    }
}

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Raw ids are drawn from four times as many, and rank arithmetic stays within 32 bits.
const ENTITIES_MAX: u32 = 1 << 30;
/// Each has a buffer and an open file; the usual limit on the latter is 1024.
const PARTITIONS_MAX: u32 = 1000;
/// 9999-12-31, after which times are out of range (contract, section 1).
const TIME_MAX_MS: u64 = 253_402_214_400_000;

impl Options {
    /// Checks every option's range, and that they go together.
    pub fn validate(&self) -> Result<(), GenerateError> {
        within("events", self.events, 1, 1_000_000_000_000)?;
        within("users", self.users, 1, ENTITIES_MAX)?;
        within("items", self.items, 1, ENTITIES_MAX)?;
        within("user_exponent", self.user_exponent, 0.0, 3.0)?;
        within("item_exponent", self.item_exponent, 0.0, 3.0)?;
        if let Some(half_life_ms) = self.drift_half_life_ms {
            within("drift_half_life_ms", half_life_ms, 60_000, 36_600 * DAY_MS)?;
        }
        within("session_events", self.session_events, 1.0, 10_000.0)?;
        self.validate_times()?;
        self.validate_chances()?;
        self.validate_format()
    }

    fn validate_times(&self) -> Result<(), GenerateError> {
        within("duration_ms", self.duration_ms, 1_000, 3_660 * DAY_MS)?;
        within("gap_ms", self.gap_ms, 1_000, DAY_MS)?;
        within("disorder_ms", self.disorder_ms, 0, DAY_MS)?;
        within("late_ms", self.late_ms, 0, DAY_MS)?;
        // The longest session has 9 · 10,000 gaps of at most 9 days each.
        let tail_ms = (9.0 * self.session_events) as u64 * 9 * self.gap_ms;
        within("start_ms", self.start_ms, 0, TIME_MAX_MS.saturating_sub(self.duration_ms + tail_ms))
    }

    fn validate_chances(&self) -> Result<(), GenerateError> {
        let chances = [
            ("rhythm", self.rhythm),
            ("successor", self.successor),
            ("revisit", self.revisit),
            ("loyalty", self.loyalty),
            ("cart", self.cart),
            ("favourite", self.favourite),
            ("cart_to_buy", self.cart_to_buy),
            ("favourite_to_buy", self.favourite_to_buy),
            ("late", self.late),
        ];
        for (option, chance) in chances {
            within(option, chance, 0.0, 1.0)?;
        }
        within("cart + favourite", self.cart + self.favourite, 0.0, 1.0)?;
        within("rubbish", self.rubbish, 0.0, 0.5)
    }

    fn validate_format(&self) -> Result<(), GenerateError> {
        within("partitions", self.partitions, 1, PARTITIONS_MAX)?;
        let delimiter = self.delimiter;
        if !(delimiter == b'\t' || delimiter.is_ascii_punctuation() && !matches!(delimiter, b'_' | b'-')) {
            return Err(GenerateError::Option {
                option: "delimiter",
                expected: "a tab or an ASCII punctuation mark other than '_' and '-'".to_owned(),
                given: format!("{:?}", char::from(delimiter)),
            });
        }
        if self.rubbish > 0.0 && self.rubbish_kinds.is_empty() {
            return Err(GenerateError::Contradiction("a share of rubbish needs at least one kind of rubbish"));
        }
        if self.rubbish_kinds.contains(&Rubbish::Behavior) && self.columns == Columns::FlinkRl && self.rubbish > 0.0 {
            return Err(GenerateError::Contradiction("the flinkrl columns have no behaviour that could be rubbish"));
        }
        Ok(())
    }
}

pub(super) fn within<T: PartialOrd + fmt::Display>(
    option: &'static str,
    given: T,
    low: T,
    high: T,
) -> Result<(), GenerateError> {
    // Written so that NaN fails.
    if given >= low && given <= high {
        return Ok(());
    }
    Err(GenerateError::Option { option, expected: format!("from {low} to {high}"), given: given.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Options)) -> String {
        let mut options = Options::default();
        change(&mut options);
        options.validate().map_or_else(|refusal| refusal.to_string(), |()| "accepted".to_owned())
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(refusal(|_| ()), "accepted");
    }

    #[test]
    fn refusals_name_the_option_and_its_range() {
        assert_eq!(refusal(|o| o.events = 0), "events must be from 1 to 1000000000000, not 0");
        assert_eq!(refusal(|o| o.item_exponent = f64::NAN), "item_exponent must be from 0 to 3, not NaN");
        assert_eq!(refusal(|o| o.late = 1.5), "late must be from 0 to 1, not 1.5");
        assert!(refusal(|o| (o.cart, o.favourite) = (0.7, 0.7)).starts_with("cart + favourite must be"));
        assert!(refusal(|o| o.start_ms = TIME_MAX_MS).starts_with("start_ms must be from 0 to"));
        assert!(refusal(|o| o.delimiter = b'7').contains("not '7'"));
        assert!(refusal(|o| o.delimiter = b'_').contains("not '_'"));
        let kinds = refusal(|o| (o.rubbish, o.rubbish_kinds) = (0.1, vec![]));
        assert_eq!(kinds, "a share of rubbish needs at least one kind of rubbish");
        assert!(refusal(|o| (o.rubbish, o.columns) = (0.1, Columns::FlinkRl)).contains("flinkrl"));
        assert_eq!(refusal(|o| o.columns = Columns::FlinkRl), "accepted");
    }

    #[test]
    fn kinds_of_rubbish_read_back() {
        for kind in Rubbish::ALL {
            assert_eq!(kind.name().parse::<Rubbish>().expect("a name it gave itself"), kind);
        }
        let unknown = "dust".parse::<Rubbish>().expect_err("no such kind").to_string();
        assert!(unknown.starts_with("a kind of rubbish must be one of columns, user"), "{unknown}");
    }
}
