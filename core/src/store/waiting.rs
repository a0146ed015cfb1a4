//! What a store keeps until a time on the clock: events that were published for later, and ids that are remembered for a while.
//!
//! Neither holds the log back: both have key spaces of their own, and a scheduled event enters the log when it is due.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::event::Envelope;

/// The place of a scheduled event among the others: by the time it is due, then in the order in which they were committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Due {
    /// When it is due.
    pub time: Timestamp,
    /// Told apart from others that are due at the same time; ascends in the order of the commits, within one as they were published.
    pub order: u64,
}

impl Due {
    /// The place after this one.
    pub fn next(self) -> Self {
        match self.order.checked_add(1) {
            Some(order) => Self { order, ..self },
            None => Self { time: Timestamp(self.time.0.saturating_add(1)), order: 0 },
        }
    }
}

/// An event that was published for later and is not in the log yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// Its place. The time is the one in the event's own metadata.
    pub due: Due,
    /// The event.
    pub envelope: Envelope,
}

/// An id that was used, and is remembered until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// What the id belongs to; two scopes never meet.
    pub scope: String,
    /// The id.
    pub id: Vec<u8>,
    /// The event that was published under it, if one was.
    pub event: Option<Uuid>,
    /// What else is to be known when it comes again; may be large.
    pub note: Vec<u8>,
    /// From this moment on it is free again.
    pub until: Timestamp,
}

/// When the first of what is kept until a time has reached it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upcoming {
    /// When the first scheduled event is due; `None` if there is none.
    pub due: Option<Timestamp>,
    /// When the first remembered id is free again; `None` if there is none.
    pub expires: Option<Timestamp>,
}
