//! Eddyline, the application: sources → time and ids → dataflows → model → sinks → serve.

pub mod cli;
pub mod config;
pub mod generate;
pub mod model;
pub mod progress;
pub mod replay;
pub mod sinks;
pub mod telemetry;
