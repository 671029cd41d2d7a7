//! Eddyline, the application: sources → time and ids → dataflows → model → sinks → serve.

pub mod cli;
pub mod cluster;
pub mod config;
pub mod digest;
pub mod evaluate;
pub mod generate;
pub mod journal;
pub mod model;
pub mod pipeline;
pub mod produce;
pub mod progress;
pub mod replay;
pub mod secret;
pub mod sinks;
pub mod sources;
pub mod telemetry;
