//! A bus that could not start, and what it found odd.

use std::time::Duration;

use super::{InvalidPolicy, StoreError};

/// Why a bus did not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Two listeners have the same id, or one was named twice.
    #[error("{}", duplicate(.id, .first, .second))]
    DuplicateId {
        /// The id.
        id: String,
        /// Where the first is declared.
        first: String,
        /// Where the second is declared.
        second: String,
    },
    /// A listener asks for a state that the builder was not given.
    #[error("listener `{listener}` needs `State<{state}>`: add `.state(..)` with a value of that type to the builder")]
    MissingState {
        /// The id of the listener.
        listener: String,
        /// The type.
        state: &'static str,
    },
    /// Another bus runs on the store: two would deliver everything twice.
    #[error("the {kind} store was given to another bus that still runs: a store belongs to one bus")]
    StoreTaken {
        /// What kind of store.
        kind: &'static str,
    },
    /// Two values of one type were given as states.
    #[error("two states of type `{state}` were given to the builder: wrap one of them in a type of its own")]
    DuplicateState {
        /// The type.
        state: &'static str,
    },
    /// A declared module brought no linked listener.
    #[error(
        "module `{module}` was declared but no listener of it is linked into this program: \
         refer to its crate (`use {module} as _;`) or name its listeners with `.listeners(..)`"
    )]
    EmptyModule {
        /// The module's path.
        module: String,
    },
    /// What a listener asks for cannot be given to it.
    #[error("listener `{listener}` cannot work: {reason}")]
    Listener {
        /// The id of the listener.
        listener: String,
        /// What is wrong, and the legal forms.
        reason: String,
    },
    /// Two event types have the same stored name.
    #[error("events `{first}` and `{second}` have the same stored name `{name}`: give one of them another name")]
    DuplicateEvent {
        /// The name.
        name: String,
        /// The one type.
        first: &'static str,
        /// The other type.
        second: &'static str,
    },
    /// The archive has more than the store ever had.
    #[error(
        "the archive ends at log position {archive} and the log at {store}: it is of another store, or the store was restored from an older \
         backup; give the bus an archive of its own, and keep this one to be read"
    )]
    ArchiveAhead {
        /// Where the archive ends.
        archive: u64,
        /// Where the log ends.
        store: u64,
    },
    /// Not every stored version of an event leads to the present one.
    #[error("event `{event}` cannot be read in all its versions: {reason}")]
    Versions {
        /// The event's name.
        event: &'static str,
        /// What is missing or too much, and what to do.
        reason: String,
    },
    /// A policy, a pipeline or a file of them cannot work.
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
    /// What is stored of a ranking could not be read, or is of another declaration.
    #[error("ranking `{ranking}` cannot be taken up")]
    Ranking {
        /// Its name.
        ranking: &'static str,
        /// Why.
        #[source]
        cause: super::BoxError,
    },
    /// There is no tokio runtime to run on.
    #[error("a bus must be started inside a tokio runtime")]
    NoRuntime,
    /// The store failed while the bus was taking up what is owed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn duplicate(id: &str, first: &str, second: &str) -> String {
    if first == second {
        return format!(
            "listener `{id}` ({first}) is given twice (by `.linked()` and `.listeners(..)`?): name it once"
        );
    }
    format!("two listeners have the id `{id}` ({first} and {second}): give one of them another id")
}

/// Something a bus found at start that does not stop it, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The store keeps a cursor for a durable listener that is not registered; what it is owed is kept.
    OrphanedCursor {
        /// The id of the listener.
        listener: String,
        /// How many log positions it has not settled.
        behind: u64,
        /// About how many bytes of the log it holds back, if the store knows.
        bytes: Option<u64>,
        /// For how long nobody has registered it, as far as its bus was started meanwhile.
        missing: Duration,
    },
    /// A durable listener that was not registered for as long as was declared was forgotten.
    OrphanForgotten {
        /// The id of the listener.
        listener: String,
        /// How many log positions it had not settled.
        behind: u64,
        /// How many of its parked events went with it.
        parked: u64,
    },
    /// A durable listener was paused across restarts, so that nobody calls it.
    PausedListener {
        /// The id of the listener.
        listener: String,
        /// Why, in the words of whoever paused it.
        reason: String,
    },
    /// A durable listener took events stored under this name, is still owed some, and does not take them any more: these will park.
    EventNotTaken {
        /// The id of the listener.
        listener: String,
        /// The stored name.
        name: String,
    },
    /// The policies of a pipeline, nested and configured as they are, partly defeat each other.
    SuspiciousPolicies {
        /// The pipeline.
        pipeline: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A listener for a rollback runs although nothing was rolled back, because it said `without_tx = run`.
    RollbackWithoutUnit {
        /// The id of the listener.
        listener: String,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Warning::OrphanedCursor { listener, behind, bytes, missing } => write!(
                out,
                "the store keeps a cursor for durable listener `{listener}`, which is not registered{}; \
                 it holds back {behind} log positions{}: register it, name it in `formerly`, or forget it with `bus.forget_listener`",
                if missing.is_zero() { String::new() } else { format!(" for {missing:?}") },
                bytes.map_or_else(String::new, |bytes| format!(" (about {bytes} bytes)")),
            ),
            Warning::OrphanForgotten { listener, behind, parked } => write!(
                out,
                "durable listener `{listener}` was not registered for so long that it was forgotten, as is declared: \
                 {behind} log positions and {parked} parked events it had not worked off"
            ),
            Warning::PausedListener { listener, reason } => write!(
                out,
                "durable listener `{listener}` is paused and not called ({reason}): resume it with `bus.resume` \
                 or `aftercommit resume`"
            ),
            Warning::EventNotTaken { listener, name } => write!(
                out,
                "durable listener `{listener}` may be owed events stored as `{name}`, which it does not take any more, so that these park: \
                 if the event was renamed, say `formerly = [\"{name}\"]` on it"
            ),
            Warning::SuspiciousPolicies { pipeline, reason } => write!(out, "pipeline `{pipeline}`: {reason}"),
            Warning::RollbackWithoutUnit { listener } => {
                write!(
                    out,
                    "listener `{listener}` waits for a rollback and said `without_tx = run`: it also runs when there was nothing to roll back"
                )
            }
        }
    }
}
