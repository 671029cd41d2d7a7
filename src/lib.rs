//! Eddyline, the application: sources → time and ids → dataflows → model → sinks → serve.

pub mod generate;
pub mod model;
pub mod sinks;
