//! `aftercommit`: what an operator does with a store in a folder while its application does not run.
//!
//! | file | what |
//! |---|---|
//! | `args` | what can be said |
//! | `archive` | what is done with an archive |
//! | `commands` | what is done |
//! | `told` | what is printed: tables for people, or JSON |

mod archive;
mod args;
mod commands;
mod told;

use std::process::ExitCode;

use aftercommit::error::StoreError;
use clap::Parser;

use args::Args;
use commands::Failure;

/// Something failed; what is on the disk is as the message says.
const FAILED: u8 = 1;
// 2 is a command that was not understood; clap's own.
/// Another process has the store open.
const HELD: u8 = 3;
/// The store is not whole.
const NOT_WHOLE: u8 = 4;
/// The store holds nothing of what was named.
const NOTHING: u8 = 5;

fn main() -> ExitCode {
    let args = Args::parse();
    match commands::run(&args) {
        Ok(done) => {
            told::tell(&done, args.format);
            if done.is_whole { ExitCode::SUCCESS } else { ExitCode::from(NOT_WHOLE) }
        }
        Err(error) => {
            let (code, advice) = match &error {
                Failure::Nothing(_) => (NOTHING, None),
                Failure::Store(StoreError::Held { .. }) => (
                    HELD,
                    Some(
                        "its application runs: stop it, or have it do this itself (`store.embedded().backup(..)`, `.move_to(..)`, `.verify()`; `bus.publications()`, `bus.dead_letters(..)`, `bus.erase(..)`)",
                    ),
                ),
                Failure::Store(StoreError::Moved { .. }) => (FAILED, Some("`aftercommit take-back` takes a move back")),
                Failure::Store(_) => (FAILED, None),
            };
            told::fail(&error, advice, code, args.format);
            ExitCode::from(code)
        }
    }
}
