//! The raw Tianchi tables of users and items, as `prepare` reads them (contract, section 8): no headers.

use super::catalogue::RawIds;
use super::error::GenerateError;
use super::features::{ItemFeatures, UserFeatures};
use super::options::Options;
use super::output::Output;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes `user.csv` (user,sex,age,pur_power; the age in years) and `item.csv` (item,category,shop,brand).
pub(crate) fn write(options: &Options, directory: &Path) -> Result<Vec<PathBuf>, GenerateError> {
    fs::create_dir_all(directory).map_err(|source| GenerateError::Output {
        action: "create",
        path: directory.to_owned(),
        source,
    })?;
    let raw = RawIds::users(options.users);
    let users = write_table(&directory.join("user.csv"), options, options.users, |user| {
        let features = UserFeatures::of(user);
        [raw.raw(user), features.sex, features.age, features.pur_power]
    })?;
    let raw = RawIds::items(options.items);
    let items = write_table(&directory.join("item.csv"), options, options.items, |item| {
        let features = ItemFeatures::of(item);
        [raw.raw(item), features.category, features.shop, features.brand]
    })?;
    Ok([users, items].into_iter().flatten().collect())
}

fn write_table(
    path: &Path,
    options: &Options,
    count: u32,
    row: impl Fn(u32) -> [u64; 4],
) -> Result<Option<PathBuf>, GenerateError> {
    let mut output = Output::file(path)?;
    for index in 0..count {
        for (column, number) in row(index).into_iter().enumerate() {
            if column > 0 {
                output.buffer.push(options.delimiter);
            }
            output.buffer.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
        output.buffer.push(b'\n');
        output.flush_full()?;
    }
    Ok(output.finish()?.1)
}
