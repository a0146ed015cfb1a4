//! The stored form of an event type: under which names, in which versions, and how each is read.
//!
//! What is stored may wait for a listener for years, so that a type reads what every earlier program wrote: under its former names,
//! and in each version from the [oldest](Stored::oldest) on, brought up step by step. What it cannot read is an error that says why.

use std::panic::{self, AssertUnwindSafe};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Envelope, EventHeader, JSON, Upcast};
use crate::error::{BoxError, DecodeError, Panicked};

/// The stored form of an event type.
///
/// Written by `#[derive(Event)]` with `#[event(name = "..")]`; by hand:
///
/// ```
/// use aftercommit::event::{Stored, Upcast, upcast};
/// use aftercommit::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Refunded { order: u64, cents: i64 }
///
/// #[derive(Deserialize)]
/// struct RefundedV1 { order: u64, euros: i64 }
///
/// fn in_cents(old: RefundedV1) -> Refunded {
///     Refunded { order: old.order, cents: old.euros * 100 }
/// }
///
/// impl Event for Refunded {
///     const STORED: Option<Stored<Self>> = Some(
///         Stored::json("shop.refunded")
///             .formerly(&["shop.repaid"])
///             .version(2)
///             .upcasts(&[Upcast { from: 1, step: |body| upcast(body, in_cents) }]),
///     );
/// }
/// impl StoredEvent for Refunded {}
/// ```
pub struct Stored<E> {
    /// The name it is stored under, which outlives the name of the type.
    pub name: &'static str,
    /// Names it was stored under before.
    pub formerly: &'static [&'static str],
    /// The version of its stored form; newer ones are not read.
    pub version: u32,
    /// The oldest version that is still read; 1 by default.
    pub oldest: u32,
    /// The steps from each version since the oldest to the next, in any order.
    pub upcasts: &'static [Upcast],
    /// Whether it is stored even while nobody listens durably.
    pub logged: bool,
    /// Writes the body.
    pub encode: fn(&E) -> Result<Vec<u8>, BoxError>,
    /// Reads a body of the version that [`version`](Self::version) says.
    pub decode: fn(&[u8]) -> Result<E, BoxError>,
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
        Self {
            name,
            formerly: &[],
            version: 1,
            oldest: 1,
            upcasts: &[],
            logged: false,
            encode: encode_json::<E>,
            decode: decode_json::<E>,
        }
    }

    /// The version of the stored form; 1 by default. Each one since the oldest needs a step to the next: [`upcasts`](Self::upcasts).
    pub const fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// The oldest version that is still read, where no older one is stored any more; 1 by default.
    pub const fn oldest(mut self, oldest: u32) -> Self {
        self.oldest = oldest;
        self
    }

    /// The steps that bring a body of an older version up, one for each version from the oldest to the one before the present.
    ///
    /// An event is brought up when it is read; what is stored stays as it is. Its key is the one it was published with.
    pub const fn upcasts(mut self, steps: &'static [Upcast]) -> Self {
        self.upcasts = steps;
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

    /// Whether each version since the oldest leads to the present one; if not, what is missing, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { version, oldest, .. } = *self;
        if version == 0 || oldest == 0 {
            return Err("versions begin at 1".to_owned());
        }
        if oldest > version {
            return Err(format!("its oldest version, {oldest}, is newer than its version, {version}"));
        }
        for from in oldest..version {
            match self.upcasts.iter().filter(|step| step.from == from).count() {
                0 => {
                    let to = from + 1;
                    return Err(format!(
                        "no step leads from version {from} to {to}: add `upcast({from} => ..)`, \
                         or say `oldest = {to}` if nothing older is stored any more"
                    ));
                }
                1 => {}
                many => return Err(format!("{many} steps lead from version {from}: keep one of them")),
            }
        }
        match self.upcasts.iter().find(|step| !(oldest..version).contains(&step.from)) {
            Some(Upcast { from, .. }) => Err(format!(
                "a step leads from version {from}, which is none of {oldest} to {}",
                version.saturating_sub(1)
            )),
            None => Ok(()),
        }
    }

    /// The event in `envelope`. A panic of what reads it is an error.
    pub(crate) fn open(&self, envelope: &Envelope) -> Result<E, DecodeError> {
        let EventHeader { name, version, codec, .. } = &envelope.header;
        let (name, version, codec) = (name.clone(), *version, *codec);
        if !self.is_stored_as(&name) {
            return Err(DecodeError::UnknownName { name, known: self.name });
        }
        if version > self.version {
            return Err(DecodeError::Newer { name, version, known: self.version });
        }
        if version < self.oldest {
            return Err(DecodeError::TooOld { name, version, oldest: self.oldest });
        }
        if codec != JSON {
            return Err(DecodeError::Codec { name, codec });
        }
        let mut brought_up: Option<Vec<u8>> = None;
        for from in version..self.version {
            let body = brought_up.as_deref().unwrap_or(&envelope.body);
            let step = self.upcasts.iter().find(|step| step.from == from);
            let Some(step) = step else { return Err(DecodeError::NoUpcast { name, from }) };
            match contained(|| (step.step)(body)) {
                Ok(next) => brought_up = Some(next),
                Err(cause) => return Err(DecodeError::Upcast { name, from, cause }),
            }
        }
        contained(|| (self.decode)(brought_up.as_deref().unwrap_or(&envelope.body)))
            .map_err(|cause| DecodeError::Body { name, version, cause })
    }
}

/// A panic is an error here: it must not be taken for one of the listener, or of its neighbours in a batch.
fn contained<T>(read: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    panic::catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| Err(Panicked::from_payload(&*panic).into()))
}

fn encode_json<E: Serialize>(event: &E) -> Result<Vec<u8>, BoxError> {
    Ok(serde_json::to_vec(event)?)
}

fn decode_json<E: DeserializeOwned>(body: &[u8]) -> Result<E, BoxError> {
    Ok(serde_json::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: fn(&[u8]) -> Result<Vec<u8>, BoxError> = |body| Ok(body.to_vec());

    fn reason(version: u32, oldest: u32, steps: &'static [Upcast]) -> String {
        let stored = Stored::<u8>::json("test").version(version).oldest(oldest).upcasts(steps);
        stored.check().err().unwrap_or_default()
    }

    #[test]
    fn a_chain_is_whole_or_what_is_missing_is_named() {
        const ONE_TWO: &[Upcast] = &[Upcast { from: 2, step: STEP }, Upcast { from: 1, step: STEP }];
        assert_eq!(reason(1, 1, &[]), "");
        assert_eq!(reason(3, 1, ONE_TWO), "", "in any order");
        assert_eq!(reason(3, 3, &[]), "", "nothing older is stored");
        assert!(reason(2, 1, &[]).contains("no step leads from version 1 to 2"));
        assert!(reason(4, 1, ONE_TWO).contains("no step leads from version 3 to 4"));
        assert!(reason(2, 1, ONE_TWO).contains("a step leads from version 2, which is none of 1 to 1"));
        assert!(reason(3, 2, ONE_TWO).contains("a step leads from version 1, which is none of 2 to 2"));
        assert!(reason(1, 2, &[]).contains("its oldest version, 2, is newer than its version, 1"));
        assert!(reason(0, 1, &[]).contains("versions begin at 1"));
        const TWICE: &[Upcast] = &[Upcast { from: 1, step: STEP }, Upcast { from: 1, step: STEP }];
        assert!(reason(2, 1, TWICE).contains("2 steps lead from version 1"));
    }
}
