//! Eddyline's dataflows: streams in, streams out; no I/O, no clock.

mod batcher;
pub mod evaluate;
pub mod evaluation;
pub mod event;
pub mod hash;
mod hold;
mod index;
mod leaders;
pub mod lists;
pub mod popular;
pub mod recent;
pub mod recommend;
mod repeat;
pub mod rows;
mod sequences;
pub mod sizes;
pub mod state;
pub mod time;
