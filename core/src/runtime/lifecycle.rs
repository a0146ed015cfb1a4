//! A running bus: waiting for it, stopping it, and what comes and goes while it runs.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{check_needs, gone, keeper};
use crate::bus::{Bus, DurableHandler, Replay, Running};
use crate::consumer::Job;
use crate::error::{DeadLetterError, Error, StartError, StoreError};
use crate::listener::{Deliver, Registration, StartAt};
use crate::observe::{Lag, Notice};
use crate::store::{Durability, Erasure, Parked, Position, Settlement};
use crate::transaction::{Failed, Tx};

/// How a bus came to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// The deadline passed first. What durable listeners were called with stays owed.
    #[error("shut down with work abandoned: {}", .what.iter().map(|(name, count)| format!("{name} ({count})")).collect::<Vec<_>>().join(", "))]
    Abandoned {
        /// What still ran, by listener id (`unit of work` for a unit of work), and how many of each.
        what: Vec<(String, usize)>,
    },
    /// The store could not be closed in good order; it will be taken for unclean.
    #[error("the store was not closed in good order")]
    Store(#[source] StoreError),
    /// This handle was given to a listener and does not own the bus.
    #[error("a bus that a listener was given cannot be shut down by it")]
    NotOwned,
}

impl Bus {
    /// Waits until everything caused so far has settled: units of work, spawned listeners, and every delivery done or parked.
    ///
    /// A delivery that waits to be called again has not settled. Where a test moves the clock, see [`quiet`](Self::quiet).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn idle(&self) {
        self.until_idle(false).await;
    }

    /// Waits until nothing runs and what is left waits for its time on the clock.
    pub async fn quiet(&self) {
        self.until_idle(true).await;
    }

    async fn until_idle(&self, or_waiting: bool) {
        let activity = self.core.activity().clone();
        activity
            .until(|| activity.is_quiet_and(|| self.running().is_none_or(|one| one.workers.is_idle(or_waiting))))
            .await;
    }

    /// The bus itself, as long as somebody owns it: a handle that a listener was given does not.
    pub(crate) fn running(&self) -> Option<Arc<Running>> {
        self.running.clone().or_else(|| self.core.running.get()?.upgrade())
    }

    /// Stops in good order: takes in nothing more, lets what runs finish within `deadline`, commits progress, closes the store.
    ///
    /// What durable listeners are owed stays owed, and is taken up at the next start.
    ///
    /// # Errors
    /// [`ShutdownError::Abandoned`] if the deadline came first: deliveries were cut off and stay owed, spawned listeners and units
    /// of work run on without a store, which was closed all the same.
    ///
    /// # Cancel safety
    /// Dropped, the bus has stopped taking in work, but the store is not closed in good order.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), ShutdownError> {
        let Some(Running { workers, .. }) = self.running.as_deref() else { return Err(ShutdownError::NotOwned) };
        self.core.stop();
        let activity = self.core.activity().clone();
        activity.touch();
        let finished = tokio::select! {
            biased;
            () = activity.until(|| activity.is_quiet_and(|| workers.all_ended())) => true,
            () = self.core.clock().sleep(deadline) => false,
        };
        let mut what = Vec::new();
        if !finished {
            what = activity.list();
            let cut = workers.abort();
            for listener in cut {
                if !what.iter().any(|(name, _)| **name == *listener) {
                    what.push((listener.to_string(), 0));
                }
            }
            for (name, _) in &what {
                self.core.watch().tell(&Notice::Abandoned { what: name });
            }
        }
        self.core.subscribers.end();
        let closed = self.core.store.close().await;
        if !what.is_empty() {
            return Err(ShutdownError::Abandoned { what });
        }
        match closed {
            // Shut down before.
            Ok(()) | Err(StoreError::Closed) => Ok(()),
            Err(error) => Err(ShutdownError::Store(error)),
        }
    }

    /// Parked events, by listener, then in the order of the log.
    ///
    /// # Errors
    /// The store's.
    pub async fn parked(&self) -> Result<Vec<Parked>, Error> {
        Ok(self.core.store.parked(None).await?)
    }

    /// Calls a parked event again: with all parked events of its key, in order, and those of the log after them.
    ///
    /// One that fails again in all its attempts stays parked with the new cause, and so do those behind it.
    /// Answers whether it is parked and its listener runs.
    ///
    /// # Errors
    /// The store's.
    pub async fn resubmit(&self, listener: &str, position: Position) -> Result<bool, Error> {
        match self.dead_letters(listener).replay(Replay::sequence_of(position)).await {
            Ok(_) => Ok(true),
            Err(Error::DeadLetter(DeadLetterError::Unknown { .. } | DeadLetterError::NotRunning { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Calls a durable listener no more, after the calls that run, until it is resumed or the bus starts again.
    /// What it is owed stays owed; [`idle`](Self::idle) does not wait for it. Answers whether it runs.
    pub fn pause(&self, listener: &str) -> bool {
        self.running().is_some_and(|running| running.workers.pause(listener))
    }

    /// Calls a durable listener again that was paused, or that stopped. Answers whether it runs.
    pub fn resume(&self, listener: &str) -> bool {
        self.running().is_some_and(|running| running.workers.resume(listener))
    }

    /// Puts a durable listener's place in the log where `start` says, and runs `clear` in the same commit: it forgets what the
    /// listener made of the events it is about to be given again.
    ///
    /// The listener is not called meanwhile. It is given what the log still holds from there on, which is as much as its
    /// [`Retention`](crate::store::Retention) says. Its condition is asked anew. What is parked stays parked.
    ///
    /// ```
    /// use aftercommit::listener::StartAt;
    /// use aftercommit::prelude::*;
    ///
    /// const SOLD: Counters<u32> = Counters::new("shop.units-sold");
    ///
    /// # async fn rebuild(bus: &Bus) -> Result<(), Error> {
    /// bus.reset("shop.count-units", StartAt::Beginning, async |tx| {
    ///     let keys = SOLD.iter(tx).map(|row| row.map(|(key, _)| key)).collect::<Result<Vec<_>, _>>()?;
    ///     keys.iter().try_for_each(|key| SOLD.set(tx, key, 0))
    /// })
    /// .await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`DeadLetterError::NotRunning`]; the error of `clear`, or of the unit: the listener then goes on where it was.
    pub async fn reset<E: From<Error>>(
        &self,
        listener: &str,
        start: StartAt,
        clear: impl AsyncFnOnce(&mut Tx) -> Result<(), E>,
    ) -> Result<(), E> {
        let gone = || Error::from(DeadLetterError::NotRunning { listener: listener.to_owned() });
        let running = self.running().ok_or_else(gone)?;
        let (ready, held) = running.workers.hold(listener).ok_or_else(gone)?;
        ready.await.map_err(|_| gone())?;
        let change = running.workers.reset_to(start).await.map_err(Error::from)?;
        let settlement = Settlement { listener: Arc::from(listener), change };
        let ended = self.core.unit_failing(
            self.origin,
            async |tx: &mut Tx| {
                tx.settle(settlement);
                clear(tx).await
            },
            false,
        );
        let ended = ended.await.map(drop).map_err(Failed::into_error);
        drop(held);
        ended
    }

    /// How far each durable listener is behind, by its id. An event that is parked does not hold it back; one that waits to be
    /// called again does.
    ///
    /// # Errors
    /// The store's.
    pub async fn lags(&self) -> Result<Vec<Lag>, Error> {
        let Some(running) = self.running() else { return Ok(Vec::new()) };
        let mut lags = Vec::new();
        for (listener, low) in running.workers.low_water_marks() {
            // Asked for after the mark, so that the mark is not past it.
            let end = self.log_end();
            let behind = end.0.saturating_sub(low.0);
            let first = if behind > 0 { self.core.store.read_log(low, 1, 1).await? } else { Vec::new() };
            let now = self.core.clock().now();
            let oldest_age = first.first().map(|event| now.since(event.envelope.header.metadata.time));
            lags.push(Lag { listener: listener.to_string(), behind, oldest_age });
        }
        Ok(lags)
    }

    /// How many bytes the store takes on the disk; `None` if it is on none, or does not know.
    pub fn store_size(&self) -> Option<u64> {
        self.core.store.size()
    }

    /// Has the log give up now what its [`Retention`](crate::store::Retention) lets go of, after it was archived if the bus has an
    /// archive. It does so by itself with each commit, and about once a minute while nothing is committed, or with an archive.
    ///
    /// # Errors
    /// The store's, and the archive's, after which nothing is removed that is not archived.
    ///
    /// # Cancel safety
    /// Dropped, it has archived and removed a part.
    pub async fn tidy(&self) -> Result<(), Error> {
        Ok(keeper::tidy(&self.core).await?)
    }

    /// Forgets a durable listener that is not registered any more: its cursor, redeliveries and parked events.
    /// Answers whether the store knew it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if it is registered: what it is owed would be lost unasked. The store's.
    pub async fn forget_listener(&self, listener: &str) -> Result<bool, Error> {
        if self.core.registry.descriptors().iter().any(|known| known.durable.is_some() && known.id == listener) {
            return Err(StoreError::InUse { listener: listener.to_owned() }.into());
        }
        let is_known = self.core.store.cursors().await?.iter().any(|(known, _)| known == listener);
        if is_known {
            self.core.store.forget(listener).await?;
        }
        Ok(is_known)
    }

    /// Erases the event with the id `event`, for instance because it holds a person's data: its body, its key and every parked copy.
    /// In its place in the log stands a tombstone with the id. One that is not due yet is cancelled, and leaves none.
    /// An archive's segment that holds it is written anew.
    ///
    /// No durable listener is called with it any more. A call that just runs may still see it; what it would commit is refused,
    /// as the delivery counts as settled. What listeners wrote to tables or sent elsewhere is the application's to remove.
    /// Events of its key that are parked behind it stay parked.
    ///
    /// The log knows events by position only, so that all of it is looked through, on a thread of the blocking pool.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] if the store cannot erase. The store's.
    ///
    /// # Cancel safety
    /// Dropped, it may be erased all the same; erase it again to be sure.
    pub async fn erase(&self, event: Uuid) -> Result<Erasure, Error> {
        let unsupported = || StoreError::Unsupported { action: "erase an event", store: self.core.store.kind() };
        let store = self.core.store.as_embedded().ok_or_else(unsupported)?.clone();
        if self.erase_scheduled(event).await? {
            return Ok(Erasure::Done { parked: 0 });
        }
        let mut archived = false;
        let still = match &self.core.archiving {
            Some(archiving) => {
                // An event that is on its way would be in the archive afterwards.
                let still = archiving.stand_still().await;
                archived = archiving.erase(&still, event, &self.core.around).await?;
                Some(still)
            }
            None => None,
        };
        let find = move || store.find_event(event).map(|found| (store, found));
        let found = self.core.around.on_pool(find).await;
        let found = found.map_err(|cause| StoreError::backend("look for an event", cause))?;
        let gone = |erased| if archived { Erasure::Done { parked: 0 } } else { erased };
        let (store, Some(position)) = found? else { return Ok(gone(Erasure::NotStored)) };
        let erased = store.erase(position).await?;
        drop(still);
        if let Some(running) = self.running() {
            running.workers.erased(position);
        }
        Ok(match erased {
            Erasure::Before => gone(Erasure::Before),
            erased => erased,
        })
    }

    /// Erases an event that is not due yet; answers whether there was one.
    async fn erase_scheduled(&self, event: Uuid) -> Result<bool, Error> {
        loop {
            let erased = self.core.unit(None, async |tx: &mut Tx| {
                tx.set_durability(Durability::Sync);
                tx.cancel_scheduled(event).await
            });
            match erased.await {
                // It just became due, or was cancelled.
                Err(error) if error.is_conflict() => {}
                erased => return erased.map(|committed| committed.value),
            }
        }
    }

    /// Adds a listener while the bus runs. A durable one is delivered to from where its cursor stands.
    ///
    /// # Errors
    /// As at start.
    pub async fn register(&self, mut registration: Registration) -> Result<(), StartError> {
        registration.0.observe(&self.core.observing);
        #[cfg(feature = "resilience")]
        if let Some(pipeline) = registration.0.pipeline() {
            self.core.policies.add(pipeline)?;
        }
        let descriptor = registration.descriptor();
        check_needs([descriptor].into_iter(), &self.core.calls.states)?;
        let (id, formerly) = (descriptor.id.clone(), descriptor.formerly.clone());
        if let Some(durable) = &descriptor.durable {
            let start = durable.start;
            let known = self.core.registry.descriptors();
            let other = known.into_iter().find(|known| {
                known.durable.is_some() && known.event == descriptor.event && known.event_type != descriptor.event_type
            });
            if let Some(other) = other {
                let (name, second) = (descriptor.event.to_owned(), descriptor.event_type);
                return Err(StartError::DuplicateEvent { name, first: other.event_type, second });
            }
            let Some(running) = self.running() else { return Err(gone(&id)) };
            self.core.registry.check(&*registration.0)?;
            running.workers.introduce(&Arc::from(id.as_str()), &formerly, start).await?;
        }
        let durable = self.core.registry.add(registration.0)?;
        for listener in durable {
            if listener.descriptor().id == id
                && let Err(error) = self.work_for(listener).await
            {
                // It can be registered again; its cursor keeps what it is owed until then.
                self.core.registry.remove(&id);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes a listener out at once. A durable one finishes the calls that run; what it is owed stays owed until it is registered again.
    /// Answers whether it was registered.
    pub fn unregister(&self, id: &str) -> bool {
        if let Some(running) = self.running() {
            running.workers.stop(id);
        }
        self.core.registry.remove(id)
    }

    pub(super) async fn work_for(&self, listener: Arc<dyn Deliver>) -> Result<(), StartError> {
        let Some(running) = self.running() else { return Err(gone(&listener.descriptor().id)) };
        running.workers.start(running.workers.take_up(self.job(listener)).await?);
        Ok(())
    }

    pub(super) fn job(&self, listener: Arc<dyn Deliver>) -> Job {
        let descriptor = listener.descriptor().clone();
        let id: Arc<str> = Arc::from(descriptor.id.as_str());
        let durable = descriptor.durable.unwrap_or_default();
        let handler = DurableHandler {
            core: Arc::downgrade(&self.core),
            listener: listener.clone(),
            id: id.clone(),
            time_limit: durable.time_limit,
            gathers: durable.ack.gathers(),
        };
        let events = listener.stored_names();
        let shares_commits = handler.shares_commits();
        let handler = Arc::new(handler);
        Job { listener: id, formerly: descriptor.formerly, events, durable, shares_commits, handler }
    }
}
