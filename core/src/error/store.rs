//! A store that refused or failed.

use std::path::PathBuf;
use std::sync::Arc;

use super::BoxError;

/// Why the store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A storage error stopped the store; nothing more is accepted until the process opens it anew.
    #[error("the store stopped after a storage error and must be opened anew")]
    Poisoned {
        /// The error that stopped it.
        #[source]
        cause: Arc<StoreError>,
    },
    /// The engine below answered with an error.
    #[error("cannot {action}")]
    Backend {
        /// What was being done.
        action: &'static str,
        /// What the engine said.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The folder exists and is no store of this kind; it was not touched.
    #[error("{path:?} is no aftercommit store: {reason}; it was not touched")]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// What was expected and not found.
        reason: String,
    },
    /// The store in the folder is on another engine; it was not touched.
    #[error(
        "{path:?} is a store on {found}, not on {asked}: open it as what it is, or use another folder; it was not touched"
    )]
    OtherEngine {
        /// The folder.
        path: PathBuf,
        /// The engine it is on.
        found: String,
        /// The engine it was opened as.
        asked: &'static str,
    },
    /// The store was written in a format this version does not know.
    #[error("{path:?} has store format {found}, newer than the {known} this version knows: use a newer aftercommit")]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// The format of the store.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// Another process, or another store in this one, has it open.
    #[error("{path:?} is held open by another process or bus; it was not free within {waited:?}")]
    Held {
        /// The folder.
        path: PathBuf,
        /// How long the opener waited.
        waited: std::time::Duration,
    },
    /// What is stored is not what was written.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// Which record.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A table is used with another kind of key or value than it was stored with.
    #[error("table `{table}` holds {held}, but is used as {used}")]
    TableMismatch {
        /// The table.
        table: String,
        /// What it was created as.
        held: String,
        /// What it is used as.
        used: String,
    },
    /// A value of a table could not be encoded or decoded.
    #[error("cannot {action} a row of table `{table}`")]
    Value {
        /// `encode` or `decode`.
        action: &'static str,
        /// The table.
        table: String,
        /// What the codec said.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// An integer cell left the range of `i64`.
    #[error("cell {key} of table `{table}` would overflow")]
    Overflow {
        /// The table.
        table: String,
        /// The key: text in quotes, other bytes in hexadecimal.
        key: String,
    },
    /// A stored key does not have the shape its type says.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store has no tables of its own: the application keeps its data in SQL.
    #[error("store `{store}` has no tables: use its own unit of work")]
    NoTables {
        /// The store.
        store: &'static str,
    },
    /// The folder that a copy was to go to holds a store.
    #[error("{path:?} holds a store already; it was not touched")]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// The store moved to another place, which has what was committed since.
    #[error(
        "the store moved to {to}: open that one; to use this one all the same, without what was committed since, take the move back"
    )]
    Moved {
        /// Where to.
        to: String,
    },
    /// The store is being copied, or has moved and the old place still follows.
    #[error("the store is being copied or moved already: wait until that has ended")]
    CopyRuns,
    /// The target of a copy was so much slower than the commits that it was given up.
    #[error("the copy fell behind the commits and was given up: its target is too slow")]
    FellBehind,
    /// This kind of store cannot do it.
    #[error("store `{store}` cannot {action}")]
    Unsupported {
        /// What was asked for.
        action: &'static str,
        /// The store.
        store: &'static str,
    },
    /// The durable listener is registered, so that what it is owed is not to be forgotten.
    #[error("durable listener `{listener}` is registered: unregister it before it is forgotten")]
    InUse {
        /// The id of the listener.
        listener: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// An error of the engine below, while doing `action`.
    pub fn backend(action: &'static str, cause: impl Into<BoxError>) -> Self {
        StoreError::Backend { action, cause: Arc::from(cause.into()) }
    }
}

/// Bytes that are not a key of the expected shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a key of shape `{shape}`: {reason}")]
#[non_exhaustive]
pub struct KeyError {
    /// The shape that was expected.
    pub shape: String,
    /// What is wrong.
    pub reason: &'static str,
}

impl KeyError {
    /// Bytes that are not a key of `shape`, because of `reason`.
    pub fn new(shape: impl Into<String>, reason: &'static str) -> Self {
        Self { shape: shape.into(), reason }
    }
}
