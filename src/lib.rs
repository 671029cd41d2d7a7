//! Eddyline, the application: sources → time and ids → dataflows → model → sinks → serve.

pub mod cluster;
pub mod model;
pub mod sinks;
