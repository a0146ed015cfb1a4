//! A delivery that its listener settles itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use uuid::Uuid;

use super::{Core, Inbox};
use crate::error::{BoxError, Error, UnitError};
use crate::event::{Metadata, Origin};
use crate::key::encode_key;
use crate::listener::{Call, FromCall, Settled};
use crate::store::Settlement;
use crate::transaction::{Failed, Tx};

/// What identifies a delivery, across attempts and restarts: the event and the listener, never a position.
///
/// As text (`<event id>/<listener id>`) it makes calls to the outside idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeliveryId {
    /// The event's id.
    pub event: Uuid,
    /// The durable listener's id.
    pub listener: Arc<str>,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.event, self.listener)
    }
}

/// A delivery to a durable listener that works outside the store first and settles when that is done.
///
/// No unit of work is open while the listener works. Work outside the store may be repeated after a crash or a failure:
/// pass [`id`](Self::id) along, so that the other side can tell. What [`settle`](Self::settle) writes is applied exactly once.
///
/// ```
/// use aftercommit::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(name = "shop.paid")]
/// struct Paid { order: u64 }
///
/// struct Mail;
/// # impl Mail { async fn send(&self, _id: &str, _order: u64) -> Result<u64, std::io::Error> { Ok(1) } }
///
/// const RECEIPTS: Table<u64, u64> = Table::new("shop.receipts");
///
/// #[listener(durable, id = "shop.send-receipt")]
/// async fn send_receipt(
///     event: &Paid,
///     delivery: Delivery,
///     mail: State<Mail>,
/// ) -> Result<Settled, Box<dyn std::error::Error + Send + Sync>> {
///     let receipt = mail.send(&delivery.id().to_string(), event.order).await?; // no unit of work is open
///     Ok(delivery.settle(async |tx| RECEIPTS.put(tx, &event.order, &receipt)).await?)
/// }
/// # let _ = || listed![send_receipt];
/// ```
#[derive(Debug)]
pub struct Delivery {
    shared: Arc<Shared>,
    inbox: Option<Inbox>,
}

/// What [`Delivery::guarded_by`] came to.
#[derive(Debug)]
pub enum Guarded {
    /// It was not handled before: settling it also remembers it.
    New(Delivery),
    /// It was handled before: settle it without handling it again.
    Before(Delivery),
}

pub(super) struct Shared {
    core: Arc<Core>,
    id: DeliveryId,
    attempt: u32,
    origin: Origin,
    settlement: Settlement,
    stage: AtomicU8,
    pub(super) changed: tokio::sync::Notify,
}

const OPEN: u8 = 0;
pub(super) const SETTLING: u8 = 1;
pub(super) const SETTLED: u8 = 2;

impl fmt::Debug for Shared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Delivery").field("id", &self.id).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

impl Delivery {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, inbox: None }
    }

    /// The delivery's identity, the same at each attempt.
    pub fn id(&self) -> &DeliveryId {
        &self.shared.id
    }

    /// Which call this is; 1 for the first. Attempts that a crash cut off are not counted.
    pub fn attempt(&self) -> u32 {
        self.shared.attempt
    }

    /// Asks `inbox` whether this delivery was handled before, and lets its settling remember that it is, in the same commit.
    ///
    /// A delivery that was settled is not made again, unless its listener is [reset](super::Bus::reset), or a dead letter is replayed
    /// that was handled by other means: then the inbox tells, for as long as its retention says.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aftercommit::bus::{Guarded, Inbox};
    /// use aftercommit::prelude::*;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Event, Serialize, Deserialize)]
    /// #[event(name = "shop.paid", logged)]
    /// struct Paid { order: u64 }
    ///
    /// struct Mail;
    /// # impl Mail { async fn send(&self, _id: &str, _order: u64) -> Result<(), std::io::Error> { Ok(()) } }
    ///
    /// const SENT: Inbox = Inbox::new("shop.receipts-sent", Duration::from_secs(90 * 86_400));
    ///
    /// /// No receipt goes out twice, also when the listener begins again with the first event.
    /// #[listener(durable, id = "shop.send-receipt")]
    /// async fn send_receipt(
    ///     event: &Paid,
    ///     delivery: Delivery,
    ///     mail: State<Mail>,
    /// ) -> Result<Settled, Box<dyn std::error::Error + Send + Sync>> {
    ///     let delivery = match delivery.guarded_by(&SENT).await? {
    ///         Guarded::New(delivery) => delivery,
    ///         Guarded::Before(delivery) => return Ok(delivery.done().await?),
    ///     };
    ///     mail.send(&delivery.id().to_string(), event.order).await?;
    ///     Ok(delivery.done().await?)
    /// }
    /// # let _ = || listed![send_receipt];
    /// ```
    ///
    /// # Errors
    /// The store's.
    pub async fn guarded_by(mut self, inbox: &Inbox) -> Result<Guarded, Error> {
        let (shared, id) = (&self.shared, encode_key(&self.id().to_string()));
        if inbox.looked_up(&shared.core, Some(shared.origin), &id).await? {
            return Ok(Guarded::Before(self));
        }
        self.inbox = Some(*inbox);
        Ok(Guarded::New(self))
    }

    /// Runs `work` in a short unit of work whose commit also settles the delivery; run again when it conflicts with another unit.
    ///
    /// `work` is cloned for each run: it may borrow, or own what can be cloned.
    ///
    /// # Errors
    /// The error of `work`, or of the unit. The delivery is not settled then, and will be called again.
    ///
    /// # Cancel safety
    /// As for `bus.transaction`: dropped after the commit was handed over, the delivery is settled all the same.
    pub async fn settle<E: From<Error>>(
        self,
        work: impl AsyncFnOnce(&mut Tx) -> Result<(), E> + Clone,
    ) -> Result<Settled, E> {
        self.shared.enter(SETTLING);
        let leave = Leave(&self.shared);
        loop {
            let (shared, work) = (self.shared.clone(), work.clone());
            let (inbox, shared_id) = (self.inbox, self.shared.id.to_string());
            let core = shared.core.clone();
            let ended = core
                .unit_failing(
                    Some(shared.origin),
                    async move |tx| {
                        tx.set_name(shared.id.listener.clone());
                        tx.settle(shared.settlement.clone());
                        // Reached once the outcome is known, even if nobody waits for it any more.
                        tx.after_commit(i32::MIN, move || {
                            shared.enter(SETTLED);
                            Ok(())
                        });
                        if let Some(inbox) = inbox {
                            inbox.accept(tx, &shared_id).await?;
                        }
                        work(tx).await
                    },
                    true,
                )
                .await;
            match ended {
                Ok(_) => {
                    drop(leave);
                    return Ok(Settled { _given_by_delivery: () });
                }
                Err(Failed::Unit(error)) if error.is_conflict() => {}
                Err(failed) => {
                    if let Failed::Unit(Error::Unit(UnitError::AlreadySettled { .. })) = &failed {
                        // By a commit whose answer was cut off. Kept here, as the listener may wrap the error in one of its own.
                        self.shared.enter(SETTLED);
                    }
                    return Err(failed.into_error());
                }
            }
        }
    }

    /// Settles the delivery without writing anything else.
    ///
    /// # Errors
    /// Those of the unit of work that settles it.
    pub async fn done(self) -> Result<Settled, Error> {
        self.settle(async |_| Ok(())).await
    }
}

impl Shared {
    pub(super) fn new(
        core: Arc<Core>,
        listener: Arc<str>,
        metadata: Metadata,
        attempt: u32,
        settlement: Settlement,
    ) -> Self {
        Self {
            core,
            id: DeliveryId { event: metadata.id, listener },
            attempt,
            origin: metadata.origin(),
            settlement,
            stage: AtomicU8::new(OPEN),
            changed: tokio::sync::Notify::new(),
        }
    }

    fn enter(&self, stage: u8) {
        self.stage.fetch_max(stage, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    pub(super) fn is(&self, stage: u8) -> bool {
        self.stage.load(Ordering::Acquire) == stage
    }
}

/// Opens the stage again when settling came to nothing.
struct Leave<'a>(&'a Shared);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let _ = self.0.stage.compare_exchange(SETTLING, OPEN, Ordering::AcqRel, Ordering::Acquire);
        self.0.changed.notify_waiters();
    }
}

impl FromCall for Delivery {
    fn from_call(call: &mut Call<'_>) -> Result<Self, BoxError> {
        let delivery = call.delivery.as_deref_mut().and_then(|delivery| delivery.downcast_mut::<Option<Delivery>>());
        delivery.and_then(Option::take).ok_or_else(|| {
            "this call has no delivery: declare the listener durable and with `.takes_delivery()`".into()
        })
    }
}
