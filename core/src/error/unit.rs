//! A unit of work that could not go on, or did not commit.

use super::StoreError;

/// Why a unit of work did not commit, or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// Something inside had failed, so that the unit could only roll back, although its closure answered `Ok`.
    #[error("the unit of work was rolled back: {reason}")]
    RollbackOnly {
        /// What marked it.
        reason: String,
    },
    /// Something the unit read was changed by another before it committed. Running it again may succeed.
    #[error("the unit of work conflicts with another: {what}")]
    Conflict {
        /// What was read and changed.
        what: String,
    },
    /// An integer cell would have gone below its floor. Nothing of the unit was stored.
    #[error("cell {key} of table `{table}` is {value}; adding {delta} would go below its floor of {floor}")]
    BelowFloor {
        /// The table.
        table: String,
        /// The key: text in quotes, other bytes in hexadecimal.
        key: String,
        /// The cell's value at commit.
        value: i64,
        /// What the unit adds.
        delta: i64,
        /// The floor.
        floor: i64,
    },
    /// The unit holds more in memory than the bus's [`Limits`](crate::transaction::Limits) allow.
    #[error("the unit of work holds {bytes} bytes, more than the {limit} the bus allows: split it")]
    TooLarge {
        /// What it would hold.
        bytes: usize,
        /// The bus's limit.
        limit: usize,
    },
    /// The unit writes more than the store commits at once; nothing of it was stored.
    #[error(
        "the unit of work writes {entries} entries, counted as {bytes} bytes; this store takes {limit} in one unit: split it"
    )]
    TooManyWrites {
        /// How many rows, cells and events it writes.
        entries: usize,
        /// What the store counts for them; small ones count more than they hold.
        bytes: usize,
        /// What the store takes in one unit.
        limit: usize,
    },
    /// Before-commit listeners kept publishing events that have before-commit listeners.
    #[error("before-commit listeners went {depth} rounds without end: {}", .cycle.join(" -> "))]
    Endless {
        /// The limit that was reached.
        depth: usize,
        /// The names of the events of the last rounds.
        cycle: Vec<String>,
    },
    /// The delivery was settled before; its work was not applied a second time.
    #[error("listener `{listener}` has already settled log position {position}")]
    AlreadySettled {
        /// The listener.
        listener: String,
        /// The position.
        position: u64,
    },
    /// The storage failed after the unit was handed over: it is unknown whether it was stored.
    #[error("it is unknown whether the unit of work was stored")]
    InDoubt {
        /// What the storage said.
        #[source]
        cause: StoreError,
    },
    /// A blocking unit of work was begun on a thread that drives asynchronous tasks.
    #[error("a blocking unit of work cannot run on an asynchronous thread: use `transaction`")]
    InsideRuntime,
    /// The bus has been told to stop and begins no more units of work.
    #[error("the bus is shutting down")]
    ShuttingDown,
}
