//! Why a command of the shop did not end well.

use std::io;
use std::path::PathBuf;

use aftercommit::error::{StartError, StoreError};
use aftercommit::runtime::ShutdownError;

use crate::log::LogError;
use crate::run::RunMismatch;

/// Why a command of the shop did not end well; the cause is in `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShopError {
    /// The log, or a unit of it, cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The data is of another run.
    #[error(transparent)]
    Run(#[from] RunMismatch),
    /// There is no data where it was looked for.
    #[error("{path:?} holds no replayed log: run `shop replay` with this directory first")]
    NoRun {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A unit of work, or reading what they wrote, failed.
    #[error(transparent)]
    Bus(#[from] aftercommit::Error),
    /// The data cannot be opened.
    #[error("cannot open the data in {path:?}")]
    Open {
        /// Where it is.
        path: PathBuf,
        /// What the store answered.
        #[source]
        cause: StoreError,
    },
    /// The bus did not start.
    #[error("cannot start the bus")]
    Start(#[from] StartError),
    /// The bus did not end in good order.
    #[error("cannot stop the bus")]
    Stop(#[from] ShutdownError),
    /// A unit of the log could not be applied; nothing of it is stored.
    #[error("{log}: line {line}: the unit that begins here cannot be applied")]
    Unit {
        /// The log's name.
        log: String,
        /// The first line of the unit, counted from 1.
        line: u64,
        /// What the bus answered.
        #[source]
        cause: aftercommit::Error,
    },
    /// A unit of work panicked.
    #[error("a unit of work ended in a panic")]
    Panic(#[source] tokio::task::JoinError),
    /// A durable listener gave events up, so that its sums are not whole.
    #[error("`{listener}` gave up {events}, the first because {cause}")]
    Parked {
        /// Which listener.
        listener: String,
        /// How many of its events.
        events: Events,
        /// What it answered.
        cause: String,
    },
    /// A durable listener could not go on, so that its sums are not whole.
    #[error("`{listener}` cannot go on: {cause}")]
    ListenerStopped {
        /// Which listener.
        listener: String,
        /// What the store answered.
        cause: String,
    },
    /// The report cannot be written.
    #[error("cannot write to standard output")]
    Write(#[from] io::Error),
    /// There are no threads to work with.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

impl ShopError {
    /// Whether the reader of standard output went away, as `head` does: no fault of anybody.
    pub fn is_reader_gone(&self) -> bool {
        matches!(self, Self::Write(cause) if cause.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// So many events, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events(pub usize);

impl std::fmt::Display for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            1 => f.write_str("1 event"),
            more => write!(f, "{more} events"),
        }
    }
}

/// An error and its causes, on one line.
pub fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
