//! Random tables against the contract read literally.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

const WORDS: [&str; 4] = ["pv", "cart", "fav", "buy"];

/// user, item, behaviour, time in seconds.
type Made = (u64, u64, usize, u64);

fn made() -> impl Strategy<Value = Vec<Made>> {
    prop::collection::vec((0..6_u64, 0..5_u64, 0..4_usize, 0..1000_u64), 1..80)
}

/// An id's three features; the age in years for users.
fn table() -> impl Strategy<Value = BTreeMap<u64, [u64; 3]>> {
    prop::collection::btree_map(0..6_u64, [0..3_u64, 0..80_u64, 0..5_u64], 0..6)
}

fn options(input: &Path, out: &Path, groups: [Group; 2]) -> Options {
    Options { input: input.to_owned(), out: out.to_owned(), format: LogFormat::default(), groups, seed: 1 }
}

fn write_table(path: &Path, rows: &BTreeMap<u64, [u64; 3]>) {
    let text = rows.iter().fold(String::new(), |mut text, (id, [a, b, c])| {
        let _ = writeln!(text, "{id},{a},{b},{c}");
        text
    });
    fs::write(path, text).unwrap();
}

fn write_events(path: &Path, events: &[Made]) {
    let text = events.iter().fold(String::new(), |mut text, (user, item, behavior, time)| {
        let _ = writeln!(text, "{user},{item},{},{time}", WORDS[*behavior]);
        text
    });
    fs::write(path, text).unwrap();
}

/// As the contract says it, step by step, with all users drawn.
fn slowly(
    events: &[Made],
    users: Option<&BTreeMap<u64, [u64; 3]>>,
    items: Option<&BTreeMap<u64, [u64; 3]>>,
    groups: &[Group; 2],
) -> Vec<String> {
    let mut sorted = events.to_vec();
    sorted.sort_by_key(|event| event.3);
    let mut seen = BTreeSet::new();
    sorted.retain(|(user, item, behavior, _)| seen.insert((*user, *item, *behavior)));
    let count = |user: u64| sorted.iter().filter(|event| event.0 == user).count() as u64;
    let kept = |user: u64| groups.iter().any(|g| (g.events_min..=g.events_max).contains(&count(user)));
    let mut rows: Vec<&Made> = sorted.iter().filter(|event| kept(event.0)).collect();
    rows.sort_by_key(|event| (event.3, event.0));
    let mut lines = Vec::new();
    for (user, item, behavior, time) in rows {
        let mut line = format!("{user},{item},{},{time}", WORDS[*behavior]);
        let of_user = match users.map(|table| table.get(user)) {
            Some(None) => continue,
            Some(Some([sex, age, power])) => {
                let bucket = if *age < 30 {
                    1
                } else if *age < 40 {
                    2
                } else if *age < 50 {
                    3
                } else {
                    4
                };
                format!("{sex},{bucket},{power}")
            }
            None => ",,".to_owned(),
        };
        let of_item = match items.map(|table| table.get(item)) {
            Some(None) => continue,
            Some(Some([category, shop, brand])) => format!("{category},{shop},{brand}"),
            None => ",,".to_owned(),
        };
        if users.is_some() || items.is_some() {
            let _ = write!(line, ",{of_user},{of_item}");
        }
        lines.push(line);
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_written_is_what_the_contract_says(
        events in made(),
        users in prop::option::of(table()),
        items in prop::option::of(table()),
        (least, middle, most) in (1..4_u64, 4..8_u64, 8..20_u64),
    ) {
        let directory = tempfile::tempdir().unwrap();
        write_events(&directory.path().join("user_behavior.csv"), &events);
        let users = users.filter(|table| !table.is_empty());
        let items = items.filter(|table| !table.is_empty());
        if let Some(users) = &users {
            write_table(&directory.path().join("user.csv"), users);
        }
        if let Some(items) = &items {
            write_table(&directory.path().join("item.csv"), items);
        }
        let groups = [
            Group { events_min: least, events_max: middle, users_max: u64::MAX },
            Group { events_min: middle + 2, events_max: most, users_max: u64::MAX },
        ];
        let expected = slowly(&events, users.as_ref(), items.as_ref(), &groups);
        let out = directory.path().join("out");
        match run(&options(directory.path(), &out, groups)) {
            Ok(summary) => {
                let text = fs::read_to_string(&summary.file).unwrap();
                prop_assert_eq!(text.lines().collect::<Vec<_>>(), expected.iter().map(String::as_str).collect::<Vec<_>>());
                prop_assert_eq!(summary.rows as usize, expected.len());
                let with_features = users.is_some() || items.is_some();
                let name = if with_features { "tianchi.csv" } else { "events.csv" };
                prop_assert!(summary.file.ends_with(name));
                let out_of = summary.rows + summary.rows_without_user + summary.rows_without_item;
                let different: BTreeSet<_> = events.iter().map(|(user, item, behavior, _)| (user, item, behavior)).collect();
                prop_assert!(out_of as usize <= different.len());
                prop_assert_eq!(summary.duplicates as usize, events.len() - different.len());
                let Counted { users, users_below, users_between, users_above, users_light, users_heavy, .. } = summary.selection;
                prop_assert_eq!(users, users_below + users_between + users_above + users_light + users_heavy);
            }
            Err(PrepareError::NoUsers { .. } | PrepareError::NothingJoins { .. }) => {
                prop_assert!(expected.is_empty());
                let left = fs::read_dir(&out).map_or(0, |entries| entries.count());
                prop_assert_eq!(left, 0);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn the_order_of_the_input_changes_nothing(mut events in made(), at in 0..80_usize) {
        // Events of one time and user keep their order, so here all times differ.
        for (place, event) in events.iter_mut().enumerate() {
            event.3 = event.3 * 100 + place as u64;
        }
        let directory = tempfile::tempdir().unwrap();
        let (path, out) = (directory.path().join("log.csv"), directory.path().join("out"));
        let groups = [Group { events_min: 1, events_max: 9, users_max: 2 }, Group { events_min: 10, ..Group::HEAVY }];
        let mut texts = Vec::new();
        for _ in 0..2 {
            write_events(&path, &events);
            texts.push(fs::read(run(&options(&path, &out, groups)).unwrap().file).unwrap());
            let middle = at % events.len();
            events.rotate_left(middle);
        }
        prop_assert_eq!(&texts[0], &texts[1]);
    }
}

#[test]
fn as_many_users_as_wanted_are_drawn_and_more_keep_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.csv");
    let events: Vec<Made> = (0..50).map(|user| (user, 1, 0, user)).collect();
    write_events(&path, &events);
    let drawn = |count: u64, seed: u64| {
        let group = Group { events_min: 1, events_max: 1, users_max: count };
        let options = Options { seed, ..options(&path, &directory.path().join("out"), [group, Group::HEAVY]) };
        let summary = run(&options).unwrap();
        assert_eq!(summary.selection.kept_light, count.min(50));
        assert_eq!(summary.selection.users_light, 50);
        let text = fs::read_to_string(summary.file).unwrap();
        text.lines().map(|line| line.split(',').next().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let (few, more) = (drawn(10, 1), drawn(20, 1));
    assert!(few.is_subset(&more));
    assert_eq!(few.len(), 10);
    assert_ne!(few, drawn(10, 2));
    assert_eq!(drawn(1000, 1).len(), 50);
}

#[test]
fn every_user_is_drawn_equally_often() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.csv");
    let events: Vec<Made> = (0..20).map(|user| (user, 1, 0, user)).collect();
    write_events(&path, &events);
    let log = Interactions::read(&path, &LogFormat::default()).unwrap();
    let groups = [Group { events_min: 1, events_max: 1, users_max: 5 }, Group::HEAVY];
    let mut drawn = [0_u32; 20];
    for seed in 0..4000 {
        let (kept, ..) = select(&log, &groups, seed);
        kept.users.iter().for_each(|&user| drawn[log.users[user as usize] as usize] += 1);
    }
    // 1,000 of each are expected, with a standard deviation of 27.
    assert!(drawn.iter().all(|count| (863..1137).contains(count)), "{drawn:?}");
}

#[test]
fn rubbish_in_tables_is_counted_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    write_events(&at("user_behavior.csv"), &[(1, 1, 0, 5), (2, 1, 0, 6), (3, 9, 0, 7)]);
    fs::write(at("user.csv"), "user,sex,age,pur_power\r\n1,0,29,3\r\n\r\n2,0,,3\r\n1,1,99,9\n3,2,50,1\nshort,1\n")
        .unwrap();
    fs::write(at("item.csv"), "1,10,20,30\n").unwrap();
    let group = Group { events_min: 1, ..Group::LIGHT };
    let summary = run(&options(directory.path(), &at("out"), [group, Group::HEAVY])).unwrap();
    let text = fs::read_to_string(&summary.file).unwrap();
    assert_eq!(text, "1,1,pv,5,0,1,3,10,20,30\n");
    assert_eq!((summary.rows_without_user, summary.rows_without_item), (1, 1));
    let users = summary.user_table.unwrap();
    assert_eq!((users.lines, users.rows, users.rejected, users.repeated, users.kept), (7, 3, 2, 1, 2));
    let first = users.first_rejected.unwrap();
    assert!(first.ends_with("user.csv, row 3, column 2: age is not a whole number"), "{first}");
}

#[test]
fn messages_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let (input, out) = (directory.path(), directory.path().join("out"));
    let message = |groups| run(&options(input, &out, groups)).unwrap_err().to_string();
    let groups = [Group::LIGHT, Group::HEAVY];
    assert!(message(groups).contains("no user_behavior.csv in it"));
    write_events(&input.join("user_behavior.csv"), &[(1, 1, 0, 5), (1, 2, 0, 6)]);
    let none = message(groups);
    assert!(none.contains("no user is left: of 1 users 1 have fewer than 6 events, 0 more than 200"), "{none}");
    let groups = [Group { events_min: 1, ..Group::LIGHT }, Group::HEAVY];
    fs::write(input.join("item.csv"), "7,1,2,3\n").unwrap();
    let unjoined = message(groups);
    assert!(unjoined.contains("none of the 2 kept rows of") && unjoined.contains("item.csv"), "{unjoined}");
    fs::write(input.join("item.csv"), "rubbish\n").unwrap();
    let rubbish = message(groups);
    assert!(rubbish.contains("none of its 1 lines is a row of item,category,shop,brand ("), "{rubbish}");
    fs::remove_file(input.join("item.csv")).unwrap();
    assert!(run(&options(input, &out, groups)).is_ok());
}
