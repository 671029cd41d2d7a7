//! The dataflows against slow and obvious formulations of the same. One program, as each that runs dataflows takes long to compile.

#![allow(clippy::unwrap_used)]

mod against_oracle;
mod differential;
mod harness;
mod logs;
mod oracle;
mod popular_snapshots;
mod progress;
mod snapshots;
