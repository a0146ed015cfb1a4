//! What can go wrong, as plain data.
//!
//! Every verb of the bus answers with one [`Error`], whose variants are the small enums of the parts it can come from.
//! They stand together on the ground floor so that one type can hold them all; each is raised by the part it is named after.
//! A listener's own error travels by value inside [`ListenerError`] and can be downcast.

mod dead_letter;
mod decode;
mod idempotency;
mod listener;
mod lock;
mod policy;
mod publish;
mod ranking;
mod start;
mod store;
mod unit;

pub use dead_letter::DeadLetterError;
pub use decode::DecodeError;
pub use idempotency::IdempotencyError;
pub use listener::{AfterError, ListenerError, Panicked};
pub use lock::{LockError, Waits};
pub use policy::{InvalidPolicy, PolicyError};
pub use publish::PublishError;
pub use ranking::RankingError;
pub use start::{StartError, Warning};
pub use store::{KeyError, StoreError};
pub use unit::UnitError;

/// Any error, owned.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What a verb of the bus answers when it could not do what was asked.
///
/// The error type of a unit of work's closure must be able to hold it: `E: From<aftercommit::Error>`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A listener that shares the publisher's fate said no.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The event could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The unit of work could not go on, or did not commit.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// A keyed lock was not obtained.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A request that runs once could not be answered.
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    /// A durable listener's dead letters, or its place in the log, could not be changed.
    #[error(transparent)]
    DeadLetter(#[from] DeadLetterError),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A ranking refused what it was asked.
    #[error(transparent)]
    Ranking(#[from] RankingError),
    /// A resilience policy did not let a call through, or cut it short.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl Error {
    /// Whether doing the same again may succeed without anything being mended: a conflict, a lock not obtained in time, or a
    /// deadlock, after which the unit must have rolled back first.
    ///
    /// A broken floor, an error of a listener and a storage error are not transient.
    pub fn is_transient(&self) -> bool {
        self.is_conflict() || matches!(self, Error::Lock(LockError::Timeout { .. } | LockError::Deadlock { .. }))
    }

    /// Whether the unit of work was refused because something it read was changed by another.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Unit(UnitError::Conflict { .. }))
    }

    /// Whether it is unknown if the unit of work was stored.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Error::Unit(UnitError::InDoubt { .. }))
    }

    /// What kind of failure it is, in a word or two: for labels of figures, where there must be few of them.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Listener(_) => "listener",
            Error::Publish(_) => "publish",
            Error::Unit(UnitError::Conflict { .. }) => "conflict",
            Error::Unit(UnitError::BelowFloor { .. }) => "below floor",
            Error::Unit(UnitError::RollbackOnly { .. }) => "rollback only",
            Error::Unit(UnitError::InDoubt { .. }) => "in doubt",
            Error::Unit(_) => "unit",
            Error::Lock(LockError::Timeout { .. }) => "lock timeout",
            Error::Lock(LockError::Deadlock { .. }) => "deadlock",
            Error::Lock(_) => "lock",
            Error::Idempotency(_) => "idempotency",
            Error::DeadLetter(_) => "dead letter",
            Error::Ranking(_) => "ranking",
            Error::Store(_) => "store",
            Error::Policy(PolicyError::CircuitOpen { .. }) => "circuit open",
            Error::Policy(PolicyError::RateLimited { .. }) => "rate limited",
            Error::Policy(PolicyError::BulkheadFull { .. }) => "bulkhead full",
            Error::Policy(PolicyError::TimedOut { .. }) => "timed out",
            Error::Policy(_) => "policy",
        }
    }

    /// The listener's own error, where a listener's error of type `T` caused this one.
    pub fn listener_cause<T: std::error::Error + 'static>(&self) -> Option<&T> {
        match self {
            Error::Listener(error) => error.cause.downcast_ref(),
            _ => None,
        }
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        Error::Store(StoreError::Key(error))
    }
}
