//! What travels: an event, its name and key, its metadata and its stored form.
//!
//! An event is any `Send + Sync + 'static` value with `#[derive(Event)]`.
//! With a declared name and serde's traits it can also be stored, and then listened to durably.

mod envelope;
mod metadata;
mod slot;

pub use envelope::{Envelope, EventHeader};
pub use metadata::{Metadata, Origin};
pub use slot::EventSlot;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::BoxError;

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

/// The stored form of an event type.
pub struct Stored<E> {
    /// The name it is stored under, which outlives the name of the type.
    pub name: &'static str,
    /// Names it was stored under before.
    pub formerly: &'static [&'static str],
    /// The version of its stored form. Newer ones than this are not decoded.
    pub version: u32,
    /// Whether it is stored even while nobody listens durably.
    pub logged: bool,
    /// Writes the body.
    pub encode: fn(&E) -> Result<Vec<u8>, BoxError>,
    /// Reads a body of the version given.
    pub decode: fn(&[u8], u32) -> Result<E, BoxError>,
}

impl<E> Clone for Stored<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Stored<E> {}

impl<E> Stored<E> {
    /// Stored as JSON under `name`, version 1, only when somebody listens durably.
    pub const fn json(name: &'static str) -> Self
    where
        E: Serialize + DeserializeOwned,
    {
        Self { name, formerly: &[], version: 1, logged: false, encode: encode_json::<E>, decode: decode_json::<E> }
    }

    /// The version of the stored form; 1 by default.
    pub const fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Store the event even while nobody listens durably, so that a later listener can start from the beginning.
    pub const fn logged(mut self) -> Self {
        self.logged = true;
        self
    }

    /// Names it was stored under before.
    pub const fn formerly(mut self, names: &'static [&'static str]) -> Self {
        self.formerly = names;
        self
    }

    /// Whether events of this type were ever stored under `name`.
    pub(crate) fn is_stored_as(&self, name: &str) -> bool {
        self.name == name || self.formerly.contains(&name)
    }

    /// The event in `envelope`.
    pub(crate) fn open(&self, envelope: &Envelope) -> Result<E, BoxError> {
        let EventHeader { name, version, codec, .. } = &envelope.header;
        if *version > self.version {
            let known = self.version;
            let error = format!("`{name}` is stored in version {version}, newer than the {known} this program knows");
            return Err(error.into());
        }
        if *codec != JSON {
            return Err(format!("`{name}` is stored with codec {codec}, which this program does not know").into());
        }
        (self.decode)(&envelope.body, *version)
    }
}

/// The only codec so far; its number stands in every stored header.
const JSON: u8 = 1;

fn encode_json<E: Serialize>(event: &E) -> Result<Vec<u8>, BoxError> {
    Ok(serde_json::to_vec(event)?)
}

fn decode_json<E: DeserializeOwned>(body: &[u8], _version: u32) -> Result<E, BoxError> {
    Ok(serde_json::from_slice(body)?)
}
