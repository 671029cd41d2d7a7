//! `eddyline train`, in a program of its own: the only one that is linked with libtorch.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    eddyline::cli::main_with(eddyline::cli::Trainer(|plan, progress, stop| {
        eddyline::train::run(plan, progress, stop).map_err(anyhow::Error::new)
    }))
}
