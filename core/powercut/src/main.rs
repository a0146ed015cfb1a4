//! Cuts the power many times, and prints what was violated.

use std::process::ExitCode;

fn main() -> ExitCode {
    aftercommit_powercut::command::run(std::env::args().skip(1).collect())
}
