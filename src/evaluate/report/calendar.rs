//! Times in UTC, and time axes with ticks at round times.

use super::scale::Tick;
use dataflows::event::Time;

const SECOND: Time = 1000;
const MINUTE: Time = 60 * SECOND;
const HOUR: Time = 60 * MINUTE;
const DAY: Time = 24 * HOUR;
const WEEK: Time = 7 * DAY;
/// 1970-01-05, a Monday.
const FIRST_MONDAY: Time = 4 * DAY;

/// Spans of fixed length that people think in.
pub(super) const SPANS: [Time; 34] = [
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    4 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    3 * DAY,
    WEEK,
    2 * WEEK,
    4 * WEEK,
    52 * WEEK,
];

/// Steps between ticks in months.
const MONTHS: [u64; 12] = [1, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 6000, 12_000];

const MONTH_NAMES: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// (year, month 1 … 12, day 1 … 31) of a day counted from 1970-01-01 (Howard Hinnant, `civil_from_days`, for days ≥ 0).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The day, counted from 1970-01-01, on which a month begins (Howard Hinnant, `days_from_civil`).
fn month_start(year: u64, month: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// 2017-11-25.
fn date(time: Time) -> String {
    let (year, month, day) = civil(time / DAY);
    format!("{year:04}-{month:02}-{day:02}")
}

/// 13:45, 13:45:07 or 13:45:07.250, as short as it is exact.
fn clock(time: Time) -> String {
    let minutes = format!("{:02}:{:02}", time % DAY / HOUR, time % HOUR / MINUTE);
    let (seconds, milliseconds) = (time % MINUTE / SECOND, time % SECOND);
    match (seconds, milliseconds) {
        (0, 0) => minutes,
        (_, 0) => format!("{minutes}:{seconds:02}"),
        _ => format!("{minutes}:{seconds:02}.{milliseconds:03}"),
    }
}

/// 2017-11-25 13:45.
pub(super) fn instant(time: Time) -> String {
    format!("{} {}", date(time), clock(time))
}

/// "3 hours", "1 week", "90 s": in the largest unit that divides it.
pub(super) fn span(length: Time) -> String {
    let units = [(WEEK, " weeks"), (DAY, " days"), (HOUR, " hours"), (MINUTE, " minutes"), (SECOND, " s"), (1, " ms")];
    let (unit, name) =
        units.into_iter().find(|(unit, _)| length.is_multiple_of(*unit) && length > 0).unwrap_or((1, " ms"));
    let count = length / unit;
    let name = if count == 1 && unit >= MINUTE { name.trim_end_matches('s') } else { name };
    format!("{count}{name}")
}

/// A handful of ticks at round times within [first, last].
pub(super) fn ticks(first: Time, last: Time) -> Vec<Tick> {
    let length = last.saturating_sub(first);
    // Times of day with seconds need more room than dates.
    let room = length.div_ceil(if length < 10 * MINUTE { 5 } else { 8 }).max(1);
    // Beyond two weeks, calendar months are rounder than any fixed span.
    match SPANS.into_iter().take_while(|span| *span <= 2 * WEEK).find(|span| *span >= room) {
        Some(step) if step < DAY => labelled(span_ticks(first, last, step), |time| (clock(time), Some(date(time)))),
        Some(step) => labelled(span_ticks(first, last, step), |time| {
            let (year, month, day) = civil(time / DAY);
            (format!("{day} {}", month_name(month)), Some(year.to_string()))
        }),
        None => {
            let step = MONTHS.into_iter().find(|months| months * 30 * DAY >= room).unwrap_or(12_000);
            labelled(month_ticks(first, last, step), |time| match civil(time / DAY) {
                (year, _, _) if step >= 12 => (year.to_string(), None),
                (year, month, _) => (month_name(month).to_owned(), Some(year.to_string())),
            })
        }
    }
}

fn month_name(month: u64) -> &'static str {
    MONTH_NAMES[month as usize - 1]
}

fn span_ticks(first: Time, last: Time, step: Time) -> Vec<Time> {
    let origin = if step.is_multiple_of(WEEK) { FIRST_MONDAY } else { 0 };
    let start = first.saturating_sub(origin).div_ceil(step);
    (start..).map(|index| origin + index * step).take_while(|time| *time <= last).collect()
}

fn month_ticks(first: Time, last: Time, step: u64) -> Vec<Time> {
    let (year, month, _) = civil(first / DAY);
    let start = (year * 12 + month - 1) / step;
    (start..)
        .map(|index| (index * step / 12, index * step % 12 + 1))
        .skip_while(|(year, _)| *year < 1970)
        .map(|(year, month)| month_start(year, month) * DAY)
        .skip_while(|time| *time < first)
        .take_while(|time| *time <= last)
        .collect()
}

/// Ticks with a label each; the context stands only where it changes.
fn labelled(times: Vec<Time>, text: impl Fn(Time) -> (String, Option<String>)) -> Vec<Tick> {
    let mut before = None;
    times
        .into_iter()
        .map(|time| {
            let (label, context) = text(time);
            let changed = context != before;
            before.clone_from(&context);
            Tick { value: time as f64, label, context: context.filter(|_| changed) }
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOV_25: Time = 1_511_568_000_000;

    fn shown(ticks: &[Tick]) -> Vec<String> {
        ticks
            .iter()
            .map(|t| format!("{}{}", t.label, t.context.as_ref().map_or(String::new(), |c| format!("/{c}"))))
            .collect()
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(instant(0), "1970-01-01 00:00");
        assert_eq!(instant(951_782_400_000), "2000-02-29 00:00");
        assert_eq!(instant(NOV_25 + 3_661_007), "2017-11-25 01:01:01.007");
        assert_eq!(instant(253_402_300_799_000), "9999-12-31 23:59:59");
    }

    #[test]
    fn months_begin_where_the_calendar_says() {
        let mut day = 0;
        for year in 1970..2110 {
            for month in 1..=12 {
                assert_eq!(month_start(year, month), day);
                assert_eq!(civil(day), (year, month, 1));
                day = (day + 27..).find(|day| civil(*day).2 == 1).unwrap();
            }
        }
    }

    #[test]
    fn spans_have_names() {
        assert_eq!(span(HOUR), "1 hour");
        assert_eq!(span(90 * SECOND), "90 s");
        assert_eq!(span(2 * WEEK), "2 weeks");
        assert_eq!(span(250), "250 ms");
        assert_eq!(span(0), "0 ms");
    }

    #[test]
    fn ticks_are_at_round_times() {
        assert_eq!(
            shown(&ticks(NOV_25 + 10 * HOUR, NOV_25 + 40 * HOUR)),
            ["12:00/2017-11-25", "16:00", "20:00", "00:00/2017-11-26", "04:00", "08:00", "12:00", "16:00"]
        );
        assert_eq!(
            shown(&ticks(NOV_25, NOV_25 + 15 * DAY)),
            ["26 Nov/2017", "28 Nov", "30 Nov", "2 Dec", "4 Dec", "6 Dec", "8 Dec", "10 Dec"]
        );
        assert_eq!(shown(&ticks(NOV_25, NOV_25 + 140 * DAY)), ["Dec/2017", "Jan/2018", "Feb", "Mar", "Apr"]);
        assert_eq!(shown(&ticks(NOV_25, NOV_25 + 8000 * DAY)), ["2020", "2025", "2030", "2035"]);
        assert_eq!(
            shown(&ticks(0, 2500)),
            ["00:00/1970-01-01", "00:00:00.500", "00:00:01", "00:00:01.500", "00:00:02", "00:00:02.500"]
        );
    }

    #[test]
    fn any_span_has_few_ticks() {
        for first in [0, 1, NOV_25, 253_000_000_000_000] {
            for exponent in 0..48 {
                let found = ticks(first, first + (1 << exponent)).len();
                assert!(found <= 9, "{first} + 2^{exponent}: {found}");
            }
        }
    }
}
