//! What was asked of a durable listener's progress and could not be done.

/// Why a durable listener's dead letters, or its place in the log, stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// Nothing is parked there.
    #[error("listener `{listener}` has no dead letter at log position {position}")]
    Unknown {
        /// The durable listener.
        listener: String,
        /// The position asked for.
        position: u64,
    },
    /// Another of its sequence comes before it.
    #[error(
        "the dead letter of listener `{listener}` at log position {position} waits behind {first} of its sequence: \
         replay that first, or the sequence"
    )]
    Behind {
        /// The durable listener.
        listener: String,
        /// The position asked for.
        position: u64,
        /// The first of the sequence.
        first: u64,
    },
    /// It is being called again.
    #[error("the dead letter of listener `{listener}` at log position {position} is being called again")]
    Replayed {
        /// The durable listener.
        listener: String,
        /// The position asked for.
        position: u64,
    },
    /// Nobody delivers to the listener: it is not registered, or its worker has ended.
    #[error("durable listener `{listener}` is not running: register it")]
    NotRunning {
        /// The durable listener.
        listener: String,
    },
}
