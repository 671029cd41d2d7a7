//! sources
pub mod chunk;
pub mod columns;
pub mod csv;
mod digits;
pub mod error;
pub mod format;
pub mod compression;
#[cfg(test)]
mod tests;
