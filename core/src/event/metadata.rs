//! What is known about an event beside itself.

use uuid::Uuid;

use crate::clock::{Chance, Timestamp};

/// An event's identity, time and descent. Made only when somebody asks, or when the event is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// The event's own id, a UUIDv7.
    pub id: Uuid,
    /// When it was published; of an event that was published for later, when it is due.
    pub time: Timestamp,
    /// The id of the first event of the chain this one belongs to; its own for the first.
    pub correlation: Uuid,
    /// The id of the event whose listener published this one.
    pub causation: Option<Uuid>,
}

impl Metadata {
    /// Metadata of an event that descends from `origin`.
    pub fn new(id: Uuid, time: Timestamp, origin: Option<Origin>) -> Self {
        Self {
            id,
            time,
            correlation: origin.map_or(id, |origin| origin.correlation),
            causation: origin.map(|origin| origin.cause),
        }
    }

    /// Metadata of an event published now.
    pub(crate) fn draw(chance: &Chance, now: Timestamp, origin: Option<Origin>) -> Self {
        Self::new(chance.id(now), now, origin)
    }

    /// What an event published while this one is handled descends from.
    pub fn origin(&self) -> Origin {
        Origin { correlation: self.correlation, cause: self.id }
    }
}

/// What a new event descends from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Inherited by every event of the chain.
    pub correlation: Uuid,
    /// The event that is being handled.
    pub cause: Uuid,
}
