//! What a durable listener asks for, in words of the declaration.

use std::sync::Arc;
use std::time::Duration;

use super::Declaration;
use crate::event::StoredEvent;
use crate::listener::answer::IntoAnswer;
use crate::listener::call::Call;
use crate::listener::durable::{AckMode, Batch, Durable, Parking, Sequence, StartAt};
use crate::listener::fallback::GivenUp;
use crate::listener::redeliver::Redeliver;
use crate::listener::rules::ErrorRules;

impl<E: 'static> Declaration<E> {
    /// Makes it durable: owed until done, across restarts.
    pub fn durable(self) -> Self
    where
        E: StoredEvent,
    {
        self.asks(|_| ())
    }

    /// An id it had before: at the next start it takes over what was done under it, what waits and what is parked.
    /// May be said several times; what was done under any of its ids is done.
    pub fn formerly(mut self, id: impl Into<String>) -> Self {
        self.descriptor.formerly.push(id.into());
        self
    }

    /// Which events are delivered one after another; those of one key unless said here.
    pub fn sequence(self, sequence: Sequence) -> Self
    where
        E: StoredEvent,
    {
        self.asks(|durable| durable.sequence = sequence)
    }

    /// How many deliveries of different sequences run at once; 1 by default.
    pub fn concurrency(self, concurrency: usize) -> Self
    where
        E: StoredEvent,
    {
        self.asks(|durable| durable.concurrency = concurrency)
    }

    /// How many events it is owed are looked at ahead of those it is called with; 1024 by default. Intake pauses there.
    pub fn look_ahead(self, events: usize) -> Self
    where
        E: StoredEvent,
    {
        self.asks(|durable| durable.look_ahead = events)
    }

    /// When a failed delivery is called again, and when it is given up.
    pub fn redeliver(self, redeliver: Redeliver) -> Self
    where
        E: StoredEvent,
    {
        self.asks(|durable| durable.redeliver = redeliver)
    }

    /// Which errors are worth another call; all, unless the bus has rules of its own.
    pub fn errors(self, rules: ErrorRules) -> Self
    where
        E: StoredEvent,
    {
        self.asks(|durable| durable.errors = rules)
    }

    /// What is called with a delivery that is out of attempts, or whose error is worth no other: if it succeeds the delivery is
    /// done, else it parks with both causes.
    ///
    /// It runs in a unit of work that also settles the delivery, so that `call.tx()` has one. What must wait it publishes.
    pub fn fallback<A, F>(mut self, function: F) -> Self
    where
        E: StoredEvent,
        A: IntoAnswer,
        F: Fn(&E, &GivenUp, &mut Call<'_>) -> A + Send + Sync + 'static,
    {
        self.fallback = Some(Arc::new(move |event, given_up, call| function(event, given_up, call).into_answer()));
        self.asks(|durable| durable.has_fallback = true)
    }

    /// What becomes of what it gives up, and of what follows.
    pub fn parking(self, parking: Parking) -> Self
    where
        E: StoredEvent,
    {
        self.asks(|durable| durable.parking = parking)
    }

    /// When what it was called with is settled; after each call unless said here.
    pub fn ack(self, mode: AckMode) -> Self
    where
        E: StoredEvent,
    {
        self.asks(|durable| durable.ack = mode)
    }

    /// Gives the call an `Ack`, with which the listener says when it is done; goes with [`AckMode::Manual`] or
    /// [`AckMode::ManualImmediate`].
    pub fn takes_ack(mut self) -> Self {
        self.descriptor.wants_ack = true;
        self
    }

    /// Calls it with several events at once; the declaration ends with `call_batch` or `call_batch_async`.
    pub fn batch(self, batch: Batch) -> Self
    where
        E: StoredEvent,
    {
        self.asks(|durable| durable.batch = Some(batch))
    }

    /// Where it begins if the store does not know it yet; with what is published from then on unless said here.
    pub fn start_at(self, start: StartAt) -> Self
    where
        E: StoredEvent,
    {
        self.asks(|durable| durable.start = start)
    }

    /// How long one call may take before it is dropped and counts as failed.
    pub fn time_limit(self, limit: Duration) -> Self
    where
        E: StoredEvent,
    {
        self.asks(|durable| durable.time_limit = Some(limit))
    }

    fn asks(mut self, change: impl FnOnce(&mut Durable)) -> Self {
        change(self.descriptor.durable.get_or_insert_default());
        self
    }
}
