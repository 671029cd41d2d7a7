//! What `replay --out` must write, made slowly and plainly from the text of the files: sections 1, 2, 3 and 5 of the contract.
//!
//! Every event is added to each of the overlapping windows that it counts in; every sequence is sorted anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What changes results, in ms.
#[derive(Clone, Debug)]
pub struct Rules {
    pub lateness: i64,
    pub admit_late: bool,
    pub tick: i64,
    pub slide: i64,
    pub window: i64,
    pub top: usize,
    pub length: usize,
    pub n: usize,
    pub min_history: usize,
    /// Where the run stops.
    pub until: Option<i64>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            lateness: 10_000,
            admit_late: false,
            tick: 20_000,
            slide: 80_000,
            window: 3_600_000,
            top: 10,
            length: 10,
            n: 8,
            min_history: 1,
            until: None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Row {
    partition: usize,
    offset: usize,
    user: u64,
    item: u64,
    time: i64,
    logical: i64,
}

const BEHAVIORS: [&str; 4] = ["pv", "cart", "fav", "buy"];

/// The five files, by name.
pub fn files(rules: &Rules, partitions: &[&[u8]]) -> BTreeMap<&'static str, String> {
    let (mut rows, mut late, mut rejected) = (Vec::new(), String::new(), String::new());
    for (partition, text) in partitions.iter().enumerate() {
        read(rules, partition, text, &mut rows, &mut late, &mut rejected);
    }
    let windows = windows(rules, &rows);
    let mut popular = String::new();
    for (end, items) in &windows {
        let (items, counts): (Vec<u64>, Vec<u64>) = items.iter().copied().unzip();
        writeln!(popular, "{{\"window_end\":{end},\"items\":{},\"counts\":{}}}", list(&items), list(&counts)).unwrap();
    }
    let (recent, recommendations) = users(rules, &rows, &windows);
    BTreeMap::from([
        ("popular.jsonl", popular),
        ("recent.jsonl", recent),
        ("recommendations.jsonl", recommendations),
        ("late.jsonl", late),
        ("rejected.jsonl", rejected),
    ])
}

fn list(items: &[u64]) -> String {
    format!("[{}]", items.iter().map(u64::to_string).collect::<Vec<_>>().join(","))
}

fn number(field: &str) -> Option<u64> {
    let digits = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| field.parse().ok()).flatten().filter(|number| *number < 1 << 63)
}

fn fields(line: &[u8]) -> Result<(u64, u64, &'static str, i64), &'static str> {
    if line.len() > 64 << 10 {
        return Err("too_long");
    }
    let text = std::str::from_utf8(line).map_err(|_| "encoding")?;
    let fields: Vec<&str> = text.split(',').map(|field| field.trim_matches([' ', '\t'])).collect();
    let [user, item, behavior, time, ..] = fields[..] else { return Err("columns") };
    let user = number(user).ok_or("user")?;
    let item = number(item).ok_or("item")?;
    let behavior = BEHAVIORS.into_iter().find(|b| *b == behavior).ok_or("behavior")?;
    let time = number(time).filter(|s| *s < 253_402_300_800).ok_or("time")?;
    Ok((user, item, behavior, time as i64 * 1000))
}

fn read(rules: &Rules, partition: usize, text: &[u8], rows: &mut Vec<Row>, late: &mut String, rejected: &mut String) {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let mut watermark = i64::MIN;
    for (offset, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if rules.until.is_some_and(|until| watermark >= until) {
            break;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let header = |line: &[u8]| {
            let text = String::from_utf8_lossy(line);
            let fields: Vec<&str> = text.split(',').collect();
            fields.len() > 3 && [0, 1, 3].into_iter().all(|at| number(fields[at].trim()).is_none())
        };
        if line.iter().all(|byte| matches!(byte, b' ' | b'\t')) || offset == 0 && header(line) {
            continue;
        }
        match fields(line) {
            Err(reason) => {
                let record = base64(&line[..line.len().min(64 << 10)]);
                writeln!(
                    rejected,
                    "{{\"partition\":{partition},\"offset\":{offset},\"reason\":\"{reason}\",\"record\":\"{record}\"}}"
                )
                .unwrap();
            }
            Ok((user, item, behavior, time)) => {
                if time < watermark {
                    writeln!(late, "{{\"partition\":{partition},\"offset\":{offset},\"user\":{user},\"item\":{item},\"behavior\":\"{behavior}\",\"time\":{time}}}").unwrap();
                }
                if time >= watermark || rules.admit_late {
                    let logical = time.max(watermark);
                    if rules.until.is_none_or(|until| logical < until) {
                        rows.push(Row { partition, offset, user, item, time, logical });
                    }
                }
                watermark = watermark.max(time - rules.lateness);
            }
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize] as char;
            text.push(if at > three.len() { '=' } else { digit });
        }
    }
    text
}

/// The list that a store has as the newest after a stopped run: window end, items and counts.
pub fn newest_list(rules: &Rules, partitions: &[&[u8]]) -> Option<(i64, Vec<(u64, u64)>)> {
    let mut rows = Vec::new();
    for (partition, text) in partitions.iter().enumerate() {
        read(rules, partition, text, &mut rows, &mut String::new(), &mut String::new());
    }
    let end = rules.until.unwrap() / rules.slide * rules.slide;
    windows(rules, &rows).remove(&end).map(|items| (end, items))
}

/// The lists of all windows that hold anything, up to where the run stops.
fn windows(rules: &Rules, rows: &[Row]) -> BTreeMap<i64, Vec<(u64, u64)>> {
    let mut counts: BTreeMap<i64, BTreeMap<u64, u64>> = BTreeMap::new();
    for row in rows {
        let mut end = (row.logical / rules.slide + 1) * rules.slide;
        while row.time >= end - rules.window && rules.until.is_none_or(|until| end <= until) {
            *counts.entry(end).or_default().entry(row.item).or_default() += 1;
            end += rules.slide;
        }
    }
    let ranked = |counts: BTreeMap<u64, u64>| {
        let mut items: Vec<(u64, u64)> = counts.into_iter().collect();
        items.sort_by_key(|&(item, count)| (std::cmp::Reverse(count), item));
        items.truncate(rules.top);
        items
    };
    counts.into_iter().map(|(end, counts)| (end, ranked(counts))).collect()
}

fn users(rules: &Rules, rows: &[Row], windows: &BTreeMap<i64, Vec<(u64, u64)>>) -> (String, String) {
    let mut by_user: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
    rows.iter().for_each(|row| by_user.entry(row.user).or_default().push(*row));
    let (mut recent, mut recommendations) = (BTreeMap::new(), BTreeMap::new());
    for (user, mine) in by_user {
        let ticks: BTreeSet<i64> = mine.iter().map(|row| (row.logical / rules.tick + 1) * rules.tick).collect();
        let mut standing: Option<(i64, Vec<u64>)> = None;
        for tick in ticks {
            let mut before: Vec<&Row> = mine.iter().filter(|row| row.logical < tick).collect();
            before.sort_by_key(|row| (row.time, row.partition, row.offset));
            let items: Vec<u64> =
                before[before.len().saturating_sub(rules.length)..].iter().map(|row| row.item).collect();
            recent.insert((tick, user), format!("{{\"time\":{tick},\"user\":{user},\"items\":{}}}\n", list(&items)));
            let popular = windows.get(&(tick / rules.slide * rules.slide)).map_or(&[][..], Vec::as_slice);
            let fill: Vec<u64> = popular.iter().take(rules.n).map(|(item, _)| *item).collect();
            if items.len() < rules.min_history || fill.is_empty() {
                continue;
            }
            let reward = standing.as_ref().map_or(-1, |(since, list)| {
                let hit = |row: &&Row| row.logical >= *since && row.logical < tick && list.contains(&row.item);
                mine.iter().filter(hit).count() as i64
            });
            let row = format!(
                "{{\"time\":{tick},\"user\":{user},\"items\":{},\"from_model\":0,\"last_reward\":{reward}}}\n",
                list(&fill)
            );
            recommendations.insert((tick, user), row);
            standing = Some((tick, fill));
        }
    }
    (recent.into_values().collect(), recommendations.into_values().collect())
}
