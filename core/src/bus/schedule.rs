//! Publishing for later: kept with the commit, cancelled in time, and delivered from the moment it is due.

use std::sync::{Arc, Weak};
use std::time::Duration;

use uuid::Uuid;

use super::route::seal;
use super::{Bus, Core};
use crate::clock::Timestamp;
use crate::consumer::Entered;
use crate::error::{BoxError, Error, PublishError};
use crate::event::{Envelope, Metadata, StoredEvent};
use crate::observe::Notice;
use crate::store::{Due, Scheduled};
use crate::transaction::Tx;

/// How many bytes of scheduled events are listed at once, in about.
const PAGE_BYTES: usize = 4 << 20;

impl Tx {
    /// Publishes `event` for `due`: it is kept with this unit's commit, and is owed to its durable listeners from that moment on.
    /// Answers the event's id, by which it can be [cancelled](Self::cancel_scheduled).
    ///
    /// Until it is due it holds back nothing, is in nobody's log, and survives restarts. Due is what the bus's clock says; for a
    /// moment that has passed it is due at once. Listeners see `due` as the time of its metadata.
    ///
    /// It is for durable listeners, subscribers and log streams: an event type with listeners in a phase is refused, as there is no
    /// unit of work that publishes when it is due. Conditions of durable listeners are asked when they are called.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aftercommit::prelude::*;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Event, Serialize, Deserialize)]
    /// #[event(name = "shop.cart-abandoned")]
    /// struct CartAbandoned { #[event(key)] cart: u64 }
    ///
    /// #[derive(Event, Serialize, Deserialize)]
    /// #[event(name = "shop.cart-changed")]
    /// struct CartChanged { cart: u64 }
    ///
    /// const REMINDERS: Table<u64, uuid::Uuid> = Table::new("shop.reminders");
    ///
    /// /// A day after the last change of a cart.
    /// async fn changed(tx: &mut Tx, cart: u64) -> Result<(), Error> {
    ///     if let Some(reminder) = REMINDERS.get(tx, &cart)? {
    ///         tx.cancel_scheduled(reminder).await?;
    ///     }
    ///     let reminder = tx.publish_after(CartAbandoned { cart }, Duration::from_secs(86_400))?;
    ///     REMINDERS.put(tx, &cart, &reminder)
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bus = Bus::builder().start().await?;
    /// # bus.transaction(async |tx| changed(tx, 7).await).await?;
    /// # bus.transaction(async |tx| changed(tx, 7).await).await?;
    /// # assert_eq!(bus.scheduled(Default::default(), 9).await?.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Order
    /// By due time, then by commit, then as published within the unit. Among events that are published when it is due, it is ordered
    /// from the moment it enters the log, which is at that time or shortly after: its key orders it from there on.
    ///
    /// # Errors
    /// [`PublishError::NotForLater`] names the listeners in a phase; [`PublishError`] if it cannot be stored. The unit is then
    /// rollback-only unless a savepoint contains it.
    pub fn publish_at<E: StoredEvent>(&mut self, event: E, due: Timestamp) -> Result<Uuid, Error> {
        let core = self.core();
        let scheduled = core.schedule(self, &event, due);
        if let Err(error) = &scheduled {
            self.set_rollback_only(format!("publishing failed: {error}"));
        }
        scheduled
    }

    /// As [`publish_at`](Self::publish_at), so long after now.
    ///
    /// # Errors
    /// As for [`publish_at`](Self::publish_at).
    pub fn publish_after<E: StoredEvent>(&mut self, event: E, delay: Duration) -> Result<Uuid, Error> {
        let due = self.core().clock().now().saturating_add(delay);
        self.publish_at(event, due)
    }

    /// Cancels the scheduled event with this id, with the commit of this unit, and answers whether it was in time.
    ///
    /// `true`: once this unit commits, nobody is ever called with it. `false`: it is in the log already, was cancelled before, or
    /// was never scheduled. If it comes due between the answer and the commit, this unit conflicts instead:
    /// [`transaction_retrying`](Bus::transaction_retrying) runs it again, and is told `false`.
    ///
    /// # Errors
    /// The store's.
    pub async fn cancel_scheduled(&mut self, event: Uuid) -> Result<bool, Error> {
        Ok(self.kept()?.unschedule(event).await?)
    }
}

impl Bus {
    /// Events that were published for later and are not due yet, from `from` on (`Due::default()` for the first), at most `limit` and
    /// a few MiB: by due time, then in the order of the commits. The next page begins at `due.next()` of the last.
    ///
    /// # Errors
    /// The store's.
    pub async fn scheduled(&self, from: Due, limit: usize) -> Result<Vec<Scheduled>, Error> {
        Ok(self.core.store.scheduled(from, limit, PAGE_BYTES).await?)
    }
}

impl Core {
    fn schedule<E: StoredEvent>(&self, tx: &mut Tx, event: &E, due: Timestamp) -> Result<Uuid, Error> {
        let listeners = self.registry.in_phases(E::name());
        if !listeners.is_empty() {
            return Err(PublishError::NotForLater { event: E::name().to_owned(), listeners }.into());
        }
        let Some(stored) = E::STORED else {
            let cause: BoxError = "it has no stored form".into();
            return Err(PublishError::Encode { event: E::name().to_owned(), cause }.into());
        };
        self.tap(event);
        let metadata = Metadata { time: due, ..Metadata::draw(self.chance(), self.clock().now(), tx.origin()) };
        #[cfg(feature = "tracing")]
        self.links.remember(metadata.id);
        let mut envelope = seal(event, &stored, metadata, &[])?;
        envelope.header.scheduled = true;
        self.check_size(&envelope)?;
        tx.schedule(envelope)?;
        Ok(metadata.id)
    }
}

/// Tells who listens in memory of scheduled events that have entered the log, and the observer of those that nobody waits for.
pub(crate) struct Arrivals(pub(crate) Weak<Core>);

impl Entered for Arrivals {
    fn entered(&self, events: &[Envelope]) {
        let Some(core) = self.0.upgrade() else { return };
        events.iter().for_each(|event| core.entered(event));
    }
}

impl Core {
    fn entered(self: &Arc<Self>, envelope: &Envelope) {
        let event = envelope.header.name.as_str();
        let is_heard = self.subscribers.entered(envelope);
        // They came after it was published, or the publish would have been refused.
        let phased = self.registry.in_phases(event);
        for listener in &phased {
            self.watch().tell(&Notice::NotCalled { event, listener });
        }
        let running = self.running.get().and_then(Weak::upgrade);
        let is_owed = running.is_none_or(|running| running.workers.hears(event));
        if !is_heard && !is_owed && !envelope.header.logged && phased.is_empty() {
            self.watch().tell(&Notice::DeadEvent { event });
        }
    }
}
