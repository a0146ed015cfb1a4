//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Looks after a store of aftercommit while its application does not run.
///
/// Exit codes: 0 done, 1 failed, 2 not understood, 3 another process has the store open, 4 the store is not whole.
#[derive(Debug, Parser)]
#[command(name = "aftercommit", version)]
pub(crate) struct Args {
    /// How to answer.
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) format: Format,
    /// How many seconds to wait for a store that another process has open.
    #[arg(long, default_value_t = 1, global = true)]
    pub(crate) wait: u64,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Tables, for people.
    #[default]
    Table,
    /// One JSON object.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Sled,
    Redb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Says what the store holds: tables, the log, durable listeners.
    Show {
        /// The store's folder.
        store: PathBuf,
    },
    /// Lists parked events, without what they say.
    Parked {
        /// The store's folder.
        store: PathBuf,
        /// Only those of this listener.
        #[arg(long)]
        listener: Option<String>,
    },
    /// Reads everything and says what is wrong.
    Verify {
        /// The store's folder.
        store: PathBuf,
        /// Mends what can be mended without a loss.
        #[arg(long)]
        repair: bool,
    },
    /// Copies a store.
    Backup {
        /// The store's folder.
        store: PathBuf,
        /// A folder that is not there yet, or is empty.
        into: PathBuf,
        /// The copy's engine; by default the store's.
        #[arg(long = "store", value_enum)]
        engine: Option<Engine>,
    },
    /// Makes a store of a backup, and verifies it. The backup stays.
    Restore {
        /// The backup's folder.
        backup: PathBuf,
        /// A folder that is not there yet, or is empty.
        into: PathBuf,
        /// The store's engine; by default the backup's.
        #[arg(long = "store", value_enum)]
        engine: Option<Engine>,
    },
    /// Copies a store, compares both, and marks the old one as moved, so that it is not opened unasked.
    Move {
        /// The store's folder.
        store: PathBuf,
        /// A folder that is not there yet, or is empty.
        into: PathBuf,
        /// The new engine; by default the old one.
        #[arg(long = "store", value_enum)]
        engine: Option<Engine>,
    },
    /// Lets a store that moved away be opened again. What was committed since is where it moved to, and not in it.
    TakeBack {
        /// The old store's folder.
        store: PathBuf,
    },
    /// Writes everything as a stream that depends on no engine.
    Export {
        /// The store's folder.
        store: PathBuf,
        /// A file that is not there yet; `-` for the standard output, with the answer on the standard error.
        file: PathBuf,
    },
    /// Makes a store of such a stream.
    Import {
        /// The file; `-` for the standard input.
        file: PathBuf,
        /// A folder that is not there yet, or is empty.
        into: PathBuf,
        /// The store's engine.
        #[arg(long = "store", value_enum, default_value = "sled")]
        engine: Engine,
    },
    /// Erases events: bodies, keys and parked copies. Tombstones with the ids stay.
    Erase {
        /// The store's folder.
        store: PathBuf,
        /// The events' ids.
        #[arg(required = true)]
        events: Vec<uuid::Uuid>,
    },
}
