//! The program `tidemill`: flags become one command.

use std::process::ExitCode;

use clap::Parser;

/// Batches of every size are made and dropped all the time, by several threads: that is what the
/// system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tidemill::command::run(tidemill::command::Arguments::parse())
}
