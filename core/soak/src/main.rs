//! Keeps a shop busy for minutes, kills it again and again, and audits it: every event accounted for once by each listener, and
//! neither the store nor the memory grows.
//!
//! One program, two roles: [`parent`] starts the [`shop`] as a child, kills it, and judges; the child publishes, fails, redelivers,
//! parks, replays, pauses and accounts. [`options`] is what the parent was told; [`table`] what it has seen.

mod account;
mod listeners;
mod options;
mod parent;
mod report;
mod shop;
mod table;

use std::process::ExitCode;

use options::{Options, Role};

fn main() -> ExitCode {
    match Options::read(std::env::args().skip(1)) {
        Ok(Role::Parent(options)) => parent::run(&options),
        Ok(Role::Shop(life)) => shop::run(&life),
        Err(usage) => {
            eprintln!("{usage}");
            ExitCode::from(2)
        }
    }
}
