//! The shop as a test runs it: in this process on a store of its choice, or as the built command.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use aftercommit::error::StoreError;
use aftercommit::store::Store;
use clap::Parser;
use shop::cli::{self, Cli};
use shop::commands;
use shop::data::StoreKind;
use shop::error::ShopError;
use tokio::runtime::Runtime;

fn parsed(args: &[&str]) -> cli::Command {
    Cli::try_parse_from(std::iter::once(&"shop").chain(args)).unwrap().command
}

/// The stores that lie in a folder.
pub(crate) const STORES: [StoreKind; 2] = [StoreKind::Sled, StoreKind::Redb];

/// Replays in this process; `args` are those of the command.
pub(crate) fn replay<S: Store>(
    args: &[&str],
    open: impl FnOnce() -> Result<S, StoreError>,
) -> Result<String, ShopError> {
    replay_in(args, || Ok(Arc::new(open()?)))
}

/// The same in the folder `data`.
pub(crate) fn replay_on(store: StoreKind, args: &[&str], data: &Path) -> Result<String, ShopError> {
    replay_in(args, || store.open(data))
}

fn replay_in(args: &[&str], open: impl FnOnce() -> Result<Arc<dyn Store>, StoreError>) -> Result<String, ShopError> {
    let cli::Command::Replay(args) = parsed(&[&["replay"], args].concat()) else { panic!("not a replay") };
    let mut out = Vec::new();
    Runtime::new().unwrap().block_on(commands::replay(&args, open, &mut out))?;
    Ok(String::from_utf8(out).unwrap())
}

/// Prints the items of what was replayed, in this process.
pub(crate) fn items<S: Store>(data: &Path, open: impl FnOnce() -> Result<S, StoreError>) -> Result<String, ShopError> {
    items_in(data, || Ok(Arc::new(open()?)))
}

/// The same of what the folder `data` holds.
pub(crate) fn items_on(store: StoreKind, data: &Path) -> Result<String, ShopError> {
    items_in(data, || store.open(data))
}

fn items_in(data: &Path, open: impl FnOnce() -> Result<Arc<dyn Store>, StoreError>) -> Result<String, ShopError> {
    let cli::Command::Items(args) = parsed(&["items", "--data", text(data)]) else { panic!("not items") };
    let mut out = Vec::new();
    Runtime::new().unwrap().block_on(commands::items(&args, open, &mut out))?;
    Ok(String::from_utf8(out).unwrap())
}

/// The built command, not yet started.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the built command to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// What a command that ended well printed.
pub(crate) fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", told(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command told on standard error.
pub(crate) fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a command that was refused told; it printed nothing.
pub(crate) fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", told(output));
    assert!(output.stdout.is_empty());
    told(output)
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
