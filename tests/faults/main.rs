//! Faults, and what comes of them: live runs from Kafka into all four stores, with a fault that is proven to have fired, must
//! leave in every store what a replay of the same log leaves there.
//!
//! `scripts/faults` runs all of it and prints the table of `docs/faults.md`; `cargo test` runs a slice. Without servers (see
//! `scripts/test`) the tests say SKIP.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../kafka/cluster.rs"]
#[allow(dead_code)]
mod cluster;
mod disks;
mod kills;
mod network;
mod outages;
#[path = "../live/pipeline.rs"]
#[allow(dead_code)]
mod pipeline;
mod refusals;
#[path = "../sinks_contract/services.rs"]
#[allow(dead_code)]
mod services;
mod shapes;
mod stores;
mod table;
mod world;
