//! The reader against its reference, on random texts cut in every way.

mod cutting;
mod dialect;
mod hints;
mod logs;
mod messages;
mod reference;
mod texts;
