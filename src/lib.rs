//! Eddyline, the application: sources → time and ids → dataflows → model → sinks → serve.

pub mod checkpoint;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod digest;
pub mod evaluate;
pub mod fault;
pub mod generate;
pub mod journal;
pub mod learn;
pub mod live;
pub mod model;
pub mod pipeline;
pub mod plan;
pub mod prepare;
pub mod produce;
pub mod progress;
pub mod replay;
pub mod secret;
pub mod serve;
pub mod sinks;
pub mod sources;
pub mod telemetry;
mod tls;
pub mod train;
