//! Eddyline, the application: sources → time and ids → dataflows → model → sinks → serve.

pub mod model;
pub mod sinks;
pub mod sources;
