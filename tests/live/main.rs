//! `eddyline run` from outside: what stores hold in the end equals a replay of the same log and journal, whatever happened
//! on the way. Files are followed here, into the embedded store, so that no server is needed; `tests/services` has those.
#![allow(clippy::unwrap_used)]

mod faults;
mod life;
mod pipeline;
