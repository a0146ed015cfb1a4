//! The sample shop: wiring only.

use std::error::Error;
use std::io::{self, BufWriter};
use std::process::ExitCode;

use clap::Parser;
use shop::cli::{Cli, Command};
use shop::commands;
use shop::error::{ShopError, told};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", told(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn Error>> {
    let mut out = BufWriter::new(io::stdout().lock());
    let ended = match command {
        Command::Generate(args) => match args.run() {
            Err(error) if error.is_reader_gone() => return Ok(()),
            ended => return Ok(ended?),
        },
        Command::Replay(args) => runtime()?.block_on(commands::replay(&args, || args.store.open(&args.data), &mut out)),
        Command::Items(args) => runtime()?.block_on(commands::items(&args, || args.store.open(&args.data), &mut out)),
    };
    match ended {
        Err(error) if error.is_reader_gone() => Ok(()),
        ended => Ok(ended?),
    }
}

fn runtime() -> Result<Runtime, ShopError> {
    Runtime::new().map_err(ShopError::Runtime)
}
