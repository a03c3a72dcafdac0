//! The `upstill` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    upstill::cli::main()
}
