//! The reader against its reference, on random texts cut in every way.

mod cutting;
mod dialect;
mod reference;
mod texts;
