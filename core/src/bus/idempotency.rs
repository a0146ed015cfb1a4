//! Requests that run once: the double click, and the client that asks again because it heard no answer.
//!
//! The first answer is stored under the request's id, with the commit of the work where the work is in the store, and given to
//! whoever comes with the same id until the retention is over. While the first one runs, the others wait for its lock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Bus;
use crate::error::{BoxError, Error, IdempotencyError, KeyError};
use crate::key::{Key, encode_key, readable};
use crate::lock::AnyKey;
use crate::store::Remembered;
use crate::transaction::{Failed, Tx};

/// Lets each request of one kind run once, and answers those that come again with what the first one answered.
///
/// Declared once, like a table; two with one name are one guard. A request is known by its id, which its sender chose and sends
/// again when it asks again, and by a digest of its body: the same id with another body is an error.
///
/// ```
/// use std::time::Duration;
///
/// use aftercommit::bus::{Idempotency, Ran};
/// use aftercommit::error::IdempotencyError;
/// use aftercommit::prelude::*;
///
/// const PLACE: Idempotency = Idempotency::new("shop.place-order", Duration::from_secs(86_400));
/// const ORDERS: Counters<u8> = Counters::new("shop.orders");
///
/// async fn place(bus: &Bus, request: &str, units: u32) -> Result<Ran<String>, Error> {
///     PLACE
///         .request(&request.to_owned(), &units)?
///         .transaction(bus, async |tx| {
///             ORDERS.add(tx, &0, 1)?;
///             Ok(format!("{units} units are yours"))
///         })
///         .await
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::builder().start().await?;
/// let first = place(&bus, "click-1", 2).await?;
/// let again = place(&bus, "click-1", 2).await?;
/// assert_eq!((&first, &again), (&Ran::Now("2 units are yours".to_owned()), &Ran::Before("2 units are yours".to_owned())));
/// assert_eq!(ORDERS.get(&mut bus.reader()?, &0)?, 1);
/// let other = place(&bus, "click-1", 3).await;
/// assert!(matches!(other, Err(Error::Idempotency(IdempotencyError::OtherBody { .. }))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Idempotency {
    name: &'static str,
    retention: Duration,
}

/// A request that is to run once.
#[derive(Debug, Clone)]
#[must_use = "nothing runs before `transaction`, `call` or `recall`"]
pub struct IdempotentRequest {
    guard: Idempotency,
    id: Vec<u8>,
    body: u128,
}

/// What a request that runs once came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran<T> {
    /// It ran now.
    Now(T),
    /// It ran before; this is what it answered then.
    Before(T),
}

impl<T> Ran<T> {
    /// The answer, whenever it was given.
    pub fn into_inner(self) -> T {
        match self {
            Ran::Now(value) | Ran::Before(value) => value,
        }
    }
}

/// What is stored of a request that ran.
enum Stored {
    Answer(Vec<u8>),
    Error(Vec<u8>),
}

impl Idempotency {
    /// The guard of that name, whose requests may run again after `retention`.
    pub const fn new(name: &'static str, retention: Duration) -> Self {
        Self { name, retention }
    }

    /// The request that its sender calls `id`. The body is whatever must be the same when it comes again; only a digest of it is
    /// kept. Maps are digested by their sorted keys.
    ///
    /// # Errors
    /// [`IdempotencyError::Encode`] if the body cannot be written as JSON.
    pub fn request<K: Key, B: Serialize + ?Sized>(self, id: &K, body: &B) -> Result<IdempotentRequest, Error> {
        let mut request = IdempotentRequest { guard: self, id: encode_key(id), body: 0 };
        // By way of a value, whose keys are sorted whatever features of `serde_json` other crates switch on.
        let written = serde_json::to_value(body).and_then(|mut value| {
            value.sort_all_objects();
            serde_json::to_vec(&value)
        });
        request.body = digest(&written.map_err(|cause| request.cannot_encode("body", cause))?);
        Ok(request)
    }
}

impl IdempotentRequest {
    /// Runs `work` as one unit of work that also stores its answer, unless the request ran before: exactly once.
    ///
    /// # Errors
    /// As for [`Bus::transaction`], and nothing is stored then, so that the request may run again; a lock not obtained in time;
    /// [`IdempotencyError`].
    ///
    /// # Cancel safety
    /// As for [`Bus::transaction`].
    pub async fn transaction<T, E>(
        &self,
        bus: &Bus,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T, E>,
    ) -> Result<Ran<T>, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
    {
        let alone = self.alone(bus).await?;
        let unit = bus.transaction(async |tx| {
            tx.hold(Box::new(alone.clone()));
            if let Some(before) = self.look(tx).await? {
                return self.answer(before).map(Ran::Before).map_err(E::from);
            }
            let value = work(tx).await?;
            self.keep(tx, &value).await?;
            Ok(Ran::Now(value))
        });
        Ok(unit.await?.value)
    }

    /// As [`transaction`](Self::transaction), run again when it conflicts with another unit, at most `attempts` times in all; with
    /// the end of its id's retention, too. `work` is cloned for each run.
    ///
    /// # Errors
    /// As for [`Bus::transaction_retrying`]; a lock not obtained in time; [`IdempotencyError`].
    pub async fn transaction_retrying<T, E>(
        &self,
        bus: &Bus,
        attempts: u32,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T, E> + Clone,
    ) -> Result<Ran<T>, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
    {
        let alone = self.alone(bus).await?;
        let run = async |tx: &mut Tx| {
            tx.hold(Box::new(alone.clone()));
            if let Some(before) = self.look(tx).await? {
                return self.answer(before).map(Ran::Before).map_err(E::from);
            }
            let value = work.clone()(tx).await?;
            self.keep(tx, &value).await?;
            Ok(Ran::Now(value))
        };
        Ok(bus.transaction_retrying(attempts, run).await?.value)
    }

    /// Does `work` outside the store, unless the request ran before; then stores its answer in a commit of its own.
    ///
    /// No unit of work is open meanwhile. If the process ends between `work` and the commit, it is done again when the request
    /// comes again: pass the request's id along where the other side can tell.
    ///
    /// # Errors
    /// The error of `work`, after which the request may run again; a lock not obtained in time; [`IdempotencyError`]; the store's,
    /// after which `work` is done but its answer not stored.
    ///
    /// # Cancel safety
    /// Dropped before the commit was handed over, nothing is stored.
    pub async fn call<T, E>(&self, bus: &Bus, work: impl AsyncFnOnce() -> Result<T, E>) -> Result<Ran<T>, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
    {
        let alone = self.alone(bus).await?;
        if let Some(before) = self.looked_up(bus).await? {
            return Ok(Ran::Before(self.answer(before)?));
        }
        let value = work().await?;
        self.store(bus, alone, &Stored::Answer(self.encode(&value)?)).await?;
        Ok(Ran::Now(value))
    }

    /// As [`call`](Self::call); errors that `keep` says yes to are stored and given again like answers. Say yes to what is final,
    /// such as a card that was declined, and no to what may pass, such as a gateway that was not reached.
    ///
    /// # Errors
    /// As for [`call`](Self::call); the stored error.
    pub async fn call_keeping<T, E>(
        &self,
        bus: &Bus,
        keep: impl FnOnce(&E) -> bool,
        work: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<Ran<T>, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error> + Serialize + DeserializeOwned,
    {
        let alone = self.alone(bus).await?;
        match self.looked_up(bus).await? {
            Some(Stored::Error(stored)) => return Err(self.decode::<E>(&stored)?),
            Some(before) => return Ok(Ran::Before(self.answer(before)?)),
            None => {}
        }
        match work().await {
            Ok(value) => {
                self.store(bus, alone, &Stored::Answer(self.encode(&value)?)).await?;
                Ok(Ran::Now(value))
            }
            Err(error) => {
                if keep(&error) {
                    self.store(bus, alone, &Stored::Error(self.encode(&error)?)).await?;
                }
                Err(error)
            }
        }
    }

    /// In a unit of work that is open already: what the request answered, if it ran before. If not, the unit holds the request's
    /// lock from now on; do the work and [`keep`](Self::keep) its answer.
    ///
    /// # Errors
    /// A lock not obtained in time; [`IdempotencyError`]; the store's.
    pub async fn recall<T: DeserializeOwned>(&self, tx: &mut Tx) -> Result<Option<T>, Error> {
        tx.lock(Alone { guard: self.guard.name.to_owned(), id: self.id.clone() }).await?;
        match self.look(tx).await? {
            Some(before) => self.answer(before).map(Some),
            None => Ok(None),
        }
    }

    /// Stores the answer with the commit of this unit.
    ///
    /// # Errors
    /// [`IdempotencyError::Encode`]; the store's.
    pub async fn keep<T: Serialize>(&self, tx: &mut Tx, answer: &T) -> Result<(), Error> {
        let stored = Stored::Answer(self.encode(answer)?);
        self.remember(tx, &stored).await
    }

    /// Waits until nobody else runs this request. The unit that stores its answer holds it too: it may outlive its caller.
    async fn alone(&self, bus: &Bus) -> Result<Arc<impl Send + Sync + use<>>, Error> {
        bus.check_open()?;
        let alone = Alone { guard: self.guard.name.to_owned(), id: self.id.clone() };
        Ok(Arc::new(bus.locks().request_owned(AnyKey::of(&alone)).within(bus.core.lock_wait).wait().await?))
    }

    /// As [`look`](Self::look), in a unit of its own; again if it conflicts with the end of the retention.
    async fn looked_up(&self, bus: &Bus) -> Result<Option<Stored>, Error> {
        loop {
            match bus.core.unit(bus.origin, async |tx| self.look(tx).await).await {
                Err(error) if error.is_conflict() => {}
                known => return known.map(|committed| committed.value),
            }
        }
    }

    async fn store(&self, bus: &Bus, alone: Arc<impl Send + Sync + 'static>, stored: &Stored) -> Result<(), Error> {
        loop {
            let keep = async |tx: &mut Tx| {
                tx.hold(Box::new(alone.clone()));
                self.remember(tx, stored).await
            };
            let unit = bus.core.unit_failing(bus.origin, keep, false);
            match unit.await.map_err(Failed::into_error) {
                Err(error) if error.is_conflict() => {}
                stored => return stored.map(drop),
            }
        }
    }

    /// What is stored of this request.
    async fn look(&self, tx: &mut Tx) -> Result<Option<Stored>, Error> {
        let now = tx.core().clock().now();
        let known = tx.kept()?.remembered(&self.scope(), &self.id).await?;
        let Some(known) = known.filter(|known| known.until > now) else { return Ok(None) };
        let parts = known.note.split_first_chunk().and_then(|(body, rest)| Some((*body, rest.split_first()?)));
        let Some((body, (failed, answer))) = parts else {
            return Err(self.cannot_decode("it is too short".into()).into());
        };
        if u128::from_be_bytes(body) != self.body {
            return Err(IdempotencyError::OtherBody { guard: self.guard.name, request: readable(&self.id) }.into());
        }
        let answer = answer.to_vec();
        Ok(Some(if *failed == 0 { Stored::Answer(answer) } else { Stored::Error(answer) }))
    }

    async fn remember(&self, tx: &mut Tx, stored: &Stored) -> Result<(), Error> {
        let until = tx.core().clock().now().saturating_add(self.guard.retention);
        let (failed, answer) = match stored {
            Stored::Answer(answer) => (0, answer),
            Stored::Error(error) => (1, error),
        };
        let note = [&self.body.to_be_bytes()[..], &[failed], answer].concat();
        let one = Remembered { scope: self.scope(), id: self.id.clone(), event: None, note, until };
        Ok(tx.kept()?.remember(one).await?)
    }

    fn scope(&self) -> String {
        format!("request:{}", self.guard.name)
    }

    fn answer<T: DeserializeOwned>(&self, stored: Stored) -> Result<T, Error> {
        match stored {
            Stored::Answer(answer) => self.decode(&answer),
            // It was stored by a declaration that keeps errors; this one has none to give.
            Stored::Error(_) => Err(self.cannot_decode("it is an error".into()).into()),
        }
    }

    fn encode<T: Serialize>(&self, answer: &T) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(answer).map_err(|cause| self.cannot_encode("answer", cause).into())
    }

    fn decode<T: DeserializeOwned>(&self, stored: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(stored).map_err(|cause| self.cannot_decode(cause.into()).into())
    }

    fn cannot_encode(&self, what: &'static str, cause: serde_json::Error) -> IdempotencyError {
        let cause = cause.into();
        IdempotencyError::Encode { what, guard: self.guard.name, request: readable(&self.id), cause }
    }

    fn cannot_decode(&self, cause: BoxError) -> IdempotencyError {
        IdempotencyError::Decode { guard: self.guard.name, request: readable(&self.id), cause }
    }
}

/// FNV-1a of 128 bits: the same in every version of the program and on every machine. It tells bodies apart that differ by mistake;
/// who makes two with one digest on purpose gets the answer to their own first request.
fn digest(bytes: &[u8]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(BASIS, |digest, byte| (digest ^ u128::from(*byte)).wrapping_mul(PRIME))
}

/// What is locked while a request runs; a type of its own, so that it never meets a lock of the application.
struct Alone {
    guard: String,
    id: Vec<u8>,
}

impl Key for Alone {
    fn shape(out: &mut String) {
        <(String, Vec<u8>)>::shape(out);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.guard.encode(out);
        self.id.encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        Ok(Self { guard: Key::decode(input)?, id: Key::decode(input)? })
    }
}

impl fmt::Debug for Alone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "request {} of `{}`", readable(&self.id), self.guard)
    }
}

#[cfg(test)]
mod tests {
    use super::digest;

    #[test]
    fn the_digest_is_that_of_the_published_examples() {
        assert_eq!(digest(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(digest(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_eq!(digest(b"foobar"), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }
}
