//! The program `tidemill`: flags become one command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    tidemill::command::run(tidemill::command::Arguments::parse())
}
