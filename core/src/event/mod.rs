//! What travels: an event, its name and key, its metadata and its stored form.
//!
//! An event is any `Send + Sync + 'static` value with `#[derive(Event)]`.
//! With a declared name and serde's traits it can also be stored, and then listened to durably.
//! How it is stored, and how what was stored long ago is still read: [`Stored`], [`Upcast`].

mod envelope;
mod metadata;
mod slot;
mod stored;
mod upcast;

pub use envelope::{Envelope, EventHeader};
pub use metadata::{Metadata, Origin};
pub use slot::EventSlot;
pub use stored::Stored;
pub use upcast::{Fallible, Plain, Upcast, Upcasted, upcast};

/// Something that happened, which listeners are told about.
///
/// Written by `#[derive(Event)]`; by hand it is `impl Event for X {}` for an event that is never stored.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event",
    label = "not an event",
    note = "add `#[derive(Event)]` to the type; to store it, also `#[event(name = \"area.what-happened\")]` and serde's `Serialize` and `Deserialize`"
)]
pub trait Event: Sized + Send + Sync + 'static {
    /// How the event is stored; `None` for one that lives in memory only.
    const STORED: Option<Stored<Self>> = None;

    /// The event's name: the declared one, or the path of its type.
    fn name() -> &'static str {
        match Self::STORED {
            Some(stored) => stored.name,
            None => std::any::type_name::<Self>(),
        }
    }

    /// Writes the event's key and answers `true`, or answers `false` if it has none.
    ///
    /// Events of one key reach a durable listener in commit order; events without a key have no order among each other.
    fn key(&self, out: &mut Vec<u8>) -> bool {
        let _ = out;
        false
    }

    /// The type's place in the registry; generic events have none and are looked up by type.
    fn slot() -> Option<&'static EventSlot> {
        None
    }
}

/// An event that can be stored: it has a declared name and serde's traits.
///
/// Written by `#[derive(Event)]` with `#[event(name = "..")]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored, so it can have no durable listener",
    label = "has no stored name",
    note = "add `#[event(name = \"area.what-happened\", version = 1)]` and derive serde's `Serialize` and `Deserialize`"
)]
pub trait StoredEvent: Event {}

/// The only codec so far; its number stands in every stored header.
const JSON: u8 = 1;
