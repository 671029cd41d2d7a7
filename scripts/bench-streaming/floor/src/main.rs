//! A hand-written, single-threaded floor for the streaming benchmark, and the data for it.
//!
//! It computes exactly the contract's popular and recent rows (tick 20 s, slide 80 s, window 60 min, top 10, length 10,
//! lateness 10 s) of one log, and their digests, with dense arrays and nothing else: ids must lie below a bound given
//! beforehand, times be whole seconds, and no event late. Eddyline must print the same digests.

mod clock;
mod digest;
mod generate;
mod popular;
mod read;
mod recent;

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage:
  floor generate FILE EVENTS USERS ITEMS HOURS DISORDER_S SEED
  floor split FILE FIRST SECOND          every other row each, for readers of two partitions
  floor run parse|popular|recent|both FILE USERS ITEMS [LISTS]
                                         LISTS: a file for the popular lists, `E item:count …` a line";

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["generate", path, events, users, items, hours, disorder_s, seed] => {
            generate(path, &[events, users, items, hours, disorder_s, seed])
        }
        ["split", path, first, second] => split(path, first, second),
        ["run", mode, path, users, items] => run(mode, path, users, items, None),
        ["run", mode, path, users, items, lists] => run(mode, path, users, items, Some(lists)),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn generate(path: &str, numbers: &[&str]) -> Outcome {
    let numbers: Vec<u64> = numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
    let [events, users, items, hours, disorder_s, seed] = numbers[..] else { return Err(USAGE.into()) };
    let log = generate::Log { events, users, items, span_s: hours * 3600, disorder_s, seed };
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    log.write_to(&mut out)?;
    Ok(out.flush()?)
}

fn split(path: &str, first: &str, second: &str) -> Outcome {
    let mut outs = [first, second].map(|path| File::create(path).map(|file| BufWriter::with_capacity(1 << 20, file)));
    let log = std::fs::read(path)?;
    for (number, line) in log.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match &mut outs[number % 2] {
            Ok(out) => out.write_all(line)?,
            Err(error) => return Err(error.to_string().into()),
        }
    }
    Ok(())
}

fn run(mode: &str, path: &str, users: &str, items: &str, lists: Option<&str>) -> Outcome {
    let start = Instant::now();
    let lists = lists.map(|path| File::create(path).map(BufWriter::new)).transpose()?;
    let mut popular =
        matches!(mode, "popular" | "both").then(|| items.parse().map(|n| popular::Popular::new(n, lists)));
    let mut recent = matches!(mode, "recent" | "both").then(|| users.parse().map(recent::Recent::new));
    let mut file = File::open(path)?;
    let rows = match (&mut popular, &mut recent) {
        (None, None) if mode == "parse" => {
            let mut check = 0;
            let rows = read::for_each_row(&mut file, |user, item, time| check ^= user ^ item ^ time)?;
            std::hint::black_box(check);
            rows
        }
        (Some(Ok(popular)), None) => read::for_each_row(&mut file, |_, item, time| popular.event(item, time))?,
        (None, Some(Ok(recent))) => read::for_each_row(&mut file, |user, item, time| recent.event(user, item, time))?,
        (Some(Ok(popular)), Some(Ok(recent))) => read::for_each_row(&mut file, |user, item, time| {
            popular.event(item, time);
            recent.event(user, item, time);
        })?,
        _ => return Err(USAGE.into()),
    };
    let popular = popular.transpose()?.map(popular::Popular::end).transpose()?;
    let recent = recent.transpose()?.map(recent::Recent::end);
    let seconds = start.elapsed().as_secs_f64();
    let json = |digest: Option<digest::Digest>| digest.map_or("null".to_owned(), |digest| digest.to_json());
    println!(
        "{{\"events\":{rows},\"seconds\":{seconds:.3},\"popular\":{},\"recent\":{}}}",
        json(popular),
        json(recent)
    );
    Ok(())
}
