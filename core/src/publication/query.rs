//! Which publications are wanted.

use uuid::Uuid;

use super::stage::Status;
use crate::clock::Timestamp;
use crate::event::EventHeader;
use crate::key::{Key, encode_key, readable};
use crate::store::{Parked, Position};

/// Which publications are wanted: those that meet all that is said here; every one if nothing is.
///
/// ```
/// use aftercommit::publication::{Query, Status};
///
/// let stuck = Query::new().listener("shop.mail").statuses([Status::Redelivering, Status::Dead]).key(&"order-7".to_owned());
/// # let _ = stuck;
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a query finds nothing until a view is asked"]
pub struct Query {
    listener: Option<String>,
    event: Option<Uuid>,
    position: Option<Position>,
    name: Option<String>,
    key: Option<Wanted>,
    statuses: Option<Vec<Status>>,
    before: Option<Timestamp>,
    after: Option<Timestamp>,
}

#[derive(Debug, Clone)]
enum Wanted {
    Bytes(Vec<u8>),
    Text(String),
}

impl Query {
    /// Every publication.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of this listener.
    pub fn listener(mut self, id: impl Into<String>) -> Self {
        self.listener = Some(id.into());
        self
    }

    /// Of the event with this id.
    pub fn event(mut self, id: Uuid) -> Self {
        self.event = Some(id);
        self
    }

    /// Of the event at this log position, pruned or not.
    pub fn position(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    /// Of events stored under this name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Of events with this key.
    pub fn key<K: Key>(mut self, key: &K) -> Self {
        self.key = Some(Wanted::Bytes(encode_key(key)));
        self
    }

    /// Of events whose key reads so: a text, with or without quotes, or `0x` and hexadecimal digits.
    pub fn key_reads(mut self, text: impl Into<String>) -> Self {
        self.key = Some(Wanted::Text(text.into()));
        self
    }

    /// In this state.
    pub fn status(self, status: Status) -> Self {
        self.statuses([status])
    }

    /// In one of these states.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = Status>) -> Self {
        self.statuses = Some(statuses.into_iter().collect());
        self
    }

    /// Of events published before this moment.
    pub fn published_before(mut self, moment: Timestamp) -> Self {
        self.before = Some(moment);
        self
    }

    /// Of events published at this moment or later.
    pub fn published_since(mut self, moment: Timestamp) -> Self {
        self.after = Some(moment);
        self
    }

    pub(crate) fn wants_listener(&self, id: &str) -> bool {
        self.listener.as_ref().is_none_or(|wanted| wanted == id)
    }

    /// The listener that is wanted, if it is one.
    pub(crate) fn one_listener(&self) -> Option<&str> {
        self.listener.as_deref()
    }

    pub(super) fn wants(&self, status: Status) -> bool {
        self.statuses.as_ref().is_none_or(|wanted| wanted.contains(&status))
    }

    /// The event that is wanted, if it is one.
    pub(super) fn one_event(&self) -> Option<Uuid> {
        self.event
    }

    /// The one position that is wanted, if it is one.
    pub(super) fn one_position(&self) -> Option<Position> {
        self.position
    }

    pub(super) fn wants_event(&self, header: &EventHeader) -> bool {
        let metadata = &header.metadata;
        let is_key = |wanted: &Wanted| match (&header.key, wanted) {
            (None, _) => false,
            (Some(key), Wanted::Bytes(bytes)) => key == bytes,
            (Some(key), Wanted::Text(text)) => {
                let readable = readable(key);
                readable == *text || readable == format!("{text:?}")
            }
        };
        self.event.is_none_or(|id| metadata.id == id)
            && self.name.as_ref().is_none_or(|name| *name == header.name)
            && self.key.as_ref().is_none_or(is_key)
            && self.before.is_none_or(|moment| metadata.time < moment)
            && self.after.is_none_or(|moment| metadata.time >= moment)
    }

    /// Whether a dead letter is wanted, whatever states are named.
    pub fn wants_parked(&self, parked: &Parked) -> bool {
        self.wants_listener(&parked.listener)
            && self.position.is_none_or(|position| position == parked.position)
            && self.wants_event(&parked.envelope.header)
    }
}
