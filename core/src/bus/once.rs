//! Doing something once for each id: publishing under a request id, and an inbox for messages and deliveries.
//!
//! An id is remembered with the commit of what was done for it, until its retention has passed. It is looked up in the same unit of
//! work and noted as read, so that of two units with one id exactly one commits, and the other conflicts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Bus, Core};
use crate::error::{Error, KeyError};
use crate::event::{Event, Metadata, Origin};
use crate::key::{Key, encode_key};
use crate::lock::AnyKey;
use crate::store::Remembered;
use crate::transaction::Tx;

/// What [`Tx::publish_once`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// It is published, with this id.
    Published(Uuid),
    /// It was published before, with this id.
    AlreadyPublished(Uuid),
}

impl Once {
    /// The id of the event that was published under the request id, now or before.
    pub fn event(self) -> Uuid {
        match self {
            Once::Published(event) | Once::AlreadyPublished(event) => event,
        }
    }
}

impl Tx {
    /// Publishes `event` as [`publish`](Self::publish) does, unless an event of its type was published under the id `request` within
    /// the last `retention`: then nothing happens, and the answer is the first event's id.
    ///
    /// The id is remembered with the commit, whether or not anybody listens to the event, also after it was worked off, and across
    /// restarts. It belongs to the event's name: other events may use it too. After the retention that the first one said it is free
    /// again. Use one type of request id for an event: ids are told apart by their bytes.
    ///
    /// Of two units that use one id at the same time, one commits and the other conflicts;
    /// [`transaction_retrying`](Bus::transaction_retrying) runs that again, and it is told.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aftercommit::bus::Once;
    /// use aftercommit::prelude::*;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Event, Serialize, Deserialize)]
    /// #[event(name = "shop.order-placed")]
    /// struct OrderPlaced { order: u64 }
    ///
    /// const WEEK: Duration = Duration::from_secs(7 * 86_400);
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bus = Bus::builder().start().await?;
    /// let request = "3f2a".to_owned(); // the client's, the same when it asks again
    /// let place = async |tx: &mut Tx| tx.publish_once(OrderPlaced { order: 7 }, &request, WEEK).await;
    /// let first = bus.transaction_retrying(3, place).await?.value;
    /// let second = bus.transaction_retrying(3, place).await?.value;
    /// assert_eq!(second, Once::AlreadyPublished(first.event()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`publish`](Self::publish); the store's.
    ///
    /// # Cancel safety
    /// Dropped, nothing was published.
    pub async fn publish_once<E: Event, K: Key>(
        &mut self,
        event: E,
        request: &K,
        retention: Duration,
    ) -> Result<Once, Error> {
        let core = self.core();
        let now = core.clock().now();
        let id = encode_key(request);
        let formerly = E::STORED.map_or(&[][..], |stored| stored.formerly);
        for name in [E::name()].iter().chain(formerly) {
            let known = self.kept()?.remembered(&event_scope(name), &id).await?;
            if let Some(first) = known.filter(|known| known.until > now).and_then(|known| known.event) {
                return Ok(Once::AlreadyPublished(first));
            }
        }
        let metadata = Metadata::draw(core.chance(), now, self.origin());
        let until = now.saturating_add(retention);
        let remembered =
            Remembered { scope: event_scope(E::name()), id, event: Some(metadata.id), note: Vec::new(), until };
        self.kept()?.remember(remembered).await?;
        self.publish_known(event, Some(metadata))?;
        Ok(Once::Published(metadata.id))
    }
}

fn event_scope(name: &str) -> String {
    format!("event:{name}")
}

/// Remembers which messages were handled, for a while: those that came in from outside by the ids they brought, or the deliveries of
/// a durable listener by theirs.
///
/// Declared once, like a table; two with one name are one inbox, and remember by their own retention.
///
/// For work in the store, [`accept`](Self::accept) in the unit of work that does it: applied exactly once while the id is remembered.
///
/// ```
/// use std::time::Duration;
///
/// use aftercommit::bus::Inbox;
/// use aftercommit::prelude::*;
///
/// const PAYMENTS: Inbox = Inbox::new("bank.payments", Duration::from_secs(30 * 86_400));
/// const PAID: Counters<u32> = Counters::new("shop.paid");
///
/// async fn take(bus: &Bus, message: String, cents: i64) -> Result<bool, Error> {
///     let work = async |tx: &mut Tx| {
///         let is_new = PAYMENTS.accept(tx, &message).await?;
///         if is_new {
///             PAID.add(tx, &0, cents)?;
///         }
///         Ok::<_, Error>(is_new)
///     };
///     Ok(bus.transaction_retrying(5, work).await?.value)
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::builder().start().await?;
/// assert!(take(&bus, "m-1".to_owned(), 100).await?);
/// assert!(!take(&bus, "m-1".to_owned(), 100).await?, "it was handled before");
/// # Ok(())
/// # }
/// ```
///
/// For work outside the store there is [`handle`](Self::handle), and for a durable listener
/// [`Delivery::guarded_by`](super::Delivery::guarded_by).
#[derive(Debug, Clone, Copy)]
pub struct Inbox {
    name: &'static str,
    retention: Duration,
}

/// What [`Inbox::handle`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled<T> {
    /// The message was handled now; what the work answered.
    Now(T),
    /// It was handled before, and was not again.
    Before,
}

impl Inbox {
    /// The inbox of that name, whose ids are free again after `retention`.
    pub const fn new(name: &'static str, retention: Duration) -> Self {
        Self { name, retention }
    }

    /// Whether `id` is new: then it is remembered with the commit of this unit. `false` if it was accepted before, in this unit too.
    ///
    /// Of two units that accept one id at the same time, one commits and the other conflicts.
    ///
    /// # Errors
    /// The store's.
    pub async fn accept<K: Key>(&self, tx: &mut Tx, id: &K) -> Result<bool, Error> {
        let id = encode_key(id);
        if self.is_remembered(tx, &id).await? {
            return Ok(false);
        }
        let until = tx.core().clock().now().saturating_add(self.retention);
        tx.kept()?.remember(Remembered { scope: self.scope(), id, event: None, note: Vec::new(), until }).await?;
        Ok(true)
    }

    /// Whether `id` was accepted before.
    ///
    /// # Errors
    /// The store's.
    pub async fn has<K: Key>(&self, tx: &mut Tx, id: &K) -> Result<bool, Error> {
        self.is_remembered(tx, &encode_key(id)).await
    }

    /// Does `work` outside the store for the message `id`, unless it was handled before; then remembers it in a commit of its own.
    ///
    /// No unit of work is open meanwhile. Others who handle the same id wait for this call, at most as long as for a lock, and are
    /// told [`Handled::Before`]. If `work` fails the message is not handled. If the process ends between `work` and the commit it
    /// is done again when the message comes again: pass the id along where the other side can tell.
    ///
    /// # Errors
    /// The error of `work`; a lock not obtained in time; the store's, after which `work` is done but not remembered.
    ///
    /// # Cancel safety
    /// Dropped before the commit was handed over, the message is not remembered as handled.
    pub async fn handle<K: Key, T, E: From<Error>>(
        &self,
        bus: &Bus,
        id: &K,
        work: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<Handled<T>, E> {
        bus.check_open()?;
        let core = &bus.core;
        let message = Message { inbox: self.name.to_owned(), id: encode_key(id) };
        let held = core.locks.request_owned(AnyKey::of(&message)).within(core.lock_wait).wait().await;
        let held = Arc::new(held.map_err(Error::from)?);
        if self.looked_up(core, bus.origin, &message.id).await? {
            return Ok(Handled::Before);
        }
        let value = work().await?;
        loop {
            let accept = async |tx: &mut Tx| {
                // The commit may outlive who called this.
                tx.hold(Box::new(held.clone()));
                self.accept(tx, id).await
            };
            match core.unit(bus.origin, accept).await {
                Ok(_) => return Ok(Handled::Now(value)),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// As [`has`](Self::has), in a unit of its own; again if it conflicts with the end of the id's retention.
    pub(super) async fn looked_up(&self, core: &Arc<Core>, origin: Option<Origin>, id: &[u8]) -> Result<bool, Error> {
        loop {
            match core.unit(origin, async |tx| self.is_remembered(tx, id).await).await {
                Err(error) if error.is_conflict() => {}
                known => return known.map(|committed| committed.value),
            }
        }
    }

    async fn is_remembered(&self, tx: &mut Tx, id: &[u8]) -> Result<bool, Error> {
        let now = tx.core().clock().now();
        let known = tx.kept()?.remembered(&self.scope(), id).await?;
        Ok(known.is_some_and(|known| known.until > now))
    }

    fn scope(&self) -> String {
        format!("inbox:{}", self.name)
    }
}

/// What is locked while a message is handled; a type of its own, so that it never meets a lock of the application.
struct Message {
    inbox: String,
    id: Vec<u8>,
}

impl Key for Message {
    fn shape(out: &mut String) {
        <(String, Vec<u8>)>::shape(out);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.inbox.encode(out);
        self.id.encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        Ok(Self { inbox: Key::decode(input)?, id: Key::decode(input)? })
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "message {} of inbox `{}`", crate::key::readable(&self.id), self.inbox)
    }
}
