//! Eddyline, the application: sources → time and ids → dataflows → model → sinks → serve.

pub mod sinks;
