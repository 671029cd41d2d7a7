//! Live runs over real servers, from Kafka into all four stores. Whatever fault is injected, and proven to have fired, every
//! store must hold in the end what a replay of the same log holds; what can't be used is refused (`refusals`); and the old
//! deployment's readers find what they look for (`legacy`).
//!
//! `scripts/faults` runs all faults and prints the table of `docs/faults.md`; `cargo test` runs a slice. Without servers (see
//! `scripts/test`) the tests say SKIP.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../kafka/cluster.rs"]
#[allow(dead_code)]
mod cluster;
mod disks;
mod generations;
mod kills;
mod legacy;
mod network;
mod outages;
#[path = "../live/pipeline.rs"]
#[allow(dead_code)]
mod pipeline;
mod refusals;
mod remote;
#[path = "../sinks_contract/services.rs"]
#[allow(dead_code)]
mod services;
mod shapes;
mod stores;
mod table;
mod world;
