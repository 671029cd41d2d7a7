//! Eddyline's dataflows: streams in, streams out; no I/O, no clock.

mod batcher;
pub mod evaluate;
pub mod evaluation;
pub mod event;
pub mod hash;
mod hold;
mod leaders;
pub mod lists;
pub mod popular;
pub mod recent;
pub mod recommend;
pub mod rows;
pub mod state;
pub mod time;
