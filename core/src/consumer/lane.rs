//! What is owed, and to which sequence it belongs.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::event::Envelope;
use crate::listener::{GivenUp, Sequence};
use crate::store::Position;

/// Which lane an event belongs to: its sequence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum LaneKey {
    /// A key that is no longer than most: its length, and its bytes, followed by zeros.
    Short(u8, [u8; SHORT]),
    Key(Arc<[u8]>),
    /// An event that is a sequence of its own.
    Alone(Position),
    /// All events, in a total order.
    All,
}

/// Keys up to this length are kept in their place.
const SHORT: usize = 22;

impl LaneKey {
    /// The sequence of a key.
    pub(super) fn of_key(key: &[u8]) -> Self {
        match u8::try_from(key.len()) {
            Ok(len) if key.len() <= SHORT => {
                let mut bytes = [0; SHORT];
                bytes[..key.len()].copy_from_slice(key);
                LaneKey::Short(len, bytes)
            }
            _ => LaneKey::Key(Arc::from(key)),
        }
    }

    pub(super) fn of(sequence: Sequence, position: Position, envelope: &Envelope) -> Self {
        match (sequence, &envelope.header.key) {
            (Sequence::Total, _) => LaneKey::All,
            (Sequence::PerKey, Some(key)) => Self::of_key(key),
            (Sequence::PerKey, None) | (Sequence::Unordered, _) => LaneKey::Alone(position),
        }
    }
}

/// One delivery that is owed.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) position: Position,
    /// The event, unless the window holds too many bytes: then it is read at the call.
    pub(super) envelope: Option<Arc<Envelope>>,
    /// The calls that failed.
    pub(super) tried: Tried,
    /// Whether it was parked and is being called again.
    pub(super) parked: bool,
    /// It is out of attempts, and its fallback is to be called.
    pub(super) given_up: Option<GivenUp>,
    /// To be called by itself: a batch that held it was out of attempts.
    pub(super) alone: bool,
}

impl Pending {
    pub(super) fn new(position: Position, envelope: Option<Arc<Envelope>>) -> Self {
        Self { position, envelope, tried: Tried::default(), parked: false, given_up: None, alone: false }
    }
}

/// The calls of a delivery that failed.
#[derive(Debug, Clone, Default)]
pub(super) struct Tried {
    pub(super) attempts: u32,
    /// How many of them count for the policy of `kind`.
    pub(super) counted: u32,
    pub(super) first_failed_at: Timestamp,
    /// The kind of the last error, if that has a policy of its own.
    pub(super) kind: Option<Arc<str>>,
}
