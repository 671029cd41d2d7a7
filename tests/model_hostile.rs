//! Untrusted model files: nothing in them is ever run, nothing makes the readers panic, and nothing makes them allocate
//! more than a bound that depends on the file's length alone.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "model_hostile/counting_allocator.rs"]
mod counting_allocator;
#[path = "model_hostile/damage.rs"]
mod damage;
#[path = "model_hostile/files.rs"]
mod files;
#[path = "model_hostile/fuzz.rs"]
mod fuzz;
#[path = "model_hostile/pickles.rs"]
mod pickles;
#[path = "model_hostile/views.rs"]
mod views;

#[global_allocator]
static ALLOCATOR: counting_allocator::CountingAllocator = counting_allocator::CountingAllocator;
