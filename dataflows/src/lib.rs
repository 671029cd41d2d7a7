//! Eddyline's dataflows: streams in, streams out; no I/O, no clock.

pub mod evaluation;
pub mod event;
pub mod lists;
pub mod rows;
