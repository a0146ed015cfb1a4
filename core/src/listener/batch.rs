//! Several events in one call.

use crate::error::BoxError;
use crate::event::Metadata;

/// One event of a batch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Delivered<E> {
    /// The event.
    pub event: E,
    /// Its identity, time and descent. Its `id` and the listener's identify the delivery.
    pub metadata: Metadata,
    /// The bytes of its key; `None` for an event without one.
    pub key: Option<Vec<u8>>,
    /// Which call with this event this is; 1 for the first.
    pub attempt: u32,
}

/// A batch failed at one of its events: those before it are done, it and those behind it are not.
///
/// A listener of batches answers it as its error, or as the cause of one; any other error fails all of the batch, which is
/// called again as one, and in the end event by event, so that only what fails by itself is given up.
/// What is before the one that failed is settled; a listener that takes a `tx`, whose writes are undone, is called with that
/// part again first.
#[derive(Debug, thiserror::Error)]
#[error("event {index} of the batch failed")]
#[non_exhaustive]
pub struct FailedAt {
    /// Which of the events, the first being 0.
    pub index: usize,
    /// Why.
    #[source]
    pub cause: BoxError,
}

impl FailedAt {
    /// The event at `index` failed because of `cause`.
    pub fn new(index: usize, cause: impl Into<BoxError>) -> Self {
        Self { index, cause: cause.into() }
    }
}
